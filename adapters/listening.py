"""What calls of a bot listen for while records are made: why a request was refused, and how a sweep stands. And the observer.

A request under guard is two effects: the claim that the call knows of, and what is sent with its grant. A refusal of either is the
request's.
"""

import logging
from collections.abc import Callable, Sequence

from ..effects import Denied, Effect, EffectId, Place, Rejected, Replace, SweepReport
from ..fsm.core import Core
from ..fsm.events import Event, GuardAnswer, LatchAnswer, Outcome, OutcomeKind

Observer = Callable[[Event, Core, tuple[Effect, ...]], None]

_LOG = logging.getLogger("haltcore")


class Listening:
    """``refusals``: by the request that a call waits for, code and text, empty while there is no refusal. ``reports``: for each call that
    waits for a sweep, the reports that have come."""

    def __init__(self, observer: Observer | None) -> None:
        self.refusals: dict[EffectId, tuple[str, str]] = {}
        self.reports: list[list[SweepReport]] = []
        self._observer = observer
        #: What was sent with the grant of a claim that somebody waits for.
        self._granted: dict[EffectId, EffectId] = {}

    def tell(self, event: Event, core: Core, effects: tuple[Effect, ...]) -> None:
        """A record was made. The observer is shown it, and can do no harm."""
        self._refused(event, effects)
        for effect in effects:
            if isinstance(effect, SweepReport):
                for reports in self.reports:
                    reports.append(effect)
        if self._observer is not None:
            try:
                self._observer(event, core, effects)
            except Exception:
                _LOG.exception("the observer raised over record %d", core.seq)

    def _refused(self, event: Event, effects: Sequence[Effect]) -> None:
        if isinstance(event, Outcome):
            request = self._granted.pop(event.effect, event.effect)
            if request in self.refusals and event.kind in (OutcomeKind.REFUSED, OutcomeKind.UNAVAILABLE):
                self.refusals[request] = event.code, event.text
        elif isinstance(event, GuardAnswer) and event.effect in self.refusals:
            for effect in effects:
                if isinstance(effect, Denied):
                    self.refusals[event.effect] = effect.code, effect.reason
                elif isinstance(effect, (Place, Replace)):
                    self._granted[effect.id] = event.effect
        elif isinstance(event, LatchAnswer) and event.effect in self.refusals:
            for effect in effects:
                if isinstance(effect, Rejected):
                    self.refusals[event.effect] = effect.code, effect.reason
