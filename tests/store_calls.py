"""Every operation of the port as a call that can be said twice: what has to be there before, what it answers, and what it comes to.

For tests that break the way to a server: whatever became of the first saying, after the second the store has to be as after one.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from attrs import frozen
from haltcore.adapters.coordination import Claim, Coordination, GuardRow, dead_letters
from haltcore.effects import GuardState, Trigger
from haltcore.fsm.events import GuardKind

LONG = 600_000
#: A time to live that is told from every other in these calls.
TTL = 77_000
Memo = dict[str, Any]
Step = Callable[[Coordination, Memo], Awaitable[Any]]


async def _nothing(store: Coordination, memo: Memo) -> None:
    """Nothing has to be there."""


@frozen
class Call:
    """``before`` brings about what is needed, and keeps it in the memo; ``say`` is the operation; ``answers`` are those that it may give
    when said again; ``outcome`` reads what it came to, and ``expected`` is that. ``key`` is whose time to live is TTL afterwards."""

    name: str
    say: Step
    answers: Callable[[Any], bool]
    outcome: Step
    expected: Any
    before: Step = _nothing
    key: str = ""

    def __str__(self) -> str:
        return self.name


GUARD = Claim("k" * 64, "a:1", "what")
OTHER = Claim("k" * 64, "b:2", "what")
SEEN = GuardRow(GuardState.INTENT, "a:1", "", "", 0)


def yes(answer: Any) -> bool:
    return answer is True


def yes_or_done(answer: Any) -> bool:
    """What ends something finds it ended, the second time."""
    return answer in (True, False)


async def _granted(store: Coordination, memo: Memo) -> None:
    memo["fence"] = (await store.acquire("sweep", "a", LONG)).fence


async def _who_has_it(store: Coordination, memo: Memo) -> str:
    return (await store.acquire("sweep", "asker", 1)).holder


async def _frozen(store: Coordination, memo: Memo) -> None:
    memo["row"] = (await store.publish("s", "BTC", Trigger.LOSS, "why", "risk")).rows[0].epoch


async def _latch(store: Coordination, memo: Memo) -> Any:
    return [(row.scope, row.reason, row.joint) for row in (await store.read_latch("s")).rows]


async def _claimed(store: Coordination, memo: Memo) -> None:
    await store.claim(GUARD, LONG)


async def _guard(store: Coordination, memo: Memo) -> Any:
    row = await store.look(GUARD.key)
    return row and (row.state, row.owner, row.result)


async def _state(store: Coordination, memo: Memo) -> Any:
    return await store.get_state("b")


async def _holding(store: Coordination, memo: Memo) -> None:
    await store.set_hold("BTC", "a", "drift", "p", LONG)


async def _held(store: Coordination, memo: Memo) -> Any:
    held = await store.held("BTC")
    return held and (held.owner, held.reason, held.plan)


async def _another_marks(store: Coordination, memo: Memo) -> Any:
    return await store.mark_once("m", "other", LONG)


async def _another_fires(store: Coordination, memo: Memo) -> Any:
    return 0 < await store.cool_down("c", "other", LONG) <= TTL


async def _two_plans(store: Coordination, memo: Memo) -> None:
    memo["ids"] = [await store.append("s", plan, "body") for plan in ("p1", "p2")]


async def _given(store: Coordination, memo: Memo) -> None:
    await _two_plans(store, memo)
    await store.read("s", "a", 1)


async def _all_done(store: Coordination, memo: Memo) -> None:
    await _two_plans(store, memo)
    for entry in await store.read("s", "a", 2):
        await store.acknowledge("s", "a", entry.id)


async def _on_stream(store: Coordination, memo: Memo) -> Any:
    """Every plan that is not acknowledged, whoever has it, and how many the store says there are."""
    pending = await store.pending("s")
    given = [*await store.claim_stuck("s", "z", 0, 10), *await store.read("s", "z", 10)]
    return sorted(entry.plan for entry in given), pending


async def _buried(store: Coordination, memo: Memo) -> Any:
    dead = await store.read(dead_letters("s"), "z", 10)
    return [(entry.plan, entry.why) for entry in dead], await _on_stream(store, memo)


CALLS = (
    Call("acquire", lambda s, m: s.acquire("sweep", "a", TTL), lambda grant: grant.mine, _who_has_it, "a"),
    Call("renew", lambda s, m: s.renew("sweep", "a", m["fence"], TTL), yes, _who_has_it, "a", _granted),
    Call("release", lambda s, m: s.release("sweep", "a", m["fence"]), yes_or_done, _who_has_it, "asker", _granted),
    Call("release_by_name", lambda s, m: s.release("sweep", "a", None), yes_or_done, _who_has_it, "asker", _granted),
    Call("publish", lambda s, m: s.publish("s", "BTC", Trigger.LOSS, "why", "risk"), lambda latch: len(latch.rows) == 1, _latch,
         [("BTC", "why", False)]),
    Call("read_latch", lambda s, m: s.read_latch("s"), lambda latch: len(latch.rows) == 1, _latch, [("BTC", "why", False)], _frozen),
    Call("clear", lambda s, m: s.clear("s", "BTC", m["row"]), lambda latch: latch.done and not latch.rows, _latch, [], _frozen),
    Call("claim", lambda s, m: s.claim(GUARD, TTL), lambda claimed: claimed.kind is GuardKind.CLAIMED, _guard,
         (GuardState.INTENT, "a:1", ""), key="idempotency:effect:" + GUARD.key),
    Call("settle_sent", lambda s, m: s.settle(GUARD, GuardState.SENT, "", TTL), yes, _guard, (GuardState.SENT, "a:1", ""), _claimed,
         "idempotency:effect:" + GUARD.key),
    Call("settle_done", lambda s, m: s.settle(GUARD, GuardState.DONE, "r", TTL), yes, _guard, (GuardState.DONE, "a:1", "r"), _claimed,
         "idempotency:effect:" + GUARD.key),
    Call("retake", lambda s, m: s.retake(OTHER, SEEN, TTL), yes, _guard, (GuardState.INTENT, "b:2", ""), _claimed,
         "idempotency:effect:" + GUARD.key),
    Call("look", lambda s, m: s.look(GUARD.key), lambda row: row.owner == "a:1", _guard, (GuardState.INTENT, "a:1", ""), _claimed),
    Call("get_state", lambda s, m: s.get_state("b"), lambda answer: answer == (0, ""), _state, (0, "")),
    Call("put_state", lambda s, m: s.put_state("b", 0, "open"), lambda answer: answer == (True, 1, "open"), _state, (1, "open")),
    Call("set_hold", lambda s, m: s.set_hold("BTC", "a", "drift", "p", TTL), lambda held: held.owner == "a", _held, ("a", "drift", "p"),
         key="hold:BTC"),
    Call("renew_hold", lambda s, m: s.renew_hold("BTC", "a", TTL), yes, _held, ("a", "drift", "p"), _holding, "hold:BTC"),
    Call("release_hold", lambda s, m: s.release_hold("BTC", "a"), yes_or_done, _held, None, _holding),
    Call("held", lambda s, m: s.held("BTC"), lambda held: held.owner == "a", _held, ("a", "drift", "p"), _holding),
    Call("mark_once", lambda s, m: s.mark_once("m", "t", TTL), yes, _another_marks, False, key="once:m"),
    Call("cool_down", lambda s, m: s.cool_down("c", "t", TTL), lambda left: left == 0, _another_fires, True, key="cool:c"),
    Call("append", lambda s, m: s.append("s", "p1", "body"), bool, _on_stream, (["p1"], 1)),
    Call("read", lambda s, m: s.read("s", "a", 1), lambda found: len(found) <= 1, _on_stream, (["p1", "p2"], 2), _two_plans),
    Call("claim_stuck", lambda s, m: s.claim_stuck("s", "b", 0, 5), lambda found: [one.plan for one in found] == ["p1"], _on_stream,
         (["p1", "p2"], 2), _given),
    Call("keep", lambda s, m: s.keep("s", "a", m["ids"][0]), yes, _on_stream, (["p1", "p2"], 2), _given),
    Call("acknowledge", lambda s, m: s.acknowledge("s", "a", m["ids"][0]), yes_or_done, _on_stream, (["p2"], 1), _given),
    Call("bury", lambda s, m: s.bury("s", "a", m["ids"][0], "poison"), yes_or_done, _buried, ([("p1", "poison")], (["p2"], 1)), _given),
    Call("pending", lambda s, m: s.pending("s"), lambda count: count == 2, _on_stream, (["p1", "p2"], 2), _given),
    Call("trim", lambda s, m: s.trim("s", 1), lambda count: count in (0, 1), _on_stream, ([], 0), _all_done),
    Call("facts", lambda s, m: s.facts(), lambda facts: facts.role == "master", _state, (0, "")),
)  # fmt: skip

