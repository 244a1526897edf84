"""Journal. Goal: what commit promised survives any crash, a log is continued exactly where it is whole, and every failure is one
clear word.

Method: sessions of the real core are written to a simulated disk that crashes after any number of bytes, fills up after any
number, fails or hangs; what is read back is replayed and compared with what was acknowledged. Friendly failures are provoked on real files.
"""

import asyncio
import errno
import hashlib
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import attrs
import pytest
from haltcore.adapters import journal as journal_module
from haltcore.adapters.disk import MemoryDisk, RealDisk
from haltcore.adapters.journal import Journal, JournalFailed, segment_name, segments
from haltcore.adapters.virtual_time import run
from haltcore.effects import Effect, price
from haltcore.fsm import record
from haltcore.fsm.codec import EVENTS
from haltcore.fsm.core import EMPTY, Core
from haltcore.fsm.digest import digest
from haltcore.fsm.events import Event, MarkPrice, Started
from haltcore.fsm.record import CHECKPOINT_EVERY
from haltcore.fsm.replay import Source, entries, replay
from haltcore.fsm.step import step
from haltcore.fsm.verdict import Kind, Verdict

from tests.helpers import BTC, T0, Recorded, Steps, config

NAME = "logs/mm1.jsonl"


def lived() -> Steps:
    session = Recorded()
    session.mark(100)
    order = session.working()
    session.fill(order, 4)
    session.freeze()
    return session.steps


STEPS = lived()


def marks(core: Core, count: int) -> Steps:
    """More steps, cheap ones."""
    steps: Steps = []
    for number in range(count):
        event = MarkPrice(T0 + core.seq + 1, BTC, price(100 + number % 5))
        core, effects = step(core, event)
        steps.append((event, effects, core))
    return steps


def put(journal: Journal, steps: Steps) -> None:
    for event, effects, core in steps:
        assert journal.append(event, effects, core), journal.failed


async def closed(disk: MemoryDisk, steps: Steps = STEPS, name: str = NAME) -> None:
    journal = await Journal.create(name, config(), disk)
    put(journal, steps)
    await journal.close()


def audit(disk: MemoryDisk, name: str = NAME, **options: Any) -> Verdict:
    return replay([Source(file, disk.read(file)) for file in segments(name, disk)], **options)


def failure(work: Coroutine[Any, Any, Any]) -> JournalFailed:
    with pytest.raises(JournalFailed) as caught:
        run(work)
    return caught.value


# --- writing and continuing -----------------------------------------------------------------------------------------


def test_a_closed_log_is_sealed_and_replays_to_the_same() -> None:
    disk = MemoryDisk()
    run(closed(disk))
    verdict = audit(disk, require_seal=True)
    assert (verdict.kind, verdict.records, verdict.core) == (Kind.SAME, len(STEPS), STEPS[-1][2])
    assert [entry.event for entry in entries([Source(NAME, disk.read(NAME))])] == [event for event, _, _ in STEPS]
    assert disk.locked == {}


def test_two_runs_give_the_same_bytes() -> None:
    disks = [MemoryDisk(), MemoryDisk()]
    for disk in disks:
        run(closed(disk))
    assert disks[0].content == disks[1].content


def test_append_touches_no_disk_and_commit_makes_durable() -> None:
    disk = MemoryDisk()

    async def work() -> None:
        journal = await Journal.create(NAME, config(), disk)
        size, syncs = len(disk.content[NAME]), disk.syncs
        put(journal, STEPS)
        assert (len(disk.content[NAME]), disk.syncs) == (size, syncs)
        assert journal.pending
        await journal.commit()
        assert not journal.pending
        assert disk.synced[NAME] == len(disk.content[NAME])
        assert disk.syncs == syncs + 1
        await journal.commit()
        assert disk.syncs == syncs + 1, "nothing new, nothing to sync"
        disk.crash()
        assert audit(disk).records == len(STEPS)

    run(work())


