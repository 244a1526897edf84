"""Files that only grow: what the journal needs of a disk, a real one and a simulated one.

The duties of a disk, in the order in which they are easy to forget:

1. A new file never takes the place of an old one, and its name is durable before it is used (the directory is synced too).
2. One writer. The first file of a log is locked; a second process is turned away with a message that names the first.
3. Data is durable when ``append`` returns, not before. It writes and syncs in a thread of its own, so a disk that hangs, in a
   write or in a sync, never stops the event loop.
4. A failed sync is final. The kernel may have dropped the pages and marked them clean, so a second sync that succeeds proves
   nothing (the fsync trouble of PostgreSQL in 2018). The journal therefore fails for good and a new process reads what is there.

:class:`MemoryDisk` does the same in memory, under the control of a test: it can be full, slow, failing, and can lose or tear
what was not synced.
"""

import asyncio
import errno
import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

T = TypeVar("T")
_CHUNK = 1 << 20


class NotAFile(OSError):
    """A pipe, a socket or a device stands where a log should be. Opening one could wait for ever."""


class LogFile(Protocol):
    """A file that is open for appending."""

    async def append(self, data: bytes) -> None:
        """Write the bytes and make everything so far durable. Raises OSError."""
        ...

    def truncate(self, size: int) -> None:
        """Cut the file to this length, durably. Raises OSError."""
        ...

    def close(self) -> None:
        """Let go of the file and its lock. No sync."""
        ...


class Disk(Protocol):
    """Where logs lie. Every method raises OSError as the operating system would."""

    async def create(self, name: str) -> LogFile:
        """A new, empty, locked file. FileExistsError when there is one."""
        ...

    async def open(self, name: str) -> LogFile:
        """An existing file, locked, for appending. BlockingIOError, naming the holder if known, when it is locked already."""
        ...

    def read(self, name: str) -> Iterator[bytes]:
        """The bytes of a file, in pieces."""
        ...

    def names(self, like: str) -> list[str]:
        """The files in the same directory whose names begin like this one's stem, ascending."""
        ...


class RealFile:
    """A file on a disk."""

    def __init__(self, descriptor: int, in_thread: "_InThread | _Inline") -> None:
        self._descriptor = descriptor
        self._in_thread = in_thread

    def write(self, data: bytes) -> None:
        """Hand the bytes to the operating system. They survive this process, not the machine."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    async def append(self, data: bytes) -> None:
        """See :class:`LogFile`."""
        await self._in_thread(lambda: self._append(data))

    def _append(self, data: bytes) -> None:
        self.write(data)
        _sync_data(self._descriptor)

    def truncate(self, size: int) -> None:
        """See :class:`LogFile`."""
        os.ftruncate(self._descriptor, size)
        os.fsync(self._descriptor)

    def close(self) -> None:
        """See :class:`LogFile`."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


#: macOS has no fdatasync in Python; fsync does more, not less.
_sync_data: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


