"""What must hold of exposure and limits: the predicates of SAFE-5 and SAFE-11 to 14, and the one list of them stands in ``invariants.py``.

None of them asks the gate, the triggers or the operator's rules. They recompute from the orders, or compare the books after a step with the
figures in force in a few lines of their own; so a fault of the gate cannot hide in its own check.
"""

from collections.abc import Sequence

import attrs
from immutables import Map

from ..effects import ClaimGuard, Effect, Mode, ModeChanged, Notional, Place, Replace, Side, Usd, as_notional
from .config import TRANSIENT
from .core import ACCOUNT, VENUE, Core, Desk, scope_key, strategy_scope
from .events import (
    ChangeLimits,
    EndOverride,
    Event,
    LatchAnswer,
    OverrideLimits,
    Restarted,
    TimerFired,
    Unfreeze,
    VerifyOverride,
)
from .exposure import FLAT, NO_TALLY, Book, Tally, book_key, from_scratch, gain_value, long_value, owner_of, short_value, worst_value
from .levels import Levels
from .limits import LimitRule, Override, in_force
from .order import Order, OrderSpec, is_done
from .triggers import CLASS_OF
from .turn import resting_levels


def exposure_moves_with_orders(before: Core, event: Event, after: Core, effects: Sequence[Effect]) -> str:
    """The books' open quantities changed by exactly what the touched orders' did."""
    delta: dict[int, int] = {}
    for key in dict.fromkeys(after.touched):
        old, new = before.order(key), after.order(key)
        if new is None:
            return f"order {key} vanished"
        grown = new.leaves_qty - (old.leaves_qty if old is not None else 0)
        delta[new.spec.sym] = delta.get(new.spec.sym, 0) + grown
    for sym, grown in delta.items():
        old_book, new_book = before.books.get(sym, FLAT), after.books.get(sym, FLAT)
        moved = new_book.buy_qty + new_book.sell_qty - old_book.buy_qty - old_book.sell_qty
        if moved != grown:
            return f"open quantity of symbol {sym} moved by {moved}, its orders by {grown}"
    return ""


def exposure_is_complete(core: Core) -> str:
    """Recomputed over all orders: sums, counts, tallies; and every order lies in the map it belongs to."""
    by_book: dict[int, list[Order]] = {}
    for key, order in core.orders.items():
        if is_done(order):
            return f"order {key} is done and still among the working ones"
        for owner in dict.fromkeys((0, order.spec.owner)):
            by_book.setdefault(book_key(owner, order.spec.sym), []).append(order)
    for key, order in core.closed.items():
        if not is_done(order):
            return f"order {key} is open and among the finished ones"
    if any(key not in core.books for key in by_book):
        return "a symbol has orders and no book"
    if core.resting is not None and _spelled(core.resting) != _spelled(resting_levels(core.orders)):
        return "the memo of resting prices is not what the orders say"
    return next(filter(None, (_book_disagrees(key, book, by_book) for key, book in core.books.items())), "") or _tally_disagrees(core)


def _book_disagrees(key: int, book: Book, by_book: dict[int, list[Order]]) -> str:
    fresh = from_scratch(by_book.get(key, []), attrs.evolve(FLAT, contract=book.contract))
    for field in ("buy_qty", "buy_value", "sell_qty", "sell_value", "open_orders", "unknown_buy", "unknown_sell"):
        if getattr(book, field) != getattr(fresh, field):
            return f"book {key}: {field} is {getattr(book, field)}, its orders say {getattr(fresh, field)}"
    return ""


def _tally_disagrees(core: Core) -> str:
    tallies: dict[int, Tally] = {0: NO_TALLY, **dict.fromkeys(core.teams, NO_TALLY)}
    for key, book in core.books.items():
        t = tallies.get(owner_of(key), NO_TALLY)
        worst, gain = Notional(t.worst + worst_value(book)), Notional(t.gain + gain_value(book))
        tallies[owner_of(key)] = Tally(worst, gain, t.open_orders + book.open_orders)
    for owner, tally in tallies.items():
        kept = core.teams.get(owner, NO_TALLY) if owner else core.account
        if kept != tally:
            return f"the sums of owner {owner} are {kept}, its books say {tally}"
    return ""


def _spelled(levels: Map[int, Levels]) -> dict[int, list[int]]:
    return {key: [price for leaf in side.leaves for price in leaf] for key, side in levels.items() if side.leaves}


def limits_hold(before: Core, event: Event, after: Core, effects: Sequence[Effect]) -> str:
    """What a place or replace makes of the exposure lies within every limit in force, or is no more than it was."""
    for effect in effects:
        if not isinstance(effect, (Place, Replace, ClaimGuard)):
            continue
        order, desk = after.order(effect.order), after.desk
        if order is None or desk is None:
            return f"order {effect.order} is sent and not known"
        s = order.spec
        side = long_value if s.side is Side.BUY else short_value
        for rule in _bounding(desk, after.now_ns, s, "max_inventory_usd"):
            key = book_key(s.owner if rule.strategy else 0, s.sym)
            was, now = side(before.books.get(key, FLAT)), side(after.books.get(key, FLAT))
            if now > max(was, as_notional(rule.limits.max_inventory_usd or Usd(0))):
                return f"order {effect.order} takes the inventory of {s.symbol} to {now}, beyond the limit ({rule.label})"
        for rule in _bounding(desk, after.now_ns, s, "max_total_notional"):
            was, now = _total(before, s.owner if rule.strategy else 0), _total(after, s.owner if rule.strategy else 0)
            if now > max(was, as_notional(rule.limits.max_total_notional or Usd(0))):
                return f"order {effect.order} takes the total exposure to {now}, beyond the limit ({rule.label})"
    return ""


