"""Writes ``spec/risk.md``: what denies an order, what freezes, whom each of it concerns, and what an operator may say and be answered.

As for ``tables.md``, the tables are read from the imported program, the rejections of commands from its source. A command's rejections are
those of its handler and of the functions of the same module that it calls; the control socket's own are the calls of ``Refused`` and
``_refuse`` in its modules.
"""

import ast
import re
from functools import cache

import attrs
from haltcore.adapters import control, control_socket, gauges, metrics
from haltcore.effects import Trigger
from haltcore.fsm import Config, start
from haltcore.fsm.config import TRANSIENT
from haltcore.fsm.core import Desk, in_words, scope_key, scope_text, scopes_over
from haltcore.fsm.events import EVENT_CLASSES, Event, OperatorRefused, Restarted
from haltcore.fsm.limits import FIGURES, SYMBOL_RULE
from haltcore.fsm.risk import CHECKS
from haltcore.fsm.step import HANDLERS
from haltcore.fsm.triggers import TRIGGERS
from tables import ROOT, Code, all_codes, paragraph, table


def gate() -> list[str]:
    """The checks in order."""
    rows = [
        (str(n), f"`{check.code}`", check.reads, check.demands, "form" if check.form else f"`{check.limit.name}`" if check.limit else "")
        for n, check in enumerate(CHECKS, 1)
    ]
    return table(("#", "code", "reads", "the order passes if", ""), rows)


def limits() -> list[str]:
    """Every figure."""
    rows = [
        (
            f"`{figure.name}`", figure.bounds, ", ".join(figure.rules), "yes" if figure.tightens else "no",
            "yes" if figure.default else "no", f"`{figure.example}`",
        )
        for figure in FIGURES
    ]  # fmt: skip
    head = ("figure", "bounds", "stands in rules for", "by window and band", f"a {SYMBOL_RULE}'s rule replaces the account's", "example")
    return table(head, rows)


def _desk() -> Desk:
    desk = start(Config("spec001", ("BTCUSDT",), strategies=("mm",)), 0)[0].desk
    assert desk is not None
    return desk


#: The scopes by example, and which orders each covers.
SCOPES = {
    "": "every order",
    "venue": "every order, as the account does; but it is a switch of its own, lifted by itself",
    "BTCUSDT": "every order in the symbol",
    "strategy:mm": "every order of a configured strategy, in all symbols",
}


def scopes() -> list[str]:
    """What a freeze can cover. Raises LookupError when the program has other scopes than ``SCOPES`` says."""
    desk = _desk()
    keys = {text: scope_key(desk, text) for text in SCOPES}
    if sorted(key for key in keys.values() if key is not None) != sorted(scopes_over(0, 1)):
        raise LookupError(f"an order lies in the scopes {scopes_over(0, 1)}; say all of them in SCOPES in {__file__}")
    kinds = dict(zip(SCOPES, ("account", "venue", "symbol", "strategy"), strict=True))
    rows = []
    for text, covers in SCOPES.items():
        key = keys[text]
        assert key is not None
        assert scope_text(desk, key) == text
        by_itself = ", ".join(f"`{row.trigger.value}`" for row in TRIGGERS if re.search(rf"\b{kinds[text]}\b", row.scope)) or "-"
        rows.append((f"`{text}`" if text else "(empty)", in_words(text), covers, by_itself))
    return table(("scope", "in words", "covers", "frozen by"), rows)


def triggers() -> list[str]:
    """Every trigger. Raises LookupError when one has no row."""
    left = [trigger for trigger in Trigger if trigger not in [row.trigger for row in TRIGGERS]]
    if left:
        raise LookupError(f"the triggers {left} have no row in TRIGGERS in fsm/triggers.py")
    rows = [
        (f"`{row.trigger.value}`", row.kind.value, "yes" if row.kind in TRANSIENT else "no", row.watches, row.scope, row.configured)
        for row in TRIGGERS
    ]
    return table(("trigger", "class", "may cool down", "watches", "freezes", "configured by"), rows)


# --- operators --------------------------------------------------------------------------------------------------------


def commands() -> list[str]:
    """What a named person may say, and with which codes it may be refused."""
    rows = []
    for kind in EVENT_CLASSES:
        if "by" not in attrs.fields_dict(kind) or kind in (Restarted, OperatorRefused):
            continue
        rows.append((f"`{kind.__name__}`", paragraph(kind), ", ".join(f"`{code}`" for code in rejections(kind)) or "-"))
    return table(("command", "meaning", "rejected with"), rows)


