"""Connections to a Redis or Valkey, so that after every request it is known whether a byte of it had left.

redis-py speaks the protocol; its clients and pools are not used, since they repeat commands and connect behind one's back. Here a
connection is opened first, and failing in that is certainly not applied; then the command is written, once, and from there on whatever
happens is in doubt unless the server refused it (see ``redis_errors.py``). Nothing is sent twice but for two answers that say that the
request was not carried out: NOSCRIPT, after which the script goes along in full, and MOVED, after which the node that was named is asked.

A request has a time limit from the first to the last, waiting for a free connection included. A connection serves one request at a time and
is thrown away unless the request was answered to the end, so that no answer is ever taken for that of another request.
"""

import asyncio
import codecs
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from attrs import frozen

from .coordination import StoreFailed
from .redis_errors import REFUSALS, failure, word_of
from .redis_url import Kind, StoreUrl

T = TypeVar("T")
Word = str | int
#: How many requests of one store can be under way.
CONNECTIONS: Final = 16
#: How texts that are no UTF-8 go and come.
LENIENT: Final = "haltcore_lenient"


def _lenient(error: UnicodeError) -> tuple[str | bytes, int]:
    """Texts come from people and venues; one that is no UTF-8 is no reason not to freeze. Half of a surrogate pair passes; another byte in
    an answer, of a row that something else has written, is shown as a backslash and its number: it spoils that text, and not the answer."""
    try:
        return codecs.lookup_error("surrogatepass")(error)
    except UnicodeDecodeError:
        return codecs.lookup_error("backslashreplace")(error)


codecs.register_error(LENIENT, _lenient)


