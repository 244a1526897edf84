"""Written before done: what adds risk waits until its record is on disk.

Theory
------
Whoever is killed between deciding and doing must find in the log what he may have done. So an effect that can add risk leaves only after
the record that decided it is durable. Everything else must not wait for a disk: a cancel that is forgotten is asked for again by the
sweep, an order that is forgotten lives on at the venue with nobody to know it.

======================== ============================================================================================
a record is appended     its bytes are in the journal's buffer; they go to the disk at the end of this turn of the loop,
                         behind the effects that begin at once
an effect is held        until the next confirmation; one confirmation is for all records before it (group commit)
the disk confirms        what was held when it was asked begins, in the order in which it was decided
the mode changes         what is held and may not leave any more is refused, however slow the disk is
the disk fails or hangs  what is held is refused: it certainly does not happen; then the engine is told, and freezes
======================== ============================================================================================

Without a journal nothing is durable and nothing is held. Once the journal has failed nothing is written any more, and what is held is
refused at the next attempt to confirm it.
"""

import asyncio
from collections.abc import Callable

from ..effects import Effect, EffectId
from ..fsm.core import EMPTY, Core
from ..fsm.events import Event
from .hands import Hands
from .journal import Journal, JournalFailed
from .ports import MaySend


class Durability:
    """Stands between the records of one runner and its hands. ``journal`` is set once, before the first record, where there is a log.

    ``timeout_s`` is how long the disk may take to confirm. ``on_failure`` is called with every failure that a record or a confirmation
    meets; the same one may come more than once.
    """

    def __init__(self, hands: Hands, may_send: MaySend, on_failure: Callable[[JournalFailed], None], timeout_s: float) -> None:
        self.journal: Journal | None = None
        self._hands, self._may_send, self._on_failure, self._timeout_s = hands, may_send, on_failure, timeout_s
        self._held: dict[EffectId, Effect] = {}
        self._core = EMPTY
        self._task: asyncio.Task[None] | None = None
        self._due = self._over = False

    @property
    def failed(self) -> JournalFailed | None:
        """Why nothing is written down any more; None while all is well, and where there is no log."""
        return self.journal.failed if self.journal is not None else None

    @property
    def busy(self) -> bool:
        """Whether a confirmation is under way."""
        return self._task is not None and not self._task.done()

    def append(self, event: Event, effects: tuple[Effect, ...], core: Core) -> None:
        """Write the record of one step down; ``core`` is the state after it. Nothing waits here, and nothing is raised."""
        if self.journal is None or self.failed is not None:
            return
        if self.journal.append(event, effects, core):
            self._core = core
            self._commit_soon()
        elif self.journal.failed is not None:
            self._on_failure(self.journal.failed)

    def hold(self, effect: Effect) -> None:
        """Begin this effect, whose record was appended, once that record is durable."""
        if self.journal is None:
            self._hands.begin(effect)
        else:
            self._held[effect.id] = effect
            self._commit()

    def recheck(self) -> None:
        """The mode has changed, or the runner stops: what is held and may not leave now is refused."""
        for effect in list(self._held.values()):
            code = self._may_send(effect)
            if code:
                self._refuse(effect, code, "held back before it was sent")

    def let_go(self) -> list["asyncio.Task[None]"]:
        """Begin nothing more; the task that is under way, for the caller to cancel."""
        self._over = True
        return [self._task] if self._task is not None else []

    async def close(self) -> None:
        """Seal the log. Raises JournalFailed when its end is not on disk in time."""
        if self.journal is None:
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                await self.journal.close(seal=True)
        except TimeoutError:
            raise self._hung(self.journal) from None

    # --- confirming -------------------------------------------------------------------------------------------------

    def _commit_soon(self) -> None:
        """Every record goes to the disk, a freeze above all; behind the effects that this turn began, which do not wait for it."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._commit_now)

    def _commit_now(self) -> None:
        self._due = False
        if self.journal is None or self.journal.failed is not None or self._over:
            return
        # A snapshot takes time: it must not stand between a freeze and its cancels.
        if self.journal.rotation_due and self._core.desk is not None and self._core.desk.sweep is None:
            self.journal.rotate(self._core)
        self._commit()

    def _commit(self) -> None:
        if not self.busy:
            self._task = asyncio.get_running_loop().create_task(self._confirm())

    async def _confirm(self) -> None:
        """Confirm the records on disk, then let go of the effects that waited for it; as long as there is anything to confirm."""
        while not self._over and self.journal is not None:
            ready = list(self._held.values())
            failure = await self._synced(self.journal)
            if failure is not None:
                for effect in ready:
                    self._refuse(effect, "journal_failed", f"its record is not on disk: {failure.code}")
                self._on_failure(failure)
            for effect in ready:
                if self._held.pop(effect.id, None) is not None:
                    self._hands.begin(effect)
            if not self._held and (failure is not None or not self.journal.pending):
                return

    async def _synced(self, journal: Journal) -> JournalFailed | None:
        """Wait until all that was appended is durable; None, or why it is not."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await journal.commit()
        except TimeoutError:
            return self._hung(journal)
        except JournalFailed as failure:
            return failure
        except Exception as error:
            return JournalFailed("io_error", f"{journal.path}: {type(error).__name__}: {error}. Look after the disk")
        return None

    def _refuse(self, effect: Effect, code: str, text: str) -> None:
        if self._held.pop(effect.id, None) is not None:
            self._hands.refuse(effect, code, text)

    def _hung(self, journal: Journal) -> JournalFailed:
        return JournalFailed("hung", f"{journal.path}: the disk did not confirm within {self._timeout_s:g} s. Look after the disk")
