"""Writes ``spec/diagrams.md``: state diagrams that are observed, not drawn.

*Phases of an order.* The rules of ``TABLE`` are run over every order that a few reports can lead to, breadth first, and each
change of phase that is seen becomes an arrow.

*Modes and phases of the sweep.* The real ``step`` is driven through the scenarios below, each a line of words. A word is one
event, or the answers to all open questions of one kind; each change of mode or phase that is seen becomes an arrow.

A diagram can therefore lack an arrow that no scenario reaches, but can have none that the program does not have.
"""

from collections.abc import Callable, Iterator

import attrs
from haltcore.effects import (
    AcquireLease,
    Bps,
    Cancel,
    CancelAll,
    CancelBatch,
    ClaimGuard,
    ClearFreeze,
    Effect,
    Fence,
    FetchOpenOrders,
    FetchPositions,
    Place,
    PublishFreeze,
    Purpose,
    ReadFreeze,
    SetTimer,
    Side,
    Trigger,
    price,
    qty,
    usd,
)
from haltcore.fsm import EMPTY, Config, CoolDown, FreezeClass, Limits, StorePolicy, SubmitOrder, Triggers, VenueTraits, step
from haltcore.fsm import events as ev
from haltcore.fsm.config import StoreCheck
from haltcore.fsm.core import ACCOUNT, VENUE, Core, strategy_scope
from haltcore.fsm.events import Event, OutcomeKind, ReportStatus
from haltcore.fsm.order import Order, Phase, Replacement, Requests, phase
from haltcore.fsm.order_change import Times
from haltcore.fsm.order_rules import TABLE, apply, kind_of
from haltcore.fsm.outcomes import outcome
from tables import working_core

Arrows = dict[tuple[str, str], list[str]]

# --- phases of an order -----------------------------------------------------------------------------------------------

_TIMES = Times(1_000, 100)
#: A claim that was not answered yet.
CLAIM = (5, 0)
#: How many reports in a row an order is followed through. Further ones show no new arrow.
DEPTH = 5


def _reports(order: Order) -> Iterator[tuple[str, object]]:
    """One report of each row of ``TABLE``, and several where its figures decide. The venue says nothing of what was never sent."""
    if not order.claiming:
        yield from _from_the_venue(order)
    unclaimed = ev.GuardAnswer(0, CLAIM, order.key, ev.GuardKind.HELD, 0, "", "", "")
    yield from (("place_unclaimed", unclaimed), ("replace_unclaimed", unclaimed))
    yield from ((name, None) for name in ("want_cancel", "want_replace", "restart"))


def _from_the_venue(order: Order) -> Iterator[tuple[str, object]]:
    name, one, two, ten = order.spec.client_id, qty("1"), qty("2"), price("10")
    evidence: list[ev.Evidence] = [
        ev.OrderAccepted(0, name, "v"), ev.OrderRejected(0, name, "no"), ev.OrderRejected(0, name, ev.DUPLICATE_CLIENT_ID),
        ev.OrderFilled(0, name, "v", "a", one, ten, qty("0"), usd("0")), ev.OrderFilled(0, name, "v", "b", two, ten, qty("0"), usd("0")),
        ev.OrderCancelled(0, name, qty("0")), ev.OrderExpired(0, name, qty("0")), ev.OrderHalted(0, name, ev.Halt.SUSPENDED),
        ev.OrderReplaced(0, name, "v", one, ten), ev.CancelRejected(0, name, "no"), ev.ReplaceRejected(0, name, "no"),
        ev.TradeBusted(0, name, "a"), ev.TradeCorrected(0, name, "b", one, ten),
    ]  # fmt: skip
    for event in evidence:
        yield kind_of(event), event
    for verb in (ev.Verb.PLACE, ev.Verb.CANCEL, ev.Verb.REPLACE):
        for kind in OutcomeKind:
            about = ev.Outcome(0, (1, 0), verb, order.key, kind)
            yield kind_of(about), about
    for total in (qty("0"), two):
        row = ev.OrderRow(name, "v", "X", Side.BUY, ReportStatus.OPEN, two, ten, total, None, False, "")
        yield "listed", row
        for status in ReportStatus:
            yield f"found_{status.value}", attrs.evolve(row, status=status)
    yield from (("not_found", None), ("unanswered", None))


