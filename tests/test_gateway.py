"""The gateway lets no request with an old fence reach a venue, at its arrival or at the last moment; everything else passes untouched.

Method: gateways over venues made by hand, which ask the last question only when the test lets them. Runners behind gateways, and one that
is stopped past its lease, stand in ``test_many_runners.py``.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from haltcore.adapters.gateway import Fences, Gateway
from haltcore.adapters.virtual_time import run
from haltcore.effects import NO_FENCE, Cancel, CancelAll, CancelBatch, CancelTarget, Effect, Fence, FetchOpenOrders, Place, Replace
from haltcore.fsm.events import Event, Outcome, OutcomeKind, VenueLink, Verb
from haltcore.fsm.outcomes import outcome

from tests.helpers import BTC, BUY, Session
from tests.runner_rig import HandVenue

TARGET = CancelTarget(1, "c1", "v1")
OLD, YOUNG = Fence(1, 4), Fence(1, 5)


def requests(fence: Fence) -> list[Effect]:
    """One of each class that carries a fence."""
    s = Session()
    s.ask(BUY, 1)
    place = attrs.evolve(s.one(Place), fence=fence)
    return [
        place, Replace((1, 1), 1, "c1", "v1", BTC, place.qty, place.price, 1, fence), Cancel((1, 2), BTC, TARGET, False, 1, fence),
        CancelBatch((1, 3), BTC, (TARGET, TARGET), False, 1, fence), CancelAll((1, 4), BTC, False, 1, fence),
    ]  # fmt: skip


class Slow(HandVenue):
    """A venue that asks the last question when the queue is open."""

    def __init__(self) -> None:
        super().__init__()
        self.open_queue = asyncio.Event()
        self.left: list[Effect] = []

    async def perform(self, effect: Effect) -> Any:
        self.calls.append(effect)
        await self.open_queue.wait()
        code = self.may_send(effect)
        if code:
            return [outcome(effect, self.now_ns(), OutcomeKind.REFUSED, code)]
        self.left.append(effect)
        return [outcome(effect, self.now_ns(), OutcomeKind.ACKNOWLEDGED)]


def connected(venue: Any, fences: Fences | None = None, code: str = "") -> Gateway:
    gateway = Gateway(venue, fences)
    gateway.connect(lambda _: None, lambda: 77, lambda _: code)
    return gateway


async def tell(gateway: Gateway, effect: Effect) -> Outcome:
    (answer,) = await gateway.perform(effect)
    assert isinstance(answer, Outcome)
    return answer


def test_an_old_fence_is_refused_before_the_venue() -> None:
    async def world() -> None:
        venue = Slow()
        venue.open_queue.set()
        gateway = connected(venue)
        for effect in requests(YOUNG):
            assert (await tell(gateway, effect)).kind is OutcomeKind.ACKNOWLEDGED
        for effect in requests(OLD):
            answer = await tell(gateway, effect)
            assert (answer.at_ns, answer.effect, answer.kind, answer.code) == (77, effect.id, OutcomeKind.REFUSED, "stale_fence")
        assert len(venue.calls) == 5
        assert gateway.fences.refused == dict.fromkeys(Verb, 1)

    run(world())


@pytest.mark.parametrize("young", [Fence(1, 5), Fence(2, 1)], ids=["a later grant", "a later epoch of the store"])
def test_what_waits_while_a_younger_fence_passes_does_not_leave(young: Fence) -> None:
    async def world() -> None:
        fences = Fences()
        slow, swift = Slow(), Slow()
        swift.open_queue.set()
        zombie, holder = connected(slow, fences), connected(swift, fences)
        waiting = [asyncio.ensure_future(tell(zombie, effect)) for effect in requests(OLD)]
        await asyncio.sleep(1)
        assert len(slow.calls) == 5, "the gateway had no reason to refuse them"
        assert (await tell(holder, requests(young)[4])).kind is OutcomeKind.ACKNOWLEDGED
        slow.open_queue.set()
        answers = [await answer for answer in waiting]
        assert {answer.code for answer in answers} == {"stale_fence"}
        assert slow.left == []
        assert sum(fences.refused.values()) == 5

    run(world())


def test_without_a_fence_everything_passes_at_any_time() -> None:
    async def world() -> None:
        venue = Slow()
        venue.open_queue.set()
        gateway = connected(venue)
        await tell(gateway, requests(YOUNG)[4])
        for effect in requests(NO_FENCE):
            assert (await tell(gateway, effect)).kind is OutcomeKind.ACKNOWLEDGED
        assert gateway.fences.youngest == YOUNG

    run(world())


def test_the_runner_s_own_last_check_is_asked_too() -> None:
    async def world() -> None:
        venue = Slow()
        venue.open_queue.set()
        gateway = connected(venue, code="frozen_at_send")
        assert (await tell(gateway, requests(YOUNG)[0])).code == "frozen_at_send"
        assert gateway.fences.refused == {}

    run(world())


def test_questions_reports_and_the_end_pass_through() -> None:
    async def world() -> None:
        venue = HandVenue()
        gateway = Gateway(venue)
        heard: list[Event] = []
        gateway.connect(heard.append, lambda: 1, lambda _: "")
        assert gateway.serves == venue.serves
        question = FetchOpenOrders((1, 1), "", False)
        assert await gateway.perform(question) == venue.well(question)
        report = VenueLink(1, False, "reset")
        venue.emit(report)
        assert heard == [report]
        await gateway.close()
        assert venue.closed == 1

    run(world())


def test_the_youngest_fence_is_by_epoch_then_by_counter() -> None:
    fences = Fences()
    order: Sequence[tuple[Fence, bool]] = [
        (Fence(1, 9), True), (Fence(2, 1), True), (Fence(1, 10), False), (Fence(2, 1), True), (Fence(2, 0), False), (NO_FENCE, True),
        (Fence(2, 2), True), (Fence(2, 1), False),
    ]  # fmt: skip
    assert [fences.admits(fence) for fence, _ in order] == [admitted for _, admitted in order]
