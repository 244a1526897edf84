"""The outcome of an effect that did not happen as meant, for every effect that owes one.

A performer that times out, raises or is cut off still owes its effect an answer. Which event
that is depends on the effect alone, so it is written once, here, for the runner, for tests and for whoever embeds the bare core.
"""

from collections.abc import Callable

from ..effects import (
    NO_FENCE,
    AcquireLease,
    Cancel,
    CancelAll,
    CancelBatch,
    CheckStore,
    ClaimGuard,
    ClearFreeze,
    Effect,
    FetchOpenOrders,
    FetchPositions,
    Place,
    PublishFreeze,
    QueryOrder,
    ReadFreeze,
    ReleaseLease,
    RenewLease,
    Replace,
    SettleGuard,
    ShareBreaker,
)
from .events import (
    BreakerAnswer,
    BreakerKind,
    Event,
    FetchFailed,
    GuardAnswer,
    GuardKind,
    LatchAnswer,
    LatchKind,
    LeaseAnswer,
    LeaseKind,
    OpenOrders,
    OrderQueried,
    Outcome,
    OutcomeKind,
    Positions,
    StoreChecked,
    StoreHealth,
    Verb,
)

_Failure = tuple[int, OutcomeKind, str, str, int]
_VERBS = {Place: Verb.PLACE, Replace: Verb.REPLACE, Cancel: Verb.CANCEL, CancelBatch: Verb.CANCEL_BATCH, CancelAll: Verb.CANCEL_ALL}
_LEASE_KINDS = {OutcomeKind.UNAVAILABLE: LeaseKind.UNAVAILABLE, OutcomeKind.REFUSED: LeaseKind.UNAVAILABLE}
_LATCH_KINDS = {OutcomeKind.UNAVAILABLE: LatchKind.UNAVAILABLE, OutcomeKind.REFUSED: LatchKind.UNAVAILABLE}


def outcome(
    effect: Effect, at_ns: int, kind: OutcomeKind, code: str = "", text: str = "", retry_after_ms: int = 0
) -> Outcome:
    """What became of a request that acts on orders. Raises ValueError for an effect that owes another kind of answer, or none."""
    verb = _VERBS.get(type(effect))
    if verb is None:
        raise ValueError(f"{type(effect).__name__} does not act on orders, so it owes no Outcome")
    order: int = 0
    orders: tuple[int, ...] = ()
    if isinstance(effect, (Place, Replace)):
        order = effect.order
    elif isinstance(effect, Cancel):
        order = effect.target.order
    elif isinstance(effect, CancelBatch):
        orders = tuple(target.order for target in effect.targets if target.order)
    return Outcome(at_ns, effect.id, verb, order, kind, code, text, retry_after_ms, orders)


def owes_outcome(effect: Effect) -> bool:
    """Whether the effect must be answered by an event. Timers answer by firing; words to people and answers need none."""
    return type(effect) in _VERBS or type(effect) in _ANSWERS


def failed(
    effect: Effect, at_ns: int, kind: OutcomeKind, code: str, text: str = "", retry_after_ms: int = 0
) -> Event:
    """The event that says so. Raises ValueError for an effect that owes no outcome, and for ACKNOWLEDGED, which is no failure."""
    if kind is OutcomeKind.ACKNOWLEDGED:
        raise ValueError(f"{type(effect).__name__}: an acknowledged effect has not failed")
    if type(effect) in _VERBS:
        return outcome(effect, at_ns, kind, code, text, retry_after_ms)
    answer = _ANSWERS.get(type(effect))
    if answer is None:
        raise ValueError(f"{type(effect).__name__} owes no outcome")
    return answer(effect, (at_ns, kind, code, text, retry_after_ms))


def _query(effect: QueryOrder, failure: _Failure) -> Event:
    return OrderQueried(failure[0], effect.id, effect.order, FetchFailed(*failure[1:]))


def _open_orders(effect: FetchOpenOrders, failure: _Failure) -> Event:
    return OpenOrders(failure[0], effect.id, effect.symbol, effect.conditional, FetchFailed(*failure[1:]))


def _positions(effect: FetchPositions, failure: _Failure) -> Event:
    return Positions(failure[0], effect.id, FetchFailed(*failure[1:]))


def _lease(effect: AcquireLease | RenewLease | ReleaseLease, failure: _Failure) -> Event:
    return LeaseAnswer(failure[0], effect.id, _LEASE_KINDS.get(failure[1], LeaseKind.IN_DOUBT), NO_FENCE, 0, "", failure[2])


def _latch(effect: PublishFreeze | ReadFreeze | ClearFreeze, failure: _Failure) -> Event:
    return LatchAnswer(failure[0], effect.id, _LATCH_KINDS.get(failure[1], LatchKind.IN_DOUBT), (), code=failure[2])


def _guard(effect: ClaimGuard | SettleGuard, failure: _Failure) -> Event:
    kind = GuardKind.IN_DOUBT if failure[1] is OutcomeKind.IN_DOUBT else GuardKind.UNAVAILABLE
    return GuardAnswer(failure[0], effect.id, effect.order, kind, 0, "", "", failure[2])


def _checked(effect: CheckStore, failure: _Failure) -> Event:
    health = StoreHealth.IN_DOUBT if failure[1] is OutcomeKind.IN_DOUBT else StoreHealth.UNAVAILABLE
    return StoreChecked(failure[0], effect.id, health, (), (), failure[2])


def _breaker(effect: ShareBreaker, failure: _Failure) -> Event:
    kind = BreakerKind.IN_DOUBT if failure[1] is OutcomeKind.IN_DOUBT else BreakerKind.UNAVAILABLE
    return BreakerAnswer(failure[0], effect.id, effect.job, kind, 0, "")


_ANSWERS: dict[type, Callable[..., Event]] = {
    QueryOrder: _query,
    FetchOpenOrders: _open_orders,
    FetchPositions: _positions,
    AcquireLease: _lease,
    RenewLease: _lease,
    ReleaseLease: _lease,
    PublishFreeze: _latch,
    ReadFreeze: _latch,
    ClearFreeze: _latch,
    ClaimGuard: _guard,
    SettleGuard: _guard,
    CheckStore: _checked,
    ShareBreaker: _breaker,
}
