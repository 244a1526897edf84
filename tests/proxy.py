"""A TCP proxy on 127.0.0.1, in a thread of its own: the way to a server, which can be cut, slowed, swallowed, and made to lose one reply.

It knows requests and replies only as bytes that come in pieces, which holds for a client that waits for each reply. Arm it on what only the
request in question has: ``b"$3\\r\\nSET\\r\\n"`` and not ``b"SET"``, which is also in the words with which a client introduces itself.
"""

import asyncio
import ssl
import threading
from contextlib import suppress
from enum import Enum
from typing import Any


class Loss(Enum):
    """What becomes of the request that was armed for. In both cases its connection is closed."""

    REPLY = "the server gets it, the client no reply"
    REQUEST = "the server does not get it"


class Proxy:
    """A context manager. ``port`` leads to ``target``. ``requests`` counts the pieces that came from clients, ``lost`` what was armed for
    and happened. ``delay_s`` is added to every reply; may be set at any time. With ``tls`` it is what speaks TLS in front of the server."""

    def __init__(self, target: int, tls: ssl.SSLContext | None = None) -> None:
        self.target = target
        self._tls = tls
        self.port = 0
        self.delay_s = 0.0
        self.requests = self.lost = 0
        self._armed: tuple[bytes, Loss] | None = None
        self._open = True
        self._swallows = False
        self._writers: dict[asyncio.StreamWriter, None] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: dict[asyncio.Task[Any], None] = {}

    def __enter__(self) -> "Proxy":
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def url(self) -> str:
        """Where to connect to."""
        return f"redis://127.0.0.1:{self.port}/0"

    def arm(self, pattern: bytes, loss: Loss = Loss.REPLY) -> None:
        """Lose the reply to the next request that has these bytes, or the request; once."""
        self._armed = (pattern, loss)

    def disarm(self) -> bool:
        """Whether it was still armed."""
        armed, self._armed = self._armed, None
        return armed is not None

    def cut(self) -> None:
        """Close every connection, and each new one at once."""
        self._open = False
        self._do(self._close_all())

    def swallow(self) -> None:
        """Take bytes and pass none on, in either direction: a black hole."""
        self._swallows = True

    def restore(self) -> None:
        """As it was. What was swallowed stays lost, so its connections are closed."""
        if self._swallows:
            self._do(self._close_all())
        self._open, self._swallows = True, False

    def _do(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            writer.close()
            return
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        pair = (writer, server_writer)
        self._writers.update(dict.fromkeys(pair))
        mute = asyncio.Event()
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = None
        try:
            await asyncio.gather(self._requests(reader, pair, mute), self._replies(server_reader, pair, mute))
        finally:
            for one in pair:
                self._writers.pop(one, None)
                one.close()
            self._tasks.pop(task, None)

    async def _requests(self, reader: asyncio.StreamReader, pair: tuple[asyncio.StreamWriter, ...], mute: asyncio.Event) -> None:
        client, server = pair
        with suppress(OSError):
            while data := await reader.read(65_536):
                self.requests += 1
                if self._swallows:
                    continue
                if self._armed is not None and self._armed[0] in data:
                    (_, loss), self._armed = self._armed, None
                    self.lost += 1
                    if loss is Loss.REQUEST:
                        break
                    mute.set()
                server.write(data)
                await server.drain()
        if not mute.is_set():
            server.close()
            client.close()

    async def _replies(self, reader: asyncio.StreamReader, pair: tuple[asyncio.StreamWriter, ...], mute: asyncio.Event) -> None:
        client, server = pair
        with suppress(OSError):
            while data := await reader.read(65_536):
                if mute.is_set():
                    break
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if not self._swallows:
                    client.write(data)
                    await client.drain()
        client.close()
        server.close()

    async def _close_all(self) -> None:
        for writer in list(self._writers):
            writer.close()
        await asyncio.sleep(0)

    async def _end(self) -> None:
        self._server.close()
        await self._close_all()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
