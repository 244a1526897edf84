"""Records as people read them: one line for the event, one for each effect, numbers in decimal, times in UTC.

Everything here is a pure function from decoded records to text. A line begins with the name of the class, since that is what ``--only``
takes and what the specification calls it. What has no template of its own is shown field by field, so nothing is ever hidden.

Logs hold texts from outside (reasons, venue codes). :func:`clean` takes out of them whatever could move the cursor of a terminal.
"""

import textwrap
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from ..effects import Effect, Place, client_order_id, to_text
from ..effects.ids import TAG_LENGTH
from ..fsm.codec import EFFECTS, EVENTS
from ..fsm.core import in_words
from ..fsm.events import Event, Restarted, Started
from ..fsm.limits import NO_LIMITS, LimitRule
from ..fsm.order import Order
from ..fsm.replay import Entry
from .metrics import TABLE as METRICS

WIDTH: Final = 100
#: Who did it, when nobody said.
NOBODY: Final = "nobody named"
_MARGIN: Final = 26
_QUIET: Final = ("at_ns", "id", "class", "epoch", "fence", "effect")
Fields = dict[str, Any]


def clean(text: str) -> str:
    """The text without characters that a terminal would act upon; they are shown as escapes."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape", "replace").decode() for letter in text)


def wrap(text: str, first: str = "", rest: str = "") -> list[str]:
    """The text in lines that fit beside a record's time."""
    return textwrap.wrap(text, WIDTH - _MARGIN if first else WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False)


