"""Plans. Goal: a text is taken for a plan if and only if one of ours wrote exactly it, for now; and everything else has its code.

Method: drawn plans go there and back; each character of a text is altered, each field is changed and signed with and without the key; keys
are rotated as the essay says; the clock is moved over both ends. The id and the signature of one plan are computed here by hand.
"""

import hashlib
import hmac
import json
import string
from typing import Any

import attrs
import pytest
from haltcore.effects import GuardState, OrdType, Qty, Side, qty
from haltcore.fsm.plan import (
    CODES,
    ENDINGS,
    MAX_BODY,
    MIN_SECRET,
    Action,
    Key,
    Plan,
    PlanPolicy,
    PlanRefused,
    Refusal,
    SignedPlan,
    Status,
    authentic,
    decide,
    dedupe_ttl_ms,
    plan_id,
    plan_key,
    sign,
    to_body,
    verify,
)
from hypothesis import given
from hypothesis import strategies as st

NOW = 1_767_225_600_000
OLD, NEW, FOREIGN = (Key(name, name.encode() * MIN_SECRET) for name in ("k1", "k2", "k3"))
POLICY = PlanPolicy((OLD,), ("reconcile",))
PLAN = Plan(
    "RECONCILE_CLOSE", "BTCUSDT", Side.SELL, qty("0.007"), OrdType.MARKET, True, "reconcile_drift", "reconcile", "416d86940859",
    NOW, NOW + 60_000,
)  # fmt: skip
NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=64)
PLANS = st.builds(
    Plan, NAMES, NAMES, st.sampled_from(Side), st.integers(1, 2**63 - 1).map(Qty), st.sampled_from(OrdType), st.booleans(), NAMES,
    st.just("reconcile"), st.one_of(st.just(""), NAMES), st.just(NOW), st.integers(NOW + 1, 2**63 - 1),
)  # fmt: skip


def code(found: SignedPlan | Refusal) -> str:
    return found.code if isinstance(found, Refusal) else "ok"


def judged(body: str, named: str | None = None, now_ms: int = NOW, policy: PlanPolicy = POLICY) -> str:
    """The code of a text; it comes under the id that it gives itself, if nothing else is said."""
    if named is None:
        named = json.loads(body)["id"]
    return code(verify(body, named, now_ms, policy))


def forged(plan: Any, key: Key = OLD, **changes: Any) -> str:
    """A text that was put together by somebody who has the key; ``plan`` are the fields of the content."""
    content = json.dumps(plan, separators=(",", ":"), ensure_ascii=False)
    body = {"id": hashlib.sha256(content.encode()).hexdigest(), "plan": plan, "key": key.id, "signature": "", **changes}
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    body["signature"] = hmac.new(key.secret, b"haltcore plan 1\0" + text, hashlib.sha256).hexdigest()
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False)


FIELDS: dict[str, Any] = json.loads(to_body(sign(PLAN, OLD)))["plan"]


# --- text, id, signature ------------------------------------------------------------------------------------------------


def test_the_text_of_a_plan() -> None:
    content = (
        '{"decision":"RECONCILE_CLOSE","symbol":"BTCUSDT","side":"sell","qty":"0.007","type":"market","reduce_only":true,'
        '"reason":"reconcile_drift","source":"reconcile","cause":"416d86940859","created_ms":1767225600000,"expires_ms":1767225660000}'
    )
    name = hashlib.sha256(content.encode()).hexdigest()
    unsigned = f'{{"id":"{name}","plan":{content},"key":"k1","signature":""}}'
    mac = hmac.new(OLD.secret, b"haltcore plan 1\0" + unsigned.encode(), hashlib.sha256).hexdigest()
    signed = sign(PLAN, OLD)
    assert plan_id(PLAN) == signed.id == name
    assert to_body(signed) == unsigned[:-2] + mac + '"}' == forged(FIELDS)


@given(PLANS)
def test_there_and_back(plan: Plan) -> None:
    signed = sign(plan, OLD)
    body = to_body(signed)
    assert verify(body, signed.id, NOW, POLICY) == signed
    assert (to_body(signed), sign(plan, OLD)) == (body, signed), "one plan, one text"
    assert len(body.encode()) <= MAX_BODY, "every plan fits"


