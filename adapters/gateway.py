"""The gateway: it stands in front of a venue and refuses what was decided under a lease that somebody else has by now.

A lease alone is no protection: whoever was stopped in the middle (by a pause of the process, the machine or the network) believes in it for
as long as it does not look at a clock, and acts. So every grant has a *fence*, a number larger than those of all grants before, requests
carry it, and whoever passes them on remembers the largest one: a smaller one is a zombie's (Kleppmann 2016; measured without it: 23 to 33
stale requests for every holder that was stopped past its lease).

Venues do not check fences, so this is as near to them as we come: the check is made when a request arrives, and once more when its bytes
are about to leave, through the venue adapter's own last question. A request without a fence passes: it was decided without a lease, and
every process is allowed to cancel.

The memory of the largest fence may be shared: one :class:`Fences` for all runners whose requests pass through one process.
"""

from collections import Counter
from collections.abc import Sequence

from ..effects import NO_FENCE, Cancel, CancelAll, CancelBatch, Effect, Fence, Place, Replace
from ..fsm.events import Event, OutcomeKind, Verb
from ..fsm.lease import STALE_FENCE
from ..fsm.outcomes import failed, outcome
from .ports import Emit, MaySend, NowNs, Venue

_FENCED = (Place, Replace, Cancel, CancelBatch, CancelAll)


class Fences:
    """The youngest fence that was ever seen, and how many requests were refused for an older one, by what they were."""

    def __init__(self) -> None:
        self.youngest: Fence = NO_FENCE
        self.refused: Counter[Verb] = Counter()

    def admits(self, fence: Fence) -> bool:
        """Whether it is none, or not older than any before; from then on anything older is refused."""
        if fence == NO_FENCE:
            return True
        if (fence.epoch, fence.counter) < (self.youngest.epoch, self.youngest.counter):
            return False
        self.youngest = fence
        return True


class Gateway:
    """A venue behind a gateway; itself a :class:`~haltcore.adapters.ports.Venue`. ``fences`` is the memory to be shared with other
    gateways; by default it has its own."""

    def __init__(self, venue: Venue, fences: Fences | None = None) -> None:
        self.venue = venue
        self.fences = fences or Fences()
        self.serves: Sequence[type[Effect]] = venue.serves
        self._now_ns: NowNs = _not_connected

    def connect(self, emit: Emit, now_ns: NowNs, may_send: MaySend) -> None:
        """As of the venue; its last question is answered here too."""
        self._now_ns = now_ns
        self.venue.connect(emit, now_ns, lambda effect: may_send(effect) or self._stale(effect))

    async def close(self) -> None:
        """As of the venue."""
        await self.venue.close()

    async def perform(self, effect: Effect) -> Sequence[Event]:
        """As of the venue; a request with an old fence does not come so far."""
        code = self._stale(effect)
        if code:
            text = "refused at the gateway: another process has a younger lease"
            return [failed(effect, self._now_ns(), OutcomeKind.REFUSED, code, text)]
        return await self.venue.perform(effect)

    def _stale(self, effect: Effect) -> str:
        if not isinstance(effect, _FENCED) or self.fences.admits(effect.fence):
            return ""
        self.fences.refused[outcome(effect, 0, OutcomeKind.REFUSED).verb] += 1
        return STALE_FENCE


def _not_connected() -> int:
    raise RuntimeError("the gateway is not connected; call connect first")
