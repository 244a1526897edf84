"""Contract: whatever is asked in whichever order, a store answers as the store in memory does.

Method: Hypothesis draws long conversations of three parties over few names, so that they meet; every request goes to the store and to a
``MemoryState`` whose clock stands, some of them twice, as after an answer that was lost, and in between everything or a group of
consumers is lost. What a store chooses itself (fences, epochs, ids of entries) is matched: what is the same in one has to be the same
in the other, and to grow where it has to grow. Nothing runs out here; that is for ``test_states_and_times.py``.
"""

from collections.abc import Callable
from typing import Any

import attrs
from haltcore.adapters.coordination import Claim, Claimed, Entry, Grant, GuardRow, Held, Latch, dead_letters
from haltcore.adapters.memory_state import MemoryState
from haltcore.effects import NO_FENCE, Fence, GuardState, Trigger
from haltcore.fsm.events import LatchRow
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.contract.rig import LONG, Client, Rig, client

WHO = st.sampled_from(["a", "b", "c"])
NAME = st.sampled_from(["x", "y"])
SCOPE = st.sampled_from(["", "BTCUSDT", "venue"])
STREAMS = ("x", "y", dead_letters("x"))
STREAM = st.sampled_from(STREAMS)
TTL = st.sampled_from([LONG, 3 * LONG])
TWICE = st.booleans()
AT = st.integers(0, 7)
CLAIM = st.builds(
    lambda key, owner, params, scopes: Claim(key, f"{owner}:1", params, tuple(scopes)),
    NAME, WHO, st.sampled_from(["what", "what", "other"]), st.lists(SCOPE, max_size=2),
)  # fmt: skip
#: How far times that are left may differ: the model's clock stands.
SLACK_MS = 120_000