@given(PLANS, PLANS)
def test_an_id_is_that_of_the_content(one: Plan, two: Plan) -> None:
    assert (plan_id(one) == plan_id(two)) == (one == two)
    assert sign(one, OLD).id == sign(one, NEW).id, "whoever signs it, it is the same plan"
    assert (plan_key(sign(one, OLD)) == plan_key(sign(two, NEW))) == (one == two)


def test_every_field_makes_another_plan() -> None:
    others = {
        "decision": "X", "symbol": "ETHUSDT", "side": Side.BUY, "qty": qty("0.0070001"), "type": OrdType.LIMIT, "reduce_only": False,
        "reason": "x", "source": "x", "cause": "x", "created_ms": NOW + 1, "expires_ms": NOW + 60_001,
    }  # fmt: skip
    assert list(others) == list(attrs.fields_dict(Plan))
    ids = [plan_id(attrs.evolve(PLAN, **{name: value})) for name, value in others.items()]
    assert len({plan_id(PLAN), *ids}) == len(others) + 1


# --- what is refused ------------------------------------------------------------------------------------------------------


def test_an_altered_text_is_never_taken() -> None:
    """Each character is replaced, left out, and doubled."""
    signed = sign(PLAN, OLD)
    body = to_body(signed)
    seen = {}
    for at in range(len(body)):
        for other in ("", body[at] * 2, "0" if body[at] != "0" else "1", "A" if body[at] != "A" else "B"):
            found = code(verify(body[:at] + other + body[at + 1 :], signed.id, NOW, POLICY))
            seen[found] = seen.get(found, 0) + 1
    assert sorted(seen) == ["bad_signature", "malformed", "unknown_key"], "and never ok"


@given(st.one_of(st.text(), st.text(string.printable), st.binary().map(lambda data: data.decode("utf-8", "surrogateescape"))))
def test_any_text_is_judged_without_an_error(text: str) -> None:
    assert code(verify(text, "", NOW, POLICY)) == "malformed"


@pytest.mark.parametrize(
    "body",
    [
        "", "null", "{}", "[" * 8_000, '{"plan":' * 2_000, " " * (MAX_BODY + 1), to_body(sign(PLAN, OLD)) + " ", "\ud800",
        to_body(sign(PLAN, OLD)).replace(":", ": ", 1), to_body(sign(PLAN, OLD)).replace('"0.007"', '"0.0070"'),
        to_body(sign(PLAN, OLD)).replace("BTCUSDT", "BTCUSD\\u0054"),
    ],
)  # fmt: skip
def test_what_is_spelled_otherwise_is_malformed(body: str) -> None:
    assert code(verify(body, plan_id(PLAN), NOW, POLICY)) == "malformed"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("qty", "0"), ("qty", "-0.007"), ("qty", 1), ("symbol", ""), ("symbol", "A\n"), ("side", "SELL"), ("reduce_only", 1), ("type", "x"),
        ("created_ms", NOW + 60_000), ("created_ms", -1), ("expires_ms", NOW), ("expires_ms", 2**63), ("reason", "x" * 257),
        ("cause", "\0"), ("decision", None), ("more", 1),
    ],
)  # fmt: skip
def test_what_no_plan_can_say_is_malformed_even_if_signed(field: str, value: Any) -> None:
    assert judged(forged({**FIELDS, field: value})) == "malformed"


def test_whose_it_is() -> None:
    assert judged(forged(FIELDS)) == "ok"
    assert judged(forged(FIELDS, FOREIGN)) == "unknown_key"
    assert judged(forged(FIELDS, attrs.evolve(FOREIGN, id="k1"))) == "bad_signature"
    assert judged(forged(FIELDS, id="0" * 64)) == "wrong_plan_id"
    assert judged(forged(FIELDS), "0" * 64) == "wrong_plan_id", "a true plan under the name of another"
    assert judged(forged({**FIELDS, "source": "attacker"})) == "unknown_source"
    for signature in ("", "é" * 64, "\ud800", to_body(sign(PLAN, OLD))[-66:-2].upper()):
        bad = attrs.evolve(sign(PLAN, OLD), signature=signature)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("haltcore.fsm.plan._read", lambda _, bad=bad: bad)
            assert code(verify("", bad.id, NOW, POLICY)) == "bad_signature"


