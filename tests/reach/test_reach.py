"""Exhaustive search over the real core in small worlds. Goal: no schedule of a venue, a wire, a store, a user and a crash leads to a
state in which the core believes something untrue, or waits for ever.

Method: every world below is explored to its end, breadth first (``search.py``); what can happen in it stands in ``moves.py``, what must
hold in ``world.py``. Several worlds with different alphabets take the place of one that would be too large. Each names what must have been
seen in it (*sometimes* properties), so that a world in which nothing happens fails. ``--reach=large`` explores larger ones. A
counterexample is printed as a program; see ``trail.py``.
"""

import attrs
import pytest
from haltcore.fsm.config import StoreCheck, StorePolicy, VenueTraits

from .moves import first, moves
from .search import Found, search
from .situation import key, settled
from .trail import program
from .world import PLAIN, SYMBOLS, Setup

STORE = attrs.evolve(PLAIN, store=StorePolicy(configured=True, guard=False, check=StoreCheck.OFF))
GUARDED = attrs.evolve(PLAIN, store=StorePolicy(configured=True, check=StoreCheck.OFF))
BOTH_BOOKS = attrs.evolve(PLAIN, venue=VenueTraits(conditional=True))
TWO_SYMBOLS = attrs.evolve(PLAIN, symbols=SYMBOLS)
STRATEGIES = attrs.evolve(PLAIN, strategies=("mm", "arb"))
BATCHES = attrs.evolve(PLAIN, venue=VenueTraits(conditional=False, cancel_all=False))
ALL = ("timeout", "refuse", "unavailable", "doubt", "failed", "dup", "lose", "lie", "early", "stale")
LEASE = ("granted", "held", "unavailable")

