"""Writes ``spec/coordination.md``: what processes of one account do with a store they share, and without it.

What is data in the program is read from it: the matrix, the rules of the guard, cell by cell, the errors of a store, the classes of
failures. Where an essay has the table, that one stands here, word for word.
"""

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

from haltcore.adapters import latch_row, redis_store, side_effects, store_check
from haltcore.adapters.redis_errors import REFUSALS
from haltcore.effects import GuardState
from haltcore.fsm import breaker, breakers, failures, freeze, guards, latch, lease, plan, store_view
from haltcore.fsm.degraded import MATRIX, Conduct, Deed
from haltcore.fsm.guard import SETTLEMENTS, Decision, on_claim, on_retake, on_settle
from tables import ROOT, essay_tables, table

#: The states of a guard's row; None is no row.
ROWS = (None, *GuardState)


def last_table(module: Any) -> list[str]:
    """The last of the tables in a module's essay."""
    lines = essay_tables(module)
    return lines[max(at for at, line in enumerate(lines) if line == "```text") :]


def matrix() -> list[str]:
    """The conduct for each deed and each answer of the store. Raises LookupError for a deed that has no row."""
    left = [deed.value for deed in Deed if deed not in MATRIX]
    if left:
        raise LookupError(f"the deeds {left} have no row in MATRIX in fsm/degraded.py")
    rows = []
    for deed in Deed:
        row = MATRIX[deed]
        rows.append((f"`{deed.value}`", *(f"`{cell.value}`" for cell in (row.ok, row.unavailable, row.in_doubt)), row.why))
    words = re.sub(r"\b([A-Z_]+): ", lambda name: f"`{name[1].lower()}`: ", (inspect.getdoc(Conduct) or "").partition("\n\n")[2])
    return [*table(("deed", "ok", "unavailable", "in doubt", "why"), rows), "", words]


# --- the guard --------------------------------------------------------------------------------------------------------


def claims() -> list[str]:
    """What a claim hears of each row."""
    asked = {
        "own": (True, True),
        "own, other parameters": (True, False),
        "another's": (False, True),
        "another's, other parameters": (False, False),
    }
    rows = [(_state(row), *(_decision(on_claim(row, own, same)) for own, same in asked.values())) for row in GuardState]
    return table(("row", *asked), rows)


def settlements() -> list[str]:
    """What a settlement of the row's own owner does."""
    rows = [(_state(row), *(_decision(on_settle(told, row, True, True)) for told in SETTLEMENTS)) for row in ROWS]
    return table(("row", *(f"`{told.value}` is told" for told in SETTLEMENTS)), rows)


def retakes() -> list[str]:
    """Which rows are taken over from the owner that is named."""
    rows = [(_state(row), _decision(on_retake(row, False, True, True))) for row in ROWS]
    return table(("row", "taken over"), rows)


def _state(row: GuardState | None) -> str:
    return f"`{row.value}`" if row is not None else "none"


def _decision(decision: Decision) -> str:
    return f"`{decision.kind.value}`" + (f", writes `{decision.writes.value}`" if decision.writes is not None else "")


# --- errors -----------------------------------------------------------------------------------------------------------


def refusals() -> list[str]:
    """With which words a server refuses a request, so that it is certainly not applied."""
    rows = [(f"`{word}`", f"`{one.code}`", one.remedy, "yes" if one.elsewhere else "no") for word, one in REFUSALS.items()]
    return table(("the server says", "code", "what to do", "looks for another server"), rows)


def other_codes() -> list[str]:
    """The other codes of ``StoreFailed``, as a list."""
    return [f"- `{code}` (`{where}`)" for code, where in dict(sorted(_failed_codes())).items()]


def _failed_codes() -> Iterator[tuple[str, str]]:
    """Every code of a ``StoreFailed``, and its module. Raises LookupError for one that is neither written there nor that of a refusal."""
    for path in sorted((ROOT / "adapters").glob("*.py")):
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(call, ast.Call) or getattr(call.func, "id", "") != "StoreFailed":
                continue
            code = call.args[1]
            if isinstance(code, ast.Constant):
                yield str(code.value), path.stem
            elif ast.unparse(code) != "refusal.code":
                raise LookupError(f"{path.stem}: the code {ast.unparse(code)} of a StoreFailed is computed; write it there")


# --- the file ---------------------------------------------------------------------------------------------------------

