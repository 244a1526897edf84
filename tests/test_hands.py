"""Goal: every effect gets exactly one outcome, and a performer that fails costs its own effect only (duties 5 and 6).

Method: a venue made by hand misbehaves in every way that a performer can, on simulated time, for an order and for a sweep.
"""

import asyncio
import logging
from typing import Any

import attrs
import pytest
from attrs import evolve
from haltcore.adapters.answers import OrderInDoubt
from haltcore.adapters.hands import MAX_ALERTS, MAX_METRICS
from haltcore.adapters.people import People
from haltcore.effects import Alert, CancelBatch, Effect, Metric, Place, Severity
from haltcore.fsm.config import VenueTraits
from haltcore.fsm.events import OrderAccepted, Outcome, OutcomeKind, Verb

from tests.helpers import config
from tests.runner_rig import HandVenue, Rig, acknowledged, buy, for_ever, later, simulated

# --- 5 and 6: exactly one outcome, whatever the performer does ------------------------------------------------------


async def _nothing_at_all(_: Any) -> Any:
    return []


async def _none(_: Any) -> Any:
    return None


async def _anothers(effect: Any) -> Any:
    return [Outcome(0, (1, 0), acknowledged(effect).verb, effect.order, OutcomeKind.ACKNOWLEDGED)]


async def _of_another_verb(effect: Any) -> Any:
    return [Outcome(0, effect.id, Verb.CANCEL, effect.order, OutcomeKind.ACKNOWLEDGED)]


async def _two(effect: Any) -> Any:
    refused = Outcome(0, effect.id, acknowledged(effect).verb, effect.order, OutcomeKind.REFUSED, "no")
    return [acknowledged(effect), refused]


async def _raises(_: Any) -> Any:
    raise ZeroDivisionError


async def _raises_cancelled(_: Any) -> Any:
    raise asyncio.CancelledError


class _Odd(BaseException):
    """Neither an Exception nor one of those that end a process."""


async def _raises_timeout(_: Any) -> Any:
    raise TimeoutError


async def _will_not_be_cancelled(_: Any) -> Any:
    """Nearly: the third time it gives in, so that the test can end."""
    for _ in range(2):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
    await asyncio.Event().wait()


async def _is_cancelled(_: Any) -> Any:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_soon(task.cancel)
    await asyncio.Event().wait()


MISBEHAVIOURS = {
    "hangs": (for_ever, "timeout"),
    "hangs and will not be cancelled": (_will_not_be_cancelled, "timeout"),
    "returns nothing": (_nothing_at_all, "no_outcome"),
    "returns None": (_none, "performer_raised"),
    "returns another's outcome": (_anothers, "wrong_outcome"),
    "returns an outcome of another verb": (_of_another_verb, "wrong_outcome"),
    "returns two outcomes": (_two, "wrong_outcome"),
    "raises": (_raises, "performer_raised"),
    "raises TimeoutError": (_raises_timeout, "performer_raised"),
    "raises CancelledError": (_raises_cancelled, "performer_raised"),
    "is cancelled": (_is_cancelled, "performer_raised"),
}


@pytest.mark.parametrize("name", MISBEHAVIOURS)
@simulated
async def test_5_a_place_gets_exactly_one_outcome_when_its_performer(name: str) -> None:
    behaviour, code = MISBEHAVIOURS[name]
    venue = HandVenue(Place=behaviour)
    rig = Rig(venue, conf=config(venue=VenueTraits(place_expiry_ms=100)))
    await rig.bot.start()
    with pytest.raises(OrderInDoubt) as doubt:
        await buy(rig.bot)
    (place,) = rig.effects(Place)
    (outcome,) = rig.outcomes(place)
    assert (outcome.kind, outcome.code) == (OutcomeKind.IN_DOUBT, code)  # type: ignore[attr-defined]
    assert (doubt.value.executed, doubt.value.client_id, doubt.value.code) == (None, place.client_id, "in_doubt")
    assert rig.bot.status().in_flight == 0
    await later(60)
    assert (await rig.bot.freeze("test", "ops")).verified
    assert rig.unanswered() == []
    assert len(venue.called(Place)) == 1, "never sent again"
    await rig.bot.stop()


