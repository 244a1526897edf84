"""Writes ``spec/tables.md``: the tables that the core consists of, and every stable code it can answer with.

The tables are read from the imported program. The codes are read from its source: every call that makes a ``Rejected``, a ``Denied``
or an ``Alert`` is found in the syntax tree. Where the code is not a literal, ``COMPUTED`` says which values it can take; an expression
that is not named there stops the generator, so the list of codes cannot silently fall behind.
"""

import ast
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen
from haltcore.effects import EFFECT_CLASSES, Alert, Cancel, Effect, OrdType, Part, QueryOrder, Rejected, SetTimer, Side, SweepStatus
from haltcore.effects import Mode as FreezeMode
from haltcore.fsm import Config, SubmitOrder, breakers, freeze, guards, price, qty, start, step, sweep
from haltcore.fsm.core import Core, SweepPhase
from haltcore.fsm.events import EVENT_CLASSES, FetchedOrders, FetchedPositions, LatchKind, OpenOrders, OrderAccepted, Positions
from haltcore.fsm.lease import STALE_FENCE
from haltcore.fsm.order import Phase
from haltcore.fsm.order_change import Note, Rule
from haltcore.fsm.order_rules import TABLE
from haltcore.fsm.reports import ACTIONS
from haltcore.fsm.risk import CHECKS
from haltcore.fsm.step import HANDLERS
from haltcore.fsm.turn import Turn

ROOT = Path(__file__).resolve().parent.parent


def paragraph(thing: Any) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def sentence(thing: Any) -> str:
    """The first sentence of a docstring."""
    return re.split(r"(?<=\.)\s", paragraph(thing))[0]


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def essay_tables(module: Any) -> list[str]:
    """The tables that stand in a module's essay, word for word."""
    lines, taken, rules = (inspect.getdoc(module) or "").splitlines(), [], 0
    for line in lines:
        rule = bool(re.fullmatch(r"=+( +=+)+", line))
        if rule and rules == 0:
            taken.append("```text")
        rules += rule
        if rules:
            taken.append(line)
        if rules == 3:
            taken += ["```", ""]
            rules = 0
    return taken


# --- orders, handlers, effects ----------------------------------------------------------------------------------------


def order_table() -> list[str]:
    """Rows by phases, then what each rule says of itself."""
    head = ("report", *(phase.name for phase in Phase))
    rows = [(f"`{kind}`", *(_name(rule) for rule in rules)) for kind, rules in TABLE.items()]
    named: dict[str, Rule] = {}
    for rules in TABLE.values():
        for rule in rules:
            named.setdefault(_name(rule), rule)
    words = [(f"`{name}`", paragraph(rule)) for name, rule in named.items()]
    return [*table(head, rows), "", *table(("rule", "what it says"), words)]


def _name(function: Callable[..., Any]) -> str:
    return function.__name__


def handlers() -> list[str]:
    """Which function an event goes to."""
    rows = []
    for kind in EVENT_CLASSES:
        handler = HANDLERS[kind]
        rows.append((f"`{kind.__name__}`", f"`{handler.__module__.rpartition('.')[2]}.{handler.__name__}`", paragraph(kind)))
    return table(("event", "handler", "meaning"), rows)


def effects() -> list[str]:
    """The vocabulary, by who serves it."""
    order = list(Part)
    kinds = sorted(EFFECT_CLASSES, key=lambda kind: order.index(kind.part))
    return table(
        ("effect", "part", "risk", "meaning"),
        [(f"`{kind.__name__}`", kind.part.value, kind.risk.value, sentence(kind)) for kind in kinds],
    )


# --- notes ------------------------------------------------------------------------------------------------------------

#: Notes that stand in no table because their caller answers them itself.
ANSWERED_BY_CALLER = {
    Note.RETRY: "`SetTimer`: looked at again after the backoff, or when the venue's own pause is over (`doubt.look_later`)",
    Note.NOT_WORKING: "`Rejected` `not_working` (`commands`)",
    Note.CANCEL_PENDING: "`Rejected` `cancel_pending` (`commands`)",
    Note.REPLACE_PENDING: "`Rejected` `replace_pending` (`commands`)",
}


def notes() -> list[str]:
    """Each note, and the effects that its action really has on a working order."""
    missing = [note for note in Note if (note in ACTIONS) == (note in ANSWERED_BY_CALLER)]
    if missing:
        raise LookupError(f"{missing}: a note is answered either in reports.ACTIONS or by its caller; see ANSWERED_BY_CALLER in {__file__}")
    meanings = dict(re.findall(r"^\s+(\w+) = \"\w+\"\s+# (.+)$", inspect.getsource(Note), re.MULTILINE))
    rows = []
    for note in Note:
        answer = ANSWERED_BY_CALLER.get(note) or ", ".join(_shown(effect) for effect in _acted(note))
        rows.append((f"`{note.value}`", meanings[note.name], answer))
    return table(("note", "when", "what follows"), rows)