def utc(ns: int, day: bool = True) -> str:
    """UTC, to the millisecond: ``2026-01-01 00:00:45.002``. A moment that no calendar has is given in nanoseconds."""
    try:
        moment = datetime.fromtimestamp(ns // 10**9, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{ns} ns"
    return f"{moment:{'%Y-%m-%d ' if day else ''}%H:%M:%S}.{ns // 10**6 % 1000:03}"


class Names:
    """The client ids of orders. The session's tag is learned from the records as they go by."""

    def __init__(self) -> None:
        self._session = ""

    def learn(self, event: Event, effects: Iterable[Effect]) -> None:
        """See a record go by."""
        if isinstance(event, (Started, Restarted)):
            self._session = event.config.session
        elif not self._session:
            placed = next((effect for effect in effects if isinstance(effect, Place)), None)
            client_id = placed.client_id if placed is not None else getattr(event, "client_id", "")
            self._session = client_id[:TAG_LENGTH]

    def __call__(self, key: int) -> str:
        """The client id of the order with this key, or ``#key`` while the session is not known."""
        try:
            return client_order_id(self._session, key) if self._session else f"#{key}"
        except ValueError:
            return f"#{key}"


# --- templates ------------------------------------------------------------------------------------------------------


_PER_UNIT: Final = {spec.name: spec.per_unit for spec in METRICS}


def _in_unit(name: str, value: int) -> str:
    """A metric's value in the unit that its name says; the effect carries nanoseconds."""
    per_unit = _PER_UNIT.get(name, 1)
    return str(value) if per_unit == 1 else f"{value / per_unit:.3f}"


def _order(f: Fields) -> str:
    at = f" at {f['price']}" if f["price"] is not None else ""
    stop = f" stop {f['stop_price']}" if f["stop_price"] is not None else ""
    flags = [f["type"], *([f["tif"]] if f["tif"] != "gtc" else []), *(name for name in ("post_only", "reduce_only") if f[name])]
    behalf = [f"{word} {f[word]}" for word in ("strategy", "trader", "client") if f[word]]
    whose = f" for {', '.join(behalf)}" if behalf else ""
    return f"{f['side']} {f['qty']} {f['symbol']}{at}{stop} ({', '.join(flags)}){whose}"


def _book(f: Fields) -> str:
    return f"{f['symbol'] or 'all symbols'}, {'stop orders' if f['conditional'] else 'open orders'}"


def _scope(f: Fields) -> str:
    return in_words(f["scope"]).removeprefix("the ")


def _feed(f: Fields) -> str:
    return f["symbol"] or "all symbols"


def _said(f: Fields) -> str:
    """Who gave an operator's command, and why."""
    return f"by {f['by'] or NOBODY}: {f['why']}"


def _latched(row: Fields) -> str:
    return f"{_scope(row)} ({row['trigger']} by {row['by'] or NOBODY}: {row['reason']})"


def _freeze(f: Fields) -> str:
    figures = ", ".join(f"{name} {value}" for name, value in f["metadata"])
    return _latched(f) + (f" [{figures}]" if figures else "")


def _rule(f: Fields) -> str:
    """Whose figures they are, as the gate calls them, and the figures."""
    conditions = {name: f[name] for name in ("symbol", "strategy", "band", "from_minute", "to_minute") if name in f}
    return f"{LimitRule(NO_LIMITS, **conditions).label}: {figures_line(f['limits'])}"


def figures_line(limits: Fields) -> str:
    """The figures of a rule as they stand in a log, in words; "no figures" takes a rule away."""
    told = [f"{name} {_figure(value)}" for name, value in limits.items() if value is not None and value is not False]
    return ", ".join(told) or "no figures"


def _figure(value: Any) -> str:
    return f"{value['count']}/{value['per_ms']}" if isinstance(value, dict) else "on" if value is True else str(value)


def _instrument(f: Fields) -> str:
    terms = f["instrument"]
    grid = [f"{name} {terms[name]}" for name in ("tick", "lot", "min_qty", "max_qty", "min_notional") if terms[name] != "0"]
    kind = "inverse" if terms["inverse"] else "linear"
    return f"{f['symbol']} {kind}, " + ", ".join([f"multiplier {terms['multiplier']}", *(grid or ["no grid"])])


def _offset(f: Fields) -> str:
    return f"the wall clock is {to_text(abs(f['offset_ns']), 6)} ms {'ahead' if f['offset_ns'] >= 0 else 'behind'}"


def _denied(f: Fields) -> str:
    rest = [code for code in f["codes"] if code != f["code"]]
    return f"{f['code']}: {f['reason']}" + (f" (and {', '.join(rest)})" if rest else "")


def _row(row: Fields) -> str:
    at = f" at {row['price']}" if row["price"] is not None else ""
    return f"{row['status']}: {row['side']} {row['qty']} {row['symbol']}{at}, filled {row['cum_qty']}"


def _failure(result: Fields) -> str:
    return f"no answer ({result['kind']}, {result['code']}: {result['text']})"


def _listed(f: Fields) -> str:
    result = f["result"]
    if result["class"] == "FetchFailed":
        return f"{_book(f)}: {_failure(result)}"
    ids = [row["client_id"] or row["venue_id"] for row in result["rows"]]
    shown = ", ".join(ids[:4]) + (f" and {len(ids) - 4} more" if len(ids) > 4 else "")
    return f"{_book(f)}: {len(ids)} listed" + (f" ({shown})" if ids else "")


def _queried(f: Fields) -> str:
    result, name = f["result"], f["who"]
    if result["class"] == "Found":
        return f"{name} is {_row(result['row'])}"
    return f"{name}: " + ("the venue does not know it" if result["class"] == "NotFound" else _failure(result))


def _outcome(f: Fields) -> str:
    about = f" of {f['who']}" if f["who"] else f" (effect {f['effect'][0]}:{f['effect'][1]})"
    why = ": ".join(part for part in (f["code"], f["text"]) if part)
    wait = f", retry after {f['retry_after_ms']} ms" if f["retry_after_ms"] else ""
    return f"{f['verb']}{about} {f['kind']}{f' ({why})' if why else ''}{wait}"


def _filled(f: Fields) -> str:
    return f"{f['client_id']} {f['last_qty']} at {f['last_price']}, filled in all {f['cum_qty']} (trade {f['trade_id']})"


def _positions(f: Fields) -> str:
    result = f["result"]
    if result["class"] == "FetchFailed":
        return _failure(result)
    return ", ".join(f"{row['symbol']} {row['qty']}" for row in result["rows"]) or "flat"


def _started(f: Fields) -> str:
    config = f["config"]
    return f"session {config['session']}, {', '.join(config['symbols'])}" + (f", by {f['by']}" if "by" in f else "")


def _targets(f: Fields) -> str:
    ids = [target["client_id"] or target["venue_id"] for target in f["targets"]]
    return f"{_book(f)}: {', '.join(ids)}"


def _report(f: Fields) -> str:
    left = f", {f['remaining']} left ({f['unknown']} of unknown fate)" if f["remaining"] else ""
    return f"{f['status']}: {f['cancelled']} ended{left}, {f['rounds']} rounds, {f['duration_ns'] // 10**6} ms"


def _mode(f: Fields) -> str:
    return f"{_scope(f)} is {f['mode']} ({f['trigger']} by {f['by'] or NOBODY}: {f['reason']})"


_TEMPLATES: Final[dict[str, Callable[[Fields], str]]] = {
    "SubmitOrder": lambda f: _order(f),
    "CancelOrder": lambda f: str(f["who"]),
    "ReplaceOrder": lambda f: f"{f['who']} to {f['qty']}" + (f" at {f['price']}" if f["price"] is not None else ""),
    "Freeze": _freeze,
    "Unfreeze": lambda f: f"{_scope(f)} {_said(f)}{' (force)' if f['force'] else ''}",
    "SetReduceOnly": lambda f: f"{_scope(f)} {'on' if f['on'] else 'off'} {_said(f)}",
    "ChangeLimits": lambda f: f"{_rule(f['rule'])} {_said(f)}",
    "OverrideLimits": lambda f: f"{_rule(f)} for {f['for_ms']} ms {_said(f)}",
    "VerifyOverride": lambda f: f"override {f['override']} by {f['by'] or NOBODY}",
    "EndOverride": lambda f: f"override {f['override']} {_said(f)}",
    "Restrict": lambda f: f"{f['symbol']} {'on' if f['on'] else 'off'} the restricted list {_said(f)}",
    "Reenable": lambda f: f"{'strategy ' + f['strategy'] if f['strategy'] else 'account'} {_said(f)}",
    "OperatorRefused": lambda f: f"{f['command']} of {f['by'] or NOBODY}: {f['reason']}",
    "Stopping": lambda f: f"{'freeze first' if f['freeze'] else 'orders stay'}, by {f['by'] or NOBODY}",
    "InstrumentDefined": _instrument,
    "VolatilityBand": lambda f: f"{_feed(f)} {f['band'] or 'in none'}",
    "Heartbeat": lambda f: f["symbol"] or "account",
    "ClockReading": _offset,
    "BreakerChanged": lambda f: f"{f['job']} {'open' if f['open'] else 'not open'}: {f['reason']}",
    "VenueLink": lambda f: f"{'up' if f['up'] else 'down'}: {f['reason']}",
    "EdgeUpdate": lambda f: f"{_feed(f)} {f['edge_bps']} bps",
    "MarkPrice": lambda f: f"{f['symbol']} {f['price']}",
    "OrderAccepted": lambda f: f"{f['client_id']} is live (venue id {f['venue_id']})",
    "OrderRejected": lambda f: f"{f['client_id']}: {f['reason']}",
    "OrderFilled": _filled,
    "OrderCancelled": lambda f: f"{f['client_id']}, filled in all {f['cum_qty']}",
    "OrderExpired": lambda f: f"{f['client_id']}, filled in all {f['cum_qty']}",
    "OrderReplaced": lambda f: f"{f['client_id']} now {f['qty']}" + (f" at {f['price']}" if f["price"] is not None else ""),
    "CancelRejected": lambda f: f"{f['client_id']}: {f['reason']}",
    "ReplaceRejected": lambda f: f"{f['client_id']}: {f['reason']}",
    "Outcome": _outcome,
    "OpenOrders": _listed,
    "OrderQueried": _queried,
    "Positions": _positions,
    "LatchAnswer": lambda f: f"{f['kind']}: " + (", ".join(_latched(row) for row in f["rows"]) or "nothing is frozen"),
    "GuardAnswer": lambda f: f"{f['kind']} of {f['who']}" + "".join(f", {f[name]}" for name in ("holder", "result", "code") if f[name]),
    "TimerFired": lambda f: f["purpose"] + (f" of {f['who']}" if f["who"] else ""),
    "Started": _started,
    "Restarted": _started,
    "Place": lambda f: f"{f['client_id']} {_order(f)}",
    "ClaimGuard": lambda f: f"{f['who']}, key {f['key'][:12]} for {f['owner']}",
    "SettleGuard": lambda f: f"{f['who']} {f['state']}, key {f['key'][:12]} of {f['owner']}",
    "Replace": lambda f: f"{f['client_id']} to {f['qty']}" + (f" at {f['price']}" if f["price"] is not None else ""),
    "Cancel": lambda f: f"{f['target']['client_id'] or f['target']['venue_id']} ({_book(f)})",
    "CancelBatch": _targets,
    "CancelAll": lambda f: _book(f),
    "FetchOpenOrders": lambda f: _book(f),
    "QueryOrder": lambda f: f"{f['client_id']} ({_book(f)})",
    "SetTimer": lambda f: f"{f['purpose']}, due {utc(f['due_ns'], day=False)}" + (f", {f['who']}" if f["who"] else ""),
    "Metric": lambda f: f"{f['name']} {_in_unit(f['name'], f['value'])}" + (f" {f['label']}" if f["label"] else ""),
    "Alert": lambda f: f"{f['severity']} {f['code']}: {f['text']}",
    "PublishFreeze": _latched,
    "ClearFreeze": lambda f: f"{_scope(f)} of epoch {f['latch_epoch']}{' by force,' * f['force']} {_said(f)}",
    "Denied": _denied,
    "Rejected": lambda f: f"{f['code']}: {f['reason']}",
    "ModeChanged": _mode,
    "SweepReport": _report,
}


def _line(fields: Fields, names: Names) -> str:
    kind = fields["class"]
    key = fields.get("order") or (fields["key"] if fields.get("purpose") == "order" else 0)
    template = _TEMPLATES.get(kind)
    if template is not None:
        return clean(f"{kind} {template({**fields, 'who': names(key) if key else ''})}".rstrip())
    rest = [f"{key}={value}" for key, value in fields.items() if key not in _QUIET and value not in (None, "")]
    return clean(" ".join([kind, *rest]))


# --- records --------------------------------------------------------------------------------------------------------


def event_line(event: Event, names: Names) -> str:
    """The event in one line."""
    return _line(msgspec.json.decode(EVENTS.encode(event)), names)


def effect_lines(effects: tuple[Effect, ...], names: Names) -> list[str]:
    """One line per effect, with the index by which ``why --effect N:I`` takes it. Metrics share one line."""
    lines, metrics = [], []
    for fields in msgspec.json.decode(EFFECTS.encode(effects)):
        if fields["class"] == "Metric":
            metrics.append(_line(fields, names).removeprefix("Metric "))
        else:
            lines.append(f":{fields['id'][1]} {_line(fields, names)}")
    return lines + wrap(", ".join(metrics), "   metrics: ", "            ") if metrics else lines


def record_lines(entry: Entry, names: Names) -> Iterator[str]:
    """A record: number, time and event, then the effects, indented."""
    names.learn(entry.event, entry.effects)
    yield f"{entry.n:>9}  {utc(entry.event.at_ns, day=False)}  {event_line(entry.event, names)}"
    for line in effect_lines(entry.effects, names):
        yield f"{'':{_MARGIN}}{line}"


def record_json(entry: Entry) -> Fields:
    """The same as JSON. Event and effects stand as in the log."""
    return {
        "n": entry.n,
        "utc": utc(entry.event.at_ns),
        "event": msgspec.Raw(EVENTS.encode(entry.event)),
        "effects": msgspec.Raw(EFFECTS.encode(entry.effects)),
    }


def concerns(entry: Entry, client_id: str, key: int) -> bool:
    """Whether the record names the order: in its event, or in an effect."""
    return entry.n == key or names_order(entry.event, client_id, key) or any(names_order(e, client_id, key) for e in entry.effects)


def names_order(what: Event | Effect, client_id: str, key: int) -> bool:
    """Whether this event or effect is about the order, by key or by client id."""
    if getattr(what, "order", 0) == key or (client_id and getattr(what, "client_id", "") == client_id):
        return True
    if getattr(getattr(what, "purpose", None), "value", "") == "order":
        return bool(getattr(what, "key", 0) == key)
    targets = getattr(what, "targets", None) or [getattr(what, "target", None)]
    if any(target is not None and target.order == key for target in targets):
        return True
    rows = getattr(getattr(what, "result", None), "rows", ())
    return bool(client_id) and any(getattr(row, "client_id", "") == client_id for row in rows)


def standing(order: Order | None) -> str:
    """How an order stands, in a few words."""
    if order is None:
        return "unknown to haltcore"
    doubt = ", in doubt" if order.requests.doubt_ns else ""
    return f"{order.status.value}, filled {to_text(order.cum_qty)}, open {to_text(order.leaves_qty)}{doubt}"