def test_the_signature_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda one, two: compared.append((one, two)) or real(one, two))
    assert judged(forged(FIELDS)) == "ok"
    assert len(compared) == 1


def test_its_time() -> None:
    body = to_body(sign(PLAN, OLD))
    moments = {NOW: "ok", NOW - 5_000: "ok", NOW - 5_001: "from_the_future", NOW + 59_999: "ok", NOW + 60_000: "expired"}
    assert {at: judged(body, now_ms=at) for at in moments} == moments
    assert isinstance(authentic(body, plan_id(PLAN), POLICY), SignedPlan), "whatever the time"


def test_the_first_fault_is_named() -> None:
    """The order of the table: what a forger can learn is that the signature is bad."""
    wrong = {**FIELDS, "source": "attacker", "created_ms": 0, "expires_ms": 1}
    assert judged(forged(wrong, attrs.evolve(FOREIGN, id="k1"), id="0" * 64)) == "bad_signature"
    assert judged(forged(wrong, id="0" * 64)) == "wrong_plan_id"
    assert judged(forged(wrong)) == "unknown_source"
    assert judged(forged({**wrong, "source": "reconcile"})) == "expired"


def test_keys_are_rotated_without_a_gap() -> None:
    under_old, under_new = to_body(sign(PLAN, OLD)), to_body(sign(PLAN, NEW))
    both = attrs.evolve(POLICY, keys=(OLD, NEW))
    after = attrs.evolve(POLICY, keys=(NEW,))
    assert [judged(under_old, policy=policy) for policy in (POLICY, both, after)] == ["ok", "ok", "unknown_key"]
    assert [judged(under_new, policy=policy) for policy in (POLICY, both, after)] == ["unknown_key", "ok", "ok"]


# --- what is done -----------------------------------------------------------------------------------------------------------


def test_what_is_done_with_a_delivery() -> None:
    signed = sign(PLAN, OLD)
    body = to_body(signed)
    for deliveries, action in ((1, Action.EXECUTE), (5, Action.EXECUTE), (6, Action.DEAD_LETTER), (100, Action.DEAD_LETTER)):
        decision = decide(signed.id, body, deliveries, NOW, POLICY)
        assert (decision.action, decision.signed) == (action, signed)
    assert decision.code == "deliveries"
    assert "100 times" in decision.text
    late = decide(signed.id, body, 100, NOW + 60_000, POLICY)
    assert (late.action, late.code, late.signed) == (Action.BURY, "expired", signed), "whose it is does not expire"
    early = {at: decide(signed.id, body, at, NOW - 5_001, POLICY) for at in (1, 5, 6)}
    assert [one.action for one in early.values()] == [Action.LEAVE, Action.LEAVE, Action.DEAD_LETTER], "see to the clocks"
    assert {(one.code, one.signed) for one in early.values()} == {("from_the_future", signed)}
    nobodys = decide(signed.id, body[:-1], 1, NOW, POLICY)
    assert (nobodys.action, nobodys.code, nobodys.signed) == (Action.BURY, "malformed", None)
    assert decide("x", body, 1, NOW, POLICY).signed is None


def test_every_refusal_has_a_code_of_the_table() -> None:
    assert len(CODES) == len(dict.fromkeys(CODES)) == 8


@given(st.integers(1, 10**12), st.integers(0, 10**12), st.integers(0, 10**6), st.integers(1, 10**9))
def test_a_guard_outlives_its_plan_by_every_clock(life_ms: int, age_ms: int, skew_ms: int, dedupe_ms: int) -> None:
    """Set by a consumer whose clock is ahead, asked for by one whose clock is behind, each by ``skew_ms``."""
    plan = attrs.evolve(PLAN, expires_ms=NOW + life_ms)
    true_ms = NOW + age_ms
    ttl_ms = dedupe_ttl_ms(plan, true_ms + skew_ms, attrs.evolve(POLICY, skew_ms=skew_ms, dedupe_ms=dedupe_ms))
    assert ttl_ms >= dedupe_ms
    gone_ms = true_ms + ttl_ms
    assert gone_ms - skew_ms >= plan.expires_ms, "when it is gone, the slow clock has the plan expired too"


