"""What a sweep says of itself: its figures while it runs, its report of success or failure, its metrics.

=========== ============================================================================================================
status      when
=========== ============================================================================================================
SUCCESS     the scopes are proven empty; the sweep ends
PARTIAL     the deadline has passed, or too many rounds were in vain, after some orders were cancelled; it goes on
FAILED      the same, and none was cancelled; it goes on
IN_DOUBT    instead of both, where of every order that is left the fate is unknown; it goes on
=========== ============================================================================================================

Nothing here decides what the sweep does next.
"""

import attrs

from ..effects import Severity, SweepMethod, SweepReport, SweepStatus
from . import sweep_scope
from .core import Sweep
from .order import Ended, Order, is_done
from .turn import Turn


def count(turn: Turn, old: Order, new: Order, refused: bool) -> None:
    """Keep the sweep's own figures: which of our orders ended while it ran, and how cancels of single orders fared."""
    sweep = turn.desk.sweep
    if sweep is None or not sweep_scope.covers(turn.desk, new.spec.symbol, new.spec.owner):
        return
    ended = is_done(new) and not is_done(old)
    if ended and new.ended is Ended.CANCELLED:
        turn.desk = attrs.evolve(turn.desk, sweep=attrs.evolve(sweep, cancelled=sweep.cancelled + 1))
        if old.requests.cancel is not None:
            turn.metric("mm_cancel_all_per_order_success_total", 1, new.spec.symbol)
    elif refused and old.requests.cancel is not None:
        turn.desk = attrs.evolve(turn.desk, sweep=attrs.evolve(sweep, failed=sweep.failed + 1))
        turn.metric("mm_cancel_all_per_order_failure_total", 1, new.spec.symbol)


def report(turn: Turn, sweep: Sweep, status: SweepStatus, remaining: int, unknown: int) -> None:
    """Report how it stands: ``remaining`` orders may still be open, ``unknown`` of them are of unknown fate."""
    method = SweepMethod.NONE
    if sweep.bulk or sweep.single:
        method = SweepMethod.MIXED if sweep.bulk and sweep.single else SweepMethod.BULK if sweep.bulk else SweepMethod.PER_ORDER
    duration = turn.now_ns - sweep.started_ns
    turn.emit(SweepReport, status, method, sweep.cancelled, sweep.failed, remaining, unknown, sweep.rounds, duration)
    turn.metric("mm_cancel_all_total", 1, status.value)
    turn.metric("mm_cancel_all_remaining_orders", remaining)
    if status is SweepStatus.SUCCESS:
        turn.metric("mm_cancel_all_orders_total", sweep.cancelled)
        turn.metric("mm_cancel_all_duration_ms", duration)
        turn.metric("mm_cancel_all_duration_seconds", duration)


def failure(turn: Turn, sweep: Sweep) -> None:
    """The sweep has not succeeded yet. Said once; it goes on."""
    if sweep.reported:
        return
    ours = sweep_scope.ours(turn)
    unknown = sum(1 for order in ours if order.unknown)
    remaining = sweep_scope.left(ours, sweep)
    status = SweepStatus.PARTIAL if sweep.cancelled else SweepStatus.FAILED
    if remaining and unknown == remaining:
        status = SweepStatus.IN_DOUBT
    report(turn, sweep, status, remaining, unknown)
    turn.alert(
        Severity.CRITICAL, "sweep_" + status.value, f"{remaining} order(s) may still be open, {unknown} of unknown fate; going on"
    )
    turn.desk = attrs.evolve(turn.desk, sweep=attrs.evolve(sweep, reported=True))