SMALL = (
    Setup(
        "one order, one fault", ("buy:2", "cancel:0"), faults=1, kinds=ALL, fills=2,
        must_see=("cancel lost to a fill", "unknown order turned out live", "never_arrived", "a report came twice"),
    ),
    Setup(
        "replace, one fault", ("buy:2", "replace:0:3:20", "cancel:0"), faults=1, kinds=("timeout", "doubt", "failed", "early", "dup"),
        fills=1, must_see=("unknown order turned out live",),
    ),
    Setup("replaced twice", ("buy:2", "replace:0:3:20", "replace:0:2:10"), faults=1, kinds=("timeout", "early", "dup"), fills=1),
    Setup(
        "replace and freeze", ("buy:2", "replace:0:3:20", "freeze:"), fills=1, swift=True,
        must_see=("frozen", "replace accepted while being frozen", "held back at the last moment"),
    ),
    Setup("two orders, freeze", ("buy:2", "sell:2", "freeze:"), fills=2, swift=True, ordered=True, must_see=("frozen",)),
    Setup("two orders, cancel", ("buy:2", "sell:2", "cancel:0"), fills=3, swift=True, ordered=True, must_see=("cancel lost to a fill",)),
    Setup("freeze, one fault", ("buy:2", "freeze:"), faults=1, kinds=ALL, fills=1, must_see=("frozen", "never_arrived")),
    Setup("freeze, two faults", ("buy:1", "freeze:"), faults=2, kinds=ALL, fills=1, swift=True, must_see=("frozen", "never_arrived")),
    Setup("cancel and freeze", ("buy:1", "cancel:0", "freeze:"), fills=1, must_see=("frozen", "cancel lost to a fill")),
    Setup(
        "late fills", ("buy:2", "freeze:"), fills=2, totals=False, must_see=("late fill while freezing", "late fill while frozen", "frozen")
    ),
    Setup("restart", ("buy:1", "restart", "cancel:0"), fills=1, swift=True, must_see=("unknown order turned out live", "never_arrived")),
    Setup("restart and sweep", ("buy:1", "restart", "freeze:"), must_see=("restart in the middle of a sweep", "frozen")),
    Setup(
        "lease", ("buy:1", "freeze:"), STORE, lease=LEASE,
        must_see=("sweep verified after a held lease", "cancelled what a held lease left over", "frozen"),
    ),
    Setup(
        "a lease that is lost", ("buy:1", "freeze:"), STORE, kinds=("renew",), lease=("granted", "lost"), swift=True, ordered=True,
        must_see=("lease_lost", "cancelled anew without the lost lease", "frozen"),
    ),
    Setup("unfreeze", ("buy:1", "freeze:", "force:"), must_see=("active", "frozen", "held back at the last moment")),
    Setup(
        "unfreeze with a store", ("buy:1", "freeze:", "unfreeze:"), STORE, faults=1, kinds=("store",), lease=("unavailable",),
        must_see=("active", "frozen"),
    ),
    Setup(
        "peer", ("buy:1", "peer:", "unfreeze:"), STORE, kinds=("poll",), lease=("unavailable",), swift=True,
        must_see=("frozen", "peer_frozen"),
    ),
    Setup(
        "peer beside our own word", ("freeze:", "peer:", "unfreeze:"), STORE, lease=("unavailable",), swift=True,
        must_see=("active", "frozen", "peer_frozen", "unfreeze_stale"),
    ),
    Setup(
        "peer and force", ("peer:", "force:"), STORE, kinds=("poll",), lease=("unavailable",), swift=True,
        must_see=("active", "frozen"),
    ),
    Setup("stop order", ("stop:1", "freeze:"), BOTH_BOOKS, faults=1, kinds=("lie", "timeout"), fills=1, must_see=("frozen",)),
    Setup("two symbols", ("buy:1:AAA", "buy:1:BBB", "freeze:AAA"), TWO_SYMBOLS, fills=1, swift=True, must_see=("frozen",)),
    Setup("two scopes", ("buy:1:AAA", "freeze:AAA", "freeze:", "force:AAA"), TWO_SYMBOLS, swift=True, must_see=("frozen", "active")),
    Setup("batches", ("buy:1", "buy:1", "freeze:"), BATCHES, faults=1, kinds=("unavailable",), swift=True, ordered=True),
    Setup(
        "two strategies", ("buy:1:AAA:mm", "buy:1:AAA:arb", "freeze:strategy:mm"), STRATEGIES, fills=2, swift=True, ordered=True,
        must_see=("frozen",),
    ),
    Setup("venue and account", ("buy:1", "freeze:venue", "freeze:", "force:venue"), swift=True, must_see=("frozen", "active")),
    Setup(
        "reduce-only orders", ("out:2", "cancel:0", "out:1"), held=2, faults=1, kinds=("timeout", "dup", "early"), fills=3, swift=True,
        must_see=("cancel lost to a fill", "not_reducing"),
    ),
    Setup(
        "reduce-only mode", ("sell:1", "sell:1", "replace:0:2:20", "cancel:1"), begins=("reduce:",), held=2, fills=3, swift=True,
        ordered=True,
        must_see=("reduce_only",),
    ),
    Setup(
        "guard, one fault", ("buy:1", "cancel:0"), GUARDED, faults=1, kinds=("claim", "settle", "timeout", "refuse", "early", "poll"),
        fills=1, swift=True, claims=("held", "done", "mismatch"),
        must_see=("claim claimed", "claim held", "claim in doubt", "guard_expired", "cancelled_before_sent", "never_arrived"),
    ),
    Setup(
        "guard and freeze", ("buy:1", "freeze:"), GUARDED, lease=("held",), swift=True,
        must_see=("frozen", "a claim was held back", "sweeping"),
    ),
    Setup(
        "guard and restart", ("buy:1", "buy:1", "restart"), GUARDED, once=True, fills=1, swift=True, ordered=True, kinds=("poll",),
        must_see=("never_sent", "claim held", "claim claimed", "already_done", "unknown order turned out live"),
    ),
    Setup(
        "an intention twice, one fault", ("buy:1", "buy:1"), GUARDED, once=True, faults=1, kinds=("claim", "timeout", "refuse", "poll"),
        swift=True, ordered=True, must_see=("claim in doubt", "claim held", "already_done", "never_arrived"),
    ),
    Setup(
        "guarded replace, one fault", ("buy:1", "replace:0:2:20"), GUARDED, faults=1, kinds=("claim", "early", "poll"), fills=1,
        swift=True, claims=("held",), must_see=("claim in doubt", "claim held"),
    ),
    Setup(
        "guard and peer", ("buy:1", "peer:"), GUARDED, kinds=("poll",), lease=("unavailable",), swift=True,
        must_see=("claim frozen", "guard_frozen", "frozen"),
    ),
    Setup("bust", ("buy:1", "bust:0", "freeze:"), fills=1, must_see=("a finished order is open again", "frozen")),
)  # fmt: skip

