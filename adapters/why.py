"""Why: the chain of records and rules behind an order, a record or an effect.

A log says what was decided, not by which rule; the rules are code. So the answer is found by replaying the log with the present core and
watching: :func:`investigate` keeps the state before and after every record that matters. What the core says now is what it said
then, because the same replay compares both; where they differ, the answer says so instead of guessing.

Every answer ends with one plain sentence.
"""

from collections.abc import Callable, Iterable, Iterator

from attrs import frozen

from ..effects import (
    Alert,
    Cancel,
    CancelAll,
    CancelBatch,
    ClaimGuard,
    Denied,
    Effect,
    Mode,
    ModeChanged,
    Place,
    Rejected,
    is_session_tag,
    order_key,
    to_text,
)
from ..effects.ids import TAG_LENGTH
from ..fsm.commands import explain
from ..fsm.core import Core, in_words, scope_text, scopes_over
from ..fsm.doubt import without_query
from ..fsm.events import (
    EVIDENCE_CLASSES,
    CancelOrder,
    Event,
    FetchFailed,
    Found,
    GuardAnswer,
    NotFound,
    OpenOrders,
    OrderQueried,
    OrderRejected,
    Outcome,
    ReplaceOrder,
    Restarted,
    SubmitOrder,
)
from ..fsm.exposure import UNPRICED
from ..fsm.freeze import HELD_BACK
from ..fsm.measures import Figure
from ..fsm.order import Ended, Order, is_done
from ..fsm.order_change import Times
from ..fsm.order_rules import TABLE, apply, kind_of
from ..fsm.replay import Source, replay
from ..fsm.risk import CHECKS
from ..fsm.step import step
from ..fsm.triggers import TRIGGERS
from ..fsm.verdict import Verdict
from .views import NOBODY, Names, clean, effect_lines, event_line, names_order, standing, utc

_DEMANDS = {check.code: check.demands for check in CHECKS}
TRIGGER_ROWS = {row.trigger: row for row in TRIGGERS}
_CANCELS = (Cancel, CancelBatch, CancelAll)
_NS_PER_MS = 1_000_000


@frozen
class Moment:
    """One record, with the state on both sides of it."""

    n: int
    event: Event
    before: Core
    after: Core
    effects: tuple[Effect, ...]


@frozen
class Case:
    """What an investigation found: the verdict of the replay, the moments that matter, and the names of orders."""

    verdict: Verdict
    moments: tuple[Moment, ...]
    names: Names


def investigate(sources: Iterable[Source], wanted: Callable[[Moment], bool]) -> Case:
    """Replay the whole log and keep the moments that are wanted."""
    moments: list[Moment] = []
    names = Names()

    def watched(core: Core, event: Event) -> tuple[Core, tuple[Effect, ...]]:
        after, effects = step(core, event)
        names.learn(event, effects)
        moment = Moment(after.seq, event, core, after, effects)
        if wanted(moment):
            moments.append(moment)
        return after, effects

    verdict = replay(sources, step=watched, check=None, check_state=None)
    return Case(verdict, tuple(moments), names)


def key_of(text: str) -> int:
    """The key of an order that a person named by client id or by key; 0 when it is neither."""
    if text.isascii() and text.isdigit() and len(text) <= 10:
        return int(text)
    return order_key(text[:TAG_LENGTH], text) if is_session_tag(text[:TAG_LENGTH]) else 0


# --- one order ------------------------------------------------------------------------------------------------------


def touches(moment: Moment, client_id: str, key: int) -> bool:
    """Whether the record is part of the order's story."""
    if moment.n == key or key in moment.after.touched or names_order(moment.event, client_id, key):
        return True
    return any(_about(moment, effect, client_id, key) for effect in moment.effects)


def _about(moment: Moment, effect: Effect, client_id: str, key: int) -> bool:
    """Whether the effect is about the order; a cancel-all is about every order that is open in its book."""
    if not isinstance(effect, CancelAll):
        return names_order(effect, client_id, key)
    order = moment.before.orders.get(key)
    return order is not None and order.spec.symbol == effect.symbol and order.conditional == effect.conditional


