"""Old formats: how a line of format k becomes a line of format k + 1.

When the shape of a line changes, ``FORMAT`` in ``record.py`` grows by one and one step is added here: a pure function from the decoded
object of a line to that of the next format. Steps are chained, each is written once and never touched again. The chain is checked
when the module is imported, so a missing step shows at start-up and not in the one log that needed it.

A step sees every line of a log: header, records, seal. It leaves ``prev`` and ``hash`` alone; they prove the bytes of the old line and
are verified before. Two things are never upcast. Snapshots: the state of an old format is rebuilt by replaying from the first
segment. Digests: they are over encodings that no longer exist, so a log of an old format is compared by its effects alone.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from attrs import frozen

Line: TypeAlias = dict[str, Any]


@frozen
class Step:
    """Takes a line of format ``reads`` to format ``writes``, the next one."""

    reads: int
    writes: int
    change: Callable[[Line], Line]


class ChainRefused(ValueError):
    """The steps do not lead, one by one, from the oldest format to the current one. Names every fault."""


class Upcasters:
    """A checked chain of steps. ``oldest`` is the first format that can be read."""

    def __init__(self, steps: Sequence[Step], current: int) -> None:
        faults = chain_faults(steps, current)
        if faults:
            raise ChainRefused("the upcasters are no chain: " + "; ".join(faults))
        self._changes = {step.reads: step.change for step in steps}
        self.current = current
        self.oldest = min(self._changes, default=current)

    def upcast(self, line: Line, written: int) -> Line:
        """The line, written in that format, in the current one. ``written`` lies between ``oldest`` and ``current``."""
        for number in range(written, self.current):
            line = self._changes[number](line)
        return line


def chain_faults(steps: Sequence[Step], current: int) -> list[str]:
    """Every fault of a chain that has to end at ``current``."""
    leaps = [step for step in steps if step.writes != step.reads + 1]
    faults = [f"the step from format {step.reads} leads to {step.writes}, not to {step.reads + 1}" for step in leaps]
    reads = [step.reads for step in steps]
    faults += [f"format {number} has {reads.count(number)} steps" for number in dict.fromkeys(reads) if reads.count(number) > 1]
    faults += [f"format {number} has a step but is not older than the current format {current}" for number in reads if number >= current]
    faults += [f"format {number} has no step" for number in range(min(reads, default=current), current) if number not in reads]
    return faults


#: The steps there are: none, since format 1 is the first.
STEPS: Final[tuple[Step, ...]] = ()
