"""A side effect happens once, whatever crashes, repeats or stalls: the guard for a bot's own deeds.

Whoever is about to place an order, write to a ledger or consume a signal names it (*type* and *entity*) and gives the deed to
:meth:`SideEffectGuard.once`. The guard claims it in the store, says SENT before the deed and what became of it after. The rows
and their rules are those of ``fsm/guard.py``.

    >>> import asyncio
    >>> from haltcore.adapters.memory_store import MemoryState, MemoryStore
    >>> clock = lambda: 0
    >>> guard = SideEffectGuard(MemoryStore(MemoryState(clock)), clock, "bot-1")
    >>> entity_id = order_entity_id("BTCUSDT", "BUY", "0.001", "50000")
    >>> async def place_order() -> str:
    ...     return "order_123"
    >>> asyncio.run(guard.once(SideEffect.ORDER_PLACEMENT, entity_id, place_order))
    Once(executed=True, result='order_123')
    >>> asyncio.run(guard.once(SideEffect.ORDER_PLACEMENT, entity_id, place_order))
    Once(executed=False, result='order_123')

The six points at which a process can die, and what the next one does:

===================== ========================= =========================================================================
dies                  the store has             the next one
===================== ========================= =========================================================================
before the claim      nothing                   claims and does it
after the claim       INTENT                    once the claim has been seen to stand still: takes it over and does it;
                                                with a ``query`` only after asking, as for SENT
after SENT            SENT                      asks (``query``). Done: that is the result. Absent, and the deed can no
in the deed           SENT                      longer arrive: takes it over and does it. Anything else: nothing
after the deed        SENT                      the same
after DONE            DONE                      hears the result
===================== ========================= =========================================================================

*Two clocks.* From before the claim is asked for, the holder has ``valid_ms`` of its own clock to begin the deed. It looks again right
before, so a process that was stopped in between does nothing. From its beginning the deed has ``deed_ms``: then the wait for it ends, and
by then it must have no way left to reach the world (a receive window at the venue, a time-out in the database). A row that was seen
SENT for both together, on the clock of whoever looks, is of a deed that can no longer arrive. Only an "absent" that was asked for
after that counts. So whoever comes after a crash takes over 40 s after its first look, by the defaults of 10 s and 30 s (an INTENT
without a query: 10 s), and not at once; ``NotExecuted.retry_after_ms`` says what is left of that. Shorter times are as good, if they
are true.

*Asking* is the bot's own business: a question to the venue by client id, to the database by key. Only an :class:`Absent` lets a deed be
repeated; an answer that is none of the three words, such as True or None, is an error and lets nothing be repeated::

    async def find_order() -> Found:
        try:
            orders = await venue.open_and_closed_orders(client_id)
        except OSError:
            return Unknown()
        return Done(orders[0].id) if orders else Absent()

    await guard.once(SideEffect.ORDER_PLACEMENT, entity_id, place_order, query=find_order)

*Results* are texts, for whoever asks later. None is "", and any other value is kept as its text: the deed has happened.

*ONE DEED IS ONE REQUEST.* An exception is taken for that of the request. A deed that places an order and then fails to write it down has
placed it, whatever the exception says of the writing; give each its own guard, or do the second after ``once`` has returned.

*Failing deeds.* An exception leaves the row IN_DOUBT, unless it proves that nothing happened: :class:`NothingHappened`, or what ``certain``
says of it. Then the row is REJECTED, and the deed may be tried again. The exception goes on to the caller. So does a cancellation.
Of its words nothing is kept, and logs have them without secrets.

*A store that forgets.* A failover may lose what was told last: the row is INTENT again although the deed was done, or as it was before the
claim. INTENT is asked for where there is a ``query``, which closes that gap; without one such a deed is done twice, since nothing in a
row tells a failover from a crash. With ``wait_replicas`` a claim and SENT count once the replicas have them. Where the claim itself is
forgotten it is claimed anew, query or not: that is for ``wait_replicas``, and for the venue's own check of client ids.

*A failing store.* A guarded deed counts as a place in the matrix of ``fsm/degraded.py``: it is not done unless the store is OK. What
became of a deed is remembered here until the store can be told; if this process dies before, the row says SENT and is asked for.
"""