class _InThread:
    """Runs blocking calls one after the other in one thread."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="haltcore-journal")

    async def __call__(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)


class _Inline:
    """Runs blocking calls at once, as simulated time needs it: there a thread would be a second clock."""

    async def __call__(self, call: Callable[[], T]) -> T:
        return call()


class RealDisk:
    """The disk of this machine. Names are paths. ``threaded`` False is for runs in simulated time, where blocking does no harm."""

    def __init__(self, threaded: bool = True) -> None:
        self._in_thread: _InThread | _Inline = _InThread() if threaded else _Inline()

    async def create(self, name: str) -> RealFile:
        """See :class:`Disk`."""
        return await self._in_thread(lambda: self._create(name))

    def _create(self, name: str) -> RealFile:
        descriptor = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o640)
        try:
            _lock(descriptor, name)
            directory = os.open(os.path.dirname(name) or ".", os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except BaseException:
            os.close(descriptor)
            raise
        return RealFile(descriptor, self._in_thread)

    async def open(self, name: str) -> RealFile:
        """See :class:`Disk`."""
        return await self._in_thread(lambda: self._open(name))

    def _open(self, name: str) -> RealFile:
        descriptor = _opened(name, os.O_WRONLY | os.O_APPEND)
        try:
            _lock(descriptor, name)
        except BaseException:
            os.close(descriptor)
            raise
        return RealFile(descriptor, self._in_thread)

    def read(self, name: str) -> Iterator[bytes]:
        """See :class:`Disk`."""
        with open(name, "rb", opener=_opened) as file:
            while chunk := file.read(_CHUNK):
                yield chunk

    def names(self, like: str) -> list[str]:
        """See :class:`Disk`."""
        path = Path(like)
        return sorted(str(entry) for entry in path.parent.iterdir() if entry.name.startswith(path.stem))


def _opened(name: str, flags: int) -> int:
    """Open a regular file, and nothing else. Without waiting: a pipe would, until somebody opens its other end."""
    try:
        descriptor = os.open(name, flags | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENODEV):
            raise _not_a_file(name) from None
        raise
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name) if stat.S_ISDIR(mode) else _not_a_file(name)
    return descriptor


def _not_a_file(name: str) -> NotAFile:
    return NotAFile(errno.EINVAL, "is no regular file but a pipe, socket or device", name)


def _lock(descriptor: int, name: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BlockingIOError(errno.EWOULDBLOCK, f"locked by {_lock_holder(descriptor)}", name) from None


def _lock_holder(descriptor: int) -> str:
    """The process that holds the lock, as far as Linux tells."""
    inode = os.fstat(descriptor).st_ino
    try:
        table = Path("/proc/locks").read_text()
    except OSError:
        return "another process"
    found = re.search(rf"FLOCK\s+ADVISORY\s+WRITE\s+(\d+)\s+\S+:{inode}\s", table)
    return f"process {found[1]}" if found else "another process"


class MemoryFile:
    """An open file of a :class:`MemoryDisk`."""

    def __init__(self, disk: "MemoryDisk", name: str) -> None:
        self._disk = disk
        self._name = name
        self._life = disk.life

    def _content(self) -> bytearray:
        if self._life != self._disk.life or self._name not in self._disk.locked:
            raise OSError(errno.EBADF, "the process that had this file open is gone", self._name)
        return self._disk.content[self._name]

    def write(self, data: bytes) -> None:
        """Hand bytes over without a sync. A disk that fills up takes what fits."""
        content, disk = self._content(), self._disk
        if disk.write_error is not None:
            raise OSError(disk.write_error, os.strerror(disk.write_error), self._name)
        room = len(data) if disk.capacity is None else max(0, disk.capacity - sum(map(len, disk.content.values())))
        content += data[:room]
        if room < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._name)

    async def append(self, data: bytes) -> None:
        """See :class:`LogFile`."""
        self.write(data)
        size = len(self._content())
        self._disk.syncs += 1
        if self._disk.sync_delay_s > 0:
            await asyncio.sleep(self._disk.sync_delay_s)
        self._content()
        if self._disk.sync_error is not None:
            raise OSError(self._disk.sync_error, os.strerror(self._disk.sync_error), self._name)
        self._disk.synced[self._name] = max(size, self._disk.synced[self._name])

    def truncate(self, size: int) -> None:
        """See :class:`LogFile`."""
        del self._content()[size:]
        self._disk.synced[self._name] = size

    def close(self) -> None:
        """See :class:`LogFile`."""
        if self._life == self._disk.life:
            self._disk.locked.pop(self._name, None)


class MemoryDisk:
    """A disk in memory whose faults a test decides.

    ``capacity``: bytes over all files, None for no bound. ``write_error``, ``sync_error``: the errno of every write or sync from
    now on. ``sync_delay_s``: how long a sync takes, in the loop's own time. ``content`` is what a reader sees, ``synced`` how
    much of each file is durable, ``syncs`` how often somebody synced.
    """

    def __init__(self) -> None:
        self.content: dict[str, bytearray] = {}
        self.synced: dict[str, int] = {}
        self.locked: dict[str, None] = {}
        self.life = 0
        self.capacity: int | None = None
        self.write_error: int | None = None
        self.sync_error: int | None = None
        self.sync_delay_s = 0.0
        self.syncs = 0

    def crash(self, kept: int = 0) -> None:
        """The machine dies: of what was not synced, the first ``kept`` bytes of each file survive. All open files are gone."""
        for name, content in self.content.items():
            del content[self.synced[name] + kept :]
            self.synced[name] = len(content)
        self.life += 1
        self.locked.clear()

    async def create(self, name: str) -> MemoryFile:
        """See :class:`Disk`."""
        if name in self.content:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        if self.write_error is not None:
            raise OSError(self.write_error, os.strerror(self.write_error), name)
        self.content[name] = bytearray()
        self.synced[name] = 0
        self.locked[name] = None
        return MemoryFile(self, name)

    async def open(self, name: str) -> MemoryFile:
        """See :class:`Disk`."""
        if name not in self.content:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        if name in self.locked:
            raise BlockingIOError(errno.EWOULDBLOCK, "locked by another process", name)
        self.locked[name] = None
        return MemoryFile(self, name)

    def read(self, name: str) -> Iterator[bytes]:
        """See :class:`Disk`."""
        if name not in self.content:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        yield bytes(self.content[name])

    def names(self, like: str) -> list[str]:
        """See :class:`Disk`."""
        path = Path(like)
        return sorted(name for name in self.content if Path(name).parent == path.parent and Path(name).name.startswith(path.stem))
