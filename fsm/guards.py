"""The guard in the core: a place or replace is claimed in the store before it is sent, and the store hears what became of it.

Theory
------
The journal is the truth, the store a coordinator that may forget. So a request under guard is written down twice before it leaves. A submit
makes the order, which counts from then on, and a ``ClaimGuard`` instead of the ``Place``; the claim adds risk, so it leaves only when its
record is durable: that is the *write-ahead intent*. The grant is a record too, and the ``Place`` stands in it. Whoever dies in between
finds in the log how far it came: an order that still waits for its claim was certainly never sent, by this process or by another one.

What the store knows of a side effect, and what follows from that, is ``guard.py``. The *entity* is the intention (``SubmitOrder.once``) if
the order has one, so that all processes together place it once; else the client id, which nobody else has, and the claim is only intent
and latch. The *owner* is session, record, and the process that has restarted the session, if one has: so two processes that go on from
copies of one journal are two owners, and one of them is refused.

=========================== ==================================== ============================= =================================
answer to a claim           the order                            code of the denial            the claim
=========================== ==================================== ============================= =================================
CLAIMED                     the gate's rows of state once more;                                kept until settled
                            then it is sent, until the claim's
                            own end by our clock
CLAIMED, but not allowed    never sent                           the row's; ``stale_epoch``,   REJECTED
any more, or too late                                            ``cancelled_before_sent``,
                                                                 ``guard_expired``
HELD, DONE, MISMATCH,       never sent                           ``guard_held``, ...           another's; forgotten
FROZEN
UNAVAILABLE                 never sent                           ``guard_unavailable``, or     there is none; forgotten
                                                                 that of the last check
IN_DOUBT                    never sent                           ``guard_in_doubt``            REJECTED, in case there is one
=========================== ==================================== ============================= =================================

Never sent means that the order ends, as one that never was, and a replace is given up. Nothing is claimed a second time.

The outbox
----------
Every claim of ours is kept in ``Flow.guards`` until the store has been told its end. What is told follows from the facts of the
order, after every step that touched it: seen at the venue, DONE; certainly never there, REJECTED; of unknown fate, IN_DOUBT. One word at
a time is under way for each claim. Those that were not heard are said again when the store answers: one, and with its answer the others, at
most ``MOST`` at a time. It never holds up anything. A row of an intention lives ``guard_ttl_ms`` from its last word; any other is
of use to nobody once it is settled, and lives a minute more.

A store that forgets
--------------------
A claim names the store's epoch. A store in another one refuses it (``store_epoch``): the latch is read at once, and nothing placed before
that. When the epoch has changed, the store may have forgotten what was done. So every intention of this session that its rows would still
know is vouched for again: the newest first, DONE or, what is not certain, IN_DOUBT, in the name of its first claim. Until that was
heard, and ``PEER_POLLS`` readings of the latch could be made by others, who have to do the same, nothing with an intention is placed
(``store_forgot``). What only a dead process knew is lost: the same intention may then be placed again by another one.
"""

from collections.abc import Mapping
from itertools import islice
from types import MappingProxyType
from typing import Final

import attrs
from immutables import Map

from ..effects import (
    NO_FENCE,
    ClaimGuard,
    Denied,
    EffectId,
    GuardState,
    Place,
    Price,
    Qty,
    Replace,
    SettleGuard,
    Severity,
)
from .ask import ask_to_replace
from .core import Core, Guard, Vouching, scope_text, scopes_over
from .degraded import Deed
from .events import GuardAnswer, GuardKind, ReplaceOrder, StoreHealth, SubmitOrder
from .freeze import HELD_BACK, epoch_floor
from .guard import PLACE, REPLACE, guard_key, params_hash
from .order import Ended, Order, OrderSpec, Replacement, with_requests
from .reports import settle
from .risk import denied_again
from .store_view import degraded, heard, read_latch, writable
from .turn import NS_PER_MS, Turn

