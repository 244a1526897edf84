"""Digest. Goal: equal states have equal digests, different ones different, and the tracker always agrees with a digest from scratch.

Method: random histories on a small stand-in state, with digests asked for at random moments; single changes of every kind; a
digest computed by hand from the definition; and a run of the real core.
"""

import hashlib

import attrs
from haltcore.effects import Qty, Side, price, qty
from haltcore.fsm.config import Config
from haltcore.fsm.core import EMPTY
from haltcore.fsm.digest import DigestTracker, digest
from haltcore.fsm.events import MarkPrice, Started, SubmitOrder
from haltcore.fsm.step import step
from hypothesis import given, settings
from hypothesis import strategies as st
from immutables import Map


@attrs.frozen
class Item:
    qty: Qty
    name: str


@attrs.frozen
class Small:
    seq: int
    orders: Map[int, Item]
    closed: Map[int, Item]
    touched: tuple[int, ...]
    rest: str


START = Small(0, Map(), Map(), (), "")

ITEMS = st.builds(Item, st.integers(0, 3).map(Qty), st.sampled_from("ab"))
WRITES = st.tuples(st.integers(1, 6), st.sampled_from(["work", "close", "drop", "both"]), ITEMS)


def after(state: Small, writes: list[tuple[int, str, Item]]) -> Small:
    """The state after a step that writes these orders."""
    orders, closed = state.orders, state.closed
    for key, what, item in writes:
        orders = orders.set(key, item) if what in ("work", "both") else orders.delete(key) if key in orders else orders
        closed = closed.set(key, item) if what in ("close", "both") else closed.delete(key) if key in closed else closed
    return Small(state.seq + 1, orders, closed, tuple(key for key, _, _ in writes), f"{len(orders)}")


@given(st.lists(st.tuples(st.lists(WRITES, max_size=3), st.booleans()), max_size=20))
@settings(max_examples=150, deadline=None)
def test_the_tracker_agrees_with_a_digest_from_scratch(history: list[tuple[list[tuple[int, str, Item]], bool]]) -> None:
    state = START
    tracker = DigestTracker(state)
    for writes, ask in history:
        state = after(state, writes)
        tracker.advance(state)
        if ask:
            assert tracker.digest() == digest(state)
    assert tracker.digest() == digest(state) == tracker.digest() == DigestTracker(state).digest()


def test_a_touched_key_that_is_left_out_is_noticed() -> None:
    """The property above can fail: a step that does not own up to a write makes the tracker wrong."""
    tracker = DigestTracker(START)
    changed = attrs.evolve(after(START, [(1, "work", Item(Qty(1), "a"))]), touched=())
    tracker.advance(changed)
    assert tracker.digest() != digest(changed)


def test_every_change_changes_the_digest_and_touched_does_not() -> None:
    item = Item(Qty(1), "a")
    base = Small(1, Map({1: item, 2: item}), Map({3: item}), (1,), "x")
    others = [
        attrs.evolve(base, seq=2),
        attrs.evolve(base, rest="y"),
        attrs.evolve(base, orders=Map({1: item})),
        attrs.evolve(base, orders=Map({1: item, 4: item})),
        attrs.evolve(base, orders=Map({1: item, 2: Item(Qty(2), "a")})),
        attrs.evolve(base, orders=Map({1: item, 3: item}), closed=Map({2: item})),
        attrs.evolve(base, orders=Map({1: item, 2: item, 3: item}), closed=Map()),
    ]
    assert len({digest(state) for state in [base, *others]}) == len(others) + 1
    assert digest(attrs.evolve(base, touched=(7,))) == digest(base)


def test_the_definition() -> None:
    state = Small(5, Map({7: Item(Qty(10**12), "a")}), Map({300: Item(Qty(0), "b")}), (7,), "r")
    one = hashlib.sha256(b'orders:7:{"qty":"1","name":"a"}').digest()
    two = hashlib.sha256(b'closed:300:{"qty":"0","name":"b"}').digest()
    total = (int.from_bytes(one, "big") + int.from_bytes(two, "big")) % 2**256
    assert digest(state) == hashlib.sha256(b'{"seq":5,"rest":"r"}' + f"{total:064x}".encode()).hexdigest()


def test_the_real_core() -> None:
    core, tracker, seen = EMPTY, DigestTracker(EMPTY), []
    for event in (
        Started(1, Config("mm1abcd", ("BTCUSDT",))),
        MarkPrice(2, "BTCUSDT", price("50000")),
        SubmitOrder(3, "BTCUSDT", Side.BUY, qty("1"), price("5")),
        MarkPrice(4, "BTCUSDT", price("50001")),
    ):
        core, _ = step(core, event)
        tracker.advance(core)
        assert tracker.digest() == digest(core)
        seen.append(digest(core))
    assert len(dict.fromkeys(seen)) == len(seen)