def _ours(order: Order) -> Iterator[Order]:
    """What we may have under way meanwhile: facts that no report sets."""
    r = order.requests
    if order.claiming:
        yield attrs.evolve(order, requests=attrs.evolve(r, cancel_wanted=True))
        return
    yield attrs.evolve(order, requests=attrs.evolve(r, cancel=(5, 0), cancel_wanted=True))
    yield attrs.evolve(order, requests=attrs.evolve(r, replace=Replacement((5, 0), qty("1"), price("10"))))
    yield attrs.evolve(order, requests=attrs.evolve(r, replace=Replacement(CLAIM, qty("1"), price("10"), claim=CLAIM)))
    yield attrs.evolve(order, requests=attrs.evolve(r, doubt_ns=1, query=(6, 0), asked_ns=1_000))


def order_arrows() -> Arrows:
    """Every change of phase, with the reports that cause it. Raises LookupError when a row of ``TABLE`` was never tried."""
    live = next(iter(working_core().orders.values()))
    new = attrs.evolve(live, accepted=False, venue_id="", requests=Requests((4, 0)))
    layer = [new, attrs.evolve(new, requests=Requests(CLAIM, claim=CLAIM))]
    seen = dict.fromkeys(layer)
    arrows: Arrows = {}
    tried: dict[str, None] = {}
    for _ in range(DEPTH):
        following: dict[Order, None] = {}
        for order in layer:
            for kind, report in _reports(order):
                after, _notes = apply(order, kind, report, _TIMES)
                tried[kind] = None
                _see(arrows, phase(order).name, phase(after).name, kind)
                following[after] = None
            if phase(order) < Phase.FILLED:
                following.update(dict.fromkeys(_ours(order)))
        layer = [order for order in following if order not in seen]
        seen.update(dict.fromkeys(layer))
    left = [kind for kind in TABLE if kind not in tried]
    if left:
        raise LookupError(f"the rows {left} of TABLE are not tried; add a report for each to _reports in {__file__}")
    return arrows


def _see(arrows: Arrows, before: str, after: str, label: str) -> None:
    if before != after and label not in (labels := arrows.setdefault((before, after), [])):
        labels.append(label)


# --- modes and phases of the sweep ------------------------------------------------------------------------------------

#: One line, one run. ``store``: with a coordination store; ``guarded``: orders are claimed there before they are sent. Words are
#: explained in ``WORDS``.
SCENARIOS = (
    "begin freeze none none unfreeze",
    "begin freeze freeze none none freeze recover none none",
    "begin reduce active reduce freeze none none",
    "begin collapse force",
    "begin link_down link_timer none none stop",
    "begin stop none none",
    "begin submit accept freeze acks none pause_over ended none none",
    "begin submit accept freeze acks listed pause_over acks ended none none",
    "begin submit accept submit accept freeze acks listed_two pause_over acks ended pause_over ended none none",
    "begin submit accept submit accept freeze acks listed_two pause_over acks ended listed acks none",
    "begin submit accept freeze acks none ended none none unfreeze",
    "begin submit accept freeze throttled pause_over none",
    "begin submit accept freeze acks failed pause_over failed pause_over listed pause_over acks none ended none none",
    "begin submit accept filled freeze none none busted acks ended none none",
    "begin submit accept freeze acks deadline force",
    "store begin latch freeze granted none none published unfreeze cleared",
    "store begin latch freeze store_silent none none",
    "store begin latch submit accept freeze lease_timer acks ended none none",
    "store begin latch submit accept freeze held pause_over listed pause_over listed acks ended none none",
    "store begin latch freeze held pause_over none none",
    "store begin latch freeze held force cleared",
    "store begin latch peer granted none none",
    "begin submit accept freeze acks recover none acks ended none none",
    "begin submit accept freeze acks none recover acks none",
    "begin submit accept freeze_x acks none pause_over freeze acks none",
    "begin submit accept freeze freeze_x acks ended none none",
    "begin submit accept freeze_mm acks ended none none unfreeze_mm",
    "begin link_down link_timer none none link_up cool_down",
    "begin collapse none none cool_down",
    "store begin latch submit accept freeze recover",
    "guarded begin latch claim claimed accept freeze granted acks ended none none",
    "guarded begin latch claim freeze granted acks none unclaimed none none",
)


