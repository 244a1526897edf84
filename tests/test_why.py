"""Why. Goal: each way in which an order can end, a gate can deny and a scope can freeze is told by the right sentence.

Method: sessions of the real core with one story each, written as a log and investigated.
"""

from collections.abc import Callable
from typing import Any

import pytest
from haltcore.adapters import why
from haltcore.effects import Cancel, CancelBatch, ClaimGuard, Place, Side, Trigger, bps, order_key, usd
from haltcore.fsm.codec import CONFIG
from haltcore.fsm.config import StoreCheck, StorePolicy
from haltcore.fsm.events import ChangeLimits, EdgeUpdate, Freeze, GuardAnswer, GuardKind, OrderRejected
from haltcore.fsm.limits import LimitRule, Limits
from haltcore.fsm.replay import Source
from haltcore.fsm.risk import CHECKS
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
    gate = f"gate      all {len(CHECKS)} checks passed"
    for part in (gate, "accepted while", "filled while working: fill", "partially_filled, filled 1, open 3"):
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


@pytest.mark.parametrize(
    ("kind", "words"),
    [(GuardKind.HELD, "it was never sent, guard_held: another has claimed it"), (None, "it waited for its claim when the process died")],
)
def test_never_sent_for_want_of_a_claim(kind: GuardKind | None, words: str) -> None:
    session = Recorded(store=StorePolicy(configured=True, check=StoreCheck.OFF))
    session.ask()
    claim = session.one(ClaimGuard)
    assert "is claimed in the store before it is sent" in told(session)[-1]
    if kind is None:
        session.restart()
    else:
        session.feed(GuardAnswer(session.now, claim.id, claim.order, kind, 0, "", "", ""))
    lines, sentence = story(session, claim.order)
    assert f"never was: {words}" in sentence
    rule = "restart while pending_new: restart" if kind is None else "place_unclaimed while pending_new: place_unclaimed"
    assert rule in "\n".join(lines)


def test_sent_with_the_grant_of_its_claim() -> None:
    session = Recorded(store=StorePolicy(configured=True, check=StoreCheck.OFF))
    session.submit()
    assert told(session)[-1].endswith("checks of the gate passed and its claim was granted.")


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
    assert sum(" ok " in line for line in lines) == len(CHECKS) - 2
    assert any("no  max_total_notional" in line for line in lines)
    assert [line.strip() for line in lines if "(account)" in line] == ["10000 of 1000 (account)", "10000 of 5000 (account)"]
    assert lines[-1].startswith("The order was denied because of max_inventory_usd: worst-case inventory 10000")


class Limited(Recorded):
    """A session with limits."""

    def __init__(self, **fields: Any) -> None:
        self.steps = []
        Session.__init__(self, **(fields or {"limits": with_limits(1000, 5000, 5)}))


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


def limited(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> Limited:
    """A session with this configuration, whose log names it."""
    session = Limited(**fields)
    monkeypatch.setattr(test_replay, "CONFIG_TEXT", CONFIG.encode(session.config))
    return session


def test_a_figure_beyond_its_limit_that_the_order_makes_no_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    session = limited(monkeypatch, limits=with_limits(total=1500))
    session.fill(session.working(amount=9), 9)
    session.mark(200)
    session.ask(Side.SELL, 1, 200)
    assert "1800 of 1500 (account), and the order makes it no worse" in [line.strip() for line in told(session)]
    assert told(session)[-1].endswith(f"was sent because all {len(CHECKS)} checks of the gate passed.")


def test_a_freeze_of_a_strategy_is_named_at_its_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    session = limited(monkeypatch, strategies=("mm", "arb"))
    key = session.working(strategy="mm")
    other = session.working(strategy="arb")
    session.freeze("strategy:mm", reason="runs wild")
    frozen = session.core.seq
    assert told(session)[-1] == "Strategy mm was frozen (manual by tester): runs wild."
    cancels = [effect.id[1] for effect in session.effects if isinstance(effect, (Cancel, CancelBatch))]
    behind = f"by the freeze of strategy mm of record {frozen} (manual: runs wild)"
    assert all(behind in told(session, index=index)[-1] for index in cancels)
    assert cancels
    session.cancelled(key)
    assert f"was cancelled {behind}" in story(session, key)[1]
    assert "it is open at the end of the log" in story(session, other)[1]


def test_an_automatic_freeze_names_its_trigger_and_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    session = limited(monkeypatch, limits=Limits(edge_freeze_threshold_bps=bps(200), max_daily_loss=usd("50")))
    session.feed(EdgeUpdate(session.now, "", bps(150)))
    lines = told(session)
    assert "      the account: edge_collapse (edge), an edge below the threshold; the overall edge counts for the account alone" in lines
    assert any("value 150, threshold 200, unit bps" in line for line in lines)
    assert lines[-1].startswith("The account was frozen (edge_collapse by haltcore): edge 150 bps")
    session.prove_empty()
    session.unfreeze()
    session.fill(session.working(), 10)
    session.mark(90)
    text = "\n".join(told(session))
    assert "the account: loss (position), " in text
    assert "value 100, threshold 50" in text


def test_an_operators_word_is_told_as_people_were_told_it(monkeypatch: pytest.MonkeyPatch) -> None:
    session = limited(monkeypatch)
    session.feed(ChangeLimits(session.now, LimitRule(Limits(max_open_orders=3)), "ops", "a quiet day"))
    assert "limits_changed" in told(session)[-1]
    assert told(session)[-1].endswith("by ops: a quiet day.")


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


def test_a_freeze_by_nobody_and_one_of_the_core_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    session = limited(monkeypatch, limits=Limits(edge_freeze_threshold_bps=bps(5)))
    session.feed(Freeze(session.now, BTC, Trigger.MANUAL, "looks odd", ""))
    assert told(session)[-1] == f"{BTC} was frozen (manual by nobody named): looks odd."
    session.feed(EdgeUpdate(session.now, "", bps(3)))
    assert told(session)[-1].startswith("The account was frozen (edge_collapse by haltcore): edge 3")
