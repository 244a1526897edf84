"""A long random life of a session against a dumb model. Goal: what the core believes is what truly happened, once it has heard it all.

Method: a Hypothesis state machine drives the real ``step``. The model is a dict per order of what the venue truly did, and a list each
of requests that nobody has served yet, reports that are on their way, and timers. Rules submit, cancel, replace, freeze and unfreeze;
serve any request with any fate; trade; bust and correct; hear any report, or one that was heard before; fire any timer; cut the link;
kill the process. After every rule the core's invariants hold, and no more can fill at the venue than the core counts. At the end of
every run all that is outstanding is delivered; then nobody waits any more, and orders, position and freeze are what the model says.

``--hypothesis-profile=long`` runs many more lives.
"""

from typing import Any

import attrs
from haltcore.effects import (
    Cancel,
    CancelAll,
    CancelBatch,
    Effect,
    FetchOpenOrders,
    FetchPositions,
    Mode,
    Place,
    Price,
    Qty,
    QueryOrder,
    Replace,
    SetTimer,
    Side,
    Trigger,
    Usd,
)
from haltcore.fsm import freeze as gateway
from haltcore.fsm.config import Config, SweepPolicy, VenueTraits
from haltcore.fsm.core import Core, frozen_scopes, scope_text
from haltcore.fsm.events import (
    CancelOrder,
    Event,
    FetchedOrders,
    FetchedPositions,
    Found,
    Freeze,
    NotFound,
    OpenOrders,
    OrderAccepted,
    OrderCancelled,
    OrderFilled,
    OrderQueried,
    OrderReplaced,
    OrderRow,
    OutcomeKind,
    Positions,
    ReplaceOrder,
    ReportStatus,
    Restarted,
    SubmitOrder,
    TimerFired,
    TradeBusted,
    TradeCorrected,
    Unfreeze,
    VenueLink,
)
from haltcore.fsm.exposure import FLAT, book_key
from haltcore.fsm.invariants import broken, broken_state
from haltcore.fsm.outcomes import failed, outcome, owes_outcome
from haltcore.fsm.step import start, step
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

SYMBOLS = ("AAA", "BBB")
STRATEGIES = ("mm", "arb")
CONFIG = Config(
    "tag0000", SYMBOLS, venue=VenueTraits(conditional=False, batch=2), sweep=SweepPolicy(attempts=3), strategies=STRATEGIES
)
SCOPES = st.sampled_from(("", "venue", *SYMBOLS, "strategy:mm"))
INDEX = st.integers(0, 1_000)
UNITS = st.integers(1, 4)
NOT_DONE = (OutcomeKind.REFUSED, OutcomeKind.UNAVAILABLE)
STATUS = {"open": ReportStatus.OPEN, "filled": ReportStatus.FILLED, "cancelled": ReportStatus.CANCELLED}