class World:
    """One run: the state, the questions that are open, and what has been seen."""

    def __init__(self, modes: Arrows, sweeps: Arrows, store: bool, guard: bool) -> None:
        self.core: Core = EMPTY
        self.open: list[Effect] = []
        self.now = 0
        self.config = Config(
            "spec001", ("X",), Limits(edge_freeze_threshold_bps=Bps(10**12)), VenueTraits(conditional=False, place_expiry_ms=0),
            store=StorePolicy(configured=store, guard=guard, check=StoreCheck.OFF), strategies=("mm",),
            triggers=Triggers(cool_downs=(CoolDown(FreezeClass.NETWORK, 1, 1), CoolDown(FreezeClass.EDGE, 1, 1))),
        )  # fmt: skip
        self._modes, self._sweeps = modes, sweeps

    def feed(self, event: Event, label: str) -> None:
        """One step, watched."""
        before = self.core
        self.core, effects = step(before, event)
        self.open += effects
        for scope in (ACCOUNT, VENUE, 1, strategy_scope(1)):
            _see(self._modes, _mode(before, scope), _mode(self.core, scope), label)
        _see(self._sweeps, _sweep(before), _sweep(self.core), label)

    def take(self, *kinds: type[Effect]) -> list[Effect]:
        """The open effects of these classes, which are open no longer. Raises LookupError when there is none."""
        taken = [effect for effect in self.open if isinstance(effect, kinds)]
        if not taken:
            raise LookupError(f"no {' or '.join(kind.__name__ for kind in kinds)} is waited for")
        self.open = [effect for effect in self.open if not isinstance(effect, kinds)]
        return taken

    def timer(self, purpose: Purpose) -> SetTimer:
        """The last timer of this purpose."""
        timer = next(e for e in reversed(self.open) if isinstance(e, SetTimer) and e.purpose is purpose)
        self.now = max(self.now, timer.due_ns)
        return timer


def _mode(core: Core, scope: int) -> str:
    control = core.desk.controls.get(scope) if core.desk is not None else None
    return control.mode.name if control is not None else "ACTIVE"


def _sweep(core: Core) -> str:
    return "[*]" if core.desk is None or core.desk.sweep is None else core.desk.sweep.phase.name


def _begin(w: World) -> None:
    w.feed(ev.Started(w.now, w.config), "Started")
    _lists(w, ())
    w.feed(ev.Positions(w.now, w.take(FetchPositions)[0].id, ev.FetchedPositions(())), "Positions")


def _lists(w: World, rows: tuple[ev.OrderRow, ...] | None) -> None:
    result = ev.FetchFailed(OutcomeKind.UNAVAILABLE, "", "", 0) if rows is None else ev.FetchedOrders(rows)
    label = "list failed" if rows is None else "orders listed" if rows else "nothing listed"
    for effect in w.take(FetchOpenOrders):
        w.feed(ev.OpenOrders(w.now, effect.id, "", False, result), label)


def _listed(w: World, most: int) -> None:
    orders = sorted(w.core.orders.values(), key=lambda order: order.key)[:most]
    rows = [ev.OrderRow(o.spec.client_id, "v", "X", Side.BUY, ReportStatus.OPEN, o.qty, o.price, qty("0"), None, False, "") for o in orders]
    _lists(w, tuple(rows))


def _outcomes(w: World, retry_after_ms: int) -> None:
    kind, label = (OutcomeKind.UNAVAILABLE, "venue demands a pause") if retry_after_ms else (OutcomeKind.ACKNOWLEDGED, "cancels answered")
    for effect in w.take(Cancel, CancelAll, CancelBatch):
        w.feed(outcome(effect, w.now, kind, retry_after_ms=retry_after_ms), label)


