"""The checks of the gate that are no figures: form, the instrument's grid, the state of session and scopes, our own other orders.

Each function gives the reason for denying, or "". The table that orders them, and says in words what each reads and demands, is in
``risk.py``. Checks of form are judged first; all others may rely on them.
"""

import hashlib
from typing import Final

from ..effects import Mode, OrdType, Side, TimeInForce, to_text
from ..effects.ids import MAX_KEY
from ..effects.values import MAX_WHOLE
from .ask import LIMITED, STOPPED, Ask, exact, reduces, reserve_for, sources_of
from .breaker import refusal
from .core import ACCOUNT, VENUE, Desk, in_words, probe_token, resting_key, scope_text, scopes_over
from .degraded import Deed, forbidden
from .events import SubmitOrder
from .exposure import in_money, order_value
from .levels import EMPTY_LEVELS
from .limit_faults import shown
from .measures import anchor
from .order import Ended, Order
from .store_view import cause, unfit
from .turn import NS_PER_MS, guarded

_FROZEN, _FREEZING, _REDUCE_ONLY, _ACTIVE = Mode.FROZEN, Mode.FREEZING, Mode.REDUCE_ONLY, Mode.ACTIVE
_BUY, _SELL = Side.BUY, Side.SELL
_MARKET = OrdType.MARKET
_REJECTED = Ended.REJECTED
_NOTIONAL_DIGITS = 24
_ONLY_REDUCE = "only orders that reduce the position are allowed, counting those that work already"


#: What the fields that are no numbers have to be.
_TYPES: Final[tuple[tuple[str, type], ...]] = (
    ("symbol", str), ("side", Side), ("type", OrdType), ("tif", TimeInForce), ("post_only", bool), ("reduce_only", bool),
    ("strategy", str), ("trader", str), ("client", str), ("explain", bool), ("once", str),
)  # fmt: skip


# --- form -----------------------------------------------------------------------------------------------------------


def types(a: Ask) -> str:
    """Types are the type checker's business, but a plain word for a side, or a float, would be counted wrongly without a sound."""
    wanted = a.wanted
    if not exact(wanted):
        return f"quantity and prices are exact ints of at most {MAX_WHOLE}; make them with qty() and price()"
    for name, kind in _TYPES:
        value: object = getattr(wanted, name)
        if type(value) is not kind and not (kind is str and isinstance(value, str)):
            return f"{name} is {shown(value)}, which is a {type(value).__name__}; give a {kind.__name__}"
    return ""


def symbol(a: Ask) -> str:
    """Only configured symbols have limits, books and scopes."""
    return "" if a.sym >= 0 else f"{a.wanted.symbol!r} is not among the configured symbols"


def strategy(a: Ask) -> str:
    """A misspelt strategy would escape the limits of the one that was meant."""
    if not a.desk.config.strategies or a.wanted.strategy in a.desk.owners:
        return ""
    return f"{a.wanted.strategy!r} is not among the configured strategies"


def attribution(a: Ask) -> str:
    """On whose behalf the order is sent, where that has to be said."""
    if not a.desk.config.attribution:
        return ""
    wanted = a.wanted
    missing = [name for name, value in (("strategy", wanted.strategy), ("trader", wanted.trader), ("client", wanted.client)) if not value]
    return f"the configuration demands attribution; the order names no {', no '.join(missing)}" if missing else ""


def quantity(a: Ask) -> str:
    """There is something to trade."""
    return "" if a.wanted.qty > 0 else f"quantity {to_text(a.wanted.qty)} is not above 0"


def limit_price(a: Ask) -> str:
    """Limit kinds have one, the others none."""
    price = a.wanted.price
    if a.wanted.type in LIMITED:
        return "" if price is not None and price > 0 else f"a {a.wanted.type.value} order needs a price above 0"
    return "" if price is None else f"a {a.wanted.type.value} order takes no price"


def stop_price(a: Ask) -> str:
    """Stop kinds have one, the others none."""
    price = a.wanted.stop_price
    if a.wanted.type in STOPPED:
        return "" if price is not None and price > 0 else f"a {a.wanted.type.value} order needs a stop price above 0"
    return "" if price is None else f"a {a.wanted.type.value} order takes no stop price"


