"""A paper venue that several processes trade on: the server's side of the socket.

Each connection is a session of the venue (``paper.PaperVenue.session``), with its own stream of reports. A process that dies is a
connection that ends: what it had sent is carried out all the same, and nobody hears of it. The socket is a file that only its
owner may open; whoever may open it trades. All requests pass one gateway (``gateway.py``), so a process that was stopped and believes in a
lease that another one has by now is refused here, if it does not notice by itself.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from typing import cast

from ..effects import Effect
from ..fsm.codec import CodecError
from ..fsm.config import ConfigRefused
from .clock import WallClock
from .gateway import Fences, Gateway
from .paper import PaperVenue
from .ports import NowNs, VenueAnswer, VenueReport
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

#: Told of each request as it arrives: the session that the connection gave, and the effect.
Watch = Callable[[str, Effect], None]
#: A client that leaves so many bytes unread does not read any more, and is hung up on.
MAX_UNREAD = 1 << 26
#: Who has said nothing for so long after connecting is hung up on.
HELLO_S = 5.0
_LOG = logging.getLogger("haltcore")


class VenueServer:
    """Serves a paper venue at the path of a socket. Use ``async with``, or ``open`` and ``close``. ``fences`` is the gateway's memory."""

    def __init__(self, venue: PaperVenue, path: str, *, now_ns: NowNs | None = None, watch: Watch | None = None) -> None:
        self.path = path
        self.fences = Fences()
        self._venue, self._watch = venue, watch
        self._now_ns = now_ns or WallClock().now_ns
        self._server: asyncio.Server | None = None
        self._file: tuple[int, int] | None = None
        self._work: dict[asyncio.Task[None], None] = {}

    async def __aenter__(self) -> "VenueServer":
        await self.open()
        return self

    async def __aexit__(self, exc_type: object, exc: object, tb: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Listen. Raises ConfigRefused with what to do. What a dead process has left at the path is replaced."""
        if _somebody_listens(self.path):
            raise ConfigRefused(f"venue: {self.path}: another venue listens there; give each one a path of its own")
        try:
            self._server = await asyncio.start_unix_server(self._accept, self.path, start_serving=False)
            # Before it listens, nobody can have come in.
            os.chmod(self.path, 0o600)
            self._file = _file_at(self.path)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise ConfigRefused(f"venue: {self.path}: {why}. Give a path of at most 100 bytes, in a folder of your own") from None
        await self._server.start_serving()

    async def close(self) -> None:
        """Hang up on everybody, and take the socket away if it is still ours."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        work = list(self._work)
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        with contextlib.suppress(FileNotFoundError):
            if _file_at(self.path) == self._file:
                os.unlink(self.path)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._begin(self._serve(reader, writer))

    def _begin(self, work: "asyncio._CoroutineLike[None]") -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._work[task] = None
        task.add_done_callback(lambda done: self._work.pop(done, None))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session: Gateway | None = None
        try:
            async with asyncio.timeout(HELLO_S):
                hello = FROM_CLIENT.decode(await next_message(reader))
            if not isinstance(hello, Hello) or hello.version != VERSION:
                raise WireError(f"the first message has to be a Hello of version {VERSION}")
            _send(writer, Welcome(VERSION))
            session = Gateway(self._venue.session(hello.session), self.fences)
            session.connect(lambda event: _send(writer, Report(cast(VenueReport, event))), self._now_ns, _anything)
            await self._converse(hello.session, session, reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # The other side is gone.
        except (CodecError, WireError) as error:
            _LOG.error("a client of the venue at %s was hung up on: %s", self.path, error)
        finally:
            if session is not None:
                await session.close()
            writer.close()

    async def _converse(
        self, name: str, session: Gateway, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:  # fmt: skip
        while True:
            request = FROM_CLIENT.decode(await next_message(reader))
            if not isinstance(request, Request):
                raise WireError("a second Hello")
            if type(request.effect) not in session.serves:
                raise WireError(f"{type(request.effect).__name__} is no request to a venue")
            if self._watch is not None:
                self._watch(name, request.effect)
            self._begin(_answer(session, request, writer))


def _somebody_listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.setblocking(False)
        try:
            caller.connect(path)
        except BlockingIOError:
            return True  # Alive, and very busy.
        except OSError:
            return False
    return True


def _file_at(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


async def _answer(session: Gateway, request: Request, writer: asyncio.StreamWriter) -> None:
    # The paper venue says nothing else, and the codec would refuse it.
    events = cast(tuple[VenueReport | VenueAnswer, ...], tuple(await session.perform(request.effect)))
    _send(writer, Answer(request.number, events))


def _send(writer: asyncio.StreamWriter, message: FromServer) -> None:
    """To whoever is still there."""
    if writer.is_closing():
        return
    writer.write(framed(FROM_SERVER.encode(message)))
    if writer.transport.get_write_buffer_size() > MAX_UNREAD:
        writer.transport.abort()


def _anything(effect: Effect) -> str:  # noqa: ARG001 - the port's own form
    """The client has asked at the instant before its bytes left; what has arrived is carried out."""
    return ""