def working_core() -> Core:
    """A session that has begun, with one live order of key 4."""
    core, asked = start(Config("spec001", ("X",)), 0)
    for effect in asked:
        answer = OpenOrders(0, effect.id, "", getattr(effect, "conditional", False), FetchedOrders(()))
        core, _ = step(core, answer if hasattr(effect, "conditional") else Positions(0, effect.id, FetchedPositions(())))
    core, _ = step(core, SubmitOrder(0, "X", Side.BUY, qty("2"), price("10"), OrdType.LIMIT))
    return step(core, OrderAccepted(0, next(iter(core.orders.values())).spec.client_id, "v1"))[0]


def _acted(note: Note) -> list[Effect]:
    core = working_core()
    assert core.desk is not None
    turn = Turn(core, core.desk, 0)
    ACTIONS[note](turn, next(iter(core.orders.values())), None)
    return turn.effects


def _shown(effect: Effect) -> str:
    name = f"`{type(effect).__name__}`"
    if isinstance(effect, Alert):
        return f"{name} {effect.severity.value} `{effect.code}`: {effect.text.partition(': ')[2]}"
    if isinstance(effect, Rejected):
        return f"{name} `{effect.code}`: {effect.reason.partition(': ')[2]}"
    assert isinstance(effect, (Cancel, QueryOrder, SetTimer)), effect
    return name


# --- codes ------------------------------------------------------------------------------------------------------------


@frozen
class Code:
    """A stable code: the effect that carries it, where it is made, and with which words."""

    effect: str
    code: str
    where: str
    words: str


def _pairs(function: Callable[..., Any]) -> list[str]:
    """The codes of the pairs, code and reason, that a function returns."""
    tree = ast.parse(inspect.getsource(function))
    pairs = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple)]
    codes = [pair.elts[0].value for pair in pairs if isinstance(pair.elts[0], ast.Constant) and isinstance(pair.elts[0].value, str)]
    return list(dict.fromkeys(codes))


def _claim_denials() -> list[str]:
    """Why a claimed request is not sent: the store's answer, what has changed since, or what held the claim itself back."""
    again = [check.code for check in CHECKS if check.again]
    return [*(code for code, _ in guards._REFUSALS.values()), *_pairs(guards._denial), *again, *_held_claims()]


def _held_claims() -> list[str]:
    """A claim has neither fence nor end, so the codes of these are never its own."""
    return [code for code in freeze.HELD_BACK if code not in (STALE_FENCE, "too_late_at_send")]


def _acted_codes(effect: type[Effect]) -> list[str]:
    return [made.code for note in ACTIONS for made in _acted(note) if isinstance(made, effect) and isinstance(made, (Alert, Rejected))]


#: Codes that are computed, by module and expression: the values that the expression can take.
COMPUTED: dict[tuple[str, str], Callable[[], list[str]]] = {
    ("reports", "note.value"): lambda: _acted_codes(Alert),
    ("reports", "note.value + '_report'"): lambda: _acted_codes(Rejected),
    ("commands", "notes[0].value"): lambda: [note.value for note in ANSWERED_BY_CALLER if note is not Note.RETRY],
    ("commands", "denial.code"): lambda: [check.code for check in CHECKS],
    ("freeze", "*refusal"): lambda: _pairs(freeze._unfreeze_refusal),
    ("freeze", "'unfreeze_' + event.kind.value"): lambda: [f"unfreeze_{kind.value}" for kind in LatchKind if kind is not LatchKind.OK],
    ("operators", "code"): lambda: ["restricted", "unrestricted"],
    ("breakers", "code"): lambda: [code for _, code in breakers._ALERTS.values()],
    ("breakers", "*refusal"): lambda: _pairs(breakers._refusal),
    ("guards", "*denial"): _claim_denials,
    ("sweep_report", "'sweep_' + status.value"): lambda: [f"sweep_{s.value}" for s in SweepStatus if s is not SweepStatus.SUCCESS],
}

#: Which argument of which call is the code. A name that means it in one module only stands with that.
_CALLS = {
    "reject": ("Rejected", 0), "alert": ("Alert", 1), "Rejected": ("Rejected", 1), "Denied": ("Denied", 1), "Alert": ("Alert", 2),
    "operators._tell": ("Alert", 2),
}  # fmt: skip
#: These hand on what they were given, so their calls are looked at instead.
_HAND_ON = ("turn.reject", "turn.alert", "operators._tell")
_EMITTED = {"Rejected": 1, "Denied": 1, "Alert": 2}


def codes_in(module: str, source: str) -> Iterator[Code]:
    """Every code of one module. Raises LookupError for one that can neither be read nor is named in ``COMPUTED``."""
    for function in _outermost(ast.parse(source).body):
        name = getattr(function, "name", "")
        if f"{module}.{name}" in _HAND_ON:
            continue
        for call in ast.walk(function):
            found = _code_argument(module, call) if isinstance(call, ast.Call) else None
            if found is None:
                continue
            effect, argument, rest = found
            where = f"{module}.{name}"
            for code in _values(module, argument, where):
                yield Code(effect, code, where, _words(rest) if isinstance(argument, ast.Constant) else "")