import asyncio
import inspect
import logging
import os
import secrets
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias, TypeVar

from attrs import frozen

from ..effects import GuardState, ValueRefused
from ..fsm.degraded import Conduct, Deed, conduct
from ..fsm.events import GuardKind
from ..fsm.failure_words import redact
from ..fsm.guard import PLACE, REPLACE, guard_key, params_hash
from .answers import HaltcoreError
from .arguments import milliseconds
from .coordination import Claim, Claimed, Coordination, GuardRow, StoreFailed
from .ports import NowNs
from .texts import printable, told

T = TypeVar("T")
_LOG = logging.getLogger("haltcore")
_NS_PER_MS = 1_000_000
TTL_MS = 72 * 3_600 * 1_000
#: How many untold outcomes, and how many rows of others, are remembered; the oldest go.
_REMEMBERED = 1_000


class SideEffect(StrEnum):
    """Kinds of side effects; any other text without a NUL is a kind as well.

    ORDER_PLACEMENT is the core's kind too, so an order that it submits ``once`` and one that a job places share their entities. Then
    ``valid_ms`` and ``deed_ms`` must be no shorter than its ``store.claim_ms`` and ``venue.place_expiry_ms``.
    """

    ORDER_PLACEMENT = PLACE
    POSITION_UPDATE = "position_update"
    LEDGER_WRITE = "ledger_write"
    PNL_WRITE = "pnl_write"
    SIGNAL_CONSUMPTION = "signal_consumption"


class Once(NamedTuple):
    """``executed``: by this call. ``result`` is the deed's as text, this one's or, cut to what a store keeps, that of whoever did it."""

    executed: bool
    result: str


@frozen
class Done:
    """It has happened, with this result."""

    result: str


@frozen
class Absent:
    """It is not there: neither among what is under way nor among what is over."""


@frozen
class Unknown:
    """It could not be found out."""


Found: TypeAlias = Done | Absent | Unknown
Query: TypeAlias = Callable[[], Awaitable[Found]]
Work: TypeAlias = Callable[[], Awaitable[str | None]]
Certain: TypeAlias = Callable[[BaseException], bool]


class NothingHappened(HaltcoreError):
    """Raised by a deed: it has certainly changed nothing."""

    def __init__(self, reason: str = "by the deed's own word") -> None:
        super().__init__("nothing_happened", reason)


class NotExecuted(HaltcoreError):
    """The deed was not done by this call. ``code`` is stable, ``reason`` says what to do.

    ``executed`` is False where it certainly has not happened through this claim and nobody else has one, None where somebody else may have
    done it. ``retry_after_ms``: when asking again may hear something else; 0 if nothing is known of that.
    """

    def __init__(self, code: str, reason: str, executed: bool | None = False, retry_after_ms: int = 0) -> None:
        super().__init__(code, reason)
        self.executed, self.retry_after_ms = executed, retry_after_ms


def order_entity_id(symbol: str, side: str, qty: str, price: str | None = None) -> str:
    """The entity of an order by what it is. Two orders of the same symbol, side, quantity and price are one: a bot that may want the same
    order twice adds what tells them apart, such as the signal's id.

    Numbers are texts, as the bot writes them: "1.0" and "1.00" are two. Each part counts with its length, so none runs into the next.
    """
    return params_hash(symbol, side.upper(), qty, "market" if price is None else f"@{price}")