def test_a_guard_lives_no_longer_than_a_store_can_count() -> None:
    for_ever = attrs.evolve(PLAN, expires_ms=2**63 - 1)
    assert dedupe_ttl_ms(for_ever, NOW, POLICY) == dedupe_ttl_ms(PLAN, NOW, attrs.evolve(POLICY, dedupe_ms=10**30)) == 2**53


def test_what_an_execution_can_come_to() -> None:
    assert sorted(ENDINGS) == sorted(set(Status) - {Status.DEAD_LETTERED, Status.LEFT})
    for status, ending in ENDINGS.items():
        assert ending.acknowledged == (ending.guard is GuardState.DONE), status
    assert ENDINGS[Status.RETRYABLE_RATE_LIMIT].guard is GuardState.REJECTED, "free to be claimed again"
    assert [status.value for status in Status] == [status.name for status in Status], "as the world outside spells them"


# --- what cannot be ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"qty": Qty(0)}, "qty: 0"), ({"qty": Qty(-1)}, "qty"), ({"qty": True}, "qty: True"), ({"symbol": ""}, "symbol"),
        ({"decision": "a\tb"}, "decision"), ({"reason": "x" * 257}, "reason"), ({"side": "sell"}, "side"), ({"reduce_only": None}, "None"),
        ({"expires_ms": NOW}, "expires_ms"), ({"created_ms": 1.5}, "created_ms"), ({"source": "\ud800"}, "source"),
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be(change: dict[str, Any], word: str) -> None:
    with pytest.raises(PlanRefused, match=word):
        attrs.evolve(PLAN, **change)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Key("", b"x" * 32), "no name of a key"), (lambda: Key("k", b"x" * 31), "32 random bytes"),
        (lambda: Key("k", "x" * 32), "32 random bytes"), (lambda: PlanPolicy((), ("a",)), "keys"),
        (lambda: PlanPolicy((OLD, OLD), ("a",)), "a name of its own"), (lambda: PlanPolicy((OLD,), ()), "sources"),
        (lambda: PlanPolicy((OLD,), "reconcile"), "sources: 'reconcile'"), (lambda: PlanPolicy(OLD, ("a",)), "keys: give a tuple"),
        (lambda: PlanPolicy(("k1",), ("a",)), "keys: give a tuple"),
        (lambda: attrs.evolve(POLICY, max_deliveries=0), "max_deliveries: 0"), (lambda: attrs.evolve(POLICY, skew_ms=-1), "skew_ms"),
        (lambda: attrs.evolve(POLICY, dedupe_ms=True), "dedupe_ms: True"),
    ],
)  # fmt: skip
def test_a_key_or_policy_that_cannot_be(make: Any, word: str) -> None:
    with pytest.raises(PlanRefused, match=word):
        make()


def test_a_secret_is_not_shown() -> None:
    assert repr(OLD.secret)[2:-1] not in repr(POLICY)
    secret = "hunter2" * 5
    wrong: list[tuple[Any, Any]] = [
        ("k", b"hunter2"), ("k", secret), (secret.encode(), "k"), (secret.encode(), b"k"), (secret * 2, "k"), (secret, b"k"), (secret, "k"),
        ([secret], b"k" * 32), (secret, None),
    ]  # fmt: skip
    for name, value in wrong:
        with pytest.raises(PlanRefused, match=r"32 random bytes|1 to 64 printable characters") as caught:
            Key(name, value)
        assert "hunter2" not in str(caught.value), "also where the two were swapped"
    with pytest.raises(PlanRefused) as caught:
        PlanPolicy((secret,), ("a",))  # type: ignore[arg-type]
    assert "hunter2" not in str(caught.value)
