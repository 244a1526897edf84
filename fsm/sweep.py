"""The sweep: cancel everything in the frozen scopes, and prove that nothing is open.

Theory
------
Having asked is no proof. A venue's cancel-all may take a random subset, miss the conditional book, be acknowledged and not
done, and an order that was on its way may land after it. So the sweep is a loop that looks, acts on what it sees, and ends only
when there is nothing left to see and nothing left that could still turn up:

* N consecutive lists of open orders (regular and conditional) were empty, each asked for after the one before was answered,
* every order of ours in the scope has ended *by evidence*: none in flight, none in doubt, none merely absent from a list.

There is one sweep at a time. What it covers is not its own state: it is the union of the scopes that are FREEZING at the moment,
so a second freeze widens it and an unfreeze narrows it (``sweep_scope.py``). And it keeps no plan: each round decides from the facts. Where
only a strategy is frozen, others' orders stay: its own are cancelled one by one or in batches, and of a list only its own count.

The rounds
----------
======== ==================================================== ==========================================================
phase    waits for                                            then
======== ==================================================== ==========================================================
LEASE    the store's answer, or ``lease_wait_ms``             REQUEST; if another runner holds it, *watch* (``sweep_watch.py``)
REQUEST  the outcomes of this round's cancels                 SNAPSHOT; or WAIT, if the venue demands a pause
SNAPSHOT the open-order lists                                 *decide*
WAIT     its timer, or the end of the last order in scope     REQUEST with the rows left; else the lists not read yet, or all
======== ==================================================== ==========================================================

*decide* after a snapshot:

=============================================== ========================================================================
what is seen                                    what follows
=============================================== ========================================================================
nothing listed, but a list could not be read    WAIT by the backoff, at least as long as the venue demands; read that list again
nothing listed, no order of ours open           one more empty list; the N-th proves it: FROZEN
orders listed                                   REQUEST: cancel-all again where many are left, else batches or single cancels
orders of ours open but not listed              WAIT a moment for their reports; the second time, ask for each
no progress since the round before              the same, after WAIT by the backoff
=============================================== ========================================================================

The lease (``lease.py``) only saves work: whoever does not get it, or gets no answer, goes ahead. After the deadline, or after ``attempts``
rounds without progress, the sweep reports that it has not succeeded (``sweep_report.py``), and goes on at the pace of the backoff's cap for
as long as the scope is frozen.
"""

import attrs
from immutables import Map

from ..effects import (
    Cancel,
    CancelAll,
    CancelBatch,
    CancelTarget,
    EffectId,
    FetchOpenOrders,
    Mode,
    ModeChanged,
    Purpose,
    SweepStatus,
    order_key,
)
from . import cool_down, lease, sweep_report, sweep_scope, sweep_watch
from .config import ForeignPolicy
from .core import Sweep, SweepPhase, open_in_scope, scope_text
from .degraded import Deed
from .doubt import ask, mark_cancel
from .events import FetchFailed, LeaseAnswer, LeaseKind, OpenOrders, Outcome, StoreHealth
from .exposure import FLAT
from .store_view import degraded
from .turn import MAX_PAUSE_MS, NS_PER_MS, Turn

#: From how many listed orders of one symbol and book on a further cancel-all is sent instead of cancels of single orders.
BULK_FROM = 5

_NOTHING: Map[int, bool] = Map()


# --- beginning and end ------------------------------------------------------------------------------------------------


def begin(turn: Turn) -> None:
    """A scope has begun to freeze: begin a sweep, or begin the running one's round anew over the wider scope."""
    sweep = turn.desk.sweep
    if sweep is not None:
        extend(turn)
        _widen(turn, _get(turn))
        return
    policy = turn.desk.config.sweep
    deadline = turn.timer(policy.deadline_ms * NS_PER_MS, Purpose.SWEEP_DEADLINE)
    turn.metric("mm_cancel_all_remaining_orders", sweep_scope.remaining(turn))
    turn.metric("mm_cancel_all_last_run_timestamp_seconds", turn.now_ns)
    fresh = Sweep(
        SweepPhase.REQUEST, turn.n, _NOTHING, None, deadline, None, turn.now_ns, 0, 0, 0, (), 0, (), sweep_scope.remaining(turn), 0,
        False, False, 0, 0, False, False,
    )  # fmt: skip
    _put(turn, fresh)
    if not lease.is_wanted(turn):
        degraded(turn, Deed.CANCEL)
        _request(turn, first=True)
        return
    asked = lease.ask(turn)
    timer = turn.timer(policy.lease_wait_ms * NS_PER_MS, Purpose.SWEEP)
    _put(turn, attrs.evolve(fresh, phase=SweepPhase.LEASE, lease=asked, timer=timer))


