"""The publisher of plans: signs them and puts them on a stream, and keeps those that the store would not take.

While the store does not answer, plans wait in an outbox, in their order, and go out under the same ids when it does; so one that had
arrived after all is not there twice. The outbox is bounded and the oldest stay: a plan that finds it full is refused, loudly. It does not
survive this process; whoever decided a plan decides it again.
"""

import asyncio
import logging
from collections import deque

from ..fsm.degraded import Conduct, Deed, conduct
from ..fsm.plan import Key, Plan, SignedPlan, sign, to_body
from .arguments import at_least
from .coordination import Coordination, StoreFailed

_LOG = logging.getLogger("haltcore")


class OutboxFull(RuntimeError):
    """The store does not answer, and as many plans wait for it as may. This one was not taken."""


class PlanPublisher:
    """Publishes on one stream, under one key. At most ``outbox`` plans wait, 1 or more. Raises ValueRefused."""

    def __init__(self, store: Coordination, stream: str, key: Key, outbox: int = 1_000) -> None:
        self._store, self._stream, self._key, self._limit = store, stream, key, at_least(1, outbox, "outbox")
        self._outbox: deque[SignedPlan] = deque()
        self._sending = asyncio.Lock()

    @property
    def waiting(self) -> tuple[str, ...]:
        """The ids of the plans that wait for the store, oldest first."""
        return tuple(signed.id for signed in self._outbox)

    async def publish(self, plan: Plan) -> SignedPlan:
        """Publish a plan: now, or when the store answers again. Raises OutboxFull."""
        signed = sign(plan, self._key)
        if len(self._outbox) >= self._limit:
            await self.flush()
        if signed.id not in self.waiting:
            if len(self._outbox) >= self._limit:
                text = f"{len(self._outbox)} plans wait for the store on {self._stream!r}; plan {signed.id} was not taken"
                raise OutboxFull(text + "; see to the store, then publish it again")
            self._outbox.append(signed)
        await self.flush()
        return signed

    async def flush(self) -> int:
        """Publish what waits; how many still do."""
        async with self._sending:
            while self._outbox:
                first = self._outbox[0]
                try:
                    await self._store.append(self._stream, first.id, to_body(first))
                except StoreFailed as error:
                    if conduct(Deed.PUBLISH, error.health) is not Conduct.LATER:
                        raise
                    _LOG.warning("plan %s waits for the store: %s", first.id, error)
                    break
                self._outbox.popleft()
        return len(self._outbox)