def session(a: Ask) -> str:
    """Client order ids are made from the key."""
    return "" if a.key <= MAX_KEY else "the session has no order keys left; begin a new session"


# --- the instrument's grid ------------------------------------------------------------------------------------------


def tick(a: Ask) -> str:
    """A replace does not change the stop price, so the gate need not look at it again."""
    step = a.instrument.tick
    if not step:
        return ""
    wanted = a.wanted
    named = (("price", wanted.price), ("stop price", wanted.stop_price if a.replacing is None else None))
    off = [f"{name} {to_text(price)}" for name, price in named if price is not None and price % step]
    return f"{' and '.join(off)}: prices of {wanted.symbol} are multiples of {to_text(step)}" if off else ""


def lot(a: Ask) -> str:
    """Quantities come in whole lots."""
    step, qty = a.instrument.lot, a.wanted.qty
    return f"quantity {to_text(qty)} of {a.wanted.symbol} is no multiple of {to_text(step)}" if step and qty % step else ""


def least_qty(a: Ask) -> str:
    """The venue's own least quantity."""
    least, qty = a.instrument.min_qty, a.wanted.qty
    return f"quantity {to_text(qty)} of {a.wanted.symbol} is below the venue's least, {to_text(least)}" if qty < least else ""


def most_qty(a: Ask) -> str:
    """The venue's own most."""
    most, qty = a.instrument.max_qty, a.wanted.qty
    return f"quantity {to_text(qty)} of {a.wanted.symbol} is above the venue's most, {to_text(most)}" if most and qty > most else ""


def least_notional(a: Ask) -> str:
    """Valued as venues do: at the limit price, else the stop price, else the mark. Reduce-only orders are exempt."""
    least, wanted, book = a.instrument.min_notional, a.wanted, a.book
    if not least or wanted.reduce_only:
        return ""
    price = wanted.price or wanted.stop_price or book.mark
    value = in_money(book.contract, order_value(book.contract.inverse, wanted.qty, price))
    if value >= least * 10**12 or not (price or book.contract.inverse):
        return ""
    return f"order value {to_text(value, _NOTIONAL_DIGITS)} in {wanted.symbol} is below the venue's least, {to_text(least)}"


# --- session and scopes ---------------------------------------------------------------------------------------------


def ready(a: Ask) -> str:
    """What the account holds is known."""
    stock = a.desk.stock
    if not a.desk.opened or (stock is not None and stock.gate):
        return "open orders and positions of the account have not been read yet"
    waits = a.desk.config.store.configured and not a.desk.store.known
    return "the store's freeze latch has not been read yet" + cause(a.desk) if waits else ""


def stopping(a: Ask) -> str:
    """Nothing begins at the end."""
    return "the runner is stopping" if a.desk.stopping else ""


def not_frozen(a: Ask) -> str:
    """Of all scopes that the order lies in."""
    return "" if a.mode is not _FROZEN else "frozen: " + _why(a)


def not_sweeping(a: Ask) -> str:
    """Of all scopes that the order lies in."""
    return "" if a.mode is not _FREEZING else "frozen, and open orders are being cancelled: " + _why(a)


def _why(a: Ask) -> str:
    for scope in scopes_over(a.sym, a.owner):
        control = a.desk.controls.get(scope)
        if control is not None and control.mode in (_FREEZING, _FROZEN):
            return f"{control.trigger.value} by {control.by or 'nobody named'}: {control.reason}"
    return ""


def venue_up(a: Ask) -> str:
    """An order that cannot arrive is not sent."""
    return "" if a.desk.link.up else "the connection to the venue is down"


def store_ok(a: Ask) -> str:
    """Another process's freeze would go unseen."""
    if not a.desk.config.store.configured or not forbidden(Deed.PLACE if a.replacing is None else Deed.AMEND, a.desk.store.health):
        return ""
    return f"the configured store does not answer{cause(a.desk)}, so another process's freeze could go unseen"


def store_fit(a: Ask) -> str:
    """A store that may forget what it was told coordinates nobody."""
    return unfit(a.desk)