def test_waiters_share_a_sync() -> None:
    disk = MemoryDisk()

    async def work() -> None:
        journal = await Journal.create(NAME, config(), disk)
        disk.sync_delay_s, disk.syncs = 1.0, 0
        waiters = []
        for each in STEPS:
            put(journal, [each])
            waiters.append(asyncio.ensure_future(journal.commit()))
            await asyncio.sleep(0)
        await asyncio.gather(*waiters)
        assert disk.syncs == 2, "one under way with the first record, one for all that came meanwhile"
        await journal.close()

    run(work())


def test_commit_waits_for_what_came_during_a_sync() -> None:
    disk = MemoryDisk()

    async def work() -> None:
        journal = await Journal.create(NAME, config(), disk)
        disk.sync_delay_s = 1.0
        put(journal, STEPS[:1])
        first = asyncio.ensure_future(journal.commit())
        await asyncio.sleep(0.5)
        put(journal, STEPS[1:2])
        await journal.commit()
        assert first.done()
        disk.crash()
        assert audit(disk).records == 2

    run(work())


def test_a_waiter_that_is_cancelled_takes_nobody_along() -> None:
    disk = MemoryDisk()

    async def work() -> None:
        journal = await Journal.create(NAME, config(), disk)
        disk.sync_delay_s = 1.0
        put(journal, STEPS)
        one, two = asyncio.ensure_future(journal.commit()), asyncio.ensure_future(journal.commit())
        await asyncio.sleep(0.5)
        one.cancel()
        await two
        assert one.cancelled()
        disk.crash()
        assert audit(disk).records == len(STEPS)

    run(work())


def test_a_log_left_open_is_continued_in_place() -> None:
    disk = MemoryDisk()

    async def work() -> None:
        journal = await Journal.create(NAME, config(), disk)
        put(journal, STEPS[:6])
        await journal.close(seal=False)
        again, verdict = await Journal.open(NAME, disk)
        assert (verdict.core, verdict.torn) == (STEPS[5][2], 0)
        put(again, STEPS[6:])
        await again.close()

    run(work())
    alone = MemoryDisk()
    run(closed(alone))
    assert disk.content == alone.content, "an interruption leaves no trace in the bytes"


def test_a_sealed_log_is_continued_in_a_new_segment() -> None:
    disk = MemoryDisk()

    async def work() -> None:
        await closed(disk, STEPS[:6])
        for upto in (8, len(STEPS)):
            again, verdict = await Journal.open(NAME, disk)
            put(again, STEPS[verdict.last : upto])
            await again.close()

    run(work())
    assert segments(NAME, disk) == [NAME, "logs/mm1.0002.jsonl", "logs/mm1.0003.jsonl"]
    verdict = audit(disk, require_seal=True)
    assert (verdict.kind, verdict.segments, verdict.core) == (Kind.SAME, 3, STEPS[-1][2])
    assert replay([Source("3", disk.read("logs/mm1.0003.jsonl"))]).core == STEPS[-1][2]


def _of_format_1() -> bytes:
    lines = (Path(__file__).parent / "golden" / "v1" / "doubt.jsonl").read_bytes().splitlines(keepends=True)
    return b"".join(lines[:-1])  # without the seal


def _of_rules_1(monkeypatch: pytest.MonkeyPatch) -> bytes:
    disk = MemoryDisk()

    async def work() -> None:
        journal = await Journal.create(NAME, config(), disk)
        put(journal, STEPS)
        await journal.close(seal=False)

    with monkeypatch.context() as patch:
        patch.setattr(record, "RULES", 1)
        run(work())
    return bytes(disk.content[NAME])


