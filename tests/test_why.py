"""Why. Goal: each way in which an order can end, a gate can deny and a scope can freeze is told by the right sentence.

Method: sessions of the real core with one story each, written as a log and investigated.
"""

from collections.abc import Callable

import pytest
from haltcore.adapters import why
from haltcore.effects import Place, Side, Trigger, order_key
from haltcore.fsm.codec import CONFIG
from haltcore.fsm.events import OrderRejected
from haltcore.fsm.replay import Source
from haltcore.fsm.verdict import Kind

from tests import test_replay
from tests.helpers import BTC, ETH, IN_DOUBT, REFUSED, Session, with_limits
from tests.test_replay import Recorded, log


def case(session: Recorded, wanted: Callable[[why.Moment], bool]) -> why.Case:
    """The investigation of this session's log."""
    found = why.investigate(log(session.steps), wanted)
    assert found.verdict.kind is Kind.SAME
    return found


def story(session: Recorded, key: int) -> tuple[list[str], str]:
    """The lines and the sentence about an order."""
    client_id = session.client_id(key) if session.core.order(key) is not None else ""
    found = case(session, lambda moment: why.touches(moment, client_id, key))
    lines = list(why.order_lines(found, client_id, key))
    return lines[:-2], lines[-1]


def told(session: Recorded, n: int | None = None, index: int | None = None) -> list[str]:
    """The lines about a record, by default the last one."""
    number = n or session.core.seq
    return list(why.record_lines(case(session, lambda moment: moment.n == number), index))


# --- how orders end -------------------------------------------------------------------------------------------------


def test_filled() -> None:
    session = Recorded()
    key = session.working(amount=4)
    session.fill(key, 1)
    session.fill(key, 3)
    lines, sentence = story(session, key)
    assert sentence == f"Order {session.client_id(key)} was filled completely; the last part of it in record {session.core.seq}."
    text = "\n".join(lines)
    for part in ("gate      all 17 checks passed", "accepted while", "filled while working: fill", "partially_filled, filled 1, open 3"):
        assert part in text


def test_cancelled_by_the_strategy() -> None:
    session = Recorded()
    key = session.working()
    session.cancel(key)
    asked = session.core.seq
    session.fill(key, 3)
    session.cancelled(key, 3)
    _, sentence = story(session, key)
    assert f"cancelled by the strategy's own cancel of record {asked}; the evidence is record {session.core.seq}" in sentence
    assert sentence.endswith(", after filled 3.")


def test_cancelled_by_the_freeze_of_its_symbol() -> None:
    session = Recorded()
    key, other = session.working(), session.working(symbol=ETH)
    session.freeze(BTC, Trigger.MANUAL, "looks ill")
    frozen = session.core.seq
    session.cancelled(key)
    _, sentence = story(session, key)
    assert f"was cancelled by the freeze of {BTC} of record {frozen} (manual: looks ill)" in sentence
    _, sentence = story(session, other)
    assert "it is open at the end of the log" in sentence


def test_of_several_freezes_the_right_one_is_named() -> None:
    session = Recorded()
    session.freeze(ETH, reason="first")
    session.freeze(BTC, reason="second")
    session.prove_empty()
    session.unfreeze(BTC)
    session.wait(5)
    key = session.working()
    session.freeze(BTC, reason="third")
    record = session.core.seq
    session.cancelled(key)
    assert f"of record {record} (manual: third)" in story(session, key)[1]


def test_of_several_frozen_scopes_the_right_one_is_named() -> None:
    session = Recorded()
    key = session.working(symbol=ETH)
    session.working()
    session.freeze(BTC, reason="one")
    other = session.core.seq
    session.freeze(ETH, reason="two")
    record = session.core.seq
    session.cancelled(key)
    lines, sentence = story(session, key)
    assert f"of record {record} (manual: two)" in sentence
    # The cancel-all of the other symbol is no part of the story.
    assert not any(line.split()[0] == str(other) for line in lines)
    assert not any("CancelAll BTCUSDT" in line for line in lines)


def test_cancelled_by_nobody_here() -> None:
    session = Recorded()
    key = session.working()
    session.cancelled(key)
    assert "was cancelled at the venue, without a cancel of ours" in story(session, key)[1]


def test_expired() -> None:
    session = Recorded()
    key = session.working()
    session.expired(key)
    assert f"ended by its own terms in record {session.core.seq}." in story(session, key)[1]