def store_remembers(a: Ask) -> str:
    """A store that has lost what it knew lets the same be claimed twice, until all who are alive have told it again what they did. What a
    dead process alone knew is lost."""
    vouching = a.view.flow.vouching
    if vouching is None or not a.wanted.once or not guarded(a.desk):
        return ""
    if not vouching.older and not vouching.unheard and a.view.now_ns >= vouching.until_ns:
        return ""
    return "the store has lost what it knew, and is being told again; what may be placed once only waits for that. Try again later"


def breaker_lets(a: Ask) -> str:
    """What fails again and again is left alone for a while; a replace too, for it is as much of a request."""
    held, policy = a.view.flow.breaker, a.desk.config.breaker
    if held is None or policy is None:
        return ""
    why = refusal(held.copy.state, policy, a.view.now_ns, probe_token(a.desk.config.session, a.key))
    return f"the circuit breaker of placing is {why}" if why else ""


# --- only what reduces ----------------------------------------------------------------------------------------------


def reduce_only(a: Ask) -> str:
    """A strategy's mode is judged by the strategy's own position, that of account, venue and symbol by the account's."""
    if a.mode is _ACTIVE:
        return ""
    for scope in scopes_over(a.sym, a.owner):
        control = a.desk.controls.get(scope)
        if control is not None and control.mode is _REDUCE_ONLY and not reduces(a, a.owner if scope < VENUE else 0):
            if scope < VENUE:
                return f"{in_words(scope_text(a.desk, scope))} is in reduce-only mode: {_ONLY_REDUCE}"
            return f"only orders that reduce the position of {to_text(a.book.position)} are allowed, counting those that work already"
    return ""


def reducing_flag(a: Ask) -> str:
    """The venue judges the flag by the account's position; what it would cut or refuse is not sent."""
    if not a.wanted.reduce_only or reduces(a, 0):
        return ""
    return f"the order says reduce-only; with those that work already it does more than reduce the position of {to_text(a.book.position)}"


def not_restricted(a: Ask) -> str:
    """The restricted list."""
    if not a.desk.restricted or a.sym not in a.desk.restricted or reduces(a, 0):
        return ""
    return f"{a.wanted.symbol} is on the restricted list: {_ONLY_REDUCE}"


def not_throttled(a: Ask) -> str:
    """What trades too often stays off until a named person re-enables it."""
    if not a.desk.throttled:
        return ""
    for owner in (0, a.owner) if a.owner else (0,):
        if owner in a.desk.throttled and not reduces(a, owner):
            who = f"strategy {a.desk.config.strategies[owner - 1]}" if owner else "the account"
            return f"{who} has traded more often than its limit allows and is off until a person re-enables it: {_ONLY_REDUCE}"
    return ""


def feed_fresh(a: Ask) -> str:
    """No opinion about the market without the market. A feed of which nothing was ever heard is as good as lost."""
    for source in sources_of(a, "feed_lost_ms"):
        limit, scope = source.limits.feed_lost_ms, a.desk.index[source.symbol] + 1 if source.symbol else ACCOUNT
        feed = a.view.flow.feeds.get(scope)
        heard = feed is not None and feed.heard
        if limit is None or (feed is not None and heard and a.view.now_ns - feed.last_ns < limit * NS_PER_MS) or reduces(a, 0):
            continue
        since = f"for {limit} ms" if heard else "was heard yet"
        return f"no market data of {in_words(source.symbol)} {since}: {_ONLY_REDUCE}"
    return ""


# --- our own other orders -------------------------------------------------------------------------------------------


def slot_known(a: Ask) -> str:
    """Sending again what may be live already is how one order becomes two."""
    count = a.book.unknown_buy if a.wanted.side is _BUY else a.book.unknown_sell
    return f"{count} {a.wanted.side.value} order(s) in {a.wanted.symbol} of unknown fate; they may be live" if count else ""


def not_done(a: Ask) -> str:
    """The same intention again, however long ago; only an order that certainly never was leaves it open. Other processes are asked by the
    claim."""
    once = a.wanted.once
    key = a.view.intentions().get(once) if once and a.replacing is None else None
    twin = a.view.order(key) if key is not None else None
    if twin is None or (twin.ended is _REJECTED and not twin.cum_qty):
        return ""
    return f"{twin.spec.client_id} was placed for {shown(once)} already, and that may happen once only"


