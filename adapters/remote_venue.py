"""A venue in another process: the client's side of the socket, for several processes that trade on one paper venue.

The duties of a venue (``ports.py``), and how they are kept here:

======================================  ====================================================================================
a request                               is written when everything before it has left this process, and ``may_send`` is asked
                                        between that and its own first byte: nothing waits in a buffer behind the check
no answer within the time-out           IN_DOUBT if it was written, UNAVAILABLE if it never was; a late answer's evidence is
                                        emitted
the connection is lost                  IN_DOUBT for what was written, ``VenueLink(up=False)``; then it is tried anew for ever,
                                        ``VenueLink(up=True)`` when it is back, and the core takes stock
no connection                           UNAVAILABLE at once; only the first one is waited for
bytes that are no message               the same as a lost connection
======================================  ====================================================================================
"""

import asyncio
import contextlib
import itertools
from collections.abc import Sequence

from attrs import define, evolve, frozen

from ..effects import Effect
from ..fsm.codec import CodecError
from ..fsm.events import EVIDENCE_CLASSES, Event, OutcomeKind, VenueLink
from ..fsm.outcomes import failed
from .paper import SERVES
from .ports import Emit, MaySend, NowNs
from .venue_wire import (
    FROM_CLIENT,
    FROM_SERVER,
    VERSION,
    Answer,
    FromServer,
    Hello,
    Report,
    Request,
    Welcome,
    WireError,
    framed,
    next_message,
)

_ENDS = (OSError, TimeoutError, asyncio.IncompleteReadError, CodecError, WireError)


@frozen
class _Link:
    """Whom this process's venue reports to."""

    emit: Emit
    now_ns: NowNs
    may_send: MaySend


@define(eq=False)
class _Asked:
    """A request, and whether its bytes have left."""

    effect: Effect
    reply: "asyncio.Future[list[Event]]"
    sent: bool = False