def _widen(turn: Turn, sweep: Sweep) -> None:
    """There is more to be proven empty: what was seen so far says nothing of it."""
    sweep = attrs.evolve(sweep, streak=0, rows=(), unread=())
    _put(turn, sweep)
    waits_for_lease = sweep.phase is SweepPhase.LEASE and not sweep_watch.alone(turn.desk)
    if not waits_for_lease and not sweep_watch.widened(turn.desk, sweep):
        _cancel_too(turn)


def extend(turn: Turn) -> None:
    """Somebody says freeze once more, and waits for word of it. A sweep that has reported already gets a new deadline to report at."""
    sweep = turn.desk.sweep
    if sweep is not None and sweep.reported:
        deadline = turn.timer(turn.desk.config.sweep.deadline_ms * NS_PER_MS, Purpose.SWEEP_DEADLINE)
        _put(turn, attrs.evolve(sweep, reported=False, deadline=deadline, attempt=0))


def look_again(turn: Turn) -> None:
    """What the lists have shown so far proves nothing any more."""
    sweep = turn.desk.sweep
    if sweep is not None:
        _put(turn, attrs.evolve(sweep, streak=0))
        if sweep.phase is SweepPhase.SNAPSHOT:
            _snapshot(turn)


def narrow(turn: Turn) -> None:
    """A scope was unfrozen: its orders are no longer the sweep's. With none left to prove, it ends without a report of success."""
    sweep = turn.desk.sweep
    if sweep is None:
        return
    if sweep_scope.freezing(turn.desk):
        _put(turn, attrs.evolve(sweep, rows=tuple(row for row in sweep.rows if sweep_scope.counts(turn, row))))
        if sweep.watched is not None and sweep_watch.alone(turn.desk):
            _cancel_too(turn)
    else:
        _end(turn)


def _end(turn: Turn) -> None:
    turn.desk = attrs.evolve(turn.desk, sweep=None)
    lease.give_back(turn)


def _verified(turn: Turn, sweep: Sweep) -> None:
    for scope in sweep_scope.freezing(turn.desk):
        control = turn.desk.controls[scope]
        frozen = attrs.evolve(control, mode=Mode.FROZEN, verified=True)
        turn.desk = attrs.evolve(turn.desk, controls=turn.desk.controls.set(scope, frozen))
        turn.emit(ModeChanged, scope_text(turn.desk, scope), Mode.FROZEN, control.epoch, control.trigger, "proven empty", "haltcore")
        cool_down.start(turn, scope)
    sweep_report.report(turn, sweep, SweepStatus.SUCCESS, 0, 0)
    turn.metric("mm_cancel_all_last_success_timestamp_seconds", turn.now_ns)
    if sweep.held and not sweep.bulk and not sweep.single:
        turn.metric("mm_cancel_all_skipped_total", 1, "lock_held_verified_empty")
    _look_later(turn)
    _end(turn)


def _look_later(turn: Turn) -> None:
    """Where other processes place on the account, a request of one that has died may still be on its way, and nobody waits for it. By when
    none can arrive any more is known: then the lists are read once more (``stock.look_late``)."""
    config = turn.desk.config
    if config.store.configured and config.store.guard and config.sweep.foreign is ForeignPolicy.CANCEL:
        wait_ms = config.store.claim_ms + config.venue.place_expiry_ms
        turn.desk = attrs.evolve(turn.desk, late=turn.timer(wait_ms * NS_PER_MS, Purpose.LATE_LOOK))


# --- a round ----------------------------------------------------------------------------------------------------------