class Conversation(RuleBasedStateMachine):
    """The store and its model, side by side. ``grants``, ``entries``: what was given out, in both worlds' words."""

    def __init__(self, make_rig: Callable[[], Rig]) -> None:
        super().__init__()
        self.rig = make_rig()
        self.clients = [client(self.rig), client(self.rig)]
        self.model = MemoryState(lambda: 1_700_000_000_000_000_000)
        self.turn = 0
        self.grants: list[tuple[Fence, Fence]] = [(Fence(1, 9), Fence(1, 9))]
        self.settings: dict[int, int] = {0: 0}
        self.epochs: dict[int, int] = {}
        self.ids: dict[tuple[str, str], str] = {}
        self.forget_entries()

    def forget_entries(self) -> None:
        self.ids.clear()
        self.entries: dict[str, list[tuple[str, str]]] = {stream: [("77-0", "77-0")] for stream in STREAMS}

    def teardown(self) -> None:
        self.rig.close()

    def both(self, operation: str, *arguments: Any, real: tuple[Any, ...] | None = None, twice: bool = False) -> tuple[Any, Any]:
        """Ask both, by turns over either connection; ``real`` are the store's arguments where they differ."""
        world: Any = self.model if hasattr(self.model, operation) else self.model.streams
        for _ in range(1 + twice):
            self.turn += 1
            asked: Client = self.clients[self.turn % 2]
            expected = getattr(world, operation)(*arguments)
            answer = getattr(asked, operation)(*(arguments if real is None else real))
            self.compare(expected, answer)
        return expected, answer

    def compare(self, expected: Any, answer: Any) -> None:
        if isinstance(expected, Grant) and expected.mine:
            assert (answer.mine, answer.holder) == (True, expected.holder)
            assert all((answer.fence.epoch, answer.fence.counter) > (old.epoch, old.counter) for _, old in self.grants[1:])
            self.same(self.epochs, expected.fence.epoch, answer.fence.epoch)
            self.grants.append((expected.fence, answer.fence))
        elif isinstance(expected, Latch):
            assert (answer.done, len(answer.rows)) == (expected.done, len(expected.rows))
            self.same(self.epochs, expected.epoch, answer.epoch)
            for one, other in sorted(zip(expected.rows, answer.rows, strict=True), key=lambda pair: pair[0].epoch):
                self.same_row(one, other)
        elif isinstance(expected, list):
            assert [attrs.evolve(entry, id="") for entry in answer] == [attrs.evolve(entry, id="") for entry in expected]
        elif isinstance(expected, Held) and answer is not None:
            assert attrs.evolve(answer, left_ms=0) == attrs.evolve(expected, left_ms=0)
            assert abs(answer.left_ms - expected.left_ms) < SLACK_MS
        elif isinstance(expected, GuardRow) and answer is not None:
            assert attrs.evolve(answer, at_ms=0) == attrs.evolve(expected, at_ms=0)
        elif isinstance(expected, Claimed):
            assert (answer.kind, answer.scope) == (expected.kind, expected.scope)
            self.compare(expected.row, answer.row)
        else:
            assert answer == expected

    def same_row(self, one: LatchRow, other: LatchRow) -> None:
        assert attrs.evolve(other, epoch=0) == attrs.evolve(one, epoch=0)
        self.same(self.settings, one.epoch, other.epoch)

    @staticmethod
    def same(known: dict[int, int], one: int, other: int) -> None:
        """What the model calls one is called other by the store, always; and what comes later is larger."""
        assert other > max(known.values(), default=0) if one not in known else known[one] == other
        known[one] = other

    # --- lease and latch --------------------------------------------------------------------------------------------

    @rule(name=NAME, holder=WHO, ttl=TTL, twice=TWICE)
    def acquire(self, name: str, holder: str, ttl: int, twice: bool) -> None:
        self.both("acquire", name, holder, ttl, twice=twice)

    @rule(name=NAME, holder=WHO, at=AT, ttl=TTL, twice=TWICE)
    def renew(self, name: str, holder: str, at: int, ttl: int, twice: bool) -> None:
        fence, theirs = self.grants[-at:][0]
        self.both("renew", name, holder, fence, ttl, real=(name, holder, theirs, ttl), twice=twice)

    @rule(name=NAME, holder=WHO, at=AT, by_name=st.booleans(), twice=TWICE)
    def release(self, name: str, holder: str, at: int, by_name: bool, twice: bool) -> None:
        fence, theirs = (None, None) if by_name else self.grants[-at:][0]
        self.both("release", name, holder, fence, real=(name, holder, theirs), twice=twice)

    @rule(name=NAME, holder=WHO)
    def nobody_has_no_fence(self, name: str, holder: str) -> None:
        self.both("renew", name, holder, NO_FENCE, LONG)

    @rule(author=WHO, scope=SCOPE, trigger=st.sampled_from([Trigger.MANUAL, Trigger.LOSS]), reason=NAME, twice=TWICE)
    def publish(self, author: str, scope: str, trigger: Trigger, reason: str, twice: bool) -> None:
        self.both("publish", author, scope, trigger, reason, "ops", twice=twice)

    @rule(author=WHO)
    def read_latch(self, author: str) -> None:
        self.both("read_latch", author)

    @rule(author=WHO, scope=SCOPE, at=st.integers(0, 3), force=st.booleans(), twice=TWICE)
    def clear(self, author: str, scope: str, at: int, force: bool, twice: bool) -> None:
        row = next((row.epoch for row in self.model.rows() if row.scope == scope), 0)
        epoch = max((known for known in self.settings if known <= row - at), default=0)
        self.both("clear", author, scope, epoch, force, real=(author, scope, self.settings[epoch], force), twice=twice)

    # --- guard ------------------------------------------------------------------------------------------------------

    @rule(claim=CLAIM, ttl=TTL, twice=TWICE)
    def claim(self, claim: Claim, ttl: int, twice: bool) -> None:
        self.both("claim", claim, ttl, twice=twice)

    @rule(claim=CLAIM, state=st.sampled_from(list(GuardState)[1:]), result=NAME, ttl=TTL, twice=TWICE)
    def settle(self, claim: Claim, state: GuardState, result: str, ttl: int, twice: bool) -> None:
        self.both("settle", claim, state, result, ttl, twice=twice)

    @rule(claim=CLAIM, was=WHO, state=st.sampled_from(GuardState), ttl=TTL, twice=TWICE)
    def retake(self, claim: Claim, was: str, state: GuardState, ttl: int, twice: bool) -> None:
        self.both("retake", claim, GuardRow(state, f"{was}:1", claim.params, "", 0), ttl, twice=twice)

    @rule(key=NAME)
    def look(self, key: str) -> None:
        self.both("look", key)

    # --- shared state, hold, dedupe, cool-down ------------------------------------------------------------------------

    @rule(name=NAME)
    def get_state(self, name: str) -> None:
        self.both("get_state", name)

    @rule(name=NAME, off=st.integers(-1, 1), text=NAME, twice=TWICE)
    def put_state(self, name: str, off: int, text: str, twice: bool) -> None:
        self.both("put_state", name, max(0, self.model.get_state(name)[0] + off), text, twice=twice)

    @rule(symbol=NAME, owner=WHO, plan=NAME, ttl=TTL, twice=TWICE)
    def set_hold(self, symbol: str, owner: str, plan: str, ttl: int, twice: bool) -> None:
        self.both("set_hold", symbol, owner, "drift", plan, ttl, twice=twice)

    @rule(symbol=NAME, owner=WHO, ttl=TTL, twice=TWICE)
    def renew_hold(self, symbol: str, owner: str, ttl: int, twice: bool) -> None:
        self.both("renew_hold", symbol, owner, ttl, twice=twice)

    @rule(symbol=NAME, owner=WHO, twice=TWICE)
    def release_hold(self, symbol: str, owner: str, twice: bool) -> None:
        self.both("release_hold", symbol, owner, twice=twice)

    @rule(symbol=NAME)
    def held(self, symbol: str) -> None:
        self.both("held", symbol)

    @rule(mark=NAME, token=WHO, ttl=TTL, twice=TWICE)
    def mark_once(self, mark: str, token: str, ttl: int, twice: bool) -> None:
        self.both("mark_once", mark, token, ttl, twice=twice)

    @rule(name=NAME, token=WHO, spacing=TTL)
    def cool_down(self, name: str, token: str, spacing: int) -> None:
        expected = self.model.cool_down(name, token, spacing)
        answer = self.clients[0].cool_down(name, token, spacing)
        assert (answer == 0) == (expected == 0)
        assert abs(answer - expected) < SLACK_MS

    # --- streams ------------------------------------------------------------------------------------------------------

    @rule(stream=STREAM, plan=st.sampled_from(["p1", "p2", "p3", "p4"]), body=NAME, twice=TWICE)
    def append(self, stream: str, plan: str, body: str, twice: bool) -> None:
        for _ in range(1 + twice):
            expected, answer = self.model.streams.append(stream, plan, body), self.clients[0].append(stream, plan, body)
            self.same_id(stream, expected, answer)

    @rule(stream=STREAM, consumer=WHO, count=st.integers(0, 4))
    def read(self, stream: str, consumer: str, count: int) -> None:
        self.given_out(stream, *self.both("read", stream, consumer, count))

    @rule(stream=STREAM, consumer=WHO, idle_ms=st.sampled_from([0, 0, LONG]), count=st.integers(0, 4))
    def claim_stuck(self, stream: str, consumer: str, idle_ms: int, count: int) -> None:
        self.given_out(stream, *self.both("claim_stuck", stream, consumer, idle_ms, count))

    @rule(stream=STREAM, consumer=WHO, at=AT, action=st.sampled_from(["keep", "acknowledge", "acknowledge", "bury"]), twice=TWICE)
    def say(self, stream: str, consumer: str, at: int, action: str, twice: bool) -> None:
        entry, theirs = self.entries[stream][-at:][0]
        why = ("in vain",) if action == "bury" else ()
        self.both(action, stream, consumer, entry, *why, real=(stream, consumer, theirs, *why), twice=twice)

    @rule(stream=STREAM, keep=st.integers(0, 3), twice=TWICE)
    def trim(self, stream: str, keep: int, twice: bool) -> None:
        self.both("trim", stream, keep, twice=twice)

    @rule(stream=STREAM)
    def pending(self, stream: str) -> None:
        self.both("pending", stream)

    def given_out(self, stream: str, expected: list[Entry], answer: list[Entry]) -> None:
        for one, other in zip(expected, answer, strict=True):
            self.same_id(stream, one.id, other.id)
            self.entries[stream].append((one.id, other.id))

    def same_id(self, stream: str, one: str, other: str) -> None:
        assert self.ids.setdefault((stream, one), other) == other
        assert [known for known, theirs in self.ids.items() if known[0] == stream and theirs == other] == [(stream, one)]

    # --- losses -------------------------------------------------------------------------------------------------------

    @rule(really=st.integers(0, 3))
    def flush(self, really: int) -> None:
        if really == 3:
            self.model.flush()
            self.rig.flush()
            self.forget_entries()

    @rule(stream=STREAM)
    def lose_group(self, stream: str) -> None:
        self.model.streams.lose_group(stream)
        self.rig.lose_group(stream)


def test_every_conversation_goes_as_in_memory(make_rig: Callable[[], Rig]) -> None:
    bounds = settings(max_examples=60, stateful_step_count=50)
    run_state_machine_as_test(lambda: Conversation(make_rig), settings=bounds)  # type: ignore[arg-type]