#: How many words about claims are under way at most when the store answers again.
MOST: Final = 100
#: How many orders one step looks at, at most, to find those that have to be vouched for.
LOOKED: Final = 5_000
#: How many readings of the latch others have, after the store has forgotten, to tell it what they did.
PEER_POLLS: Final = 5
#: How long a settled claim without an intention lives: long enough for a late copy of it to find that it is over.
SETTLED_MS: Final = 60_000
#: The code of a claim that names another epoch than the store's.
STORE_EPOCH: Final = "store_epoch"
_FINAL = (GuardState.DONE, GuardState.REJECTED)
_HEALTH: Final[Mapping[GuardKind, StoreHealth]] = MappingProxyType(
    {GuardKind.UNAVAILABLE: StoreHealth.UNAVAILABLE, GuardKind.IN_DOUBT: StoreHealth.IN_DOUBT}
)
#: What is not CLAIMED: the code of the denial, and why. Only after the kinds in ``_MAYBE`` may the store have a claim of ours.
_REFUSALS: Final[Mapping[GuardKind, tuple[str, str]]] = MappingProxyType(
    {
        GuardKind.HELD: ("guard_held", "another has claimed it and may be at it"),
        GuardKind.DONE: ("guard_done", "it was done already"),
        GuardKind.MISMATCH: ("guard_mismatch", "the same was claimed before with other parameters"),
        GuardKind.FROZEN: ("guard_frozen", "the store's latch shows a scope of the order frozen"),
        GuardKind.UNAVAILABLE: ("guard_unavailable", "the store has not taken the claim"),
        GuardKind.IN_DOUBT: ("guard_in_doubt", "it is not known whether the store has taken the claim"),
    }
)
_NO_ANSWER = ("guard_in_doubt", "the store has given no answer to a claim")
_MAYBE = (GuardKind.IN_DOUBT, GuardKind.SETTLED, GuardKind.LOST)


# --- claiming -------------------------------------------------------------------------------------------------------


def claim_place(turn: Turn, key: int, spec: OrderSpec, e: SubmitOrder) -> EffectId:
    """Claim the place of a new order."""
    return _claim(turn, key, spec, guard_key(PLACE, spec.once or spec.client_id), place_params(e))


def place_params(e: SubmitOrder) -> str:
    """What exactly is to be placed."""
    return params_hash(
        e.symbol, e.side, e.type, str(e.qty), str(e.price), str(e.stop_price), e.tif, str(e.post_only), str(e.reduce_only), e.strategy,
        e.trader, e.client,
    )  # fmt: skip


def owner(turn: Turn) -> str:
    """Who claims in this record."""
    desk = turn.desk
    return f"{desk.config.session}:{turn.n}:{desk.run}" if desk.run else f"{desk.config.session}:{turn.n}"


def claim_replace(turn: Turn, order: Order, qty: Qty, price: Price | None) -> EffectId:
    """Claim the change of an order; each one is a side effect of its own."""
    name = guard_key(REPLACE, f"{order.spec.client_id}:{turn.n}")
    return _claim(turn, order.key, order.spec, name, params_hash(str(qty), str(price)))


def _claim(turn: Turn, key: int, spec: OrderSpec, name: str, params: str) -> EffectId:
    desk, policy = turn.desk, turn.desk.config.store
    scopes = tuple(scope_text(desk, scope) for scope in scopes_over(spec.sym, spec.owner))
    by, epoch = owner(turn), desk.store.epoch
    effect = turn.emit(ClaimGuard, key, name, by, params, scopes, policy.guard_ttl_ms, policy.claim_ms, epoch)
    _keep(turn, key, (*turn.flow.guards.get(key, ()), Guard(turn.n, name, by, params, desk.epoch, epoch)))
    return effect


def place(turn: Turn, key: int, s: OrderSpec, qty: Qty, price: Price | None, epoch: int, expires_ns: int = 0) -> EffectId:
    """Send a new order that passed the gate under this epoch."""
    return turn.emit(
        Place, key, s.client_id, s.symbol, s.side, s.type, qty, price, s.stop_price, s.tif, s.post_only, s.reduce_only,
        s.strategy, s.trader, s.client, epoch, NO_FENCE, expires_ns,
    )  # fmt: skip


def change(turn: Turn, order: Order, qty: Qty, price: Price | None, epoch: int, expires_ns: int = 0) -> EffectId:
    """Send a change that passed the gate under this epoch."""
    s = order.spec
    return turn.emit(Replace, order.key, s.client_id, order.venue_id, s.symbol, qty, price, epoch, NO_FENCE, expires_ns)


# --- answers --------------------------------------------------------------------------------------------------------