def _outermost(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, with the methods of a class in place of the class."""
    for statement in body:
        if isinstance(statement, ast.ClassDef):
            yield from _outermost(statement.body)
        else:
            yield statement


def _code_argument(module: str, call: ast.Call) -> tuple[str, ast.expr, list[ast.expr]] | None:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id if isinstance(call.func, ast.Name) else ""
    effect, at = _CALLS.get(name) or _CALLS.get(f"{module}.{name}", ("", 0))
    if name == "emit" and isinstance(call.args[0], ast.Name):
        effect = call.args[0].id
        at = _EMITTED.get(effect, 0)
        if not at:
            return None
    if not effect:
        return None
    first = call.args[0]
    argument = first if isinstance(first, ast.Starred) else call.args[at]
    return effect, argument, call.args[at + 1 :]


def _values(module: str, argument: ast.expr, where: str) -> list[str]:
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return [argument.value]
    text = ast.unparse(argument)
    if (module, text) not in COMPUTED:
        raise LookupError(f"{where}: the code {text} is computed; say in COMPUTED in {__file__} which values it takes")
    return COMPUTED[module, text]()


def _words(rest: list[ast.expr]) -> str:
    text = next((given for given in rest if isinstance(given, ast.JoinedStr) or isinstance(getattr(given, "value", None), str)), None)
    if isinstance(text, ast.Constant):
        return str(text.value)
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in getattr(text, "values", ()))


def all_codes() -> list[Code]:
    """Every code of the core, by effect and code."""
    found = [code for path in sorted((ROOT / "fsm").glob("*.py")) for code in codes_in(path.stem, path.read_text("utf-8"))]
    return sorted(dict.fromkeys(found), key=lambda code: (code.effect, code.code, code.where))


def codes() -> list[str]:
    """The table of codes, one row per effect and code."""
    merged: dict[tuple[str, str], list[Code]] = {}
    for code in all_codes():
        merged.setdefault((code.effect, code.code), []).append(code)
    rows = []
    for (effect, name), made in merged.items():
        where = ", ".join(dict.fromkeys(f"`{one.where}`" for one in made))
        rows.append((f"`{effect}`", f"`{name}`", where, next((one.words for one in made if one.words), "")))
    return table(("effect", "code", "made in", "words"), rows)


def send_codes() -> list[str]:
    """What ``may_send`` can answer, in the order of its source, and what the runner itself answers."""
    found: dict[str, str] = {}
    for function in (freeze.may_send, freeze._may_add):
        tree = ast.parse(inspect.getsource(function))
        returned = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return) and node.value is not None]
        tests = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.IfExp) for inner in ast.walk(node.test)}
        named = [inner for value in returned for inner in ast.walk(value) if id(inner) not in tests]
        texts = [getattr(freeze, node.id, None) if isinstance(node, ast.Name) else getattr(node, "value", None) for node in named]
        found |= {text: "`may_send`" for text in texts if isinstance(text, str) and text}
    rest = [code for code in freeze.HELD_BACK if code not in found]
    return table(("code", "from"), [(f"`{code}`", who) for code, who in (*found.items(), *((code, "the runner") for code in rest))])


_LAST_MOMENT = """Why an effect does not leave, asked at the instant before it would: by `may_send` (`fsm/freeze.py`), and by the runner,
whose journal has failed or which stops. A gateway answers `stale_fence`, too. It was certainly not sent."""


def render() -> str:
    """The whole file."""
    parts = [
        ("Reports about an order", "One row per kind of report, one column per phase (`fsm/order_rules.py`).", order_table()),
        ("Notes", "What a rule's outcome calls for, and what the program then does with a working order (`fsm/reports.py`).", notes()),
        ("Events", "Every event class and the function that handles it (`fsm/step.py`).", handlers()),
        ("Effects", "The vocabulary of what may be asked of the world (`effects/vocabulary.py`).", effects()),
        ("Modes", f"`{'`, `'.join(FreezeMode)}` (`fsm/freeze.py`).", essay_tables(freeze)),
        ("Phases of the sweep", f"`{'`, `'.join(SweepPhase)}` (`fsm/sweep.py`).", essay_tables(sweep)),
        ("Codes", "Stable: a program may compare them. Words may change.", codes()),
        ("Codes of the last moment", _LAST_MOMENT, send_codes()),
    ]
    lines = ["# Tables", "", "Generated by `python spec/generate.py` from the program. Do not edit."]
    for title, lead, body in parts:
        lines += ["", f"## {title}", "", lead, "", *body]
    return "\n".join(lines).rstrip() + "\n"
