"""A breadth-first search over everything that can happen in a small world.

The search knows nothing of orders. It is given a first state, a function that lists the *moves* out of a state, and a function that maps
a state to its *key*: two states with the same key are the same situation (ids, which derive from record numbers, are renamed in it). It
visits every situation once and keeps for each the move that led there first, so what it finds is found by a shortest way.

Three kinds of property:

========== =====================================================================================================
always     a move brings along what was wrong with it (``Move.problems``): checked on every edge, also into known states
sometimes  a move brings along names of things that happened (``Move.seen``): what is never seen was not tested
hope       from every situation some way without faults leads to a ``settled`` one: nobody waits for ever. Computed
           backwards over the finished graph (in temporal logic: AG EF settled)
========== =====================================================================================================

Keys are held as their 64-bit hash (hash compaction): with a million situations the chance that two share one is below 10^-7.
"""

from array import array
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

from attrs import field, frozen

S = TypeVar("S")


@frozen
class Move(Generic[S]):
    """One thing that can happen. ``event`` is what the core is told by it, None if nothing. ``fair``: no fault and nobody's whim."""

    label: str
    event: object
    state: S = field(repr=False)
    problems: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()
    fair: bool = False


@frozen
class Found:
    """What a search has found. ``trail`` is the shortest way to ``problems``, empty when all is well."""

    states: int
    edges: int
    depth: int
    exhausted: bool
    seen: dict[str, int]
    problems: tuple[str, ...] = ()
    trail: tuple[tuple[str, object], ...] = ()

    def __str__(self) -> str:
        """One line of figures."""
        end = "exhausted" if self.exhausted else "NOT exhausted"
        return f"{self.states:,} states, {self.edges:,} edges, depth {self.depth}, {end}"


def search(
    first: S,
    moves: Callable[[S], Iterable[Move[S]]],
    key: Callable[[S], Hashable],
    settled: Callable[[S], bool] | None = None,
    limit: int = 1_000_000,
) -> Found:
    """Visit everything that can be reached, at most ``limit`` situations; stop at the first problem."""
    known = {hash(key(first)): 0}
    parents: list[tuple[int, str, object]] = [(0, "start", None)]
    goals = bytearray([settled is None or settled(first)])
    source, target = array("L"), array("L")
    seen: dict[str, int] = {}
    edges = depth = 0
    layer = [(0, first)]
    while layer and len(parents) <= limit:
        following = []
        for number, state in layer:
            for move in moves(state):
                edges += 1
                for name in move.seen:
                    seen[name] = seen.get(name, 0) + 1
                if move.problems:
                    trail = (*_trail(parents, number), (move.label, move.event))
                    return Found(len(parents), edges, depth + 1, False, seen, move.problems, trail)
                there = known.setdefault(hash(key(move.state)), len(parents))
                if there == len(parents):
                    parents.append((number, move.label, move.event))
                    goals.append(settled is None or settled(move.state))
                    following.append((there, move.state))
                if move.fair:
                    source.append(number)
                    target.append(there)
        layer = following
        depth += 1
    if layer:
        return Found(len(parents), edges, depth, False, seen)
    stuck = _first_hopeless(goals, source, target)
    if stuck is not None:
        problem = "LIVE: from here no way without further faults leads to a settled situation"
        return Found(len(parents), edges, depth, True, seen, (problem,), _trail(parents, stuck))
    return Found(len(parents), edges, depth - 1, True, seen)


def _trail(parents: list[tuple[int, str, object]], number: int) -> tuple[tuple[str, object], ...]:
    steps = []
    while number:
        number, label, event = parents[number]
        steps.append((label, event))
    return tuple(reversed(steps))


def _first_hopeless(goals: bytearray, source: "array[int]", target: "array[int]") -> int | None:
    """The first state from which no path over the given edges leads to a goal."""
    back: list[list[int]] = [[] for _ in goals]
    for a, b in zip(source, target, strict=True):
        back[b].append(a)
    hopeful = bytearray(goals)
    todo = [number for number, goal in enumerate(goals) if goal]
    while todo:
        for number in back[todo.pop()]:
            if not hopeful[number]:
                hopeful[number] = 1
                todo.append(number)
    return next((number for number, hope in enumerate(hopeful) if not hope), None)