def on_answer(turn: Turn, event: GuardAnswer) -> None:
    """The store's answer to a claim, or to what it was told of one."""
    another = event.kind is GuardKind.UNAVAILABLE and event.code == STORE_EPOCH
    if not another and event.code not in HELD_BACK:  # then the store was never asked
        heard(turn, _HEALTH.get(event.kind, StoreHealth.OK), event.code)
    for guard in turn.flow.guards.get(event.order, ()):
        if guard.settle == event.effect:
            _settled(turn, event, guard)
            return
        if guard.record == event.effect[0]:
            if another and guard.store == turn.desk.store.epoch:
                _another_store(turn)
            _claimed(turn, event, guard)
            return
    turn.reject("stale_answer", "nobody waits for this answer any more")


def _another_store(turn: Turn) -> None:
    """It answers, and is not the store that we know: nothing is placed before its latch was read."""
    turn.desk = attrs.evolve(turn.desk, store=attrs.evolve(turn.desk.store, known=False))
    if turn.desk.store.read is None:
        read_latch(turn)


def _claimed(turn: Turn, event: GuardAnswer, guard: Guard) -> None:
    """The answer to a claim: the request goes out in this step, or never."""
    order = turn.order(event.order)
    pending = order.requests.replace if order is not None else None
    placing = order is not None and order.claiming and order.requests.claim == event.effect
    changing = pending is not None and pending.claiming and pending.claim == event.effect
    if order is None or not (placing or changing):
        turn.reject("stale_answer", "the request that this claim was for has been settled otherwise")
        return
    denial = _denial(turn, event, guard, order, pending if changing else None)
    if denial is None:
        turn.metric("mm_guard_outcomes_total", 1, event.kind.value)
        if placing:
            effect = place(turn, order.key, order.spec, order.qty, order.price, guard.epoch, event.valid_until_ns)
            requests = attrs.evolve(order.requests, place=effect, claim=None)
        else:
            assert pending is not None
            effect = change(turn, order, pending.qty, pending.price, guard.epoch, event.valid_until_ns)
            requests = attrs.evolve(order.requests, replace=attrs.evolve(pending, effect=effect))
        turn.put_order(order, with_requests(order, requests))
        return
    turn.metric("mm_guard_outcomes_total", 1, "withdrawn" if event.kind is GuardKind.CLAIMED else event.kind.value)
    if event.kind is not GuardKind.CLAIMED and event.kind not in _MAYBE:
        _drop(turn, event.order, guard)
    degraded(turn, Deed.PLACE if placing else Deed.AMEND)
    turn.emit(Denied, *denial, order.spec.symbol, order.key, ())
    settle(turn, order, "place_unclaimed" if placing else "replace_unclaimed", event)


def _denial(turn: Turn, event: GuardAnswer, guard: Guard, order: Order, pending: Replacement | None) -> tuple[str, str] | None:
    """Why it is not sent, code and reason; None: it is."""
    if event.kind is not GuardKind.CLAIMED:
        if event.kind is GuardKind.UNAVAILABLE and event.code in HELD_BACK:
            return event.code, "held back at the instant of sending"
        code, reason = _REFUSALS.get(event.kind, _NO_ANSWER)
        said = ", ".join(text for text in (event.holder, event.result, event.code) if text)
        return code, f"{reason} ({said})" if said else reason
    if turn.now_ns >= event.valid_until_ns:
        return "guard_expired", "the claim was granted too late to be used"
    if pending is None and order.spec.once and guard.store not in (0, turn.desk.store.epoch):
        return "store_forgot", "the store has lost what it knew since it granted the claim"
    if order.requests.cancel_wanted or order.requests.cancel is not None:
        return "cancelled_before_sent", "the order was to be cancelled before it was sent"
    qty, price = (order.qty, order.price) if pending is None else (pending.qty, pending.price)
    finding = denied_again(ask_to_replace(turn, order, ReplaceOrder(turn.now_ns, order.key, qty, price)))
    if finding is not None:
        return finding.code, finding.reason
    if guard.epoch < epoch_floor(turn.desk, order.spec.sym, order.spec.owner):
        return "stale_epoch", "a freeze or a change of mode has come and gone since it was decided"
    return None


# --- the outbox -----------------------------------------------------------------------------------------------------