def order_lines(case: Case, client_id: str, key: int) -> Iterator[str]:
    """The order's story: every record that touched it, the rule that judged it, what went out about it, and how it stood then."""
    for moment in case.moments:
        yield f"{moment.n:>9}  {utc(moment.event.at_ns, day=False)}  {event_line(moment.event, case.names)}"
        old, new = moment.before.order(key), moment.after.order(key)
        lines = []
        if isinstance(moment.event, SubmitOrder) and moment.n == key:
            lines.append(f"gate      {_gate_in_short(moment)}")
        rule = rule_of(moment, key)
        if rule:
            lines.append(f"rule      {rule}")
        about = tuple(effect for effect in moment.effects if _about(moment, effect, client_id, key))
        lines += [f"sent      {line}" for line in effect_lines(about, case.names)]
        if new is not None and old != new:
            lines.append(f"now       {standing(new)}")
        yield from (f"{'':11}{line}" for line in lines)
    yield ""
    yield clean(order_sentence(case, client_id or case.names(key), key))


def order_sentence(case: Case, name: str, key: int) -> str:
    """What became of the order and why, in one sentence."""
    last = case.moments[-1].after.order(key)
    if last is None:
        denied = [(m.n, effect) for m in case.moments for effect in m.effects if m.n == key and isinstance(effect, Denied)]
        if denied:
            return f"Order {name} was never sent: the gate denied it in record {key} ({denied[0][1].code}): {denied[0][1].reason}."
        return f"No order {name} was ever asked for in this log."
    end = next((m for m in reversed(case.moments) if _ends(m, key)), None)
    if end is None or not is_done(last):
        doubt = "it is not known whether it is open; the venue is being asked" if last.requests.doubt_ns else "it is open"
        return f"Order {name}: {doubt} at the end of the log ({standing(last)})."
    filled = f", after {standing(last).split(', ')[1]}" if last.cum_qty else ""
    if last.ended is Ended.NO:
        return f"Order {name} was filled completely; the last part of it in record {end.n}."
    if last.ended is Ended.REJECTED:
        return f"Order {name} never was: {_refusal(end)} (record {end.n})."
    if last.ended is Ended.EXPIRED:
        return f"Order {name} ended by its own terms in record {end.n}{filled}."
    return f"Order {name} was cancelled {_cause(case, key, name)}; the evidence is record {end.n}{filled}."


def _ends(moment: Moment, key: int) -> bool:
    old, new = moment.before.order(key), moment.after.order(key)
    return new is not None and is_done(new) and (old is None or not is_done(old))


def _refusal(end: Moment) -> str:
    event = end.event
    if isinstance(event, GuardAnswer):
        denied = next((effect for effect in end.effects if isinstance(effect, Denied)), None)
        return f"it was never sent, {denied.code}: {denied.reason}" if denied is not None else "it was never sent"
    if isinstance(event, Restarted):
        return "it waited for its claim when the process died, and was never sent"
    if isinstance(event, OrderRejected):
        return f"the venue refused it ({event.reason})"
    if isinstance(event, Outcome):
        what = "it was stopped before it left" if event.code in HELD_BACK else "the request was certainly not applied"
        return f"{what} ({event.code})"
    if isinstance(event, OrderQueried) and isinstance(event.result, NotFound):
        return "the venue does not know it, and by then the request could no longer arrive"
    return "the venue says that it was refused"


def _cause(case: Case, key: int, name: str) -> str:
    """Who cancelled it: the last cancel that went out."""
    for moment in reversed(case.moments):
        if not any(isinstance(e, _CANCELS) and _about(moment, e, name, key) for e in moment.effects):
            continue
        order = moment.after.order(key)
        freeze = freeze_behind(moment, order.spec.symbol, order.spec.owner) if order is not None else ""
        if isinstance(moment.event, CancelOrder):
            return f"by the strategy's own cancel of record {moment.n}"
        return f"by {freeze}" if freeze else f"by the cancel of record {moment.n}, which had been asked for before"
    return "at the venue, without a cancel of ours"


def freeze_behind(moment: Moment, symbol: str, owner: int = 0) -> str:
    """The freeze that is being carried out at that moment over orders of this symbol and owner, in words; empty for none."""
    desk = moment.after.desk
    if desk is None:
        return ""
    for scope, control in sorted(desk.controls.items()):
        frozen = scope_text(desk, scope)
        if control.mode is not Mode.FREEZING or scope not in scopes_over(desk.index.get(symbol, -1), owner):
            continue
        where = f" of {in_words(frozen)}" if frozen else ""
        return f"the freeze{where} of record {control.record} ({control.trigger.value}: {control.reason})"
    return ""


# --- rules ----------------------------------------------------------------------------------------------------------


