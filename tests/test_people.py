"""No alert is lost on its way to a person, and telling never stops the bot. Method: the log is captured; a pager that fails is planted."""

import asyncio
import logging

import pytest
from haltcore.adapters.people import People, line
from haltcore.effects import Alert, Metric, Severity
from hypothesis import given
from hypothesis import strategies as st

ALERT = Alert((3, 1), Severity.CRITICAL, "SWEEP_FAILED", "3 orders are\nstill open", 17, "BTCUSDT")


@pytest.mark.parametrize(
    ("severity", "level"),
    [(Severity.INFO, logging.INFO), (Severity.WARNING, logging.WARNING), (Severity.CRITICAL, logging.CRITICAL)],
)
def test_an_alert_is_one_line_of_the_log(severity: Severity, level: int, caplog: pytest.LogCaptureFixture) -> None:
    alert = Alert((3, 1), severity, "CODE", "what happened", 0, "")
    with caplog.at_level(logging.INFO, "haltcore"):
        assert asyncio.run(People().perform(alert)) == ()
    assert caplog.record_tuples == [("haltcore", level, "CODE: what happened")]


def test_every_severity_has_a_level(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "haltcore"):
        for severity in Severity:
            asyncio.run(People().perform(Alert((3, 1), severity, "CODE", "text", 0, "")))
    assert len(caplog.records) == len(Severity)


def test_the_line_says_what_it_is_about() -> None:
    assert line(ALERT) == "SWEEP_FAILED: 3 orders are still open symbol=BTCUSDT order=17"


@given(st.text(), st.text(), st.text())
def test_a_venue_cannot_forge_a_second_line(code: str, text: str, symbol: str) -> None:
    assert len(line(Alert((3, 1), Severity.INFO, code, text, 0, symbol)).splitlines()) == 1


def test_a_function_of_ones_own_gets_the_alert_itself(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Alert] = []
    asyncio.run(People(told.append).perform(ALERT))
    assert told == [ALERT]
    assert not caplog.records


def test_when_telling_fails_the_alert_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def pager(_: Alert) -> None:
        raise OSError("no route to pager")

    assert asyncio.run(People(pager).perform(ALERT)) == ()
    (record,) = caplog.records
    assert record.levelno == logging.CRITICAL
    assert "SWEEP_FAILED: 3 orders are still open" in record.getMessage()
    assert record.exc_info is not None
    assert "no route to pager" in str(record.exc_info[1])


def test_other_effects_are_none_of_its_business() -> None:
    told: list[Alert] = []
    assert asyncio.run(People(told.append).perform(Metric((3, 1), "mm_freeze_active", 1, ""))) == ()
    assert told == []
