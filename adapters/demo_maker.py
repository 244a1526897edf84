"""The storyteller's side of a market maker's process (``demo_worker.py``): starting it, hearing it, ending it, whatever happens."""

import asyncio
import contextlib
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from .demo_worker import Role

OnTold: TypeAlias = Callable[["Maker", dict[str, Any]], None]
#: The longest that any one thing is waited for.
PATIENCE_S = 12.0


class DemoFailed(Exception):
    """The story could not be told. The text says why, and what to do."""


class Maker:
    """The process of one market maker. ``told`` is what it has told so far, by kind; ``on_told`` gets it as it comes."""

    def __init__(self, role: Role, on_told: "OnTold") -> None:
        self.role = role
        self.told: dict[str, list[dict[str, Any]]] = {}
        self._on_told = on_told
        self._news = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._errors = b""
        self.killed = False

    async def begin(self) -> None:
        """Start the process, in a session of its own, so that Ctrl-C reaches the storyteller alone."""
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", f"{__package__}.demo_worker", stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )  # fmt: skip
        self._tasks = [asyncio.create_task(self._hear()), asyncio.create_task(self._hear_errors())]
        self._tasks[0].add_done_callback(lambda _: self._news.set())
        # The URL may hold a password, and arguments of a program are seen by everybody.
        self.order(msgspec.json.encode(self.role).decode())

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    def order(self, line: str) -> None:
        """Tell it what to do."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None and self._process.returncode is None:
            self.killed = True
            self._process.kill()

    async def end(self) -> int:
        """Wait for its end; make it end if it does not by itself."""
        if self._process is None:
            return 0
        try:
            async with asyncio.timeout(0 if self.killed else 2.0):
                await self._process.wait()
        except TimeoutError:
            self.kill()
        code = await self._process.wait()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return code

    async def hears(self, what: str) -> dict[str, Any]:
        """The first of this kind, as soon as it is told. Raises DemoFailed if the process ends without it, or takes too long."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while what not in self.told:
                    if self._tasks[0].done():
                        self._tasks[0].result()  # the output that nobody reads any more, if that was it
                        raise DemoFailed(f"market maker {self.role.name} has ended: {self._errors.decode(errors='replace').strip()[-600:]}")
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise DemoFailed(f"market maker {self.role.name} told nothing of {what!r} within {PATIENCE_S:g} s") from None
        return self.told[what][0]

    async def _hear(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            with contextlib.suppress(msgspec.DecodeError):  # the last line of a process that was killed
                told = msgspec.json.decode(line)
                self.told.setdefault(told["told"], []).append(told)
                self._on_told(self, told)
            self._news.set()

    async def _hear_errors(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(4_096):
            self._errors = (self._errors + chunk)[-4_096:]
