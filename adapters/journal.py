"""The journal: the one writer of a log.

What the runner does with it, in this order: step, :meth:`Journal.append` the event with its effects, ``await``
:meth:`Journal.commit` before any effect that adds risk, perform. Effects that reduce risk do not wait.

``append`` only encodes; no disk is touched. ``commit`` writes and syncs in a thread of the disk's, and whoever comes while a sync
is under way shares the next one: under load one sync serves many records. The runner commits every record soon, whether or not an
effect waits for it: a freeze has to survive a power failure too.

A journal fails once and for good: ``failed`` then says why, ``append`` returns False and ``commit`` raises. What to do then is the
runner's part (freeze, keep cancelling). Nothing is written after a failure, so the log ends where it was still right; a new process
cuts the torn end and goes on.

A log is kept in segments, ``mm1.jsonl``, ``mm1.0002.jsonl``, ... A segment is closed with a seal; the next one begins with a snapshot, so
that a restart replays the last one only. A log that was closed is finished: continuing it begins a new segment.
"""

import asyncio
import errno
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from attrs import frozen

from ..effects import Effect
from ..fsm.chain import BEGINNING, Chain, End, LogBroken, Unsupported
from ..fsm.codec import CONFIG, EFFECTS, EVENTS, STATE, CodecError
from ..fsm.config import Config
from ..fsm.core import EMPTY, Core
from ..fsm.digest import DigestTracker
from ..fsm.events import Event
from ..fsm.record import CHECKPOINT_EVERY, MAX_LINE, RECORD, Header, header_line, record_line, seal_line
from ..fsm.replay import Source, Step, replay
from ..fsm.step import step as current_step
from ..fsm.verdict import Kind, Verdict, report
from .disk import Disk, LogFile, NotAFile

#: After so many records a segment is full: replaying it takes about a second.
ROTATE_EVERY = 100_000