@pytest.mark.parametrize("torn", [b"", b'{"n":99,"ev'])
@pytest.mark.parametrize("older", ["format", "rules"])
def test_a_log_left_open_by_an_older_version_goes_on_in_a_new_segment(older: str, torn: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lines have another shape, or were decided by other rules, than the header of the old file says."""
    disk = MemoryDisk()
    left = _of_format_1() if older == "format" else _of_rules_1(monkeypatch)
    disk.content[NAME], disk.synced[NAME] = bytearray(left + torn), len(left + torn)

    async def work() -> None:
        again, verdict = await Journal.open(NAME, disk)
        assert verdict.torn == len(torn)
        put(again, marks(verdict.core, 2))
        await again.close(seal=False)
        last, verdict = await Journal.open(NAME, disk)
        put(last, marks(verdict.core, 1))
        await last.close()

    run(work())
    assert segments(NAME, disk) == [NAME, "logs/mm1.0002.jsonl"]
    assert bytes(disk.content[NAME]).startswith(left)
    assert b'"format":%d,"rules":%d,' % (record.FORMAT, record.RULES) in disk.content["logs/mm1.0002.jsonl"]
    verdict = audit(disk, require_seal=True)
    assert (verdict.kind, verdict.segments) == (Kind.SAME, 2)
    assert sum(1 for _ in entries(Source(file, disk.read(file)) for file in segments(NAME, disk))) == verdict.last


def test_a_log_without_records_can_be_continued() -> None:
    for seal in (True, False):
        disk = MemoryDisk()

        async def work(disk: MemoryDisk = disk, seal: bool = seal) -> None:
            journal = await Journal.create(NAME, config(), disk)
            await journal.close(seal)
            again, verdict = await Journal.open(NAME, disk)
            assert verdict.core == EMPTY
            put(again, STEPS)
            await again.close()

        run(work())
        assert audit(disk, require_seal=True).core == STEPS[-1][2]


def test_rotation() -> None:
    disk = MemoryDisk()
    steps = STEPS + marks(STEPS[-1][2], CHECKPOINT_EVERY + 10)

    async def work() -> None:
        journal = await Journal.create(NAME, config(), disk, rotate_every=100)
        for each in steps:
            put(journal, [each])
            if journal.rotation_due:
                journal.rotate(each[2])
        with pytest.raises(ValueError, match="snapshot is of record 1"):
            journal.rotate(steps[0][2])
        await journal.commit()
        assert NAME in disk.locked, "the first file holds the lock of the whole log"
        await journal.close()

    run(work())
    files = segments(NAME, disk)
    assert len(files) == 3
    assert audit(disk, require_seal=True).core == steps[-1][2]
    alone = [replay([Source(file, disk.read(file))]) for file in files]
    assert sum(verdict.records for verdict in alone) == len(steps)
    assert [verdict.sealed for verdict in alone] == [False, False, True], "a full segment is not the end of the log"
    assert audit(disk, "logs/mm1.jsonl").digest == digest(steps[-1][2])
    assert disk.locked == {}


# --- crashes --------------------------------------------------------------------------------------------------------


def test_whatever_was_committed_survives_a_crash_at_any_byte() -> None:
    whole = MemoryDisk()
    run(closed(whole))
    total = len(whole.content[NAME])
    for kept in range(0, total, 7):
        disk = MemoryDisk()

        async def work(disk: MemoryDisk = disk, kept: int = kept) -> None:
            journal = await Journal.create(NAME, config(), disk)
            put(journal, STEPS[:4])
            await journal.commit()
            put(journal, STEPS[4:])
            disk.sync_delay_s = 1e9
            dying = asyncio.ensure_future(journal.commit())
            await asyncio.sleep(0.001)
            disk.crash(kept)
            disk.sync_delay_s = 0
            dying.cancel()
            again, verdict = await Journal.open(NAME, disk)
            assert verdict.last >= 4
            assert verdict.core == STEPS[verdict.last - 1][2]
            put(again, STEPS[verdict.last :])
            await again.close()

        run(work())
        assert disk.content == whole.content


def test_a_crash_at_any_byte_of_a_rotation_and_a_seal() -> None:
    for kept in range(0, 2600, 13):
        disk = MemoryDisk()

        async def work(disk: MemoryDisk = disk, kept: int = kept) -> None:
            journal = await Journal.create(NAME, config(), disk)
            put(journal, STEPS[:6])
            await journal.commit()
            # The writes of the rotation happen, their syncs do not: the simulated syncs never end.
            disk.sync_delay_s = 1e6
            journal.rotate(STEPS[5][2])
            writing = asyncio.ensure_future(journal.commit())
            await asyncio.sleep(1.5e6 if kept % 2 else 1)
            disk.crash(kept)
            disk.sync_delay_s = 0.0
            with pytest.raises(JournalFailed):
                await writing
            again, verdict = await Journal.open(NAME, disk)
            assert attrs.evolve(verdict.core, touched=()) == attrs.evolve(STEPS[5][2], touched=())
            put(again, STEPS[6:])
            await again.close()

        run(work())
        assert audit(disk, require_seal=True).core == STEPS[-1][2]


def test_a_torn_first_header_says_that_nothing_was_recorded() -> None:
    whole = MemoryDisk()
    run(closed(whole, []))
    for size in (0, 1, 50):
        disk = MemoryDisk()
        disk.content[NAME], disk.synced[NAME] = whole.content[NAME][:size], size
        error = failure(Journal.open(NAME, disk))
        assert error.code == "broken"
        assert "elete" in str(error)


def test_a_new_log_may_take_the_place_of_one_without_any_record_only() -> None:
    whole = MemoryDisk()
    run(closed(whole, []))
    text = bytes(whole.content[NAME])
    header = text.split(b"\n")[0]
    for content in (b"", text[:1], text[:60], header, header + b"\n", header + b'\n{"n":1,"event":'):
        disk = MemoryDisk()
        disk.content[NAME], disk.synced[NAME] = bytearray(content), len(content)
        run(closed(disk))
        assert audit(disk, require_seal=True).core == STEPS[-1][2]
    lived = MemoryDisk()
    run(closed(lived))
    lines = bytes(lived.content[NAME]).split(b"\n")
    one = b"\n".join(lines[:2]) + b"\n"
    for content in (b"notes", b"\n", text, one, b"".join(lines), header + b" \n", lines[1] + b"\n"):
        disk.content[NAME] = bytearray(content)
        assert failure(Journal.create(NAME, config(), disk)).code == "exists"
        assert disk.content[NAME] == content


def test_a_header_that_another_process_finishes_meanwhile_is_kept() -> None:
    whole = MemoryDisk()
    run(closed(whole, []))

    class Raced(MemoryDisk):
        async def open(self, name: str) -> Any:
            self.content[name] = bytearray(whole.content[name])
            return await super().open(name)

    disk = Raced()
    disk.content[NAME], disk.synced[NAME] = bytearray(), 0
    assert failure(Journal.create(NAME, config(), disk)).code == "exists"
    assert disk.content[NAME] == whole.content[NAME]
    assert disk.locked == {}


# --- failures -------------------------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_at_any_byte() -> None:
    whole = MemoryDisk()
    run(closed(whole))
    total = len(whole.content[NAME])
    for capacity in range(0, total, 11):
        disk = MemoryDisk()
        disk.capacity = capacity

        async def work(disk: MemoryDisk = disk) -> None:
            journal = await Journal.create(NAME, config(), disk)
            acknowledged = 0

            async def write() -> None:
                nonlocal acknowledged
                for each in STEPS:
                    put(journal, [each])
                    await journal.commit()
                    acknowledged += 1
                await journal.close()

            with pytest.raises(JournalFailed) as caught:
                await write()
            assert caught.value.code == "disk_full"
            assert journal.failed is caught.value
            assert not journal.append(*STEPS[-1])
            with pytest.raises(JournalFailed):
                await journal.commit()
            journal.rotate(STEPS[0][2])
            await journal.close()
            disk.capacity = None
            again, verdict = await Journal.open(NAME, disk)
            assert verdict.last == acknowledged
            put(again, STEPS[verdict.last :])
            await again.close()

        header = len(bytes(whole.content[NAME]).split(b"\n")[0]) + 1
        if capacity < header:
            assert failure(work()).code == "disk_full"
            continue
        run(work())
        assert audit(disk, require_seal=True).core == STEPS[-1][2]


def test_a_failed_sync_is_final() -> None:
    disk = MemoryDisk()

    async def work() -> None:
        journal = await Journal.create(NAME, config(), disk)
        put(journal, STEPS[:2])
        disk.sync_error = errno.EIO
        waiters = [asyncio.ensure_future(journal.commit()) for _ in range(3)]
        results = await asyncio.gather(*waiters, return_exceptions=True)
        assert [result.code for result in results if isinstance(result, JournalFailed)] == ["io_error"] * 3
        disk.sync_error = None
        assert not journal.append(*STEPS[2])
        with pytest.raises(JournalFailed, match="Input/output error"):
            await journal.commit()

    run(work())


@pytest.mark.parametrize("error", [RuntimeError("the pool is shut down"), MemoryError()])
def test_an_error_of_the_disk_that_is_no_oserror_fails_the_journal(error: Exception) -> None:
    disk = MemoryDisk()

    async def work() -> None:
        journal = await Journal.create(NAME, config(), disk)

        async def broken(_: bytes) -> None:
            raise error

        put(journal, STEPS[:2])
        journal._file.append = broken  # type: ignore[method-assign, union-attr]
        with pytest.raises(JournalFailed, match=type(error).__name__):
            await journal.commit()
        assert journal.failed is not None
        assert journal.failed.code == "io_error"
        assert not journal.append(*STEPS[2])

    run(work())


def test_a_snapshot_that_cannot_be_written_fails_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = MemoryDisk()

    async def work() -> None:
        journal = await Journal.create(NAME, config(), disk)
        put(journal, STEPS)
        monkeypatch.setattr(journal_module.STATE, "encode", lambda _: 1 // 0)
        journal.rotate(STEPS[-1][2])
        assert journal.failed is not None
        assert journal.failed.code == "unwritable"

    run(work())


def test_what_cannot_be_read_again_is_not_written() -> None:
    disk = MemoryDisk()

    async def work() -> None:
        journal = await Journal.create(NAME, config(), disk)
        put(journal, STEPS[:1])
        core = STEPS[1][2]
        assert not journal.append(MarkPrice(True, BTC, price(1)), (), core)
        assert journal.failed is not None
        assert journal.failed.code == "unwritable"
        assert "MarkPrice" in str(journal.failed)
        assert "record 2" in str(journal.failed)

    run(work())


def test_a_step_that_is_left_out_or_given_twice_is_a_failure() -> None:
    for steps in ([STEPS[0], STEPS[2]], [STEPS[0], STEPS[0]]):

        async def work(steps: Steps = steps) -> None:
            journal = await Journal.create(NAME, config(), MemoryDisk())
            put(journal, steps[:1])
            assert not journal.append(*steps[1])
            assert journal.failed is not None
            assert journal.failed.code == "sequence"

        run(work())


def test_a_record_that_is_too_long_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "MAX_LINE", 500)

    async def work() -> None:
        journal = await Journal.create(NAME, config(), MemoryDisk())
        assert not journal.append(*STEPS[0])
        assert journal.failed is not None
        assert journal.failed.code == "too_long"

    run(work())


def test_a_closed_journal_takes_nothing_more() -> None:
    async def work() -> None:
        journal = await Journal.create(NAME, config(), MemoryDisk())
        put(journal, STEPS[:2])
        await journal.close()
        assert not journal.append(*STEPS[2])
        assert journal.failed is not None
        assert journal.failed.code == "closed"

    run(work())


def test_a_log_that_another_core_wrote_is_not_continued() -> None:
    disk = MemoryDisk()
    run(closed(disk))

    def other(core: Core, event: Event) -> tuple[Core, tuple[Effect, ...]]:
        core, effects = step(core, event)
        return core, effects[1:] if core.seq == 1 else effects

    error = failure(Journal.open(NAME, disk, other))
    assert error.code == "diverged"
    assert "at record 1" in str(error)
    assert disk.locked == {}


def test_damage_and_gaps_are_named() -> None:
    disk = MemoryDisk()

    async def work() -> None:
        await closed(disk, STEPS[:6])
        again, _ = await Journal.open(NAME, disk)
        await again.close()
        again, _ = await Journal.open(NAME, disk)
        await again.close()

    run(work())
    second = disk.content.pop(segment_name(NAME, 2))
    assert "mm1.0002.jsonl is missing" in str(failure(Journal.open(NAME, disk)))
    disk.content[segment_name(NAME, 2)] = second
    third = disk.content[segment_name(NAME, 3)]
    third[100] ^= 1
    error = failure(Journal.open(NAME, disk))
    assert (error.code, "altered" in str(error)) == ("broken", True)
    disk.locked[NAME] = None
    assert failure(Journal.open(NAME, disk)).code == "locked"
    assert failure(Journal.create(NAME, config(), disk)).code == "exists"
    del disk.content[NAME]
    assert failure(Journal.open(NAME, disk)).code == "missing"
    assert failure(Journal.create(NAME, config(), disk)).code == "exists", "segments of another log would follow"


# --- real files -----------------------------------------------------------------------------------------------------


def opened(path: Path) -> JournalFailed:
    with pytest.raises(JournalFailed) as caught:
        asyncio.run(Journal.open(str(path), RealDisk()))
    assert str(path) in str(caught.value)
    return caught.value


def test_friendly_failures_on_real_files(tmp_path: Path) -> None:
    assert opened(tmp_path / "none.jsonl").code == "missing"
    assert opened(tmp_path / "no" / "none.jsonl").code == "missing"
    assert opened(tmp_path).code == "not_a_file"
    (tmp_path / "junk.jsonl").write_bytes(bytes(range(256)) * 10)
    assert opened(tmp_path / "junk.jsonl").code == "broken"
    assert "junk" in str(opened(tmp_path / "junk.jsonl"))
    (tmp_path / "empty.jsonl").touch()
    assert "empty" in str(opened(tmp_path / "empty.jsonl"))
    (tmp_path / "file").touch()
    assert opened(tmp_path / "file" / "mm1.jsonl").code == "not_a_file"
    with pytest.raises(JournalFailed) as caught:
        asyncio.run(Journal.create(str(tmp_path / "no" / "mm1.jsonl"), config(), RealDisk()))
    assert caught.value.code == "missing"


def test_a_log_from_the_future(tmp_path: Path) -> None:
    disk = MemoryDisk()
    run(closed(disk))
    line = bytes(disk.content[NAME]).split(b"\n")[0].replace(b'"format":%d' % record.FORMAT, b'"format":99').split(b',"hash"')[0]
    (tmp_path / "mm1.jsonl").write_bytes(line + b',"hash":"%b"}\n' % hashlib.sha256(line).hexdigest().encode())
    error = opened(tmp_path / "mm1.jsonl")
    assert error.code == "unsupported"
    assert "format 99" in str(error)


def test_a_permission_that_is_missing() -> None:
    class Closed(MemoryDisk):
        async def open(self, name: str) -> Any:
            raise PermissionError(errno.EACCES, "Permission denied", name)

    assert failure(Journal.open(NAME, Closed())).code == "permission"


def test_a_real_log_is_written_locked_continued_and_rotated(tmp_path: Path) -> None:
    name = str(tmp_path / "mm1.jsonl")

    async def work() -> None:
        disk = RealDisk()
        journal = await Journal.create(name, config(), disk)
        put(journal, STEPS[:6])
        await journal.commit()
        with pytest.raises(JournalFailed, match="Stop that one first"):
            await Journal.open(name, disk)
        journal.rotate(STEPS[5][2])
        put(journal, STEPS[6:8])
        await journal.commit()
        with pytest.raises(JournalFailed, match="Stop that one first"):
            await Journal.open(name, disk)
        await journal.close(seal=False)
        again, verdict = await Journal.open(name, disk)
        put(again, STEPS[verdict.last :])
        await again.close()

    asyncio.run(work())
    disk = RealDisk()
    verdict = replay([Source(file, disk.read(file)) for file in segments(name, disk)], require_seal=True)
    assert (verdict.kind, verdict.segments, verdict.core) == (Kind.SAME, 2, STEPS[-1][2])


def test_the_first_event_is_the_start() -> None:
    assert isinstance(STEPS[0][0], Started)
    assert EVENTS.decode(EVENTS.encode(STEPS[0][0])) == STEPS[0][0]


@pytest.mark.parametrize("name", ["mm1.jsonl", "mm1.0002.jsonl"])
def test_a_pipe_is_refused_and_never_waited_for(tmp_path: Path, name: str) -> None:
    disk = RealDisk(threaded=False)
    first = str(tmp_path / "mm1.jsonl")
    if name != "mm1.jsonl":
        run(closed(disk, name=first))  # type: ignore[arg-type]
    os.mkfifo(tmp_path / name)
    for work in (lambda: run(Journal.open(first, disk)), lambda: journal_module.unborn(str(tmp_path / name), disk)):
        with pytest.raises(JournalFailed, match="no regular file") as caught:
            work()
        assert caught.value.code == "not_a_file"


@pytest.mark.parametrize("content", [b"", b"\0\0", b'{"haltcore":"0.1","for'])
def test_a_next_segment_without_a_whole_header_is_torn_and_not_broken(content: bytes) -> None:
    disk = MemoryDisk()
    run(closed(disk))
    later = segment_name(NAME, 2)
    disk.content[later], disk.synced[later] = bytearray(content), 0
    verdict = audit(disk)
    assert (verdict.kind, verdict.torn, verdict.last) == (Kind.SAME, len(content), len(STEPS))
    assert any("no whole header" in note for note in verdict.notes)
    assert [entry.n for entry in entries([Source(file, disk.read(file)) for file in segments(NAME, disk)])][-1] == len(STEPS)


def _forged(disk: MemoryDisk, change: Any) -> Verdict:
    """The verdict on a log whose lines were changed, and then hashed anew from there on."""
    prev, sources = "0" * 64, []
    for file in segments(NAME, disk):
        text = b""
        for line in bytes(disk.content[file]).splitlines():
            body = change(line[: line.rindex(b',"prev":"')]) + b',"prev":"%b"' % prev.encode()
            prev = hashlib.sha256(body).hexdigest()
            text += body + b',"hash":"%b"}\n' % prev.encode()
        sources.append(Source(file, [text]))
    return replay(sources)


def test_a_forger_cannot_leave_out_a_checkpoint_nor_change_a_later_header() -> None:
    disk = MemoryDisk()

    async def work() -> None:
        journal = await Journal.create(NAME, config(), disk)
        steps = marks(STEPS[-1][2], CHECKPOINT_EVERY)
        put(journal, [*STEPS, *steps])
        journal.rotate(steps[-1][2])
        await journal.close()

    run(work())
    assert _forged(disk, lambda body: body).kind is Kind.SAME
    checkpoint = b'{"n":%d,' % CHECKPOINT_EVERY
    assert _forged(disk, lambda b: b[: b.rindex(b',"digest"')] if b.startswith(checkpoint) else b).kind is Kind.BROKEN
    second = b'"segment":2,'
    wrong = [
        lambda b: b[: b.rindex(b',"digest"')] + b',"digest":"%b"' % (b"0" * 64) if second in b else b,
        lambda b: b.replace(b'"session":"test001"', b'"session":"test002"', 1) if second in b else b,
    ]
    assert [_forged(disk, change).kind for change in wrong] == [Kind.DIVERGED, Kind.BROKEN]


@pytest.mark.parametrize("digits", [65, 4_200, 5_000])
def test_a_forged_number_of_thousands_of_digits_is_broken_and_no_traceback(digits: int) -> None:
    disk = MemoryDisk()
    run(closed(disk))
    verdict = _forged(disk, lambda b: b.replace(b'"price":"100"', b'"price":"%b"' % (b"9" * digits), 1) if b'"MarkPrice"' in b else b)
    assert verdict.kind is Kind.BROKEN


def test_a_later_segment_is_not_continued_by_itself() -> None:
    """Found by a new user: two runs on two segments of one log placed the same client id twice."""
    disk = MemoryDisk()

    async def twice() -> None:
        await closed(disk)
        journal, _ = await Journal.open(NAME, disk)
        await journal.close()

    run(twice())
    later = segments(NAME, disk)[1]
    found = failure(Journal.open(later, disk))
    assert found.code == "not_first"
    assert "segment 2" in str(found)