@pytest.mark.parametrize("name", MISBEHAVIOURS)
@simulated
async def test_5_a_sweep_ends_in_proof_although_the_performer_of_cancel_all(name: str) -> None:
    if "another" in name:
        return  # those behaviours are made for orders
    behaviour, _ = MISBEHAVIOURS[name]

    async def twice(effect: Any) -> Any:
        return [acknowledged(effect), acknowledged(effect)]

    venue = HandVenue(CancelAll=twice if "two" in name else behaviour)
    rig = Rig(venue)
    await rig.bot.start()
    await buy(rig.bot)
    await rig.bot.freeze("test", "ops")
    await later(120)
    assert rig.bot.proven()
    assert rig.unanswered() == []
    await rig.bot.stop()


@simulated
async def test_5_a_reply_after_the_time_out_is_evidence_but_no_second_outcome() -> None:
    async def late(effect: Place) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            venue.open[effect.client_id] = effect
            return [OrderAccepted(venue.now_ns(), effect.client_id, "v1"), acknowledged(effect)]  # noqa: B012 - a swallowed cancellation

    venue = HandVenue(Place=late)
    async with Rig(venue) as rig:
        with pytest.raises(OrderInDoubt):
            await buy(rig.bot)
        await later(0.1)
        (order,) = rig.bot.orders()
        assert not order.in_doubt
        assert len(rig.outcomes(rig.effects(Place)[0])) == 1


@simulated
async def test_5_a_batch_whose_outcome_names_no_orders_is_in_doubt_and_the_sweep_goes_on() -> None:
    async def nameless(effect: Any) -> Any:
        *reports, done = venue.well(effect)
        return [*reports, evolve(done, orders=())]

    venue = HandVenue(CancelBatch=nameless)
    async with Rig(venue, conf=config(venue=VenueTraits(cancel_all=False))) as rig:
        for n in range(3):
            await buy(rig.bot, str(90 + n))
        assert (await rig.bot.freeze("test", "ops")).verified
        batch = rig.effects(CancelBatch)[0]
        assert rig.outcomes(batch)[0].code == "wrong_outcome"  # type: ignore[attr-defined]


@simulated
async def test_5_an_answer_that_is_emitted_is_no_second_outcome() -> None:
    async def both(effect: Place) -> Any:
        venue.emit(acknowledged(effect))
        return venue.well(effect)

    venue = HandVenue(Place=both)
    async with Rig(venue) as rig:
        await buy(rig.bot)
        assert len(rig.outcomes(rig.effects(Place)[0])) == 1


@simulated
async def test_6_an_odd_base_exception_is_an_outcome_and_leaves_the_runner_well() -> None:
    async def odd(_: Any) -> Any:
        raise _Odd

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    venue = HandVenue(Place=odd)
    async with Rig(venue) as rig:
        with pytest.raises(OrderInDoubt):
            await buy(rig.bot)
        assert rig.outcomes(rig.effects(Place)[0])[0].text == "_Odd"  # type: ignore[attr-defined]


class _BadPeople:
    serves = (Alert,)

    def __init__(self, error: type[BaseException] | None) -> None:
        self.error, self.heard = error, 0

    async def perform(self, effect: Any) -> Any:  # noqa: ARG002
        self.heard += 1
        if self.error is None:
            await asyncio.Event().wait()
        else:
            raise self.error


class _BadMetrics(_BadPeople):
    serves = (Metric,)  # type: ignore[assignment]


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError, None])
@simulated
async def test_6_people_and_metrics_that_raise_or_hang_cost_their_own_word_only(error: Any, caplog: pytest.LogCaptureFixture) -> None:
    people, metrics = _BadPeople(error), _BadMetrics(error)
    async with Rig(people=people, metrics=metrics) as rig:
        await buy(rig.bot)
        assert (await rig.bot.freeze("test", "ops")).verified
        await later(200)
        words = rig.effects(Alert), rig.effects(Metric)
        assert (people.heard, metrics.heard) == (len(words[0]), len(words[1]))
        assert rig.bot._hands.tasks == {}
    assert "could not be delivered" in caplog.text