@frozen
class Script:
    """A Lua script and its SHA-1, by which a server knows it."""

    source: str
    sha: str

    @classmethod
    def of(cls, source: str) -> "Script":
        """From its source."""
        return cls(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


class Line:
    """One request on one connection. ``sent``: a byte of it has left. ``applied``: a part of it was answered well. ``open``: an answer is
    still to come."""

    def __init__(self) -> None:
        self.connection: Any = None
        self.sent = self.applied = self.open = self.moved = False

    async def command(self, *words: Word) -> Any:
        """Send a command, and read its answer. An error that the server answers is raised."""
        from redis.exceptions import ResponseError

        packed = self.connection.pack_command(*words)
        self.sent = self.open = True
        await self.connection.send_packed_command(packed)
        try:
            answer = await self.connection.read_response()
        except ResponseError:
            self.open = False
            raise
        self.open, self.applied = False, True
        return answer

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Word]) -> Any:
        """Run a script. It goes along in full where the server does not know it."""
        from redis.exceptions import NoScriptError

        try:
            return await self.command("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return await self.command("EVAL", script.source, len(keys), *keys, *arguments)


class Link:
    """The connections of one store."""

    def __init__(self, url: StoreUrl, timeout_ms: int) -> None:
        self._url = url
        self._limit_s = timeout_ms / 1_000
        self._idle: list[Any] = []
        #: How many connections are kept for later; after ``close`` none.
        self._keep = CONNECTIONS
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._seeds = list(url.nodes)
        #: The node to ask, where a URL leaves it to be found.
        self._aim: tuple[str, int] | None = None

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Word]) -> Any:
        """A request of one script. Raises StoreFailed."""
        return await self.talk(lambda line: line.run(script, keys, arguments))

    async def talk(self, speak: Callable[[Line], Awaitable[T]]) -> T:
        """A request: what ``speak`` says on a line. Raises StoreFailed. It may be called again, if a cluster says that another node is
        meant."""
        line = Line()
        try:
            async with asyncio.timeout(self._limit_s), self._slots:
                try:
                    return await self._speak(line, speak)
                finally:
                    await self._put_back(line)
        except StoreFailed:
            raise
        except Exception as error:
            failed = failure(error, line.sent, line.applied, str(self._url), self._url.hidden)
            if not line.sent or ((refusal := REFUSALS.get(word_of(error))) is not None and refusal.elsewhere):
                await self._look_elsewhere()
            # Not from that error: its words, which may hold what was said to the server, would stand in every traceback.
            raise failed from None

    async def close(self) -> None:
        """Close what is idle, for at most the time limit. A request that is under way ends by itself, and its connection with it."""
        self._keep = 0
        idle, self._idle = self._idle, []
        # To the end, since the loop may be about to end, too: TLS takes leave with an exchange of its own.
        await asyncio.gather(*(connection.disconnect() for connection in idle), return_exceptions=True)

    async def _drop_idle(self) -> None:
        """Close what is idle, without waiting for it."""
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.disconnect(nowait=True)

    async def _speak(self, line: Line, speak: Callable[[Line], Awaitable[T]]) -> T:
        while True:
            line.connection = await self._connected(line)
            try:
                return await speak(line)
            except Exception as error:
                if not self._follows(error, line):
                    raise
                await self._put_back(line)
                await self._drop_idle()

    def _follows(self, error: Exception, line: Line) -> bool:
        """Whether a cluster named another node, which is asked from now on. Once in a request."""
        if self._url.kind is not Kind.CLUSTER or word_of(error) != "MOVED" or line.applied or line.moved:
            return False
        host, _, port = str(error).split()[-1].rpartition(":")
        self._aim = (host or line.connection.host, int(port))
        line.moved, line.sent = True, False
        return True

    async def _look_elsewhere(self) -> None:
        """Find the server anew from the next request on, beginning with another of those that are named."""
        self._aim = None
        self._seeds = self._seeds[1:] + self._seeds[:1]
        await self._drop_idle()

    async def _connected(self, line: Line) -> Any:
        """A connection on which nothing is left over from before, and which the server has not closed as far as one can see."""
        while self._idle:
            connection = line.connection = self._idle.pop()
            if not await _dirty(connection):
                return connection
            await connection.disconnect(nowait=True)
        if self._aim is None and self._url.kind is Kind.SENTINEL:
            self._aim = await self._ask_sentinel(line)
        connection = line.connection = self._connection(self._aim or (self._seeds[0] if self._seeds else None))
        await connection.connect()
        return connection

    async def _put_back(self, line: Line) -> None:
        connection, line.connection = line.connection, None
        if connection is None:
            return
        if line.sent and not line.open and connection.is_connected and len(self._idle) < self._keep:
            self._idle.append(connection)
        else:
            await connection.disconnect(nowait=True)

    async def _ask_sentinel(self, line: Line) -> tuple[str, int]:
        """Where the master is, by the first sentinel."""
        options = self._url.options
        connection = line.connection = self._connection(
            self._seeds[0], 0, options.get("sentinel_username", ""), options.get("sentinel_password", "")
        )
        try:
            await connection.connect()
            await connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._url.master)
            found = await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)
        if not found:
            raise LookupError(f"the sentinel knows no master {self._url.master!r}")
        return found[0], int(found[1])

    def _connection(
        self, node: tuple[str, int] | None, db: int | None = None, username: str | None = None, password: str | None = None
    ) -> Any:
        """Not opened yet. There are no time limits of its own for commands, since the request has one, and no second tries."""
        from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        url = self._url
        common: dict[str, Any] = {
            "db": url.db if db is None else db,
            "username": (url.username if username is None else username) or None,
            # As bytes: the environment may hold one that is no UTF-8.
            "password": (url.password if password is None else password).encode("utf-8", "surrogateescape") or None,
            # None, and not left out: redis-py then has a limit of its own, by asyncio.wait_for, which can swallow a cancellation.
            "socket_timeout": None,
            "socket_connect_timeout": self._limit_s,
            "retry": Retry(NoBackoff(), 0),
            "retry_on_error": [],
            "health_check_interval": 0,
            "decode_responses": True,
            "encoding_errors": LENIENT,
            "protocol": 2,
        }
        if node is None:
            return UnixDomainSocketConnection(path=url.path, **common)
        if not url.tls:
            return Connection(host=node[0], port=node[1], **common)
        tls: dict[str, Any] = {name: value for name, value in url.options.items() if name.startswith("ssl_")}
        check = tls.pop("ssl_check_hostname", "true") == "true"
        return SSLConnection(host=node[0], port=node[1], ssl_check_hostname=check, **tls, **common)


async def _dirty(connection: Any) -> bool:
    """Whether there is something to read where nothing should be: an answer that nobody waits for, or the end of the connection."""
    look = getattr(connection, "can_read", None)
    if look is None:
        # redis-py before 8 has a look that takes the end of a connection for nothing.
        reader = getattr(connection, "_reader", None)
        return reader is None or bool(reader.at_eof())
    try:
        return bool(await look())
    except Exception:
        return True