def _submit(w: World) -> None:
    _claim(w)
    _placed(w)


def _claim(w: World) -> None:
    w.feed(SubmitOrder(w.now, "X", Side.BUY, qty("2"), price("10"), strategy="mm"), "SubmitOrder")


def _claim_answered(w: World, kind: ev.GuardKind, label: str) -> None:
    claim = w.take(ClaimGuard)[0]
    assert isinstance(claim, ClaimGuard)
    w.feed(ev.GuardAnswer(w.now, claim.id, claim.order, kind, w.now + 10**10, "", "", ""), label)


def _claimed(w: World) -> None:
    _claim_answered(w, ev.GuardKind.CLAIMED, "claim granted")
    _placed(w)


def _placed(w: World) -> None:
    place = w.take(Place)[0]
    assert isinstance(place, Place)
    w.feed(ev.Outcome(w.now, place.id, ev.Verb.PLACE, place.order, OutcomeKind.ACKNOWLEDGED), "placed")


def _first(w: World) -> str:
    orders = w.core.orders or w.core.closed
    return orders[min(orders)].spec.client_id


def _ended(w: World) -> None:
    label = "last order ended" if len(w.core.orders) == 1 else "order ended"
    w.feed(ev.OrderCancelled(w.now, _first(w), qty("0")), label)


def _lease(w: World, kind: ev.LeaseKind, label: str) -> None:
    w.feed(ev.LeaseAnswer(w.now, w.take(AcquireLease)[0].id, kind, Fence(1, 1), w.now + 10**10, ""), label)


def _latch(w: World, rows: tuple[ev.LatchRow, ...], label: str, *kinds: type[Effect]) -> None:
    for effect in w.take(*kinds):
        w.feed(ev.LatchAnswer(w.now, effect.id, ev.LatchKind.OK, rows), label)


def _timer(w: World, purpose: Purpose, label: str) -> None:
    timer = w.timer(purpose)
    w.feed(ev.TimerFired(w.now, timer.id, purpose, timer.key), label)


def _freeze(w: World, scope: str) -> None:
    w.feed(ev.Freeze(w.now, scope, Trigger.MANUAL, "test", "ops"), "Freeze")


_LATCHED = ev.LatchRow("", 1, Trigger.MANUAL, "test", "ops")


def _peer(w: World) -> None:
    _timer(w, Purpose.LATCH, "TimerFired")
    _latch(w, (_LATCHED,), "latch set by a peer", ReadFreeze)