def _request(turn: Turn, first: bool) -> None:
    """Cancel what is to be cancelled in this round; then look."""
    sweep = _get(turn)
    symbols = _bulk_books(turn, sweep, first)
    desk, fence = turn.desk, turn.fence()
    ids: list[EffectId] = [turn.emit(CancelAll, symbol, book, desk.epoch, fence) for symbol, book in symbols]
    single = _cancel_targets(turn, _targets(turn, sweep, first, symbols))
    awaiting = _NOTHING
    for effect in (*ids, *single):
        awaiting = awaiting.set(effect[1], True)
    sweep = attrs.evolve(
        _get(turn), phase=SweepPhase.REQUEST, batch=turn.n, awaiting=awaiting, timer=None, rounds=sweep.rounds + 1, rows=(), unread=(),
        bulk=sweep.bulk or bool(ids), single=sweep.single or bool(single),
    )  # fmt: skip
    _put(turn, sweep)
    if not awaiting:
        _snapshot(turn)


def _bulk_books(turn: Turn, sweep: Sweep, first: bool) -> list[tuple[str, bool]]:
    """The (symbol, conditional) books for which a cancel-all goes out: at first every book that may hold orders of ours, later
    those in which many are still listed. Never where others' orders must stay, those of another strategy among them: a cancel-all call
    takes them too."""
    desk = turn.desk
    if not desk.config.venue.cancel_all or desk.config.sweep.foreign is ForeignPolicy.LEAVE:
        return []
    if first:
        symbols = [s for s in sweep_scope.symbols(desk) if turn.books.get(desk.index[s], FLAT).open_orders]
        return [(symbol, book) for symbol in symbols for book in desk.config.venue.books]
    counts: dict[tuple[str, bool], int] = {}
    for row in sweep.rows:
        counts[row.symbol, row.conditional] = counts.get((row.symbol, row.conditional), 0) + 1
    return [(symbol, book) for (symbol, book), count in counts.items() if count >= BULK_FROM and sweep_scope.covers(desk, symbol)]


def _targets(
    turn: Turn, sweep: Sweep, first: bool, bulk: list[tuple[str, bool]]
) -> list[tuple[str, bool, CancelTarget]]:
    """Single orders to cancel: what the last lists showed, or at first our own, except where a cancel-all goes out. An order
    whose placing request has no outcome yet is waited for: a cancel could overtake it."""
    if not first:
        session = turn.desk.config.session
        return [
            (row.symbol, row.conditional, CancelTarget(order_key(session, row.client_id), row.client_id, row.venue_id))
            for row in sweep.rows
            if (row.symbol, row.conditional) not in bulk
        ]
    if bulk and not sweep_scope.strategies(sweep_scope.freezing(turn.desk)):
        # Every book that may hold orders of ours gets a cancel-all; nothing has to be looked for before it leaves.
        return []
    return [
        (o.spec.symbol, o.conditional, CancelTarget(o.key, o.spec.client_id, o.venue_id))
        for o in sweep_scope.ours(turn)
        if o.requests.place is None and (o.spec.symbol, o.conditional) not in bulk
    ]


def _cancel_targets(turn: Turn, targets: list[tuple[str, bool, CancelTarget]]) -> list[EffectId]:
    """Batches where the venue takes them, else one by one."""
    books: dict[tuple[str, bool], list[CancelTarget]] = {}
    for symbol, conditional, target in targets:
        books.setdefault((symbol, conditional), []).append(target)
    size = max(1, turn.desk.config.venue.batch)
    epoch, fence = turn.desk.epoch, turn.fence()
    ids = []
    for (symbol, conditional), book in books.items():
        for start in range(0, len(book), size):
            part = book[start : start + size]
            if len(part) == 1:
                effect = turn.emit(Cancel, symbol, part[0], conditional, epoch, fence)
            else:
                effect = turn.emit(CancelBatch, symbol, tuple(part), conditional, epoch, fence)
            ids.append(effect)
            for target in part:
                order = turn.orders.get(target.order)
                if order is not None:
                    mark_cancel(turn, order, effect)
    return ids


def _snapshot(turn: Turn) -> None:
    """Ask for the lists of open orders: the account's, or each frozen symbol's."""
    desk = turn.desk
    scopes = sweep_scope.freezing(desk)
    symbols = [""] if sweep_scope.everything(scopes) or sweep_scope.strategies(scopes) else sweep_scope.symbols(desk)
    _put(turn, attrs.evolve(_get(turn), rows=()))
    _read(turn, tuple((symbol, book) for symbol in symbols for book in desk.config.venue.books))