class Life(RuleBasedStateMachine):
    """See the module's essay."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 10**18
        self.core: Core
        self.core, effects = start(CONFIG, self.now)
        self.truth: dict[int, dict[str, Any]] = {}
        self.requests: list[Effect] = []
        self.zombies: list[tuple[Effect, int]] = []
        self.reports: list[tuple[int, Event]] = []
        self.heard: list[tuple[int, Event]] = []
        self.timers: list[SetTimer] = []
        self._take(effects)
        while self.requests:
            self._serve(self.requests.pop(0), "done")

    # --- the core ---------------------------------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        event = attrs.evolve(event, at_ns=self.now)
        before = self.core
        self.core, effects = step(before, event)
        assert broken(before, event, self.core, effects) == ()
        assert broken_state(self.core) == ()
        self._take(effects)
        self.check_truth()

    def _take(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            if isinstance(effect, Place):
                assert effect.order not in self.truth, "placed twice"
                self.truth[effect.order] = {
                    "id": effect.client_id, "symbol": effect.symbol, "side": effect.side, "state": "sent", "qty": effect.qty,
                    "price": effect.price, "trades": {}, "taken_back": False, "strategy": effect.strategy,
                }  # fmt: skip
            if owes_outcome(effect):
                self.requests.append(effect)
            elif isinstance(effect, SetTimer):
                self.timers.append(effect)

    def check_truth(self) -> None:
        """Whatever may still fill is counted, and a frozen scope is empty."""
        desk = self.core.desk
        assert desk is not None
        frozen = [scope_text(desk, s) for s in frozen_scopes(desk) if desk.controls[s].mode is Mode.FROZEN]
        for key, truth in self.truth.items():
            if truth["state"] != "open" or truth["taken_back"]:
                continue
            claimed = any(scope in frozen for scope in ("", "venue", truth["symbol"], f"strategy:{truth['strategy']}"))
            assert not claimed, f"order {key} is open in a scope that is called FROZEN"
            order = self.core.order(key)
            assert order is not None
            assert order.cum_qty + order.leaves_qty >= truth["qty"], f"order {key} may fill more than is counted"

    @initialize(
        orders=st.lists(
            st.tuples(st.sampled_from(SYMBOLS), st.sampled_from(Side), UNITS, UNITS, st.sampled_from(STRATEGIES)), min_size=1, max_size=3
        ),
        well=st.booleans(),
    )
    def begin(self, orders: list[tuple[str, Side, int, int, str]], well: bool) -> None:
        """A life begins with some orders, mostly live ones."""
        for symbol, side, units, price, strategy in orders:
            self.submit(symbol, side, units, price, strategy)
        if well:
            self.go_well(9)

    # --- users ------------------------------------------------------------------------------------------------------

    @rule(symbol=st.sampled_from(SYMBOLS), side=st.sampled_from(Side), units=UNITS, price=UNITS, strategy=st.sampled_from(STRATEGIES))
    def submit(self, symbol: str, side: Side, units: int, price: int, strategy: str) -> None:
        self.tell(SubmitOrder(0, symbol, side, Qty(units), Price(price), strategy=strategy))

    @precondition(lambda self: self.truth)
    @rule(at=INDEX)
    def cancel(self, at: int) -> None:
        self.tell(CancelOrder(0, self._key(at)))

    @precondition(lambda self: self.truth)
    @rule(at=INDEX, units=UNITS, price=UNITS)
    def replace(self, at: int, units: int, price: int) -> None:
        self.tell(ReplaceOrder(0, self._key(at), Qty(units), Price(price)))

    @rule(scope=SCOPES, really=st.integers(0, 5))
    def freeze(self, scope: str, really: int) -> None:
        """Not too often: nothing begins in a frozen session."""
        if really == 0:
            self.tell(Freeze(0, scope, Trigger.MANUAL, "test", "ops"))

    @rule(scope=SCOPES, force=st.booleans())
    def unfreeze(self, scope: str, force: bool) -> None:
        self.tell(Unfreeze(0, scope, "ops", "test", force))

    def _key(self, at: int) -> int:
        return list(self.truth)[at % len(self.truth)]

    # --- the venue ----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.requests)
    @rule(at=INDEX, fate=st.sampled_from(("done", "done", "done", "refused", "unavailable", "lost", "answer lost", "late")))
    def serve(self, at: int, fate: str) -> None:
        self._serve(self.requests.pop(at % len(self.requests)), fate)

    def _serve(self, effect: Effect, fate: str) -> None:
        if isinstance(effect, (QueryOrder, FetchOpenOrders, FetchPositions)):
            self.tell(self._answer(effect) if fate == "done" else failed(effect, 0, OutcomeKind.UNAVAILABLE, "down"))
            return
        code = gateway.may_send(self.core, effect, self.now)
        if code or fate in ("refused", "unavailable"):
            kind = OutcomeKind.REFUSED if code or fate == "refused" else OutcomeKind.UNAVAILABLE
        elif fate in ("lost", "late"):
            kind = OutcomeKind.IN_DOUBT
            if fate == "late":
                self.zombies.append((effect, self.now))
        else:
            done = self._apply(effect)
            kind = OutcomeKind.IN_DOUBT if fate == "answer lost" else OutcomeKind.ACKNOWLEDGED if done else OutcomeKind.REFUSED
        if isinstance(effect, Place) and kind in NOT_DONE:
            self.truth[effect.order]["state"] = "never"
        self.tell(outcome(effect, 0, kind, code))

    @precondition(lambda self: self.zombies)
    @rule(at=INDEX)
    def arrive_late(self, at: int) -> None:
        effect, sent = self.zombies.pop(at % len(self.zombies))
        if self.now - sent < CONFIG.venue.place_expiry_ms * 1_000_000:
            self._apply(effect)

    def _apply(self, effect: Effect) -> bool:
        """Do it at the venue, and report; False if it is refused."""
        if isinstance(effect, CancelAll):
            for key, truth in self.truth.items():
                if truth["symbol"] == effect.symbol:
                    self._end(key)
            return True
        if isinstance(effect, CancelBatch):
            for target in effect.targets:
                self._end(target.order)
            return True
        if isinstance(effect, Cancel):
            return self._end(effect.target.order)
        assert isinstance(effect, (Place, Replace))
        truth = self.truth[effect.order]
        if isinstance(effect, Place):
            truth["state"] = "open"
            self._report(effect.order, OrderAccepted(0, truth["id"], f"v{effect.order}"))
            return True
        if truth["state"] != "open" or effect.qty <= self._cum(truth):
            return False
        truth.update(qty=effect.qty, price=effect.price)
        self._report(effect.order, OrderReplaced(0, truth["id"], "", effect.qty, effect.price))
        return True

    def _end(self, key: int) -> bool:
        truth = self.truth[key]
        if truth["state"] != "open":
            return False
        truth["state"] = "cancelled"
        self._report(key, OrderCancelled(0, truth["id"], Qty(self._cum(truth))))
        return True

    def _report(self, key: int, event: Event) -> None:
        self.reports.append((key, event))

    @staticmethod
    def _cum(truth: dict[str, Any]) -> int:
        return sum(truth["trades"].values())

    def _row(self, key: int) -> OrderRow:
        truth = self.truth[key]
        return OrderRow(
            truth["id"], f"v{key}", truth["symbol"], truth["side"], STATUS[truth["state"]], Qty(truth["qty"]), Price(truth["price"]),
            Qty(self._cum(truth)), None, False, "",
        )  # fmt: skip

    def _answer(self, effect: QueryOrder | FetchOpenOrders | FetchPositions) -> Event:
        if isinstance(effect, QueryOrder):
            known = self.truth[effect.order]["state"] in STATUS
            return OrderQueried(0, effect.id, effect.order, Found(self._row(effect.order)) if known else NotFound())
        if isinstance(effect, FetchPositions):
            return Positions(0, effect.id, FetchedPositions(()))
        rows = [self._row(key) for key, t in self.truth.items() if t["state"] == "open" and effect.symbol in ("", t["symbol"])]
        return OpenOrders(0, effect.id, effect.symbol, effect.conditional, FetchedOrders(tuple(rows)))

    @precondition(lambda self: any(t["state"] == "open" for t in self.truth.values()))
    @rule(at=INDEX, units=UNITS, total=st.booleans())
    def trade(self, at: int, units: int, total: bool) -> None:
        live = [key for key, truth in self.truth.items() if truth["state"] == "open"]
        key = live[at % len(live)]
        truth = self.truth[key]
        units = min(units, truth["qty"] - self._cum(truth))
        number = str(len(truth["trades"]))
        truth["trades"][number] = units
        if self._cum(truth) == truth["qty"]:
            truth["state"] = "filled"
        cum = Qty(self._cum(truth) if total and not truth["taken_back"] else 0)
        self._report(key, OrderFilled(0, truth["id"], "", number, Qty(units), Price(truth["price"]), cum, Usd(0)))

    @precondition(lambda self: any(t["state"] == "open" for t in self.truth.values()))
    @rule(at=INDEX, units=UNITS)
    def cross(self, at: int, units: int) -> None:
        """A trade and an unsolicited cancel, of which the cancel is heard first: the classic race, too rare if left to chance."""
        live = [key for key, truth in self.truth.items() if truth["state"] == "open"]
        self.trade(at, units, False)
        if self._end(live[at % len(live)]):
            key, event = self.reports.pop()
            self.heard.append((key, event))
            self.tell(attrs.evolve(event, cum_qty=Qty(0)))

    @rule(at=INDEX, units=UNITS, void=st.booleans())
    def take_back(self, at: int, units: int, void: bool) -> None:
        """Bust or correct a trade of an order that has ended and of which everything was heard."""
        busy = {key for key, _ in self.reports}
        ended = [key for key, t in self.truth.items() if t["state"] in ("filled", "cancelled") and t["trades"] and key not in busy]
        if not ended:
            return
        key = ended[at % len(ended)]
        truth = self.truth[key]
        order = self.core.order(key)
        assert order is not None
        number = list(truth["trades"])[at % len(truth["trades"])]
        if not truth["trades"][number] or order.requests.query is not None:
            return
        # The venue's order has ended and stays so; only its totals change.
        truth["taken_back"] = True
        truth["state"] = "cancelled"
        truth["trades"][number] = 0 if void else units
        event = TradeBusted(0, truth["id"], number) if void else TradeCorrected(0, truth["id"], number, Qty(units), Price(truth["price"]))
        self.tell(event)

    # --- messages and time --------------------------------------------------------------------------------------------

    @precondition(lambda self: self.reports)
    @rule(at=INDEX)
    def hear(self, at: int) -> None:
        key, event = self.reports.pop(at % len(self.reports))
        self.heard.append((key, event))
        self.tell(event)

    @precondition(lambda self: self.heard)
    @rule(at=INDEX)
    def hear_again(self, at: int) -> None:
        key, event = self.heard[at % len(self.heard)]
        # An old total cannot be told from a new one once a trade was taken back.
        if not self.truth[key]["taken_back"] and not isinstance(event, OrderReplaced):
            self.tell(event)

    @precondition(lambda self: self.timers)
    @rule(at=INDEX)
    def fire(self, at: int) -> None:
        timer = self.timers.pop(at % len(self.timers))
        self.now = max(self.now, timer.due_ns)
        self.tell(TimerFired(0, timer.id, timer.purpose, timer.key))

    @rule(up=st.sampled_from((True, True, True, True, False)))
    def link(self, up: bool) -> None:
        self.tell(VenueLink(0, up, "test"))

    @rule(arrives=st.booleans(), really=st.integers(0, 3))
    def crash(self, arrives: bool, really: int) -> None:
        """What was in the queue may just have left, or not. Reports that were on their way are heard later."""
        if really:
            return
        lost, self.requests = self.requests, []
        for effect in lost:
            if arrives and isinstance(effect, (Place, Replace, Cancel)) and not gateway.may_send(self.core, effect, self.now):
                self.zombies.append((effect, self.now))
        self.timers = []
        self.tell(Restarted(0, CONFIG, "ops"))

    @rule(steps=st.integers(1, 12))
    def go_well(self, steps: int) -> None:
        """For a while, everything is served and heard in its order; else few lives would get beyond their first orders."""
        for _ in range(steps):
            if self.reports:
                self.hear(0)
            elif self.requests:
                self._serve(self.requests.pop(0), "done")

    # --- the end ----------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Everything is delivered. Then nobody waits, and all is as the model says."""
        self.tell(VenueLink(0, True, "test"))
        for effect, sent in self.zombies:
            if self.now - sent < CONFIG.venue.place_expiry_ms * 1_000_000:
                self._apply(effect)
        for _ in range(2_000):
            if self.requests:
                self._serve(self.requests.pop(0), "done")
            elif self.reports:
                self.hear(0)
            elif self.timers:
                self.timers.sort(key=lambda timer: timer.due_ns)
                self.fire(0)
            else:
                break
        else:
            raise AssertionError("the core never comes to rest")
        self._compare()

    def _compare(self) -> None:
        desk = self.core.desk
        assert desk is not None
        assert desk.sweep is None
        assert desk.stock is None
        assert all(control.mode is not Mode.FREEZING for control in desk.controls.values())
        for key, truth in self.truth.items():
            order = self.core.order(key)
            assert order is not None
            assert (key in self.core.orders) == (truth["state"] == "open"), f"order {key}: {truth}, the core says {order.status}"
            assert order.cum_qty == self._cum(truth), f"order {key}: {truth}, the core says {order.cum_qty} filled"
            assert not order.requests.cancel_wanted or truth["state"] != "open"
        for owner, strategy in enumerate(("", *STRATEGIES)):
            for sym, symbol in enumerate(SYMBOLS):
                mine = [t for t in self.truth.values() if t["symbol"] == symbol and strategy in ("", t["strategy"])]
                true = sum(self._cum(t) * (1 if t["side"] is Side.BUY else -1) for t in mine)
                assert self.core.books.get(book_key(owner, sym), FLAT).position == true


TestLife = Life.TestCase
TestLife.settings = settings(stateful_step_count=60, max_examples=10 * settings().max_examples)
