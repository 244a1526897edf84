"""The socket by which operators reach a running session: who may open it, what a line may cost, and how it goes away.

Two kinds of address:

================  ==================================================  =======================================================
                  a path: ``run/mm1.sock``                            a port of this machine: ``127.0.0.1:7300``
================  ==================================================  =======================================================
who may speak     whom the file's mode lets in: its owner (0600)      whoever knows the token in ``HALTCORE_TOKEN``
a left-over one   of a dead process is replaced, a live one refused   the system frees it
who spoke         the user id, by the kernel's word                   nobody knows
================  ==================================================  =======================================================

The file never has another mode than 0600 while somebody could connect: it gets it before it is bound where the system can do
that (Linux), and in any case before the socket listens. Whether a left-over file may be replaced is decided under a lock on its folder,
so that of two processes that start at once one wins and the other is told.

A request is one line, and so is its answer. A line has a longest length and a longest time, an answer has a longest time to be taken,
and there is room for so many connections: one more, and the oldest has to go, so that idle ones cannot keep a freeze out. Callers are let
in one by one, so nobody has to go before what he sent at once was read.
"""

import asyncio
import contextlib
import fcntl
import ipaddress
import logging
import os
import re
import socket
import stat
import struct
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from attrs import frozen

from ..fsm.config import ConfigRefused

MAX_LINE: Final = 64 * 1024
MAX_CONNECTIONS: Final = 32
#: How many callers may wait to be let in.
BACKLOG: Final = 8
#: How long nobody is let in after the system could not.
PAUSE_S: Final = 0.5
#: How long a line may take from its connection's last answer on, and how long an answer may wait to be taken.
LINE_S: Final = 10.0
#: How often a folder's lock is tried, a hundredth of a second apart. It is held for as long as a bind takes.
LOCK_TRIES: Final = 100
#: The longest path that every system takes for a socket.
MAX_PATH: Final = 103
_LOG = logging.getLogger("haltcore")


@frozen
class Address:
    """A path, or a host and port."""

    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return self.path or (f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}")


def port_address(text: str) -> Address:
    """``127.0.0.1:7300`` or ``[::1]:7300``. Raises ConfigRefused for what is no port of this machine."""
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]/:]+)):(\d{1,5})", text)
    if found is None or int(found[3]) > 65_535:
        raise ConfigRefused(f"control: {text!r} is no address; write 127.0.0.1:7300, or give the path of a socket file")
    host = "127.0.0.1" if found[2] == "localhost" else found[1] or found[2]
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return Address(host=host, port=int(found[3]))
    raise ConfigRefused(
        f"control: {host} is not this machine alone; give 127.0.0.1:{found[3]}, and reach it from elsewhere through a tunnel"
    )


def address(text: str) -> Address:
    """What ends with a colon and a port is one; anything else is a path. Raises ConfigRefused."""
    if re.search(r"[^/]:\d+\Z", text):
        return port_address(text)
    if not text or "\0" in text:
        raise ConfigRefused(f"control: {text!r} is no path")
    path = str(Path(text).absolute())
    if len(os.fsencode(path)) > MAX_PATH:
        raise ConfigRefused(f"control: {path}: a socket's path has at most {MAX_PATH} bytes; give a shorter one")
    return Address(path=path)


# --- listening ------------------------------------------------------------------------------------------------------


def listen(where: Address) -> socket.socket:
    """A socket that listens there. Raises ConfigRefused with what to do, and BlockingIOError while the folder is locked."""
    try:
        return _listen_at_path(where.path) if where.path else _listen_at_port(where)
    except BlockingIOError:
        raise
    except OSError as error:
        raise ConfigRefused(f"control: {where}: {os.strerror(error.errno or 0)}. {_remedy(where, error)}") from None