def rule_of(moment: Moment, key: int) -> str:
    """Which rule of the table judged the order in this record, and what it called for; empty when none did."""
    order, desk = moment.before.order(key), moment.before.desk
    if order is None or desk is None:
        return ""
    found = _judged(moment.event, order)
    granted = isinstance(moment.event, GuardAnswer) and not any(isinstance(effect, Denied) for effect in moment.effects)
    if found is None or granted:
        return ""
    kind, report, judged = found
    times = Times(max(moment.before.now_ns, moment.event.at_ns), desk.config.venue.place_expiry_ms * _NS_PER_MS)
    _, notes = apply(judged, kind, report, times)
    after = f", which calls for: {', '.join(notes)}" if notes else ""
    return f"{kind} while {judged.phase.name.lower()}: {TABLE[kind][judged.phase].__name__}{after}"


def _judged(event: Event, order: Order) -> tuple[str, object, Order] | None:
    """The row of the table, the report and the order as the rule saw them."""
    if isinstance(event, OrderQueried):
        if event.order != order.key or order.requests.query != event.effect:
            return None
        report = event.result.row if isinstance(event.result, Found) else event
        return kind_of(event), report, without_query(order)
    if isinstance(event, Outcome):
        return (kind_of(event), event, order) if event.order == order.key else None
    if isinstance(event, GuardAnswer):
        kind = "place_unclaimed" if order.claiming else "replace_unclaimed"
        return (kind, event, order) if event.order == order.key else None
    if isinstance(event, EVIDENCE_CLASSES):
        return (kind_of(event), event, order) if event.client_id == order.spec.client_id else None
    if isinstance(event, OpenOrders) and not isinstance(event.result, FetchFailed):
        row = next((row for row in event.result.rows if row.client_id == order.spec.client_id), None)
        return ("listed", row, order) if row is not None else None
    if isinstance(event, CancelOrder) and event.order == order.key:
        return "want_cancel", event, order
    if isinstance(event, ReplaceOrder) and event.order == order.key:
        return "want_replace", event, order
    return ("restart", event, order) if isinstance(event, Restarted) else None


def _gate_in_short(moment: Moment) -> str:
    denied = next((effect for effect in moment.effects if isinstance(effect, Denied)), None)
    return f"denied, {denied.code}: {denied.reason}" if denied is not None else f"all {len(CHECKS)} checks passed"


def gate_lines(moment: Moment) -> Iterator[str]:
    """Every check of the gate with its verdict, limits with what they measured; the first that fails decides."""
    event = moment.event
    if not isinstance(event, (SubmitOrder, ReplaceOrder)):
        return
    decided = False
    for finding in explain(moment.before, event):
        if finding.reason:
            mark = "no " if decided else "NO "
            yield clean(f"  {mark} {finding.code:<22} {finding.reason}" + ("" if decided else "   <-- decides"))
            decided = True
        else:
            yield f"  ok  {finding.code:<22} {_DEMANDS.get(finding.code, '')}"
        yield from (clean(f"{'':29}{_measured(figure)}") for figure in finding.figures)


def _measured(figure: Figure) -> str:
    value = "without bound" if figure.value >= UNPRICED else to_text(figure.value, figure.digits)
    beyond = "" if figure.exceeded or figure.value <= figure.bound else ", and the order makes it no worse"
    return f"{value} of {to_text(figure.bound, figure.digits)} ({figure.source}){beyond}"


def freeze_lines(moment: Moment) -> Iterator[str]:
    """The freezes that the record triggered: by what, of which class, what the trigger watches, and the figures it left."""
    desk = moment.after.desk
    for record in desk.freezes if desk is not None else ():
        if record.record != moment.n:
            continue
        row = TRIGGER_ROWS[record.trigger]
        yield clean(f"{in_words(record.scope)}: {record.trigger.value} ({row.kind.value}), {row.watches}")
        if record.metadata:
            yield clean(f"    {', '.join(f'{name} {value}' for name, value in record.metadata if value)}")


# --- one record -----------------------------------------------------------------------------------------------------


def record_lines(case: Case, index: int | None) -> Iterator[str]:
    """A record: the event, what decided, what went out (effect ``index`` is marked), and what it changed."""
    (moment,) = case.moments
    names = case.names
    yield f"{moment.n:>9}  {utc(moment.event.at_ns)}  {event_line(moment.event, names)}"
    gate = list(gate_lines(moment))
    if gate:
        yield "  the gate"
        yield from (f"    {line}" for line in gate)
    freezes = list(freeze_lines(moment))
    if freezes:
        yield "  triggers"
        yield from (f"      {line}" for line in freezes)
    keys = list(dict.fromkeys(moment.after.touched))
    rules = [(key, rule) for key in keys if (rule := rule_of(moment, key))]
    if rules:
        yield "  rules"
        yield from (f"      {names(key)}: {rule}" for key, rule in rules)
    if moment.effects:
        yield "  effects"
        for line in effect_lines(moment.effects, names):
            mark = " -->" if index is not None and line.startswith(f":{index} ") else "    "
            yield f"  {mark}{line}"
    yield from _changes(moment, keys, names)
    yield ""
    yield clean(record_sentence(moment, index, names))


