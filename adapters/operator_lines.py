"""What the operator's verbs print: the answers of a running session as lines.

Pure functions from the decoded answer. Texts from outside are made harmless where they are printed.
"""

from collections.abc import Iterator
from decimal import ROUND_UP, Decimal
from typing import Any, Final

from ..fsm.config import STRATEGY_SCOPE, VENUE_SCOPE
from . import views

Fields = dict[str, Any]
#: How many triggers of one scope are shown.
_SHOWN: Final = 10


def recorded(answer: Fields) -> str:
    """The number of the record that a command has become."""
    return f" (record {answer['record']})" if answer.get("record") else ""


def said(answer: Fields) -> Iterator[str]:
    """What was done."""
    mode = f"; the scope is {str(answer['mode']).upper()}" if answer.get("mode") else ""
    yield f"{answer['text']}{mode}{recorded(answer)}"


def changed(answer: Fields) -> Iterator[str]:
    """What was done, and how the limits stand now."""
    yield from said(answer)
    yield from limits(answer)


def option(scope: str) -> str:
    """How the command line names a scope."""
    if scope == VENUE_SCOPE:
        return "--venue"
    name = scope.removeprefix(STRATEGY_SCOPE)
    return f"{'--symbol' if name == scope else '--strategy'} {name}" if scope else "no option"


# --- status -----------------------------------------------------------------------------------------------------------


def status(answer: Fields) -> Iterator[str]:
    """One screen about the session."""
    s, v = answer["status"], answer["versions"]
    standing = "stopping" if s["stopping"] else "ready" if s["ready"] else "starting" if s["running"] else "stopped"
    yield f"SESSION  {s['session']}, {standing}, at record {s['record']:,} ({views.utc(s['now_ns'])} UTC)"
    for scope in s["scopes"]:
        yield f"STATE    {scope_line(scope, s['now_ns'])}"
        yield from (f"         {line}" for line in _freeze_lines(scope))
    if not s["scopes"]:
        yield "STATE    ACTIVE"
    if s["sweep"] is not None:
        yield f"PROOF    {sweep_line(s['sweep'])}"
    elif any(scope["mode"] == "frozen" for scope in s["scopes"]):
        yield "PROOF    proven empty where FROZEN"
    yield f"ORDERS   {s['open_orders']:,} open, {s['in_flight']:,} in flight, {s['unknown']:,} unknown"
    yield f"VENUE    {'connected' if s['link_up'] else 'DOWN'}; store: {_store(s)}"
    if s["refused"]:
        yield f"PLACING  refused: {s['refused']}"
    if s["breaker"] is not None:
        untold = "; the store has not heard of it all yet" if s["breaker"]["untold"] else ""
        yield f"BREAKER  {s['breaker']['job']} is {s['breaker']['standing']}{untold}"
    journal = f"FAILED: {s['journal_failed']}" if s["journal_failed"] else "being written" if s["journal_pending"] else "on disk"
    yield f"JOURNAL  {s['journal']}: {journal}" if s["journal"] else "JOURNAL  none"
    yield from (f"OVERRIDE {_override_line(o)}" for o in s["overrides"])
    yield from (f"BAND     {symbol} is in band {band}" for symbol, band in s["bands"].items())
    yield from _used(answer["utilization"])
    yield f"VERSION  haltcore {v['haltcore']}, log format {v['format']}, rules {v['rules']}"


def _store(s: Fields) -> str:
    """How the store is, and why it is no better."""
    if s["store"] == "failing":
        return f"failing since {views.utc(s['store_since_ns'], day=False)} UTC" + (f", {s['store_code']}" if s["store_code"] else "")
    return f"unfit: {'; '.join(s['store_faults'])}" if s["store"] == "unfit" else str(s["store"])


def name_of(scope: str) -> str:
    """A scope, as text."""
    return scope or "the account"


def scope_line(s: Fields, now_ns: int) -> str:
    """Since when a scope is in its mode, and why."""
    since = f"{views.utc(s['since_ns'])} UTC ({max(0, now_ns - s['since_ns']) // 10**9:,} s ago)"
    return f"{name_of(s['scope'])} is {s['mode'].upper()} since {since}, {s['trigger']} by {s['by'] or views.NOBODY}: {s['reason']}"


def _freeze_lines(s: Fields) -> Iterator[str]:
    """What else has frozen the scope since, and what has to happen for it to be lifted."""
    more = s["triggers"][1:]
    for t in more[:_SHOWN]:
        yield f"also {t['trigger']} by {t['by'] or views.NOBODY} (record {t['record']}, {views.utc(t['at_ns'], day=False)}): {t['reason']}"
    if len(more) > _SHOWN:
        yield f"and {len(more) - _SHOWN} more; -o json has them all"
    if s["lifts_in_s"] is not None:
        yield f"lifts itself in {s['lifts_in_s']:,.0f} s, if its cause is gone by then"
    elif s["lifts_itself"]:
        yield "lifts itself some time after the proof, if its cause is gone by then"
    elif s["mode"] in ("freezing", "frozen"):
        where = f" {option(s['scope'])}" if s["scope"] else ""
        yield f"needs a person: haltcore unfreeze{where} --who NAME --why TEXT"


def sweep_line(sweep: Fields) -> str:
    """How far a proof is."""
    return (
        f"under way ({sweep['phase']}): round {sweep['rounds']}, {sweep['cancelled']} cancelled, {sweep['failed']} failed, "
        f"{sweep['left']} left; empty lists {sweep['empty_lists']} of {sweep['lists_needed']}"
    )


def _used(rows: list[Fields]) -> Iterator[str]:
    """The limits, the most used first."""
    for row in sorted(rows, key=lambda row: -Decimal(row["percent"])):
        percent = Decimal(row["percent"])
        used = f"{percent.quantize(Decimal('0.1'), ROUND_UP)} %" if percent < 10**6 else "far more than 100 %"
        yield f"LIMIT    {used} of {row['figure']} ({name_of(row['subject'])}): {row['value']} of {row['bound']}, by {row['source']}"


# --- limits -----------------------------------------------------------------------------------------------------------


def limits(answer: Fields) -> Iterator[str]:
    """The limits as they stand, one figure a line, and how much of them is used."""
    told = answer["limits"]
    for rule in told["rules"]:
        yield from (f"{rule['applies']}: {name} {value}" for name, value in rule["figures"].items())
        if not rule["figures"]:
            yield f"{rule['applies']}: no limit"
    yield from (f"override {_override_line(o)}" for o in told["overrides"])
    if told["restricted"]:
        yield f"restricted: {', '.join(told['restricted'])}"
    if told["throttled"]:
        yield f"switched off by the execution throttle: {', '.join(name_of(name) for name in told['throttled'])}"
    yield from _used(answer.get("utilization", []))


def _override_line(o: Fields) -> str:
    force = f"verified by {o['verified_by']}" if o["verified_by"] else "WAITS for a second person"
    to = ", ".join(name for name in (o["symbol"], o["strategy"]) if name) or "all orders"
    figures = ", ".join(f"{name} {value}" for name, value in o["limits"].items())
    return f"{o['id']} ({to}) until {views.utc(o['until_ns'])} UTC by {o['by']}, {force}: {figures}; {o['why']}"