def _read(turn: Turn, lists: tuple[tuple[str, bool], ...]) -> None:
    awaiting = _NOTHING
    for symbol, book in lists:
        awaiting = awaiting.set(turn.emit(FetchOpenOrders, symbol, book)[1], True)
    sweep = attrs.evolve(_get(turn), phase=SweepPhase.SNAPSHOT, batch=turn.n, awaiting=awaiting, timer=None, unread=())
    _put(turn, sweep)


def _decide(turn: Turn) -> None:
    """What the snapshot calls for; see the table in the essay."""
    sweep, policy = _get(turn), turn.desk.config.sweep
    ours = sweep_scope.ours(turn)
    left = sweep_scope.left(ours, sweep)
    turn.metric("mm_cancel_all_remaining_orders", left)
    if not left:
        sweep = attrs.evolve(sweep, streak=sweep.streak + 1, attempt=0, left=0, absent=0)
        _put(turn, sweep)
        if sweep.streak >= policy.empty_snapshots:
            _verified(turn, sweep)
        else:
            _snapshot(turn)
        return
    if sweep.watched is not None and sweep.rows:
        if sweep_watch.goes_on(turn, sweep):
            _put(turn, attrs.evolve(sweep, streak=0, rows=(), unread=(), watched=len(sweep.rows)))
            _wait(turn, sweep_watch.pause_ns(turn))
        else:
            _cancel_too(turn)
        return
    listed = dict.fromkeys(order_key(turn.desk.config.session, row.client_id) for row in sweep.rows)
    absent = [] if sweep.unread else [o for o in ours if o.key not in listed and o.requests.place is None]
    progress = left < sweep.left
    attempt = 0 if progress else sweep.attempt + 1
    _put(turn, attrs.evolve(sweep, streak=0, attempt=attempt, left=left, absent=sweep.absent + 1 if absent else 0))
    if sweep.absent:
        # One in doubt is being asked for already, at a pace of its own.
        for order in absent:
            if not order.requests.doubt_ns:
                ask(turn, order)
    if attempt >= policy.attempts:
        sweep_report.failure(turn, _get(turn))
    if progress and sweep.rows:
        _request(turn, first=False)
    else:
        _wait(turn, turn.backoff(max(0, attempt - 1)))


def _cancel_too(turn: Turn) -> None:
    """Nobody is watched any more."""
    _put(turn, attrs.evolve(_get(turn), watched=None))
    _act(turn)


def _act(turn: Turn) -> None:
    """Cancel what was seen; what ought to go by our own account, if nothing could be seen yet. Not before the venue lets us."""
    sweep = _get(turn)
    if sweep.retry_at_ns > turn.now_ns:
        _wait(turn, 0)
    else:
        _request(turn, first=not sweep.rows)


def _look(turn: Turn, sweep: Sweep) -> None:
    """Read the lists that could not be read yet, or all anew."""
    if sweep.unread:
        _read(turn, sweep.unread)
    else:
        _snapshot(turn)


def _tried_in_vain(turn: Turn, sweep: Sweep) -> None:
    """A round that could not be brought to its end: pause by the backoff, and say so when it has been too often."""
    _put(turn, attrs.evolve(sweep, attempt=sweep.attempt + 1))
    if sweep.attempt + 1 >= turn.desk.config.sweep.attempts:
        sweep_report.failure(turn, _get(turn))
    _wait(turn, turn.backoff(sweep.attempt))


def _wait(turn: Turn, delay_ns: int) -> None:
    """Pause, at least as long as the venue demands."""
    sweep = _get(turn)
    delay = max(delay_ns, sweep.retry_at_ns - turn.now_ns)
    timer = turn.timer(delay, Purpose.SWEEP)
    _put(turn, attrs.evolve(sweep, phase=SweepPhase.WAIT, awaiting=_NOTHING, timer=timer))


def _get(turn: Turn) -> Sweep:
    assert turn.desk.sweep is not None
    return turn.desk.sweep


def _put(turn: Turn, sweep: Sweep) -> None:
    turn.desk = attrs.evolve(turn.desk, sweep=sweep)


# --- what it hears ------------------------------------------------------------------------------------------------------


def _awaits(sweep: Sweep | None, effect: EffectId) -> bool:
    return sweep is not None and effect[0] == sweep.batch and effect[1] in sweep.awaiting