def _changes(moment: Moment, keys: list[int], names: Names) -> Iterator[str]:
    lines = [f"{names(key)}: {standing(moment.before.order(key))}  ->  {standing(moment.after.order(key))}" for key in keys[:20]]
    lines = [line.replace("unknown to haltcore", "(none)") for line in lines]
    if len(keys) > 20:
        lines.append(f"and {len(keys) - 20} more orders")
    old, new = _sweep(moment.before), _sweep(moment.after)
    if old != new:
        lines.append(f"sweep: {old}  ->  {new}")
    if lines:
        yield "  changed"
        yield from (f"      {line}" for line in lines)


def _sweep(core: Core) -> str:
    sweep = core.desk.sweep if core.desk is not None else None
    return "none" if sweep is None else f"round {sweep.rounds}, {sweep.phase.value}, {sweep.streak} empty lists so far"


def record_sentence(moment: Moment, index: int | None, names: Names) -> str:
    """Why the record decided as it did, in one sentence."""
    chosen = moment.effects if index is None else (moment.effects[index],)
    for effect in chosen:
        if isinstance(effect, Denied):
            return f"The order was denied because of {effect.code}: {effect.reason}."
        if isinstance(effect, Rejected):
            return f"The input changed nothing, {effect.code}: {effect.reason}."
        if isinstance(effect, ModeChanged):
            return _mode_sentence(effect)
        if isinstance(effect, Place):
            claimed = " and its claim was granted" if isinstance(moment.event, GuardAnswer) else ""
            return f"Order {effect.client_id} was sent because all {len(CHECKS)} checks of the gate passed{claimed}."
        if isinstance(effect, ClaimGuard):
            what = "is claimed in the store before it is sent"
            return f"Order {names(effect.order)} passed all {len(CHECKS)} checks of the gate; it {what}."
        if isinstance(effect, _CANCELS):
            return _cancel_sentence(moment, effect)
    told = next((effect for effect in chosen if isinstance(effect, Alert)), None)
    if told is not None:
        return f"People were told, {told.code}: {told.text}."
    done = [key for key in dict.fromkeys(moment.after.touched) if _ends(moment, key)]
    if index is None and done:
        return f"By this record order {names(done[0])} has ended: {standing(moment.after.order(done[0]))}."
    if index is None and moment.after.touched:
        key = moment.after.touched[-1]
        return f"By this record order {names(key)} stands so: {standing(moment.after.order(key))}."
    if not moment.effects:
        return f"Record {moment.n} was noted; it called for nothing."
    return f"{type(chosen[0]).__name__} followed from {type(moment.event).__name__} of record {moment.n}."


def _mode_sentence(effect: ModeChanged) -> str:
    words = in_words(effect.scope)
    scope = words if words == effect.scope else words[0].upper() + words[1:]
    if effect.mode is Mode.FROZEN:
        return f"{scope} is frozen and proven empty: the venue's lists were empty and every order had ended by evidence."
    if effect.mode is Mode.FREEZING:
        return f"{scope} was frozen ({effect.trigger.value} by {effect.by or NOBODY}): {effect.reason}."
    return f"{scope} is {effect.mode.value} ({effect.by}): {effect.reason}."


def _cancel_sentence(moment: Moment, effect: Cancel | CancelBatch | CancelAll) -> str:
    what = {Cancel: "The cancel", CancelBatch: "The batch cancel", CancelAll: "The cancel-all"}[type(effect)]
    if isinstance(moment.event, CancelOrder):
        return f"{what} was sent because the strategy asked for it in this record."
    targets = effect.targets if isinstance(effect, CancelBatch) else (effect.target,) if isinstance(effect, Cancel) else ()
    order = moment.after.order(targets[0].order) if targets else None
    freeze, desk = freeze_behind(moment, effect.symbol, order.spec.owner if order is not None else 0), moment.after.desk
    if freeze and desk is not None and desk.sweep is not None:
        return f"{what} was sent in round {desk.sweep.rounds} of the sweep, by {freeze}."
    return f"{what} was sent because the order had been asked to go and was still there."