def test_refused_by_the_venue() -> None:
    session = Recorded()
    key = session.submit()
    session.reject(key, "margin")
    assert "never was: the venue refused it (margin)" in story(session, key)[1]


@pytest.mark.parametrize(("code", "words"), [("frozen_at_send", "stopped before it left"), ("400", "certainly not applied")])
def test_not_sent_or_not_applied(code: str, words: str) -> None:
    session = Recorded()
    key = session.submit()
    session.outcome(session.one(Place), REFUSED, code)
    sentence = story(session, key)[1]
    assert f"{words} ({code})" in sentence


def test_in_doubt_until_the_end() -> None:
    session = Recorded()
    key = session.submit()
    session.outcome(session.one(Place), IN_DOUBT, "timeout")
    lines, sentence = story(session, key)
    assert "it is not known whether it is open; the venue is being asked" in sentence
    assert any("place_in_doubt while pending_new: " in line for line in lines)


def test_denied_orders_have_a_story_too() -> None:
    session = Recorded()
    session.freeze()
    session.ask()
    key = session.core.seq
    _, sentence = story(session, key)
    assert "was never sent: the gate denied it" in sentence
    assert f"in record {key} (sweeping)" in sentence
    assert "No order" in story(session, 1)[1]


# --- records ----------------------------------------------------------------------------------------------------------


def test_the_gate_is_told_check_by_check(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Limited()
    monkeypatch.setattr(test_replay, "CONFIG_TEXT", CONFIG.encode(session.config))
    session.ask(amount=100, at=100)
    lines = told(session)
    deciding = [line for line in lines if "<-- decides" in line]
    assert len(deciding) == 1
    assert "NO  max_inventory_usd" in deciding[0]
    assert sum(" ok " in line for line in lines) == 15
    assert any("no  max_total_notional" in line for line in lines)
    assert lines[-1].startswith("The order was denied because of max_inventory_usd: worst-case inventory 10000")


class Limited(Recorded):
    """A session with limits."""

    def __init__(self) -> None:
        self.steps = []
        Session.__init__(self, limits=with_limits(1000, 5000, 5))


def test_a_freeze_and_its_effects() -> None:
    session = Recorded()
    session.working()
    session.freeze(reason="a drill")
    lines = told(session)
    assert lines[-1] == "The account was frozen (manual by tester): a drill."
    assert any("sweep: none  ->  round 1" in line for line in lines)
    cancel = next(effect.id[1] for effect in session.effects if type(effect).__name__ == "CancelAll")
    marked = told(session, index=cancel)
    assert next(line for line in marked if "-->" in line).strip().startswith(f"-->:{cancel} CancelAll")
    assert marked[-1].startswith("The cancel-all was sent in round 1 of the sweep, by the freeze of record")


def test_the_proof() -> None:
    session = Recorded()
    session.freeze()
    session.prove_empty()
    assert told(session)[-1].startswith("The account is frozen and proven empty")
    session.unfreeze()
    assert told(session)[-1] == "The account is active (tester): done."


def test_plain_records() -> None:
    session = Recorded()
    key = session.working(side=Side.SELL)
    assert told(session)[-1] == f"By this record order {session.client_id(key)} stands so: new, filled 0, open 10."
    session.accept(key)
    assert told(session)[-1].startswith("The input changed nothing, duplicate_report")
    session.mark(100)
    assert told(session)[-1] == f"Record {session.core.seq} was noted; it called for nothing."
    session.fill(key, 10)
    assert "has ended: filled, filled 10, open 0" in told(session)[-1]
    session.feed(OrderRejected(session.now, "foreign", "x"))
    assert "The input changed nothing, unknown_order" in told(session)[-1]


def test_keys_of_orders() -> None:
    session = Recorded()
    key = session.working()
    assert why.key_of(session.client_id(key)) == why.key_of(str(key)) == key
    assert order_key(session.config.session, session.client_id(key)) == key
    for text in ("", "?", "x" * 99, "\u0663", "99999999999"):
        assert why.key_of(text) == 0


def test_a_broken_log_is_not_explained() -> None:
    session = Recorded()
    session.working()
    (source,) = log(session.steps)
    bad = b"".join(source.chunks).replace(b'"10"', b'"11"', 1)
    found = why.investigate([Source("bad", [bad])], bool)
    assert found.verdict.kind is Kind.BROKEN