def on_outcome(turn: Turn, event: Outcome, stale: bool = False) -> None:
    """The outcome of a cancel of this round. What it did is seen in the next list; only the venue's demand for a pause counts here.
    ``stale``: it was held back for its fence."""
    sweep = turn.desk.sweep
    if sweep is None or sweep.phase is not SweepPhase.REQUEST or not _awaits(sweep, event.effect):
        return
    if stale:
        # Decided under a lease that is ours no longer, it has not left: decide anew, under none.
        _request(turn, first=True)
        return
    retry_at = turn.now_ns + min(event.retry_after_ms, MAX_PAUSE_MS) * NS_PER_MS if event.retry_after_ms > 0 else 0
    sweep = attrs.evolve(
        sweep, awaiting=sweep.awaiting.delete(event.effect[1]), retry_at_ns=max(sweep.retry_at_ns, retry_at)
    )  # fmt: skip
    _put(turn, sweep)
    if sweep.awaiting:
        return
    if sweep.retry_at_ns > turn.now_ns:
        _tried_in_vain(turn, sweep)
    else:
        _snapshot(turn)


def on_open_orders(turn: Turn, event: OpenOrders) -> None:
    """A list of this round. Only rows in the scope count, and others' orders only if they are to be cancelled."""
    sweep = turn.desk.sweep
    if sweep is None or sweep.phase is not SweepPhase.SNAPSHOT or not _awaits(sweep, event.effect):
        return
    result = event.result
    if isinstance(result, FetchFailed):
        retry_at = turn.now_ns + min(result.retry_after_ms, MAX_PAUSE_MS) * NS_PER_MS if result.retry_after_ms > 0 else 0
        unread = (*sweep.unread, (event.symbol, event.conditional))
        sweep = attrs.evolve(sweep, unread=unread, retry_at_ns=max(sweep.retry_at_ns, retry_at))
    else:
        rows = tuple(row for row in result.rows if sweep_scope.counts(turn, row))
        sweep = attrs.evolve(sweep, rows=sweep.rows + rows)
    sweep = attrs.evolve(sweep, awaiting=sweep.awaiting.delete(event.effect[1]))
    _put(turn, sweep)
    if sweep.awaiting:
        return
    if sweep.unread and not sweep.rows and sweep.watched is not None:
        # Nobody can be watched without lists.
        _cancel_too(turn)
    elif sweep.unread and not sweep.rows:
        _tried_in_vain(turn, sweep)
    else:
        # What is seen is acted on at once, whatever else could not be read.
        _decide(turn)


def on_lease(turn: Turn, event: LeaseAnswer) -> None:
    """The store's answer about the lease. Only "another runner holds it" makes the sweep wait: its work is watched."""
    lease.on_answer(turn, event)
    sweep = turn.desk.sweep
    if sweep is None or sweep.phase is not SweepPhase.LEASE or sweep.lease != event.effect:
        return
    if event.kind is LeaseKind.HELD and not sweep_watch.alone(turn.desk):
        _put(turn, attrs.evolve(sweep, held=True, watched=sweep_watch.UNSEEN))
        _wait(turn, turn.desk.config.sweep.lease_wait_ms * NS_PER_MS)
    else:
        degraded(turn, Deed.CANCEL)
        _request(turn, first=True)


def on_timer(turn: Turn, effect: EffectId) -> None:
    """The sweep's timer: the lease has taken too long, or a pause is over."""
    sweep = turn.desk.sweep
    if sweep is None or sweep.timer != effect:
        return
    if sweep.phase is SweepPhase.LEASE:
        degraded(turn, Deed.CANCEL, StoreHealth.IN_DOUBT)
        _request(turn, first=True)
    elif sweep.watched is not None:
        _look(turn, sweep)
    elif sweep.rows or sweep.rounds == 0:
        _act(turn)
    else:
        _look(turn, sweep)


def on_deadline(turn: Turn, effect: EffectId) -> None:
    """Say that it has taken too long, and go on."""
    sweep = turn.desk.sweep
    if sweep is not None and sweep.deadline == effect:
        sweep_report.failure(turn, sweep)


def on_settled(turn: Turn) -> None:
    """An order has ended in this step. If it was the last one the sweep waited for, look at once."""
    sweep = turn.desk.sweep
    if sweep is None or sweep.phase is not SweepPhase.WAIT or sweep.rows or sweep.retry_at_ns > turn.now_ns:
        return
    if sweep.rounds > 0 and not any(open_in_scope(turn, scope) for scope in sweep_scope.freezing(turn.desk)):
        _look(turn, sweep)