class SideEffectGuard:
    """See the module. ``holder`` names this process for people; each claim gets an owner of its own, which is never used again.

    ``now_ns`` is a clock that does not go back. ``nonce`` tells runs of the same holder apart, random by default; the children of a process
    that forks are told apart by their numbers. Raises ValueRefused for a time that is no whole number of milliseconds.
    """

    def __init__(
        self, store: Coordination, now_ns: NowNs, holder: str, *,
        valid_ms: int = 10_000, deed_ms: int = 30_000, ttl_ms: int = TTL_MS, nonce: str = "",
    ) -> None:  # fmt: skip
        self._store, self._now_ns = store, now_ns
        self._prefix = f"{holder}:{nonce or secrets.token_hex(8)}"
        self._valid_ms, self._deed_ms = milliseconds(valid_ms, "valid_ms"), milliseconds(deed_ms, "deed_ms")
        self._ttl_ms = milliseconds(ttl_ms, "ttl_ms")
        self._claims = 0
        self._untold: dict[str, tuple[Claim, GuardState, str]] = {}
        self._telling: dict[asyncio.Task[None], None] = {}
        self._seen_ns: dict[tuple[str, str, GuardState, int], int] = {}

    async def once(
        self, kind: str, entity: str, deed: Work, *,
        params: tuple[str, ...] = (), query: Query | None = None, scopes: tuple[str, ...] = (), certain: Certain | None = None,
    ) -> Once:  # fmt: skip
        """Do the deed, which is one request, unless it is done already.

        ``params``: what exactly is meant; the same side effect with others is refused. ``query`` finds out whether a deed whose fate is
        unknown has happened; without it such a deed is never repeated. ``scopes``: the freeze scopes that forbid it. ``certain``: whether
        an exception of the deed proves that nothing at all happened; only True does. Raises :class:`NotExecuted`, ValueRefused (an
        argument, or an answer of the query, that says nothing), and whatever the deed raises.
        """
        check_arguments(kind, entity, deed, params, query, scopes, certain)
        self._claims += 1
        claim = Claim(guard_key(kind, entity), f"{self._prefix}:{os.getpid()}:{self._claims}", params_hash(*params), scopes)
        self._tell_again()
        deadline_ns = self._now_ns() + self._valid_ms * _NS_PER_MS
        claimed = await self._ask(claim, self._store.claim(claim, self._ttl_ms))
        if claimed.kind is GuardKind.DONE and claimed.row is not None:
            return Once(False, claimed.row.result)
        if claimed.kind is GuardKind.HELD and claimed.row is not None:
            found = await self._settled_by_query(kind, claim, claimed.row, query)
            if found is not None:
                return Once(False, found.result)
            deadline_ns = self._now_ns() + self._valid_ms * _NS_PER_MS
            if not await self._ask(claim, self._store.retake(claim, claimed.row, self._ttl_ms)):
                raise NotExecuted("guard_lost", f"{kind} {entity} was taken over by somebody else, or a scope is frozen", None)
        elif claimed.kind is not GuardKind.CLAIMED:
            raise _refused(kind, entity, claimed)
        return await self._do(claim, deadline_ns, deed, certain)

    async def _ask(self, claim: Claim, request: Awaitable[T], claimed: bool = False) -> T:
        """Ask the store for leave. Whatever comes between, the deed was certainly not done under this claim; where the store may have a row
        of it (``claimed``: it has), that is told."""
        try:
            return await request
        except StoreFailed as failure:
            what = conduct(Deed.PLACE, failure.health)
            if claimed or what is Conduct.RESOLVE:
                self._tell_later(claim, GuardState.REJECTED, "")
            reason = f"the store did not answer ({failure}), so nothing was done ({what.value}); try again when it does"
            raise NotExecuted(f"store_{failure.health.value}", reason) from failure
        except BaseException:
            self._tell_later(claim, GuardState.REJECTED, "")
            raise

    async def _do(self, claim: Claim, deadline_ns: int, deed: Work, certain: Certain | None) -> Once:
        """Say SENT, look at the clock, do it, say what became of it."""
        self._in_time(claim, deadline_ns)
        if not await self._ask(claim, self._store.settle(claim, GuardState.SENT, "", self._ttl_ms), claimed=True):
            raise NotExecuted("guard_lost", "the claim was taken over before the deed began", None)
        self._in_time(claim, deadline_ns)
        try:
            async with asyncio.timeout(self._deed_ms / 1_000):
                result = text_of(await deed())
        except BaseException as error:
            await self._tell(claim, GuardState.REJECTED if _is_certain(error, certain) else GuardState.IN_DOUBT, "")
            raise
        await self._tell(claim, GuardState.DONE, result)
        return Once(True, result)

    def _in_time(self, claim: Claim, deadline_ns: int) -> None:
        if self._now_ns() >= deadline_ns:
            self._tell_later(claim, GuardState.REJECTED, "")
            raise NotExecuted("too_late", f"the claim was older than {self._valid_ms} ms when the deed could begin; try again")

    # --- rows of others ---------------------------------------------------------------------------------------------

    async def _settled_by_query(self, kind: str, claim: Claim, row: GuardRow, query: Query | None) -> Done | None:
        """The result, if the deed of this row has happened; None if the row may be taken over. Raises NotExecuted otherwise."""
        # Its owner says SENT before it does anything, and cannot once the row is ours. The core does not say SENT. And a store that has
        # failed over may have forgotten that it was said, so whoever can ask does.
        not_sent = row.state is GuardState.INTENT and kind not in (PLACE, REPLACE)
        left_ms = self._left_ms(claim.key, row, self._valid_ms + (0 if not_sent and query is None else self._deed_ms))
        if not_sent and left_ms > 0:
            raise NotExecuted("guard_held", f"{row.owner} has claimed it", None, left_ms)
        if not_sent and query is None:
            return None
        code = "guard_in_doubt" if row.state is GuardState.IN_DOUBT else "guard_held"
        if query is None:
            raise NotExecuted(code, f"{row.owner} may have done it; give a query that finds out", None, left_ms)
        found = await self._found(query)
        if isinstance(found, Done):
            found = Done(text_of(found.result))
            # The evidence is told in the name of the owner: a row of our own would be an INTENT in between.
            await self._tell(Claim(claim.key, row.owner, claim.params), GuardState.DONE, found.result)
            return found
        if isinstance(found, Unknown) or left_ms > 0:
            why = "could not be found out" if isinstance(found, Unknown) else "is not there yet"
            raise NotExecuted(code, f"{row.owner} may have done it, which {why}; ask again", None, left_ms)
        return None

    async def _found(self, query: Query) -> Found:
        try:
            answer: Any = query()
            found = await answer if inspect.isawaitable(answer) else answer
        except Exception as error:
            _LOG.warning("whether a side effect has happened could not be asked: %s", told(error))
            return Unknown()
        if not isinstance(found, Found):
            raise ValueRefused(
                f"query: {redact(repr(found))[:80]} is no answer, so nothing was repeated; return Done(result) if it has happened, Absent()"
                " if it is certain that it has not, Unknown() if that could not be found out"
            )
        return found

    def _left_ms(self, key: str, row: GuardRow, standing_ms: int) -> int:
        """How long the row has still to be seen standing as it is, until it has stood for so long by our own clock."""
        seen = (key, row.owner, row.state, row.at_ms)
        now_ns = self._now_ns()
        since_ns = self._seen_ns.setdefault(seen, now_ns)
        while len(self._seen_ns) > _REMEMBERED:
            del self._seen_ns[next(iter(self._seen_ns))]
        return max(0, standing_ms - (now_ns - since_ns) // _NS_PER_MS)

    # --- telling the store --------------------------------------------------------------------------------------------

    async def _tell(self, claim: Claim, state: GuardState, result: str) -> None:
        """Tell it now, or later if that fails. Goes on when the caller is cancelled."""
        await asyncio.shield(self._tell_later(claim, state, result))

    def _tell_later(self, claim: Claim, state: GuardState, result: str, again: bool = False) -> "asyncio.Task[None]":
        self._untold[claim.owner] = (claim, state, result)
        while len(self._untold) > _REMEMBERED:
            del self._untold[next(iter(self._untold))]
        task = asyncio.get_running_loop().create_task(self._told(claim, state, result, again))
        self._telling[task] = None
        task.add_done_callback(self._telling.pop)
        return task

    async def _told(self, claim: Claim, state: GuardState, result: str, again: bool) -> None:
        try:
            await self._store.settle(claim, state, result, self._ttl_ms)
        except StoreFailed:
            return
        except Exception as error:
            # Once: it is told again at every later deed, and the same words each time would bury the rest.
            if not again:
                _LOG.error("the store could not be told that %s is %s: %s", claim.key, state.value, told(error))
            return
        if self._untold.get(claim.owner) == (claim, state, result):
            del self._untold[claim.owner]

    def _tell_again(self) -> None:
        if not self._telling:
            for claim, state, result in list(self._untold.values())[:10]:
                self._tell_later(claim, state, result, again=True)

    async def settle_untold(self) -> int:
        """Tell the store what it does not know yet, as far as it answers; how many it still does not know."""
        for claim, state, result in list(self._untold.values()):
            await asyncio.shield(self._tell_later(claim, state, result, again=True))
        return len(self._untold)

    async def close(self) -> None:
        """Wait until what is being told has been told, or has failed."""
        while self._telling:
            await asyncio.wait(list(self._telling))


def check_arguments(
    kind: object, entity: object, deed: object, params: object, query: object, scopes: object, certain: object = None
) -> None:
    """Raise ValueRefused for arguments of a guarded deed that would guard something else than is meant, or nothing."""
    for name, word in (("kind", kind), ("entity", entity)):
        if not isinstance(word, str) or not word.strip():
            raise ValueRefused(
                f"{name}: {repr(word)[:80]} names nothing; give a text that is this side effect's alone, such as"
                f" {'SideEffect.LEDGER_WRITE' if name == 'kind' else repr('fill 4711')}"
            )
    for name, texts in (("params", params), ("scopes", scopes)):
        if not isinstance(texts, tuple) or not all(isinstance(text, str) for text in texts):
            raise ValueRefused(f"{name}: {repr(texts)[:80]} is no tuple of texts; give one such as {name}=(\"BTCUSDT\",)")
    for name, work in (("deed", deed), *((name, work) for name, work in (("query", query), ("certain", certain)) if work is not None)):
        if not callable(work):
            raise ValueRefused(f"{name}: {repr(work)[:80]} cannot be called; give the function itself, not what it returned")


def text_of(result: object) -> str:
    """What a deed returned as the text that is kept of it, of an exception without secrets. Raises nothing: the deed has happened."""
    if result is None:
        return ""
    try:
        return printable(redact(str(result)) if isinstance(result, BaseException) else str(result))
    except Exception as error:
        _LOG.error("the result of a side effect cannot be written as text: %s", told(error))
        return f"<{type(result).__name__}>"


def _is_certain(error: BaseException, certain: Certain | None) -> bool:
    """Whether an exception of the deed proves that nothing happened. A judge that fails, or says anything but True, proves nothing."""
    if isinstance(error, NothingHappened):
        return True
    if certain is None or not isinstance(error, Exception):
        return False
    try:
        return certain(error) is True
    except Exception as failure:
        _LOG.error("whether %s proves that nothing happened could not be judged: %s", told(error), told(failure))
        return False


def _refused(kind: str, entity: str, claimed: Claimed) -> NotExecuted:
    """A claim that heard no, as an exception."""
    if claimed.kind is GuardKind.MISMATCH:
        owner = claimed.row.owner if claimed.row else "?"
        return NotExecuted(
            "guard_mismatch",
            f"{kind} {entity} was claimed by {owner} with other parameters; give another deed another entity, the same deed the same",
        )
    if claimed.kind is GuardKind.FROZEN:
        return NotExecuted("guard_frozen", f"{kind} {entity}: {claimed.scope} is frozen; unfreeze it first")
    return NotExecuted("guard_lost", f"{kind} {entity}: the store answered {claimed.kind.value}", None)