def _settled(turn: Turn, event: GuardAnswer, guard: Guard) -> None:
    """The store has heard it, or has not."""
    key, heard_it = event.order, event.kind in (GuardKind.SETTLED, GuardKind.LOST)
    turn.metric("mm_guard_outcomes_total", 1, event.kind.value if heard_it else "unsettled")
    if event.kind is GuardKind.LOST and guard.state is not GuardState.REJECTED:
        what = "it happened" if guard.state is GuardState.DONE else "it may have happened"
        text = f"order {key}: {what}, and the store has it as another's claim: look whether it happened twice"
        turn.alert(Severity.CRITICAL, "guard_lost", text, key)
    if event.kind is GuardKind.LOST or (heard_it and guard.told in _FINAL and guard.told is guard.state):
        _drop(turn, key, guard)
    else:
        _put(turn, key, guard, attrs.evolve(guard, settle=None, told=guard.told if heard_it else GuardState.INTENT))
    if guard.record == key:
        _vouched(turn, key, heard_it)
    if heard_it:
        _tell(turn, key)
        _say_more(turn, MOST)


def after(turn: Turn, before: Core) -> None:
    """Tell the store what became of the orders that this step touched."""
    for key in dict.fromkeys(turn.touched):
        for guard in turn.flow.guards.get(key, ()):
            state = _known(guard, before.order(key), turn.order(key))
            if state is not guard.state and state is not GuardState.INTENT and guard.state is not GuardState.DONE:
                _put(turn, key, guard, attrs.evolve(guard, state=state))
        if writable(turn.desk):
            _tell(turn, key)


def retell(turn: Turn) -> None:
    """The store answers: one word that it has not heard, whose answer lets the others out. Nothing more, should that fail again."""
    vouching = turn.flow.vouching
    if vouching is not None and not (vouching.older or vouching.unheard) and turn.now_ns >= vouching.until_ns:
        turn.flow = attrs.evolve(turn.flow, vouching=None)
    _say_more(turn, 1)


def _say_more(turn: Turn, most: int) -> None:
    """Tell the store what it has not heard, until so many words are under way."""
    if not writable(turn.desk):
        return
    _vouch_on(turn, most)
    for key in tuple(islice(turn.flow.unsaid, max(0, most - turn.flow.telling))):
        _tell(turn, key)


def restarted(turn: Turn) -> None:
    """Nobody waits for the old process's answers: whatever was under way is said again. From here on intentions are at hand."""
    for key in sorted(turn.flow.guards):
        guards = turn.flow.guards[key]
        if any(guard.settle is not None for guard in guards):
            _keep(turn, key, tuple(attrs.evolve(g, settle=None, told=GuardState.INTENT) if g.settle is not None else g for g in guards))
    turn.intentions()


# --- a store that forgets -------------------------------------------------------------------------------------------


def vouch(turn: Turn) -> None:
    """The store's epoch is another: begin to tell it what may happen once only and did."""
    policy = turn.desk.config.store
    if policy.guard:
        until_ns = turn.now_ns + PEER_POLLS * policy.latch_poll_ms * NS_PER_MS
        turn.flow = attrs.evolve(turn.flow, vouching=Vouching(turn.n, turn.flow.intention, Map(), until_ns))


def _vouch_on(turn: Turn, most: int) -> None:
    """Go on with it, from the newest to the oldest whose row would still live."""
    vouching = turn.flow.vouching
    if vouching is None:
        return
    key, unheard = vouching.older, vouching.unheard
    since_ns = turn.now_ns - turn.desk.config.store.guard_ttl_ms * NS_PER_MS
    for _ in range(LOOKED):
        if not key or turn.flow.telling >= most:
            break
        order = turn.order(key)
        if order is None or order.spec.submitted_ns <= since_ns:
            key = 0
            break
        if _vouch_for(turn, order, vouching.record):
            unheard = unheard.set(key, True)
        key = order.spec.earlier
    turn.flow = attrs.evolve(turn.flow, vouching=attrs.evolve(vouching, older=key, unheard=unheard))


def _vouch_for(turn: Turn, order: Order, record: int) -> bool:
    """Tell the store that the order was placed, or may have been; whether there was anything to tell."""
    state, s = _place_known(order), order.spec
    if order.claiming or state is GuardState.REJECTED:
        return False  # nothing was sent, and what is left to say of that claim is in the outbox
    state = GuardState.DONE if state is GuardState.DONE else GuardState.IN_DOUBT
    kept = turn.flow.guards.get(order.key, ())
    guard = next((guard for guard in kept if guard.record == order.key), None)
    if guard is not None and guard.settle is not None and guard.settle[0] >= record:
        return True  # it was told since
    if guard is None:
        guard = Guard(order.key, guard_key(PLACE, s.once), s.claimer, s.params, turn.desk.epoch)
        _keep(turn, order.key, (*kept, guard))
    _put(turn, order.key, guard, attrs.evolve(guard, state=state, told=GuardState.INTENT, settle=None))
    _tell(turn, order.key)
    return True