class JournalFailed(Exception):
    """The log cannot be written or continued. ``code`` is stable, the text names the file and the remedy."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@frozen
class _NewSegment:
    """In the queue of lines: from here on another file."""

    name: str


def segment_name(path: str, number: int) -> str:
    """The file of a segment: ``mm1.jsonl`` for the first, ``mm1.0002.jsonl`` for the second."""
    first = Path(path)
    return str(first) if number == 1 else str(first.with_name(f"{first.stem}.{number:04d}{first.suffix}"))


def segments(path: str, disk: Disk) -> list[str]:
    """The files of a log, in order. Raises :class:`JournalFailed` when there is none, or one is missing in between."""
    first = Path(path)
    form = re.compile(rf"{re.escape(first.stem)}(?:\.(\d{{4,}}))?{re.escape(first.suffix)}")
    try:
        matches = [form.fullmatch(Path(name).name) for name in disk.names(path)]
    except OSError as error:
        raise explained(error, path) from None
    numbers = sorted(int(match[1] or 1) for match in matches if match)
    if not numbers:
        raise JournalFailed("missing", f"{path}: there is no log. Check the path, or start a new log there")
    if numbers != list(range(1, len(numbers) + 1)):
        gap = next(number for number in range(1, len(numbers) + 2) if number not in numbers)
        raise JournalFailed("broken", f"{segment_name(path, gap)} is missing, later segments are there. Put it back")
    return [segment_name(path, number) for number in numbers]


def exists(path: str, disk: Disk) -> bool:
    """Whether there is a log of this name, or some segment of one."""
    try:
        return bool(segments(path, disk))
    except JournalFailed as failure:
        if failure.code == "missing":
            return False
        if failure.code == "broken":
            return True
        raise


def explained(error: OSError, path: str) -> JournalFailed:
    """The failure behind an error of the operating system, in the words of somebody who has to mend it."""
    where = error.filename if isinstance(error.filename, str) else path
    if isinstance(error, FileNotFoundError):
        return JournalFailed("missing", f"{where}: there is no such file or directory. Check the path")
    if isinstance(error, FileExistsError):
        return JournalFailed("exists", f"{where}: a log is there already and is never overwritten. Continue it, or choose another name")
    if isinstance(error, (IsADirectoryError, NotADirectoryError, NotAFile)):
        return JournalFailed("not_a_file", f"{where}: {error.strerror}. Give the path of a file, such as logs/mm1.jsonl")
    if isinstance(error, PermissionError):
        return JournalFailed("permission", f"{where}: no permission. Run as the owner of the log, or choose another directory")
    if isinstance(error, BlockingIOError):
        return JournalFailed("locked", f"{where}: {error.strerror}. Stop that one first: two writers would ruin the log")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return JournalFailed("disk_full", f"{where}: the disk is full. Free some space, then restart: the log is continued")
    text = f"{where}: {error.strerror or error}. Look after the disk, then restart: the log is continued from what is whole"
    return JournalFailed("io_error", text)


def _unwritable(path: str, n: int, error: Exception) -> JournalFailed:
    what = str(error) if isinstance(error, CodecError) else f"{type(error).__name__}: {error}"
    return JournalFailed("unwritable", f"{path}: record {n}: {what}. Correct whoever made the event")


def _version() -> str:
    try:
        return version("haltcore")
    except PackageNotFoundError:
        return "unknown"


def unborn(path: str, disk: Disk) -> bool:
    """Whether the log has no whole record: the process, or the machine, died before anything that it decided was durable.

    Then there is at most its first header, whole or torn, and the torn beginning of record 1; nothing that adds risk can have left.
    Raises :class:`JournalFailed` when the file cannot be read.
    """
    if not exists(path, disk) or len(segments(path, disk)) > 1:
        return False
    chain = Chain(path)
    try:
        if not any(disk.read(path)):
            return True
        for line in chain.read(disk.read(path)):
            if not isinstance(line, Header):
                return False
        if chain.header is None:
            # Torn, it holds a header's beginning only; a log that lost its newlines is no such thing.
            return not any(RECORD in chunk for chunk in disk.read(path))
    except (LogBroken, Unsupported):
        return False
    except OSError as error:
        raise explained(error, path) from None
    return True


class Journal:
    """A log that is open for writing. Made by :meth:`create` and :meth:`open`."""

    def __init__(self, path: str, disk: Disk, core: Core, config: bytes, rotate_every: int) -> None:
        self.path = path
        self._disk, self._config, self._rotate_every = disk, config, rotate_every
        self._failed: JournalFailed | None = None
        self._tracker = DigestTracker(core)
        self._next = core.seq + 1
        self._segment = 0
        self._hash = BEGINNING.hash
        self._records = 0
        # The first file carries the lock of the whole log, so it stays open while later segments are written.
        self._lock: LogFile | None = None
        self._file: LogFile | None = None
        self._queue: list[bytes | _NewSegment] = []
        self._queued = self._durable = 0
        self._writing: asyncio.Task[None] | None = None

    @classmethod
    async def create(cls, path: str, config: Config, disk: Disk, rotate_every: int = ROTATE_EVERY) -> "Journal":
        """A new log. Raises :class:`JournalFailed`; nothing is ever overwritten, but for a log without any record."""
        path = str(Path(path))
        journal = cls(path, disk, EMPTY, CONFIG.encode(config), rotate_every)
        try:
            rest = [name for name in disk.names(path) if re.fullmatch(r"\.\d{4,}", Path(name).stem.removeprefix(Path(path).stem))]
            if rest:
                raise FileExistsError(errno.EEXIST, "exists", rest[0])
            if unborn(path, disk):
                journal._lock = journal._file = await disk.open(path)
                if not unborn(path, disk):
                    # Another process wrote its header while we waited for the lock.
                    journal._release()
                    raise FileExistsError(errno.EEXIST, "exists", path)
                journal._file.truncate(0)
            else:
                journal._lock = journal._file = await disk.create(path)
        except OSError as error:
            journal._release()
            raise explained(error, path) from None
        journal._begin_segment(EMPTY, BEGINNING)
        await journal._commit_or_close()
        return journal

    @classmethod
    async def open(cls, path: str, disk: Disk, step: Step = current_step, rotate_every: int = ROTATE_EVERY) -> tuple["Journal", Verdict]:
        """Continue a log: lock it, replay its last segment, cut a torn end. ``core`` of the verdict is the state to go on from.

        Raises :class:`JournalFailed`: besides the troubles of files, ``broken``, ``unsupported``, ``diverged`` and ``unsafe`` when the
        replay says so. Earlier segments are audited by a full replay, not here.
        """
        path = str(Path(path))
        try:
            lock = await disk.open(path)
        except OSError as error:
            raise explained(error, path) from None
        try:
            return await cls._continued(path, disk, step, rotate_every, segments(path, disk), lock)
        except OSError as error:
            lock.close()
            raise explained(error, path) from None
        except BaseException:
            lock.close()
            raise

    @classmethod
    async def _continued(
        cls, path: str, disk: Disk, step: Step, rotate_every: int, files: list[str], lock: LogFile
    ) -> tuple["Journal", Verdict]:
        unborn = ""
        if len(files) > 1 and not any(b"\n" in chunk for chunk in disk.read(files[-1])):
            # The process died between closing a segment and writing the header of the next one.
            unborn = files.pop()
        size = _Count()
        # Invariants are watched live and by audits. Here a broken one must not keep the bot from its open orders.
        verdict = replay([Source(files[-1], size.of(disk.read(files[-1])))], step=step, check=None, check_state=None)
        if verdict.kind not in (Kind.SAME, Kind.OTHER_TELEMETRY):
            raise JournalFailed(verdict.kind.value, report(verdict))
        if unborn and not verdict.end.closed:
            text = f"{unborn}: there is no header in it, and {files[-1]} was not closed. Get the log again from its source"
            raise JournalFailed("broken", text)
        if verdict.end.segment != len(files):
            text = f"{path}: this is segment {verdict.end.segment} of a log. Give the log's first file, whose name has no number"
            raise JournalFailed("not_first", text)
        core: Core = verdict.core
        # A log without any record has no configuration in its state; its first record will bring one.
        journal = cls(path, disk, core, b"null", rotate_every)
        journal._lock = lock
        journal._hash, journal._segment = verdict.end.hash, verdict.end.segment
        if not verdict.end.closed:
            journal._file = lock if len(files) == 1 else await disk.open(files[-1])
            journal._records = verdict.records
            if verdict.torn:
                journal._file.truncate(size.bytes - verdict.torn)
            if not verdict.end.current:
                # From now on the lines are of another shape, or decided by other rules, than the header of this file says.
                journal.rotate(core)
                await journal._commit_or_close()
            return journal, verdict
        if unborn:
            journal._file = await disk.open(unborn)
            journal._file.truncate(0)
        else:
            journal._file = await disk.create(segment_name(path, verdict.end.segment + 1))
        journal._begin_segment(core, verdict.end)
        await journal._commit_or_close()
        return journal, verdict

    @property
    def failed(self) -> JournalFailed | None:
        """Why nothing is written any more; None while all is well."""
        return self._failed

    @property
    def rotation_due(self) -> bool:
        """Whether the segment is full. The runner rotates at the next quiet moment: a snapshot takes time."""
        return self._records >= self._rotate_every

    def append(self, event: Event, effects: tuple[Effect, ...], core: Core) -> bool:
        """Queue the record of one step; ``core`` is the state after it. No disk is touched, nothing is raised.

        False when the journal has failed, now or before: the record is not, and will not be, in the log.
        """
        if self._failed is not None:
            return False
        if core.seq != self._next:
            text = f"{self.path}: record {core.seq} was appended, {self._next} is next. Append every step, once and in order"
            self._fail(JournalFailed("sequence", text))
            return False
        try:
            written, answered = EVENTS.encode(event), EFFECTS.encode(effects)
            # What is written must be readable: a value of a wrong type shows here, not in years.
            EVENTS.check(written)
            EFFECTS.check(answered)
            self._tracker.advance(core)
            digest = self._tracker.digest() if core.seq % CHECKPOINT_EVERY == 0 else ""
        except Exception as error:
            self._fail(_unwritable(self.path, self._next, error))
            return False
        line, self._hash = record_line(self._hash, core.seq, written, answered, digest)
        if len(line) > MAX_LINE:
            self._fail(JournalFailed("too_long", f"{self.path}: record {core.seq} has {len(line):,} bytes, more than {MAX_LINE:,}"))
            return False
        self._put(line)
        self._next += 1
        self._records += 1
        return True

    @property
    def pending(self) -> bool:
        """Whether something was appended that is not durable yet, and still can be."""
        return self._failed is None and self._durable < self._queued

    async def commit(self) -> None:
        """Return once every record appended so far is durable. Raises :class:`JournalFailed`."""
        goal = self._queued
        while self._durable < goal:
            if self._failed is not None:
                raise self._failed
            if self._writing is None:
                self._writing = asyncio.ensure_future(self._write_out())
            # A waiter that is cancelled must not take the others' sync with it.
            await asyncio.shield(self._writing)
        if self._failed is not None:
            raise self._failed

    def rotate(self, core: Core) -> None:
        """Close the segment and begin the next one with a snapshot of ``core``, the state after the last append. Takes effect at
        the next commit."""
        if self._failed is not None:
            return
        if core.seq != self._next - 1:
            raise ValueError(f"the snapshot is of record {core.seq}, the last record is {self._next - 1}; rotate with the last state")
        try:
            end = self._seal(more=True)
            self._put(_NewSegment(segment_name(self.path, end.segment + 1)))
            self._begin_segment(core, end)
        except Exception as error:
            self._fail(_unwritable(self.path, self._next, error))

    async def close(self, seal: bool = True) -> None:
        """Close the log, with a seal unless the session is to go on in it.

        Raises :class:`JournalFailed` when the end did not become durable; the files are let go of all the same.
        """
        try:
            if self._failed is None:
                if seal:
                    try:
                        self._seal(more=False)
                    except Exception as error:
                        raise self._fail(_unwritable(self.path, self._next, error)) from None
                await self.commit()
        finally:
            self._release()
            self._failed = self._failed or JournalFailed("closed", f"{self.path}: the journal was closed. Open it again to continue")

    # --- inside ---------------------------------------------------------------------------------------------------

    def _put(self, item: bytes | _NewSegment) -> None:
        self._queue.append(item)
        self._queued += 1

    def _seal(self, more: bool) -> End:
        last = self._next - 1
        line, self._hash = seal_line(self._hash, records=self._records, last=last, more=more, digest=self._tracker.digest())
        self._put(line)
        return End(self._hash, self._segment, self._next, closed=True)

    def _begin_segment(self, core: Core, after: End) -> None:
        self._segment = after.segment + 1
        self._records = 0
        snapshot = None if after is BEGINNING else STATE.encode(core)
        if snapshot is not None:
            STATE.check(snapshot)
        line, self._hash = header_line(
            after.hash,
            version=_version(),
            config=CONFIG.encode(core.desk.config) if core.desk is not None else self._config,
            segment=self._segment,
            first=self._next,
            snapshot=snapshot,
            digest=self._tracker.digest(),
        )
        self._put(line)

    async def _write_out(self) -> None:
        """Write and sync what is queued. Never raises: a failure is kept for everybody who waits."""
        goal, queue, self._queue = self._queued, self._queue, []
        try:
            batch: list[bytes] = []
            for item in queue:
                if isinstance(item, bytes):
                    batch.append(item)
                    continue
                await self._append(batch)
                batch = []
                full, self._file = self._file, await self._disk.create(item.name)
                if full is not None and full is not self._lock:
                    full.close()
            await self._append(batch)
            self._durable = goal
        except OSError as error:
            self._fail(explained(error, self.path))
        except Exception as error:
            text = f"{self.path}: the disk raised {type(error).__name__}: {error}. Look after the disk, then restart: the log is continued"
            self._fail(JournalFailed("io_error", text))
        except asyncio.CancelledError:
            text = f"{self.path}: the loop stopped during a write, so nobody knows what is durable. Open the log again to continue"
            self._fail(JournalFailed("interrupted", text))
            raise
        finally:
            self._writing = None

    async def _append(self, batch: list[bytes]) -> None:
        if self._file is not None:
            await self._file.append(b"".join(batch))

    async def _commit_or_close(self) -> None:
        try:
            await self.commit()
        except BaseException:
            self._release()
            raise

    def _fail(self, failure: JournalFailed) -> JournalFailed:
        self._failed = self._failed or failure
        return self._failed

    def _release(self) -> None:
        for file in (self._file, self._lock):
            if file is not None:
                file.close()
        self._file = self._lock = None


class _Count:
    """Counts the bytes that pass."""

    def __init__(self) -> None:
        self.bytes = 0

    def of(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.bytes += len(chunk)
            yield chunk
