"""Disks. Goal: the real disk never overwrites, locks out a second writer and never blocks the loop; the simulated one has the same rules.

Method: the same contract is put to both; then the real one is made to hang, and each fault of the simulated one is switched on alone.
"""

import asyncio
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from haltcore.adapters import disk as disk_module
from haltcore.adapters.disk import Disk, MemoryDisk, RealDisk
from haltcore.adapters.virtual_time import VirtualTimeLoop


def real(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(work())


def simulated(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    loop = VirtualTimeLoop()
    try:
        return loop.run_until_complete(work())
    finally:
        loop.close()


@pytest.fixture(params=["real", "memory"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Disk, str, Callable[..., Any]]:
    """A disk, the path of a log on it, and how to run a coroutine beside it."""
    name = str(tmp_path / "mm1.jsonl")
    return (RealDisk(), name, real) if request.param == "real" else (MemoryDisk(), name, simulated)


World = tuple[Disk, str, Callable[..., Any]]


def test_what_is_written_is_read(world: World) -> None:
    disk, name, run = world

    async def work() -> None:
        file = await disk.create(name)
        file.write(b"one\n")
        await file.append(b"two\n")
        assert b"".join(disk.read(name)) == b"one\ntwo\n"
        file.truncate(5)
        await file.append(b"")
        file.write(b"!")
        file.close()
        file.close()
        again = await disk.open(name)
        again.write(b"?")
        again.close()
        assert b"".join(disk.read(name)) == b"one\nt!?"

    run(work)


def test_nothing_is_overwritten_and_nothing_is_made_up(world: World) -> None:
    disk, name, run = world

    async def work() -> None:
        with pytest.raises(FileNotFoundError):
            await disk.open(name)
        with pytest.raises(FileNotFoundError):
            list(disk.read(name))
        file = await disk.create(name)
        await file.append(b"kept")
        file.close()
        with pytest.raises(FileExistsError):
            await disk.create(name)
        assert b"".join(disk.read(name)) == b"kept"

    run(work)


def test_one_writer_at_a_time(world: World) -> None:
    disk, name, run = world

    async def work() -> None:
        file = await disk.create(name)
        with pytest.raises(BlockingIOError, match="locked by"):
            await disk.open(name)
        file.close()
        again = await disk.open(name)
        with pytest.raises(BlockingIOError, match="locked by"):
            await disk.open(name)
        again.close()

    run(work)


def test_names(world: World) -> None:
    disk, name, run = world

    async def work() -> None:
        assert disk.names(name) == []
        other = str(Path(name).with_name("other.jsonl"))
        second = str(Path(name).with_name("mm1.0002.jsonl"))
        for each in (name, second, other):
            (await disk.create(each)).close()
        assert disk.names(name) == [second, name]

    run(work)


def test_a_lock_of_another_process_is_seen_and_named(tmp_path: Path) -> None:
    name = str(tmp_path / "mm1.jsonl")
    program = "import fcntl,sys; f=open(sys.argv[1],'a'); fcntl.flock(f, fcntl.LOCK_EX); print('ready', flush=True); sys.stdin.read()"
    other = subprocess.Popen([sys.executable, "-c", program, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdin is not None
    try:
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(BlockingIOError, match=rf"locked by (process {other.pid}|another process)"):
            real(lambda: RealDisk().open(name))
    finally:
        other.stdin.close()
        other.wait()
        other.stdout.close()

    async def work() -> None:
        (await RealDisk().open(name)).close()

    real(work)


def test_a_disk_that_hangs_does_not_block_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def hang(descriptor: int) -> None:
        released.wait()
        os.fsync(descriptor)

    async def work() -> None:
        disk = RealDisk()
        file = await disk.create(str(tmp_path / "mm1.jsonl"))
        monkeypatch.setattr(disk_module, "_sync_data", hang)
        syncing = asyncio.ensure_future(file.append(b"x"))
        for _ in range(1000):
            await asyncio.sleep(0)
        assert not syncing.done()
        released.set()
        await syncing
        file.close()

    real(work)


def test_a_directory_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        real(lambda: RealDisk().open(str(tmp_path)))


def test_a_crash_keeps_what_was_synced_and_as_much_more_as_asked() -> None:
    for kept, left in ((0, b"durable"), (3, b"durable, l"), (100, b"durable, lost")):
        disk = MemoryDisk()

        async def work(disk: MemoryDisk = disk, kept: int = kept, left: bytes = left) -> None:
            file = await disk.create("a")
            await file.append(b"durable")
            file.write(b", lost")
            disk.crash(kept)
            assert b"".join(disk.read("a")) == left
            with pytest.raises(OSError, match="gone"):
                file.write(b"x")
            with pytest.raises(OSError, match="gone"):
                await file.append(b"x")
            file.close()
            (await disk.open("a")).close()

        simulated(work)


def test_a_full_disk_takes_what_fits() -> None:
    disk = MemoryDisk()

    async def work() -> None:
        file = await disk.create("a")
        disk.capacity = 5
        await file.append(b"abc")
        with pytest.raises(OSError, match="No space") as caught:
            await file.append(b"defg")
        assert caught.value.errno == errno.ENOSPC
        assert b"".join(disk.read("a")) == b"abcde"

    simulated(work)


def test_slow_and_failing_syncs() -> None:
    disk = MemoryDisk()

    async def work() -> None:
        file = await disk.create("a")
        disk.sync_delay_s = 2.5
        loop = asyncio.get_running_loop()
        start = loop.time()
        await file.append(b"abc")
        assert loop.time() - start == 2.5
        disk.sync_error = errno.EIO
        with pytest.raises(OSError, match="Input/output"):
            await file.append(b"def")
        disk.write_error = errno.EROFS
        with pytest.raises(OSError, match="Read-only"):
            file.write(b"x")
        with pytest.raises(OSError, match="Read-only"):
            await disk.create("b")
        disk.crash()
        assert b"".join(disk.read("a")) == b"abc"

    simulated(work)


def test_what_is_written_during_a_sync_is_not_part_of_it() -> None:
    disk = MemoryDisk()

    async def work() -> None:
        file = await disk.create("a")
        disk.sync_delay_s = 1.0
        syncing = asyncio.ensure_future(file.append(b"abc"))
        await asyncio.sleep(0.5)
        file.write(b"def")
        await syncing
        disk.crash()
        assert b"".join(disk.read("a")) == b"abc"

    simulated(work)


def test_a_crash_during_a_sync_loses_it() -> None:
    disk = MemoryDisk()

    async def work() -> None:
        file = await disk.create("a")
        disk.sync_delay_s = 1.0
        syncing = asyncio.ensure_future(file.append(b"abc"))
        await asyncio.sleep(0.5)
        disk.crash()
        with pytest.raises(OSError, match="gone"):
            await syncing
        assert b"".join(disk.read("a")) == b""

    simulated(work)
