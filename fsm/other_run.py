"""The other run of a counterfactual replay: a core beside the recorded one, record by record.

The assumptions stand in ``counterfactual.py``. For every record of the log:

1. timers of this run that are due before it fire;
2. its event is told to this run, in terms of its own effects and orders (``hearing.py``). One that says nothing to it becomes a timer that
   nobody waits for, so that time goes on and records are counted all the same;
3. this run's effects are *matched* with the recorded ones of the same record. Those that have a like will be answered by the log;
4. the others are answered by the ideal world (``ideal.py``), and what follows from that too, until nothing is left to answer.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from typing import Any, Final

import attrs

from ..effects import Cancel, CancelAll, CancelBatch, ClaimGuard, Effect, EffectId, Place, PublishFreeze, Purpose, Replace, SetTimer
from . import ideal
from .comparison import likeness
from .core import Core
from .events import Event, Restarted, TimerFired
from .hearing import NOBODY, Change, Hearing, Told, in_midstream
from .order import Order
from .outcomes import owes_outcome
from .step import step

#: Record numbers of what the log does not have begin here.
_BESIDE: Final = 2**40
#: How many steps this run takes at most beside one record of the log.
_MOST: Final = 20_000
_CANCELS = (Cancel, CancelBatch, CancelAll)


@attrs.define(eq=False)
class Steps:
    """What this run did for one record: ``own`` are the effects of the record's event, ``all`` every step with its effects, in order."""

    own: tuple[Effect, ...] = ()
    all: list[tuple[Core, tuple[Effect, ...]]] = attrs.Factory(list)


class OtherRun(Hearing):
    """This run under way."""

    def __init__(self, change: Change) -> None:
        super().__init__(change)
        self._begun = False
        self._timers: list[tuple[int, int, SetTimer]] = []
        self._timers_set = 0
        self._beside = _BESIDE
        self._left = 0
        self._steps = Steps()

    # --- one record -------------------------------------------------------------------------------------------------

    def follow(self, before: Core, event: Event, after: Core, effects: Sequence[Effect]) -> Steps:
        """Take part in one record of the log; ``before``, ``after`` and ``effects`` are the recorded run's."""
        self._steps, self._left, self.recorded, self.record = Steps(), _MOST, before, after.seq
        if not self._begun:
            self._begin(before)
        if isinstance(event, Restarted):
            # The timers of a process die with it.
            self._timers.clear()
        while self._timers and self._timers[0][0] <= event.at_ns and self._left > 0:
            timer = heappop(self._timers)[2]
            self._go_on([TimerFired(timer.due_ns, timer.id, timer.purpose, timer.key)])
        told = self.told(event) or (TimerFired(event.at_ns, NOBODY, Purpose.ORDER, 0),)
        self.recorded = after
        self._steps.own = self._step(after.seq, told[0])
        self._go_on([*self._unmatched(effects, self._steps.own), *told[1:]])
        self._count_from(after.seq)
        return self._steps

    def _begin(self, before: Core) -> None:
        """A log that begins with a snapshot has been told this run up to there; only its configuration is new."""
        self._begun = True
        self.core, effects = in_midstream(attrs.evolve(before, seq=self._beside), self.change)
        self._beside += 1
        if effects:
            self._steps.all.append((self.core, effects))
        self._go_on(effects)

    def _step(self, record: int, event: Event) -> tuple[Effect, ...]:
        self._count_from(record - 1)
        self.core, effects = step(self.core, event)
        self._steps.all.append((self.core, effects))
        return effects

    def _count_from(self, record: int) -> None:
        if self.core.seq != record:
            self.core = attrs.evolve(self.core, seq=record)

    def _go_on(self, first: Iterable[Event | Effect]) -> None:
        """Tell this run what the log does not have, answer its effects, and whatever follows from that."""
        waiting: deque[Any] = deque(first)
        while waiting and self._left > 0:
            self._left -= 1
            item = waiting.popleft()
            if isinstance(item, SetTimer):
                self._timers_set += 1
                heappush(self._timers, (item.due_ns, self._timers_set, item))
            elif hasattr(item, "part"):
                waiting.extendleft(reversed(self._ideally(item)))
            else:
                self._beside += 1
                waiting.extend(self._step(self._beside, item))

    def _ideally(self, effect: Effect) -> Told:
        """The ideal world's answer, and what it changes."""
        if isinstance(effect, (Place, Replace)):
            self.suppose(effect.order)
        for order in ideal.covered(effect, self.core):
            self.gone[order.key] = None
        return ideal.answers(effect, self.core, self._known, self.core.now_ns)

    def _known(self, key: int) -> Order | None:
        """What the recorded run knows of an order; nothing of one that its freeze has cancelled."""
        return None if key in self.spared else self.recorded.order(key)

    # --- effects ----------------------------------------------------------------------------------------------------

    def _unmatched(self, recorded: Sequence[Effect], own: Sequence[Effect]) -> list[Event | Effect]:
        """What the log will not answer: effects without a like, and the end of orders that only this run has open, where it cancels them by
        a request that has one."""
        likes: dict[tuple[Any, ...], deque[Effect]] = {}
        for effect in own:
            if _answered(effect):
                likes.setdefault(likeness(effect), deque()).append(effect)
        matched: dict[EffectId, None] = {}
        for effect in recorded:
            if _answered(effect):
                like = likes.get(likeness(effect))
                found = like.popleft() if like else None
                if found is not None:
                    matched[found.id] = None
                self._note(effect, found)
        items: list[Event | Effect] = []
        for effect in own:
            if effect.id not in matched:
                items += [effect] if _answered(effect) else []
            elif isinstance(effect, _CANCELS):
                alone = [order for order in ideal.covered(effect, self.core) if order.key not in self.recorded.orders]
                self.gone.update((order.key, None) for order in alone)
                items += [ideal.ended(order, self.core.now_ns) for order in alone]
        return items

    def _note(self, effect: Effect, found: Effect | None) -> None:
        """Remember which effect here is the like of a recorded one."""
        if found is None or found.id != effect.id:
            self.moved[effect.id] = found.id if found is not None else None
        if isinstance(effect, (Place, Replace)) and isinstance(found, (Place, Replace)):
            self.sent[found.id] = effect, found
        if isinstance(effect, ClaimGuard) and isinstance(found, ClaimGuard):
            self.claims[found.id] = effect, found
        if isinstance(effect, PublishFreeze) and found is None:
            self.unset[effect.scope, effect.trigger, effect.reason, effect.by] = None


def _answered(effect: Effect) -> bool:
    return isinstance(effect, SetTimer) or owes_outcome(effect)