LARGE = (
    Setup(
        "two orders, one fault", ("buy:2", "sell:1", "cancel:0"), faults=1, kinds=("timeout", "dup", "lose"), fills=2, swift=True,
        ordered=True,
    ),
    Setup("batches in doubt", ("buy:1", "buy:1", "freeze:"), BATCHES, faults=1, kinds=("doubt",), swift=True, ordered=True),
    Setup("restart, one fault", ("buy:1", "restart", "cancel:0"), faults=1, kinds=("timeout", "failed", "early"), fills=1),
    Setup("restart in a sweep, trades", ("buy:1", "restart", "freeze:"), fills=1, must_see=("restart in the middle of a sweep",)),
    Setup("lease, trades", ("buy:1", "freeze:"), STORE, lease=LEASE, fills=1),
    Setup(
        "a freeze that comes and goes", ("buy:1", "freeze:", "force:"), GUARDED, lease=("held",), swift=True, ordered=True,
        must_see=("active", "stale_epoch"),
    ),
    Setup("unfreeze and go on", ("buy:1", "freeze:", "force:", "buy:1"), swift=True, ordered=True),
)  # fmt: skip


def explore(setup: Setup, limit: int = 200_000) -> Found:
    """One world, to its end."""
    return search(first(setup), moves, key, settled, limit)


def check(setup: Setup, found: Found) -> None:
    """Fail with a program if something is wrong, and if the search was no proof."""
    print(f"{setup.name}: {found}")
    if found.problems:
        pytest.fail(f"in the world {setup.name!r}, {found}:\n{program(found)}", pytrace=False)
    assert found.exhausted, f"{setup.name}: {found}"
    missed = [name for name in setup.must_see if name not in found.seen]
    assert not missed, f"{setup.name}: {missed} never happened; seen: {sorted(found.seen)}"


@pytest.mark.parametrize("setup", SMALL, ids=lambda setup: setup.name)
def test_small_world(setup: Setup) -> None:
    check(setup, explore(setup))


def test_large_worlds(request: pytest.FixtureRequest) -> None:
    """All of them under ``--reach=large``; else only that they can begin, so that they do not rot."""
    for setup in LARGE:
        if request.config.getoption("--reach") == "large":
            check(setup, explore(setup, 1_000_000))
        else:
            found = explore(setup, 500)
            assert not found.problems, program(found)


def test_the_search_finds_the_shortest_way_and_tells_when_it_has_seen_all() -> None:
    """On a toy: a counter that must not reach 7, with steps of 1 and 3."""
    from .search import Move

    def steps(n: int) -> list[Move[int]]:
        return [Move(f"+{d}", d, n + d, ("seven",) if n + d == bad else ()) for d in (1, 3) if n + d < 10]

    bad = 7
    found = search(0, steps, lambda n: n)
    assert [label for label, _ in found.trail] == ["+1", "+3", "+3"]
    bad = 99
    assert search(0, steps, lambda n: n).exhausted
    assert search(0, steps, lambda n: n).states == 10
    assert not search(0, steps, lambda n: n, limit=3).exhausted
    hopeless = search(0, steps, lambda n: n, settled=lambda n: n == 4)
    assert hopeless.problems, "from 5 on, 4 cannot be reached"