WORDS: dict[str, Callable[[World], None]] = {
    "begin": _begin,
    "submit": _submit,
    "claim": _claim,
    "claimed": _claimed,
    "unclaimed": lambda w: _claim_answered(w, ev.GuardKind.HELD, "claim refused"),
    "accept": lambda w: w.feed(ev.OrderAccepted(w.now, w.core.orders[max(w.core.orders)].spec.client_id, "v"), "OrderAccepted"),
    "filled": lambda w: w.feed(
        ev.OrderFilled(w.now, _first(w), "v", "t", qty("2"), price("10"), qty("0"), usd("0")), "last order ended"
    ),
    "busted": lambda w: w.feed(ev.TradeBusted(w.now, _first(w), "t"), "order open again"),
    "ended": _ended,
    "freeze": lambda w: _freeze(w, ""),
    "freeze_x": lambda w: _freeze(w, "X"),
    "collapse": lambda w: w.feed(ev.EdgeUpdate(w.now, "X", Bps(0)), "EdgeUpdate below the threshold"),
    "freeze_mm": lambda w: _freeze(w, "strategy:mm"),
    "unfreeze_mm": lambda w: w.feed(ev.Unfreeze(w.now, "strategy:mm", "ops", "test"), "Unfreeze"),
    "link_up": lambda w: w.feed(ev.VenueLink(w.now, True, "test"), "VenueLink up"),
    "cool_down": lambda w: _timer(w, Purpose.COOL_DOWN, "cool-down over"),
    "unfreeze": lambda w: w.feed(ev.Unfreeze(w.now, "", "ops", "test"), "Unfreeze"),
    "force": lambda w: w.feed(ev.Unfreeze(w.now, "", "ops", "test", True), "Unfreeze by force"),
    "reduce": lambda w: w.feed(ev.SetReduceOnly(w.now, "", True, "ops", "test"), "SetReduceOnly on"),
    "active": lambda w: w.feed(ev.SetReduceOnly(w.now, "", False, "ops", "test"), "SetReduceOnly off"),
    "stop": lambda w: w.feed(ev.Stopping(w.now, True, "ops"), "Stopping with freeze"),
    "link_down": lambda w: w.feed(ev.VenueLink(w.now, False, "test"), "VenueLink down"),
    "link_timer": lambda w: _timer(w, Purpose.VENUE_LINK, "link did not come back"),
    "recover": lambda w: w.feed(ev.Restarted(w.now, w.config, "ops"), "Restarted"),
    "none": lambda w: _lists(w, ()),
    "listed": lambda w: _listed(w, 1),
    "listed_two": lambda w: _listed(w, 2),
    "failed": lambda w: _lists(w, None),
    "acks": lambda w: _outcomes(w, 0),
    "throttled": lambda w: _outcomes(w, 3_000),
    "pause_over": lambda w: _timer(w, Purpose.SWEEP, "pause over"),
    "lease_timer": lambda w: _timer(w, Purpose.SWEEP, "lease takes too long"),
    "deadline": lambda w: _timer(w, Purpose.SWEEP_DEADLINE, "deadline"),
    "granted": lambda w: _lease(w, ev.LeaseKind.GRANTED, "lease granted"),
    "held": lambda w: _lease(w, ev.LeaseKind.HELD, "lease held by another"),
    "store_silent": lambda w: _lease(w, ev.LeaseKind.UNAVAILABLE, "store unavailable"),
    "latch": lambda w: _latch(w, (), "latch read", ReadFreeze),
    "published": lambda w: _latch(w, (_LATCHED,), "latch set", PublishFreeze),
    "cleared": lambda w: _latch(w, (), "latch cleared", ClearFreeze),
    "peer": _peer,
}  # fmt: skip


def step_arrows() -> tuple[Arrows, Arrows]:
    """Changes of mode, changes of the sweep's phase. Raises LookupError with the scenario whose word does not fit."""
    modes: Arrows = {}
    sweeps: Arrows = {}
    for scenario in SCENARIOS:
        words = scenario.split()
        store = words[0] in ("store", "guarded")
        world = World(modes, sweeps, store, words[0] == "guarded")
        for n, word in enumerate(words[store:], 1):
            try:
                WORDS[word](world)
            except (LookupError, StopIteration, ValueError) as error:
                raise LookupError(f"scenario {scenario!r}, word {n}, {word!r}, in {__file__}: {error!r}") from error
    return modes, sweeps


# --- the file ---------------------------------------------------------------------------------------------------------


def chart(arrows: Arrows, first: str) -> list[str]:
    """A mermaid diagram. Labels break after every third cause."""
    lines = ["```mermaid", "stateDiagram-v2"]
    if first:
        lines.append(f"    [*] --> {first}")
    for (before, after), labels in arrows.items():
        groups = [", ".join(labels[at : at + 3]) for at in range(0, len(labels), 3)]
        lines.append(f"    {before} --> {after}: {'<br/>'.join(groups)}")
    return [*lines, "```"]


def render() -> str:
    """The whole file."""
    modes, sweeps = step_arrows()
    lines = ["# Diagrams", "", "Generated by `python spec/generate.py` by running the program. Do not edit."]
    for title, lead, body in (
        ("Phases of an order", "Reports that change nothing, or only figures, are left out. All pairs stand in `tables.md`.",
         chart(order_arrows(), "PENDING_NEW")),
        ("Modes of a scope", "The account, the venue, one symbol or one strategy.", chart(modes, "ACTIVE")),
        ("Phases of the sweep", "One sweep at a time; outside it is `[*]`.", chart(sweeps, "")),
    ):  # fmt: skip
        lines += ["", f"## {title}", "", lead, "", *body]
    return "\n".join(lines) + "\n"