_MATRIX = """The store is configured, and was last heard like this: what is done (`fsm/degraded.py`). `unavailable` is
certainly not applied, `in doubt` may have been. Without a store none of it is asked. There is nobody yet who does
`close_drift` or `dead_man`."""
_GUARD = """A row in the store per side effect (`fsm/guard.py`, `lua/guard.lua`): it happens once. A row passes
through `intent`, `sent`, `done`, `rejected` or `in_doubt`. What a claim hears by the row that it finds; where there
is none, it is `claimed`, and writes `intent`. What would be `claimed` is `frozen`, and nothing is written, if the
latch shows one of its scopes."""
_SETTLE = """What is told of a row by its owner, with the same parameters. By anybody else it is `lost`. `settled`
without a word of writing: it stands as it was."""
_RETAKE = """Whether a row is taken over from an owner who died, by whoever has asked the venue (`sent`, `in_doubt`)
and is not frozen. Whoever says it twice is `claimed` again, by its own `intent`."""
_CORE = """What the core makes of the answer to its claim (`fsm/guards.py`). Nothing is claimed twice, and the store
is told what became of each claim."""
_DEATHS = "A bot's own deeds have the same guard (`adapters/side_effects.py`). Where a process can die, and what the next one does:"
_LEASE = """Who of several processes cancels for all (`fsm/lease.py`). It saves work and permits nothing. Its *fence*
is the store's epoch and a counter, and no two grants have the same; the epoch grows when the server is another
process or has another history, or the data are gone. A gateway in front of the venue refuses a fence that is smaller
than the largest it has seen (`adapters/gateway.py`): `stale_fence`."""
_LATCH = """What any process has frozen is frozen for all (`fsm/latch.py`). It is read again and again, and at once
when the store answers after a failure. A row has an epoch of its own, and is cleared by a compare-and-set on that."""
_ROW = "A row is the set of its authors' words (`adapters/latch_row.py`, `lua/latch.lua`)."
_UNFREEZE = "Who unfreezes withdraws this session's own word, after the store's answer (`fsm/freeze.py`)."
_VIEW = "What the core does when the store's health or epoch is another (`fsm/store_view.py`)."
_BREAKER = "Of one kind of job (`fsm/breaker.py`). What it is asked or told, by its mode:"
_BREAKERS = "The core's own is that of placing (`fsm/breakers.py`). It never gates a cancel, a sweep or a question."
_FAILURES = """What a venue's refusal, silence or error means (`fsm/failures.py`): may it have been applied, and would
asking again help. The codes of venues stand in `fsm/failure_tables.py`."""
_ERRORS = """A request to a store is certainly not applied (`unavailable`) when no byte of it had left, or when the
server refused it with one of these words (`adapters/redis_errors.py`); else it is in doubt."""
_CODES = "Codes of requests that failed otherwise:"
_CHECK = "Whether a store is fit to coordinate (`adapters/store_check.py`): `haltcore check-store URL`."
_KEYS = "What lies in a Redis or Valkey (`adapters/redis_store.py`). All keys of an account begin with `{haltcore:ACCOUNT}`, one tag."
_PLANS = "What one process asks another to do, on a stream (`fsm/plan.py`): how a text is judged, and what becomes of a delivery."


def render() -> str:
    """The whole file."""
    parts: tuple[tuple[str, tuple[tuple[str, Callable[[], list[str]]], ...]], ...] = (
        ("When the store fails", ((_MATRIX, matrix),)),
        ("The guard", ((_GUARD, claims), (_SETTLE, settlements), (_RETAKE, retakes), (_CORE, lambda: essay_tables(guards)),
                       (_DEATHS, lambda: essay_tables(side_effects)))),
        ("The lease and its fence", ((_LEASE, lambda: essay_tables(lease)),)),
        ("The latch", ((_LATCH, lambda: essay_tables(latch)), (_ROW, lambda: essay_tables(latch_row)),
                       (_UNFREEZE, lambda: last_table(freeze)), (_VIEW, lambda: essay_tables(store_view)))),
        ("The circuit breaker", ((_BREAKER, lambda: essay_tables(breaker)), (_BREAKERS, lambda: essay_tables(breakers)))),
        ("Failures", ((_FAILURES, lambda: essay_tables(failures)),)),
        ("Plans", ((_PLANS, lambda: essay_tables(plan)),)),
        ("Errors of a store", ((_ERRORS, refusals), (_CODES, other_codes))),
        ("The check of a store", ((_CHECK, lambda: essay_tables(store_check)),)),
        ("Keys", ((_KEYS, lambda: essay_tables(redis_store)),)),
    )  # fmt: skip
    lines = ["# Coordination", "", "Generated by `python spec/generate.py` from the program. Do not edit."]
    for title, sections in parts:
        lines += ["", f"## {title}"]
        for lead, body in sections:
            made = body()
            lines += ["", lead, "", *(made[:-1] if made[-1] == "" else made)]
    return "\n".join(lines) + "\n"