def _bounding(desk: Desk, now_ns: int, s: OrderSpec, name: str) -> list[LimitRule | Override]:
    """The rules and overrides that bound such an order: overrides instead of rules of the same subject, of an inventory the symbol's own
    figure instead of the account's."""
    instead: dict[tuple[str, str], Override] = {}
    for o in desk.overrides:
        concerns = o.symbol in ("", s.symbol) and o.strategy in ("", s.strategy)
        if concerns and o.verified_by and now_ns < o.until_ns and getattr(o.limits, name) is not None:
            instead[o.symbol, o.strategy] = o
    rules = in_force(desk.rules, now_ns, s.symbol, s.strategy, desk.bands.get(s.sym, ""))
    found = [rule for rule in rules if getattr(rule.limits, name) is not None and (rule.symbol, rule.strategy) not in instead]
    bounding: list[LimitRule | Override] = [*found, *instead.values()]
    if name == "max_inventory_usd" and any(rule.steady and rule.symbol and not rule.strategy for rule in bounding):
        return [rule for rule in bounding if rule.symbol or rule.strategy or not rule.steady]
    return bounding


def _total(core: Core, owner: int) -> Notional:
    return core.teams.get(owner, NO_TALLY).worst if owner else core.account.worst


def only_reducing(before: Core, event: Event, after: Core, effects: Sequence[Effect]) -> str:
    """Where only reducing is allowed, what works on the order's side together can not take the position through zero."""
    for effect in effects:
        if not isinstance(effect, (Place, Replace, ClaimGuard)):
            continue
        order, desk = after.order(effect.order), before.desk
        if order is None or desk is None:
            return f"order {effect.order} is sent and not known"
        s = order.spec
        owners = [owner for owner in dict.fromkeys((0, s.owner)) if _bound_to_reduce(desk, s.sym, owner)]
        placed = isinstance(effect, Place) or before.order(order.key) is None
        if placed and s.reduce_only and 0 not in owners:
            owners.append(0)
        for owner in owners:
            book = after.books.get(book_key(owner, s.sym), FLAT)
            grew = isinstance(effect, Place) or order.leaves_qty > (old.leaves_qty if (old := before.order(order.key)) is not None else 0)
            room = -book.position if s.side is Side.BUY else book.position
            if grew and (book.buy_qty if s.side is Side.BUY else book.sell_qty) > max(0, room):
                return f"order {effect.order} could flip the position of {s.symbol}, and only reducing is allowed"
    return ""


def _bound_to_reduce(desk: Desk, sym: int, owner: int) -> bool:
    """Whether orders may only reduce this owner's book: by the mode or the throttle of the owner, by the restricted list."""
    scopes = (strategy_scope(owner),) if owner else (ACCOUNT, VENUE, sym + 1)
    if any(scope in desk.controls and desk.controls[scope].mode is Mode.REDUCE_ONLY for scope in scopes):
        return True
    return owner in desk.throttled or (not owner and sym in desk.restricted)


def lifted_by_a_person(before: Core, event: Event, after: Core, effects: Sequence[Effect]) -> str:
    """A frozen scope becomes active by a person's word, by the store's answer to one, or by a cool-down of transient reasons."""
    for effect in effects:
        if not isinstance(effect, ModeChanged) or effect.mode in (Mode.FREEZING, Mode.FROZEN):
            continue
        desk = before.desk
        scope = scope_key(desk, effect.scope) if desk is not None else None
        control = desk.controls.get(scope) if desk is not None and scope is not None else None
        if desk is None or control is None or control.mode not in (Mode.FREEZING, Mode.FROZEN):
            continue
        if isinstance(event, Unfreeze) or (isinstance(event, LatchAnswer) and control.unfreeze is not None):
            continue
        if not isinstance(event, TimerFired) or control.cool_down != event.effect or control.mode is not Mode.FROZEN:
            return f"{effect.scope or 'the account'} was unfrozen by {type(event).__name__}"
        since = [record.trigger for record in desk.freezes if record.scope == effect.scope and record.record >= control.record]
        lasting = [trigger for trigger in since if CLASS_OF[trigger] not in TRANSIENT]
        if lasting:
            return f"a freeze by {lasting[0].value} was lifted without a person"
    return ""


#: Who may change limits: operators by name, a new process with its configuration, and time, which ends overrides.
_CHANGES_LIMITS = (ChangeLimits, OverrideLimits, VerifyOverride, EndOverride, Restarted, TimerFired)


def limits_change_by_name(before: Core, event: Event, after: Core, effects: Sequence[Effect]) -> str:
    """Rules change only by command; an override gets force only by command, and by a second person where that is demanded."""
    old, new = before.desk, after.desk
    if old is None or new is None or (old.rules is new.rules and old.overrides is new.overrides):
        return ""
    if not isinstance(event, _CHANGES_LIMITS):
        return f"limits changed on {type(event).__name__}"
    if isinstance(event, TimerFired) and (old.rules != new.rules or len(new.overrides) > len(old.overrides)):
        return "limits changed by a timer"
    for override in new.overrides if new.config.two_persons else ():
        if override.verified_by.strip().casefold() == override.by.strip().casefold():
            return f"override {override.id} has force by one person alone"
    return ""