def not_duplicate(a: Ask) -> str:
    """The same intent twice within the window, whoever made it."""
    window = duplicate_window(a)
    if not window:
        return ""
    mark, flow, since = fingerprint(a.wanted), a.view.flow, a.view.now_ns - window * NS_PER_MS
    for intents in (flow.intents, flow.intents_before):
        key = intents.get(mark)
        twin = a.view.order(key) if key is not None else None
        if twin is not None and twin.spec.submitted_ns > since and _same_intent(a.wanted, twin):
            return f"the same order as {twin.spec.client_id}, sent less than {window} ms before"
    return ""


def duplicate_window(a: Ask) -> int:
    """In milliseconds; 0 for none, and for a replace, which names the order that it changes."""
    found = sources_of(a, "duplicate_window_ms")
    return (found[0].limits.duplicate_window_ms or 0) if found and a.replacing is None else 0


def fingerprint(wanted: SubmitOrder) -> int:
    """A number below 2^32 that equal intents share. Different ones may share it too, so an order is looked at before it counts."""
    text = "\0".join(
        (
            wanted.symbol, wanted.side, wanted.type, str(wanted.qty), str(wanted.price), str(wanted.stop_price), wanted.tif,
            wanted.strategy, wanted.trader, wanted.client,
        )
    )  # fmt: skip
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big")


def _same_intent(wanted: SubmitOrder, twin: Order) -> bool:
    s = twin.spec
    return (wanted.symbol, wanted.side, wanted.type, wanted.qty, wanted.price) == (s.symbol, s.side, s.type, twin.qty, twin.price) and (
        wanted.stop_price, wanted.tif, wanted.strategy, wanted.trader, wanted.client
    ) == (s.stop_price, s.tif, s.strategy, s.trader, s.client)  # fmt: skip


def self_match_prevented(desk: Desk) -> bool:
    """Whether any rule asks for it. It is a flag: False says nothing, so that an override of another figure does not switch it off."""
    return desk.rules[0].limits.prevent_self_match or any(override.limits.prevent_self_match for override in desk.overrides)


def no_self_match(a: Ask) -> str:
    """Against the best price of ours on the other side, in doubt or not. A stop that has not triggered meets nobody, nor is met."""
    asked = a.rules[0].limits.prevent_self_match
    if not asked and a.overrides:
        asked = any(override.limits.prevent_self_match for override in a.overrides)
    if not asked or a.eases:
        return ""
    wanted, order = a.wanted, a.replacing
    waits = wanted.type in STOPPED and (order is None or order.conditional)
    if waits or (wanted.price is None and wanted.type is not _MARKET):
        return ""
    levels = a.view.levels().get(resting_key(a.sym, wanted.side is _BUY), EMPTY_LEVELS)
    best = levels.lowest if wanted.side is _BUY else levels.highest
    if not best:
        return ""
    if wanted.price is not None and (wanted.price < best if wanted.side is _BUY else wanted.price > best):
        return ""
    return f"it would trade with our own {'sell' if wanted.side is _BUY else 'buy'} order at {to_text(best)}"


# --- the price ------------------------------------------------------------------------------------------------------


def mark(a: Ask) -> str:
    """Whatever a check compares with a price has one. Inverse contracts are worth the same at any."""
    if a.book.mark:
        return ""
    name, inverse = a.wanted.symbol, a.book.contract.inverse
    if sources_of(a, "price_collar_bps") and anchor(a) == 0 and not a.eases:
        return f"no mark price of {name} is known, so the price cannot be held against the collar"
    if reserve_for(a.wanted, a.book) <= 0:
        # Not even an inverse one: should the venue name its total before its trades, there would be no price to book that at.
        return f"no mark price of {name} is known, so a market order has no worst case"
    if inverse or reduces(a, 0):
        return ""
    if a.book.position:
        # An opening position that nobody has priced would count as nothing.
        return f"no mark price of {name} is known, so its position of {to_text(a.book.position)} has no value"
    if a.wanted.side is _SELL and any(sources_of(a, figure) for figure in ("max_inventory_usd", "max_total_notional", "max_order_value")):
        return f"no mark price of {name} is known, and a sell may trade far above its limit; tell the mark price first"
    return ""
