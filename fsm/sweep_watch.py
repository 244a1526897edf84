"""Watching: where another runner holds the sweep lease it cancels for all, and we look whether it is at work.

We look after ``lease_wait_ms``, and then every ``lease_wait_ms`` or a little more. As long as fewer orders are listed from look to look the
other is at work, and we only verify. What ends that, so that we cancel too:

======================================= ==============================================================================================
what is seen                            why
======================================= ==============================================================================================
no fewer orders than at the look before it does nothing, or too little
a list that cannot be read              nobody can be watched without lists
more than ``deadline_ms`` have passed   orders end by themselves too, so that fewer and fewer do not mean that anybody cancels
since the sweep began
an order has to go for its strategy     nobody else can tell which those are
alone
another scope freezes while the lists   they do not cover it, and to read them anew would put the look off
of a look are under way
======================================= ==============================================================================================

A scope that freezes between two looks puts neither of them off: the next one, when it is due, sees the wider scope, and if that shows no
fewer orders than the narrower one did, we cancel. So a holder that has died costs two looks, or, while orders end by themselves,
``deadline_ms``, whatever else freezes meanwhile; and however many runners cancel, it is right.
"""

from typing import Final

from . import sweep_scope
from .backoff import backoff_ns
from .core import Desk, Sweep, SweepPhase
from .turn import NS_PER_MS, Turn

#: What the first look is compared with: more than any list shows.
UNSEEN: Final = 2**31


def alone(desk: Desk) -> bool:
    """Whether no other process can cancel all that the sweep covers: the orders of a strategy, which nobody else can tell."""
    return sweep_scope.strategies(sweep_scope.freezing(desk))


def widened(desk: Desk, sweep: Sweep) -> bool:
    """Whether a sweep that watches goes on with that, and with the look that is due, when another scope freezes."""
    return sweep.watched is not None and sweep.phase is SweepPhase.WAIT and not alone(desk)


def goes_on(turn: Turn, sweep: Sweep) -> bool:
    """Whether the other is at work, by a look that has shown orders."""
    assert sweep.watched is not None
    in_time = turn.now_ns - sweep.started_ns < turn.desk.config.sweep.deadline_ms * NS_PER_MS
    return len(sweep.rows) < sweep.watched and in_time


def pause_ns(turn: Turn) -> int:
    """Until the next look. Each runner looks at a moment of its own: who looks first and acts spares the others doing so."""
    wait_ms = turn.desk.config.sweep.lease_wait_ms
    own = int(turn.desk.config.session, 36)
    return wait_ms * NS_PER_MS + backoff_ns(own, (turn.n, len(turn.effects)), 0, wait_ms, wait_ms)