@simulated
async def test_6_a_pager_that_hangs_piles_up_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Hanging(People):
        async def perform(self, effect: Effect) -> Any:
            await for_ever(effect)

    async with Rig(people=Hanging()) as rig:
        before = len(rig.bot._hands.tasks)
        alert = Alert((1, 0), Severity.CRITICAL, "code", "text", 0, "")
        for _ in range(MAX_ALERTS + 50):
            rig.bot._hands.tell([alert])
        assert len(rig.bot._hands.tasks) <= before + 1
        assert sum("was not told" in record.getMessage() for record in caplog.records) >= 50


@simulated
async def test_6_no_alert_is_dropped_for_a_metric_and_none_waits_for_one(caplog: pytest.LogCaptureFixture) -> None:
    """A burst of metrics before and after each alert, to a metrics server that hangs."""
    heard: list[str] = []
    rig = Rig(people=People(lambda alert: heard.append(alert.text)), metrics=_BadMetrics(None))
    await rig.bot.start()
    heard.clear()
    count = Metric((1, 0), "mm_guard_outcomes_total", 1, "claimed")
    rig.bot._hands.tell([count] * 200)
    for number in range(MAX_ALERTS // 10):
        rig.bot._hands.tell([*[count] * 200, Alert((1, 0), Severity.CRITICAL, "frozen", str(number), 0, ""), count])
    await later(0.1)
    assert heard == [str(number) for number in range(MAX_ALERTS // 10)]
    assert len(rig.bot._hands._metrics) <= MAX_METRICS
    assert sum("was dropped" in record.getMessage() for record in caplog.records) == 1
    rig.bot.abandon()


@simulated
async def test_6_what_is_dropped_of_metrics_leaves_every_gauge_at_its_newest_value() -> None:
    shown: dict[str, int] = {}

    class Slow(_BadMetrics):
        async def perform(self, effect: Metric) -> Any:
            await gate.wait()
            shown[effect.name] = effect.value
            return ()

    gate = asyncio.Event()
    async with Rig(metrics=Slow(None)) as rig:
        gauge, count = "mm_freeze_epoch", Metric((1, 0), "mm_guard_outcomes_total", 1, "claimed")
        for number in range(20):
            rig.bot._hands.tell([Metric((1, 0), gauge, number, ""), Metric((1, 0), "mm_freeze_active", number % 2, "")])
        rig.bot._hands.tell([Metric((1, 0), "mm_freeze_active", 0, ""), *[count] * (MAX_METRICS + 10)])
        rig.bot._hands.tell([Metric((1, 0), "mm_freeze_active", 1, "")])
        assert len(rig.bot._hands._metrics) == MAX_METRICS
        gate.set()
        await later(1)
        assert (shown[gauge], shown["mm_freeze_active"]) == (19, 1)


@simulated
async def test_5_an_answer_that_no_log_can_hold_is_none() -> None:
    async def wild(effect: Any) -> Any:
        return [attrs.evolve(acknowledged(effect), at_ns=-(10**5_000))]

    async with Rig(HandVenue(Place=wild), conf=config(venue=VenueTraits(place_expiry_ms=100))) as rig:
        with pytest.raises(OrderInDoubt):
            await buy(rig.bot)
        (outcome,) = rig.outcomes(rig.effects(Place)[0])
        assert (outcome.kind, outcome.code) == (OutcomeKind.IN_DOUBT, "wrong_outcome")  # type: ignore[attr-defined]
        assert not rig.bot.status().journal_failed


@simulated
async def test_6_what_is_ended_with_the_runner_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(HandVenue(Place=for_ever))
    await rig.bot.start()
    await buy(rig.bot, wait=False)
    await later(0.1)
    with caplog.at_level(logging.DEBUG, "haltcore"):
        rig.bot.abandon()
        await later(0.1)
    (told,) = [record for record in caplog.records if "CancelledError" in record.message]
    assert told.levelno == logging.DEBUG


@simulated
async def test_6_a_performer_that_gives_no_answer_is_told(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(HandVenue(Place=for_ever))
    await rig.bot.start()
    await buy(rig.bot, wait=False)
    await later(11)
    assert "Place: the performer gave no answer within 10 s" in caplog.text
    assert "CancelledError" not in "".join(record.message for record in caplog.records if record.levelno > logging.DEBUG)
    rig.bot.abandon()