class RemoteVenue:
    """Implements :class:`~haltcore.adapters.ports.Venue` over the socket of a :class:`~haltcore.adapters.venue_server.VenueServer`.

    ``session`` is the tag of the session that trades here (``Config.session``): reports about its orders come here alone. Without it,
    reports come that no other connection's session claims. ``timeout_ms`` is how long a request waits for its answer, ``retry_ms`` how long
    a lost connection is left alone before it is tried anew.
    """

    serves: Sequence[type[Effect]] = SERVES

    def __init__(self, path: str, session: str = "", *, timeout_ms: int = 2_000, retry_ms: int = 100) -> None:
        self._path, self._session = path, session
        self._timeout_s, self._retry_s = timeout_ms / 1_000, retry_ms / 1_000
        self._link: _Link | None = None
        self._task: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._tried = asyncio.Event()
        self._turn = asyncio.Lock()
        self._asked: dict[int, _Asked] = {}
        self._numbers = itertools.count(1)

    # --- the port ---------------------------------------------------------------------------------------------------

    def connect(self, emit: Emit, now_ns: NowNs, may_send: MaySend) -> None:
        """Begin to connect, and stay connected until ``close``."""
        self._let_go("a new process has connected")
        self._tried.clear()
        self._link = _Link(emit, now_ns, may_send)
        self._task = asyncio.get_running_loop().create_task(self._stay(self._link))

    async def close(self) -> None:
        """Hang up. Requests that wait are answered IN_DOUBT."""
        task = self._task
        self._let_go("the connection was closed")
        self._link = None
        if task is not None:
            await asyncio.wait([task])

    async def perform(self, effect: Effect) -> list[Event]:
        """Send one request and wait for its answer. Never raises for anything that the venue or the socket does."""
        if type(effect) not in SERVES:
            raise TypeError(f"{type(effect).__name__} is no request to a venue; route it to the performer that serves it")
        link = self._link
        if link is None:
            raise RuntimeError("the venue is not connected; call connect first")
        asked = _Asked(effect, asyncio.get_running_loop().create_future())
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._send(link, asked) or await asked.reply
        except TimeoutError:
            kind, code = (OutcomeKind.IN_DOUBT, "timeout") if asked.sent else (OutcomeKind.UNAVAILABLE, "not_sent")
            return [failed(effect, link.now_ns(), kind, code, f"no reply within {self._timeout_s:g} s")]

    # --- there ------------------------------------------------------------------------------------------------------

    async def _send(self, link: _Link, asked: _Asked) -> list[Event]:
        """Write the request when its turn has come; the answer instead if it is not written."""
        await self._tried.wait()
        async with self._turn:
            writer = self._writer
            if writer is not None:
                with contextlib.suppress(OSError):
                    await writer.drain()
            # Nothing stands between here and the first byte: no wait, no buffer that holds anything.
            if writer is None or writer is not self._writer or writer.is_closing():
                text = f"nobody listens at {self._path}"
                return [failed(asked.effect, link.now_ns(), OutcomeKind.UNAVAILABLE, "not_connected", text)]
            number = next(self._numbers)
            frame = framed(FROM_CLIENT.encode(Request(number, asked.effect)))
            if code := link.may_send(asked.effect):
                return [failed(asked.effect, link.now_ns(), OutcomeKind.REFUSED, code, "held back at the instant of sending")]
            asked.sent, self._asked[number] = True, asked
            writer.write(frame)
        return []

    # --- back -------------------------------------------------------------------------------------------------------

    async def _stay(self, link: _Link) -> None:
        """Connect, and again whenever the connection is lost."""
        up = True
        while True:
            try:
                reader, writer = await self._open()
                if not up:
                    up = True
                    link.emit(VenueLink(link.now_ns(), True, "connected again"))
                self._writer = writer
                self._tried.set()
                while True:
                    self._take(link, FROM_SERVER.decode(await next_message(reader)))
            except _ENDS as error:
                gone = isinstance(error, asyncio.IncompleteReadError)
                why = f"{self._path}: {'the venue hung up' if gone else str(error) or type(error).__name__}"
            self._lose(why)
            self._tried.set()
            if up:
                up = False
                link.emit(VenueLink(link.now_ns(), False, why[:500]))
            await asyncio.sleep(self._retry_s)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(self._timeout_s):
            reader, writer = await asyncio.open_unix_connection(self._path)
            try:
                writer.transport.set_write_buffer_limits(high=0)
                writer.write(framed(FROM_CLIENT.encode(Hello(VERSION, self._session))))
                welcome = FROM_SERVER.decode(await next_message(reader))
                if welcome != Welcome(VERSION):
                    raise WireError(f"the first message has to be a Welcome of version {VERSION}")
            except BaseException:
                writer.close()
                raise
        return reader, writer

    def _take(self, link: _Link, message: FromServer) -> None:
        if isinstance(message, Report):
            link.emit(evolve(message.event, at_ns=link.now_ns()))
            return
        asked = self._asked.pop(message.number, None) if isinstance(message, Answer) else None
        if asked is None or not isinstance(message, Answer):
            raise WireError("an answer that nobody waits for")
        events: list[Event] = [evolve(event, at_ns=link.now_ns()) for event in message.events]
        if not asked.reply.done():
            asked.reply.set_result(events)
            return
        for event in events:
            if isinstance(event, EVIDENCE_CLASSES):
                link.emit(event)

    # --- the end of a connection ------------------------------------------------------------------------------------

    def _let_go(self, text: str) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._lose(text)

    def _lose(self, text: str) -> None:
        """Whatever was under way may have been done."""
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None
        asked, self._asked = self._asked, {}
        for request in asked.values():
            if not request.reply.done():
                assert self._link is not None  # who asks is connected
                now_ns = self._link.now_ns()
                request.reply.set_result([failed(request.effect, now_ns, OutcomeKind.IN_DOUBT, "disconnected", text[:500])])
