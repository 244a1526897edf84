"""Streams of plans in memory: what a store's streams with one group of consumers have to do, in the least words.

An entry is *new* until somebody reads it, then *given* to a consumer until that consumer acknowledges it, then *done*. Each giving counts.
Who was given an entry may lose it to another who claims it as stuck; from then on the first one's word about it counts for nothing,
which is what an acknowledgement by id alone gets wrong.

Done entries stay on the stream until it is trimmed. Trimming goes from the oldest on and stops at the first that is not done. A plan
that is put on the stream again is found there, if it says the same: what says something else under its name must not stand in its
way. Of dead letters the last so many stay, whoever was given one. When the group is lost, every entry that is still there is new
again: delivered twice is safe, lost is not.
"""

from collections.abc import Callable
from itertools import islice

from attrs import define, field

from .coordination import DEAD_LETTERS, Entry, dead_letters


@define
class _Item:
    """``owner`` None: new, or done."""

    plan: str
    body: str
    why: str = ""
    deliveries: int = 0
    owner: str | None = None
    since_ns: int = 0
    done: bool = False


@define
class _Stream:
    """Entries by id, the oldest first; the id of each plan and body; how many were ever put; the ids that nobody was given yet, the oldest
    first."""

    items: dict[str, _Item] = field(factory=dict)
    ids: dict[tuple[str, str], str] = field(factory=dict)
    count: int = 0
    new: dict[str, None] = field(factory=dict)
    given: dict[str, None] = field(factory=dict)


@define
class Streams:
    """All streams of a state, by name. ``now_ns`` is the state's clock, by which entries are idle."""

    now_ns: Callable[[], int] = field(eq=False)
    streams: dict[str, _Stream] = field(factory=dict)

    def append(self, stream: str, plan: str, body: str, why: str = "") -> str:
        """See ``coordination.Coordination``, as for all that has the name of an operation."""
        held = self.streams.setdefault(stream, _Stream())
        if (plan, body) in held.ids:
            return held.ids[plan, body]
        held.count += 1
        entry = f"{held.count}-0"
        held.items[entry], held.ids[plan, body], held.new[entry] = _Item(plan, body, why), entry, None
        return entry

    def read(self, stream: str, consumer: str, count: int) -> list[Entry]:
        held = self._held(stream)
        return [self._give(held, entry, consumer) for entry in list(islice(held.new, max(0, count)))]

    def claim_stuck(self, stream: str, consumer: str, idle_ms: int, count: int) -> list[Entry]:
        held = self._held(stream)
        before = self.now_ns() - idle_ms * 1_000_000
        stuck = sorted((entry for entry in held.given if held.items[entry].since_ns <= before), key=_number)
        return [self._give(held, entry, consumer) for entry in stuck[: max(0, count)]]

    def keep(self, stream: str, consumer: str, entry: str) -> bool:
        item = self._own(stream, consumer, entry)
        if item is not None:
            item.since_ns = self.now_ns()
        return item is not None

    def acknowledge(self, stream: str, consumer: str, entry: str) -> bool:
        item = self._own(stream, consumer, entry)
        if item is not None:
            item.owner, item.done = None, True
            del self._held(stream).given[entry]
        return item is not None

    def bury(self, stream: str, consumer: str, entry: str, why: str) -> bool:
        item = self._own(stream, consumer, entry)
        if item is None:
            return False
        self.append(dead_letters(stream), item.plan, item.body, why)
        dead = self._held(dead_letters(stream))
        while len(dead.items) > DEAD_LETTERS:
            self._drop(dead, next(iter(dead.items)))
        return self.acknowledge(stream, consumer, entry)

    def pending(self, stream: str) -> int:
        held = self._held(stream)
        return len(held.given) + len(held.new)

    def trim(self, stream: str, keep: int) -> int:
        held = self._held(stream)
        dropped = 0
        for entry in list(islice(held.items, max(0, len(held.items) - max(0, keep)))):
            if not held.items[entry].done:
                break
            self._drop(held, entry)
            dropped += 1
        return dropped

    def lose_group(self, stream: str) -> None:
        """Forget who was given what, as when a server has lost the group but not the stream."""
        held = self._held(stream)
        held.given.clear()
        held.new = dict.fromkeys(held.items)
        for item in held.items.values():
            item.owner, item.deliveries, item.done = None, 0, False

    def _held(self, stream: str) -> _Stream:
        return self.streams.get(stream) or _Stream()

    def _drop(self, held: _Stream, entry: str) -> None:
        item = held.items.pop(entry)
        del held.ids[item.plan, item.body]
        held.new.pop(entry, None)
        held.given.pop(entry, None)

    def _own(self, stream: str, consumer: str, entry: str) -> _Item | None:
        item = self._held(stream).items.get(entry)
        return item if item is not None and item.owner == consumer else None

    def _give(self, held: _Stream, entry: str, consumer: str) -> Entry:
        item = held.items[entry]
        held.new.pop(entry, None)
        held.given[entry] = None
        item.owner, item.since_ns, item.deliveries = consumer, self.now_ns(), item.deliveries + 1
        return Entry(entry, item.plan, item.body, item.deliveries, item.why)


def _number(entry: str) -> int:
    return int(entry.partition("-")[0])
