"""Whoever waits for a state: a condition that is looked at after every record, and the future that it resolves.

A waiter that was cancelled is forgotten at the next look. A condition that raises concerns its own waiter only.
"""

import asyncio
from collections.abc import Callable
from typing import Any


class Waiters:
    """The waiters of one runner, in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []

    async def until(self, answer: Callable[[], Any]) -> Any:
        """The first true value of ``answer``; what it raises, or what :meth:`fail` says."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((answer, future))
        return await future

    def wake(self) -> None:
        """Look at every condition."""
        still = []
        for answer, future in self._waiting:
            if future.done():
                continue
            try:
                value = answer()
            except Exception as error:
                future.set_exception(error)
                continue
            if value:
                future.set_result(value)
            else:
                still.append((answer, future))
        self._waiting = still

    def fail(self, error: Callable[[], BaseException]) -> None:
        """Nothing will change any more: each waiter gets an error of its own."""
        waiting, self._waiting = self._waiting, []
        for _, future in waiting:
            if not future.done():
                future.set_exception(error())

    def forget(self) -> None:
        """Cancel them all."""
        for _, future in self._waiting:
            future.cancel()