def _remedy(where: Address, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"Make the folder {os.path.dirname(where.path)} first"
    return "Give another port, or end the program that has it" if not where.path else "Give a path where this user may write"


def _listen_at_port(where: Address) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in where.host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((where.host, where.port))
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _listen_at_path(path: str) -> socket.socket:
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _make_room(path)
        with contextlib.suppress(OSError):
            # The file is born with the mode of the socket, where the system can do that.
            os.fchmod(listener.fileno(), 0o600)
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(folder)
    return listener


def _make_room(path: str) -> None:
    """Take away what a dead process has left. Refuses what is no socket, and one that is alive."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigRefused(f"control: {path} is there and is no socket; give another path, or remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.setblocking(False)
        try:
            caller.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # Alive, and very busy.
    raise ConfigRefused(f"control: {path}: another runner listens there; give each runner a path of its own")


# --- serving --------------------------------------------------------------------------------------------------------

#: Gets a line and who sent it ("uid 1000", or "tcp"), and gives the answer's line, without its end.
Answer = Callable[[bytes, str], Awaitable[bytes]]
#: Gets why a connection was ended without an answer to a request, a code and a text, and who it was; gives the answer's line.
Refuse = Callable[[str, str, str], bytes]


class Listener:
    """Listens, and has each line answered. One request at a time per connection, connections side by side."""

    def __init__(self, where: Address, answer: Answer, refuse: Refuse) -> None:
        self.where = where
        self._answer, self._refuse = answer, refuse
        self._socket: socket.socket | None = None
        self._file: tuple[int, int] | None = None
        self._pause: asyncio.TimerHandle | None = None
        #: One task for each connection, the oldest first. It closes its connection when it ends, however it ends.
        self._connections: dict[asyncio.Task[None], None] = {}

    async def open(self) -> None:
        """Listen. Raises ConfigRefused."""
        for _ in range(LOCK_TRIES):
            try:
                self._socket = listen(self.where)
                break
            except BlockingIOError:
                await asyncio.sleep(0.01)
        else:
            raise ConfigRefused(f"control: {self.where}: the folder is locked by another program; give a folder of your own")
        if self.where.path:
            found = os.lstat(self.where.path)
            self._file = found.st_dev, found.st_ino
        else:
            self.where = Address(host=self.where.host, port=self._socket.getsockname()[1])
        self._socket.setblocking(False)
        self._hear()

    def close(self, remove: bool = True) -> None:
        """Listen no more, hang up on everybody, and take the file away if it is still ours."""
        if self._socket is None:
            return
        if self._file is not None and remove:
            with contextlib.suppress(OSError):
                found = os.lstat(self.where.path)
                if (found.st_dev, found.st_ino) == self._file:
                    os.unlink(self.where.path)
        if self._pause is not None:
            self._pause.cancel()
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        for task in self._connections:
            task.cancel()

    def _hear(self) -> None:
        self._pause = None
        if self._socket is not None:
            asyncio.get_running_loop().add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        """Somebody calls. One is let in per turn of the loop, so that each is read long before others could turn him out."""
        if self._socket is None:
            return
        loop = asyncio.get_running_loop()
        try:
            link, _ = self._socket.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # He has changed his mind.
        except OSError as error:
            # No file is left for a connection, most likely. To ask again at once would take the bot's time.
            _LOG.error("the control socket %s cannot let anybody in: %s", self.where, error)
            loop.remove_reader(self._socket)
            self._pause = loop.call_later(PAUSE_S, self._hear)
            return
        link.setblocking(False)
        while len(self._connections) >= MAX_CONNECTIONS:
            oldest = next(iter(self._connections))
            del self._connections[oldest]
            oldest.cancel()
        task = loop.create_task(self._serve(link))
        self._connections[task] = None
        task.add_done_callback(lambda done: self._ended(done, link))

    def _ended(self, task: asyncio.Task[None], link: socket.socket) -> None:
        self._connections.pop(task, None)
        link.close()

    async def _serve(self, link: socket.socket) -> None:
        try:
            await self._converse(link, _peer(link))
        except (OSError, TimeoutError):
            pass  # The other side is gone, or does not take its answers.
        except Exception:
            _LOG.exception("a control connection failed")

    async def _converse(self, link: socket.socket, peer: str) -> None:
        read = bytearray()
        while True:
            try:
                async with asyncio.timeout(LINE_S):
                    line = await _line(link, read)
            except TimeoutError:
                if read:
                    await _give(link, self._refuse("slow", f"a request has to come within {LINE_S:g} s", peer))
                return
            if not line:
                return
            if len(line) > MAX_LINE:
                await _give(link, self._refuse("too_long", f"a request has at most {MAX_LINE} bytes", peer))
                return
            await _give(link, await self._answer(line, peer))


async def _line(link: socket.socket, read: bytearray) -> bytes:
    """The next line, with or without its end if it is the last; empty at the end. Longer than allowed means too long, and is not whole."""
    while (end := read.find(b"\n") + 1) == 0 and len(read) <= MAX_LINE:
        chunk = await asyncio.get_running_loop().sock_recv(link, MAX_LINE)
        if not chunk:
            break
        read += chunk
    line = bytes(read[: end or len(read)])
    del read[: len(line)]
    return line


async def _give(link: socket.socket, line: bytes) -> None:
    async with asyncio.timeout(LINE_S):
        await asyncio.get_running_loop().sock_sendall(link, line + b"\n")


def _peer(link: socket.socket) -> str:
    """Who is at the other end, as far as the system knows."""
    if link.family is not socket.AF_UNIX:
        return "tcp"
    if hasattr(socket, "SO_PEERCRED"):
        with contextlib.suppress(OSError):
            _, uid, _ = struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
            return f"uid {uid}"
    return "socket"


# --- asking ---------------------------------------------------------------------------------------------------------


class Unreachable(Exception):
    """No answer. The text says why, and what to do; ``sent``: the request left, so that it may have been carried out."""

    def __init__(self, text: str, sent: bool = False) -> None:
        super().__init__(text)
        self.sent = sent


def ask(where: Address, request: bytes, timeout_s: float) -> bytes:
    """Send one line, and wait for its answer. Raises Unreachable."""
    try:
        link = _reach(where, time.monotonic() + min(timeout_s, 5.0))
    except OSError as error:
        raise Unreachable(f"no runner answers at {where}: {_why(where, error)}") from None
    with link:
        link.settimeout(timeout_s)
        try:
            link.sendall(request + b"\n")
            answer = bytearray()
            while not answer.endswith(b"\n"):
                chunk = link.recv(MAX_LINE)
                if not chunk:
                    raise Unreachable(f"the runner at {where} hung up before it had answered", sent=True)
                answer += chunk
        except TimeoutError:
            raise Unreachable(f"the runner at {where} does not answer within {timeout_s:g} s: it hangs, or is stopped", sent=True) from None
        except OSError as error:
            raise Unreachable(f"the runner at {where} hung up: {_why(where, error)}", sent=True) from None
        return bytes(answer)


def _reach(where: Address, until_s: float) -> socket.socket:
    """A connection. A path that has no room for callers right now is called again for a while."""
    family = socket.AF_UNIX if where.path else socket.AF_INET6 if ":" in where.host else socket.AF_INET
    while True:
        link = socket.socket(family, socket.SOCK_STREAM)
        link.settimeout(max(0.01, until_s - time.monotonic()))
        try:
            link.connect(where.path or (where.host, where.port))
            return link
        except BlockingIOError:
            link.close()
            if time.monotonic() > until_s:
                raise
            time.sleep(0.01)
        except BaseException:
            link.close()
            raise


def _why(where: Address, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file; either none was started with control=..., or it was given another path"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there; the process has ended" + (", or died and left the file" if where.path else "")
    if isinstance(error, PermissionError):
        return "no permission; the socket belongs to the user that runs the bot"
    return os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
