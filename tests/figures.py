"""Figures that tests of faults measure: kept while they run, and shown as a table behind the results.

A figure is what a fault did to haltcore (effects that were done twice, orders lost, milliseconds until the first cancel), beside what it
does to what others use where the same run measures it. Only counts are asserted, never times.
"""

from collections.abc import Iterator

import pytest

FIGURES = pytest.StashKey[list[tuple[str, str]]]()


class Figures:
    """Where a test puts its figures: ``figures("server killed, no persistence", guards_kept=0, done_twice=0)``."""

    def __init__(self, config: pytest.Config) -> None:
        self._rows = config.stash.setdefault(FIGURES, [])

    def __call__(self, fault: str, **values: object) -> None:
        """Keep one line."""
        self._rows.append((fault, ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())))


def lines(config: pytest.Config) -> Iterator[str]:
    """The table."""
    rows = config.stash.get(FIGURES, [])
    width = max((len(fault) for fault, _ in rows), default=0)
    yield from (f"{fault:<{width}}  {values}" for fault, values in rows)