def _vouched(turn: Turn, key: int, heard_it: bool) -> None:
    """The answer to it. What the store has not heard is told again, with all that is older."""
    vouching = turn.flow.vouching
    if vouching is None or key not in vouching.unheard:
        return
    older = vouching.older if heard_it else max(vouching.older, key)
    turn.flow = attrs.evolve(turn.flow, vouching=attrs.evolve(vouching, older=older, unheard=vouching.unheard.delete(key)))


# --- facts ----------------------------------------------------------------------------------------------------------


def _known(guard: Guard, was: Order | None, order: Order | None) -> GuardState:
    """How the claimed request stands, by the facts; INTENT: nothing is known that the store would have to be told."""
    if order is None:
        return GuardState.INTENT
    return _place_known(order) if guard.record == order.key else _replace_known(guard, was, order)


def _place_known(order: Order) -> GuardState:
    if order.claiming:
        return GuardState.INTENT
    if order.accepted or order.cum_qty:
        return GuardState.DONE
    if order.ended is not Ended.NO:
        return GuardState.REJECTED if order.ended is Ended.REJECTED else GuardState.DONE
    return GuardState.IN_DOUBT if order.requests.doubt_ns else GuardState.INTENT


def _replace_known(guard: Guard, was: Order | None, order: Order) -> GuardState:
    pending = order.requests.replace
    if pending is not None and pending.claim is not None and pending.claim[0] == guard.record:
        return GuardState.IN_DOUBT if pending.effect is None and order.requests.doubt_ns else GuardState.INTENT
    asked = was.requests.replace if was is not None else None
    if asked is None or asked.claim is None or asked.claim[0] != guard.record:
        return guard.state
    if asked.claiming:
        return GuardState.REJECTED
    done = order.ended is not Ended.NO or (order.qty, order.price) == (asked.qty, asked.price)
    return GuardState.DONE if done else GuardState.REJECTED


def _due(guard: Guard) -> bool:
    return guard.settle is None and guard.state is not guard.told


def _tell(turn: Turn, key: int) -> None:
    """Say of every claim of the order what the store was not told yet."""
    order, desk = turn.order(key), turn.desk
    if order is None or not desk.config.store.configured:
        return
    for guard in turn.flow.guards.get(key, ()):
        if not _due(guard):
            continue
        result = f"{order.spec.client_id} {order.venue_id}".strip() if guard.state is GuardState.DONE else ""
        ttl_ms = desk.config.store.guard_ttl_ms
        if guard.state in _FINAL and not (order.spec.once and guard.record == key):
            ttl_ms = min(ttl_ms, SETTLED_MS)
        effect = turn.emit(SettleGuard, key, guard.key, guard.owner, guard.params, guard.state, result, ttl_ms)
        _put(turn, key, guard, attrs.evolve(guard, told=guard.state, settle=effect))


def _put(turn: Turn, key: int, old: Guard, new: Guard) -> None:
    _keep(turn, key, tuple(new if guard is old else guard for guard in turn.flow.guards[key]))


def _drop(turn: Turn, key: int, old: Guard) -> None:
    _keep(turn, key, tuple(guard for guard in turn.flow.guards[key] if guard is not old))


def _keep(turn: Turn, key: int, guards: tuple[Guard, ...]) -> None:
    """Write the claims of an order, and with them what is to be said and how much is being said."""
    flow, due = turn.flow, any(map(_due, guards))
    unsaid = flow.unsaid
    if due != (key in unsaid):
        unsaid = unsaid.set(key, True) if due else unsaid.delete(key)
    telling = flow.telling + _under_way(guards) - _under_way(flow.guards.get(key, ()))
    held = flow.guards.set(key, guards) if guards else flow.guards.delete(key)
    turn.flow = attrs.evolve(flow, guards=held, unsaid=unsaid, telling=telling)


def _under_way(guards: tuple[Guard, ...]) -> int:
    return sum(guard.settle is not None for guard in guards)
