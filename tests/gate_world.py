"""What the tests of the gate share: sessions in a certain situation, and a generator of commands and reports about several strategies.

A situation that has nothing to do with the gate is written into the desk directly; so a test of the gate fails only when the gate does.
"""

from typing import Any

import attrs
from haltcore.effects import Denied, Mode, OrdType, Place, Replace, Trigger, price, qty
from haltcore.effects.values import SCALE
from haltcore.fsm.core import Control, Desk
from haltcore.fsm.events import InstrumentDefined, OrderReplaced, PositionRow, ReplaceOrder, SetReduceOnly, SubmitOrder
from haltcore.fsm.instrument import Instrument
from haltcore.fsm.limits import NO_LIMITS, LimitRule, Limits, Override
from hypothesis import strategies as st

from tests.helpers import BTC, BUY, ETH, MS, SELL, Session

MARKET = OrdType.MARKET


def desk_of(s: Session) -> Desk:
    """The session's desk."""
    assert s.core.desk is not None
    return s.core.desk


def put_desk(s: Session, **fields: Any) -> Session:
    """Write the desk directly."""
    s.core = attrs.evolve(s.core, desk=attrs.evolve(desk_of(s), **fields))
    return s


def put_limits(s: Session, limits: Limits = NO_LIMITS, *rules: LimitRule) -> Session:
    """Other limits from now on; nothing is frozen by that."""
    return put_desk(s, rules=(LimitRule(limits), *rules))


def put_override(s: Session, limits: Limits, symbol: str = "", strategy: str = "", for_ms: int = 1_000, verified: str = "ana") -> Session:
    """An override that begins now."""
    made = Override(len(desk_of(s).overrides) + 1, limits, symbol, strategy, s.now + for_ms * MS, "bo", "a test", verified, None)
    return put_desk(s, overrides=(*desk_of(s).overrides, made))


def put_control(s: Session, scope: int, mode: Mode) -> Session:
    """Put a scope, by its key, in this mode."""
    control = Control(mode, 1, Trigger.MANUAL, "a test", "tester", 0, True, True, None)
    return put_desk(s, controls=desk_of(s).controls.set(scope, control))


def holding(amount: int | str, at: int | None = 100, **fields: Any) -> Session:
    """A position in BTC from before us, at this mark."""
    s = Session(ready=False, **fields)
    s.answer_stock(positions=(PositionRow(BTC, qty(amount), price(at) if at is not None else None),))
    return s


def reducing(amount: int | str, scope: str = "", **fields: Any) -> Session:
    """As ``holding``, with a scope in reduce-only mode."""
    s = holding(amount, **fields)
    s.feed(SetReduceOnly(s.now, scope, True, "tester", "calm"))
    return s


def at_mark(at: int | str = 100, **fields: Any) -> Session:
    """Both symbols have this mark."""
    s = Session(**fields)
    s.mark(at)
    s.mark(at, ETH)
    return s


def traded(amount: int, mark: int, limits: Limits = NO_LIMITS, *rules: LimitRule, **fields: Any) -> Session:
    """Bought (or, below 0, sold) at 100, and now at this mark; the limits come afterwards."""
    strategy = {"strategy": fields["strategies"][0]} if "strategies" in fields else {}
    s = at_mark(**fields)
    s.fill(s.working(BUY if amount > 0 else SELL, abs(amount), **strategy), abs(amount))
    s.mark(mark)
    return put_limits(s, limits, *rules)


def defined(symbol: str = BTC, mark: int | None = 100, **terms: Any) -> Session:
    """A symbol with a grid or a contract."""
    s = Session()
    s.feed(InstrumentDefined(s.now, symbol, Instrument(**terms)))
    if mark is not None:
        s.mark(mark, symbol)
    return s


def denial(s: Session, *args: Any, **fields: Any) -> str:
    """The code with which the order is denied, "" if it goes out."""
    s.ask(*args, **fields)
    denied = s.got(Denied)
    s.grant()
    assert len(denied) + len(s.got(Place)) == 1
    return denied[0].code if denied else ""


# --- a world of random commands ---------------------------------------------------------------------------------------

STRATEGIES = ("mm", "arb")
SMALL = st.sampled_from((1, 2, 3, 4, 5, 8, 10))
PRICES = st.sampled_from((60, 90, 100, 110, 140))
_SUBMIT = st.tuples(
    st.just("submit"), st.sampled_from((BTC, ETH)), st.sampled_from((BUY, SELL)), SMALL, st.one_of(PRICES, st.none()),
    st.sampled_from(STRATEGIES),
)  # fmt: skip
_REPLACE = st.tuples(st.just("replace"), st.integers(0, 50), SMALL, PRICES)
_FILL = st.tuples(st.just("fill"), st.integers(0, 50), SMALL)
_CANCELLED = st.tuples(st.just("cancelled"), st.integers(0, 50))
_MARK = st.tuples(st.just("mark"), st.sampled_from((BTC, ETH)), PRICES)
#: Each move has a name and arguments; orders are named by a number that wraps around.
MOVES = st.lists(st.one_of(_SUBMIT, _SUBMIT, _SUBMIT, _REPLACE, _FILL, _CANCELLED, _MARK), min_size=12, max_size=40)


class Moves:
    """A session that plays such moves."""

    def __init__(self, **fields: Any) -> None:
        self.s = at_mark(**{"strategies": STRATEGIES, **fields})

    def command(self, move: tuple[Any, ...]) -> SubmitOrder | ReplaceOrder | None:
        """The command of the gate that the move is."""
        s, (name, *args) = self.s, move
        if name == "submit":
            symbol, side, amount, at, strategy = args
            kind, limit = (MARKET, None) if at is None else (OrdType.LIMIT, price(at))
            return SubmitOrder(s.now, symbol, side, qty(amount), limit, kind, strategy=strategy)
        key = self._working(args[0]) if name == "replace" else 0
        return ReplaceOrder(s.now, key, qty(args[1]), price(args[2])) if key else None

    def play(self, move: tuple[Any, ...]) -> None:
        """Do it. A placed order is accepted, a replace confirmed, so that most orders work."""
        s, (name, *args) = self.s, move
        command = self.command(move)
        if command is not None:
            s.feed(command)
            for effect in s.got(Place) + s.got(Replace):
                self._confirm(effect)
        elif name == "mark":
            s.mark(args[1], args[0])
        elif name in ("fill", "cancelled") and (key := self._working(args[0])):
            open_qty = s.order(key).leaves_qty // SCALE
            if name == "fill":
                s.fill(key, min(args[1], open_qty), 100)
            else:
                s.cancelled(key, s.order(key).cum_qty // SCALE)

    def _confirm(self, effect: Place | Replace) -> None:
        s = self.s
        s.outcome(effect)
        if isinstance(effect, Place):
            s.accept(effect.order)
        else:
            s.feed(OrderReplaced(s.now, effect.client_id, effect.venue_id, effect.qty, effect.price))

    def _working(self, number: int) -> int:
        keys = sorted(self.s.core.orders)
        return keys[number % len(keys)] if keys else 0
