"""What the operator's verbs print. Goal: each line says what the answer holds, and how a shell would say it.

Method: answers made by hand; those of a running session are in ``test_cli_operate.py``.
"""

from typing import Any

import pytest
from haltcore.adapters import operator_lines as lines

T0 = 1_700_000_000 * 10**9


def trigger(number: int) -> dict[str, Any]:
    return {"trigger": "loss", "by": "haltcore", "record": number, "at_ns": T0, "reason": f"reason {number}"}


def frozen(scope: str, triggers: int = 1, lifts_itself: bool = False, lifts_in_s: float | None = None, mode: str = "frozen") -> list[str]:
    """The lines under the state of a scope."""
    state = {"scope": scope, "mode": mode, "triggers": [trigger(n) for n in range(triggers)], "lifts_itself": lifts_itself}
    return list(lines._freeze_lines({**state, "lifts_in_s": lifts_in_s}))


@pytest.mark.parametrize(
    ("scope", "option"), [("", "no option"), ("venue", "--venue"), ("strategy:mm", "--strategy mm"), ("BTCUSDT", "--symbol BTCUSDT")]
)
def test_how_a_shell_names_a_scope(scope: str, option: str) -> None:
    assert lines.option(scope) == option
    told = f" {option}" if scope else ""
    assert frozen(scope) == [f"needs a person: haltcore unfreeze{told} --who NAME --why TEXT"]


def test_what_has_to_happen_for_a_freeze_to_end() -> None:
    assert frozen("", lifts_itself=True, lifts_in_s=1_234.4) == ["lifts itself in 1,234 s, if its cause is gone by then"]
    assert frozen("", lifts_itself=True, lifts_in_s=0.0) == ["lifts itself in 0 s, if its cause is gone by then"]
    assert frozen("", lifts_itself=True) == ["lifts itself some time after the proof, if its cause is gone by then"]
    assert frozen("", 0, mode="reduce_only") == []


def test_many_triggers_are_cut() -> None:
    told = frozen("", 14)
    assert told[0] == "also loss by haltcore (record 1, 22:13:20.000): reason 1"
    assert told[9:] == ["also loss by haltcore (record 10, 22:13:20.000): reason 10", "and 3 more; -o json has them all",
                        "needs a person: haltcore unfreeze --who NAME --why TEXT"]  # fmt: skip


def test_a_rule_has_one_figure_a_line() -> None:
    rules = [{"applies": "account", "figures": {}}, {"applies": "symbol X", "figures": {"max_open_orders": "3", "max_order_qty": "1"}}]
    told = lines.limits({"limits": {"rules": rules, "overrides": [], "restricted": [], "throttled": []}})
    assert list(told) == ["account: no limit", "symbol X: max_open_orders 3", "symbol X: max_order_qty 1"]


@pytest.mark.parametrize(
    ("store", "words"),
    [
        ({"store": "ok"}, "ok"),
        ({"store": "failing", "store_since_ns": T0, "store_code": "store_auth"}, "failing since 22:13:20.000 UTC, store_auth"),
        ({"store": "failing", "store_since_ns": T0, "store_code": ""}, "failing since 22:13:20.000 UTC"),
        ({"store": "unfit", "store_faults": ["it evicts", "it forgets"]}, "unfit: it evicts; it forgets"),
    ],
)
def test_how_the_store_is_and_why(store: dict[str, Any], words: str) -> None:
    assert lines._store(store) == words