def rejections(kind: type[Event]) -> list[str]:
    """The codes of the ``Rejected`` that this event can have for an answer."""
    handler = HANDLERS[kind]
    module = handler.__module__.rpartition(".")[2]
    tree = ast.parse((ROOT / "fsm" / f"{module}.py").read_text("utf-8"))
    calls = {
        function.name: [node.id for node in ast.walk(function) if isinstance(node, ast.Name)]
        for function in tree.body
        if isinstance(function, ast.FunctionDef)
    }
    reached = [handler.__name__]
    for name in reached:
        reached += [called for called in calls[name] if called in calls and called not in reached]
    where = [f"{module}.{name}" for name in reached]
    return list(dict.fromkeys(code.code for code in _rejected() if code.where in where))


@cache  # The program does not change meanwhile.
def _rejected() -> list[Code]:
    return [code for code in all_codes() if code.effect == "Rejected"]


def refusals() -> list[str]:
    """With what the control socket turns requests away before they are commands."""
    rows = []
    for module in (control, control_socket):
        assert module.__file__ is not None
        for node in ast.walk(ast.parse((ROOT / "adapters" / module.__file__.rpartition("/")[2]).read_text("utf-8"))):
            name = getattr(getattr(node, "func", None), "attr", getattr(getattr(node, "func", None), "id", ""))
            if isinstance(node, ast.Call) and name in ("Refused", "_refuse") and isinstance(node.args[0], ast.Constant):
                text = node.args[1]
                parts = [text] if isinstance(text, ast.Constant) else getattr(text, "values", [])
                rows.append((f"`{node.args[0].value}`", "".join(str(p.value) if isinstance(p, ast.Constant) else "..." for p in parts)))
    merged: dict[str, list[str]] = {}
    for code, words in sorted(rows):
        merged.setdefault(code, []).append(words)
    return table(("code", "words"), [(code, "; or: ".join(dict.fromkeys(filter(None, words)))) for code, words in merged.items()])


# --- metrics ----------------------------------------------------------------------------------------------------------


def series() -> list[str]:
    """Every metric."""
    rows = []
    for spec in (*metrics.TABLE, metrics.UNKNOWN):
        values = ", ".join(str(getattr(value, "value", value)) for value in spec.values).replace("*symbols*", "symbols, other")
        rows.append((f"`{spec.name}`", spec.kind, f"`{spec.label}`: {values}" if spec.label else "", spec.help))
    rows += [(f"`{g.name}`", "gauge, read from the state", ", ".join(f"`{name}`" for name in g.labels), g.help) for g in gauges.GAUGES]
    return table(("name", "kind", "labels", "meaning"), rows)


_GATE = """Every submit and replace passes these in order (`fsm/risk.py`). The first that fails denies with its code. Rows of form judge
without the rest; the last column names the figure that a limit compares."""
_TRIGGERS = """Why a freeze begins (`fsm/triggers.py`), and whether it may end without a person.

An edge freezes the scope of the rule whose figure it undercuts: below the account's threshold the account, in whichever symbol it was
told; below a symbol's own that symbol; below both, both.

A freeze that may cool down does so where `triggers` configures it for its class (`fsm/cool_down.py`). The wait begins when the scope is
proven empty. It lasts `wait`, doubled with each repeat, up to `cap`; a freeze is a repeat if it begins within `memory` of the end of
the one before, of the same class in the same scope. It lifts when the wait is over, unless its cause is still there (a feed that is
away, a breaker that is open, an edge whose last reading is too low), the venue or the store is away, or the runner stops: then the
same wait begins again. After `repeats` of them, and whenever something of another class, a person, a peer or a part of the bot has
frozen the scope too, or the scope was in reduce-only, only a person lifts it."""
_COMMANDS = """Each names who gives it (`fsm/operators.py`, `fsm/freeze.py`). A rejected command changes nothing and stands in the log with
its answer.

Names are self-declared: nobody checks that ann is ann, and the second person of an override is one by another name. The control socket
adds what the system knows of the caller, "ann (uid 1000)", and leaves that out when it compares names. Whoever may open the socket, or
knows the token, may say anything; so it is the file's permissions that keep others out."""


def render() -> str:
    """The whole file."""
    parts = [
        ("The gate", _GATE, gate()),
        ("Limits", "The figures of a rule (`fsm/limits.py`). Where several rules hold for an order, each has to be kept.", limits()),
        ("Scopes", "What a freeze covers. An order lies in several scopes; the strictest mode counts (`fsm/core.py`).", scopes()),
        ("Triggers", _TRIGGERS, triggers()),
        ("Commands of operators", _COMMANDS, commands()),
        ("Refusals of the control socket", "Requests that never became a command (`adapters/control.py`).", refusals()),
        ("Metrics", "Prometheus series and their labels (`adapters/metrics.py`, `adapters/gauges.py`).", series()),
    ]  # fmt: skip
    lines = ["# Risk", "", "Generated by `python spec/generate.py` from the program. Do not edit."]
    for title, lead, body in parts:
        lines += ["", f"## {title}", "", lead, "", *body]
    return "\n".join(lines).rstrip() + "\n"
