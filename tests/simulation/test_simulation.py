"""Seeded simulation: each plan is run twice and must give the same bytes; the checkers of ``world.py`` judge each run.

A failing seed is shown by ``pytest tests/simulation --plans 1 --first-plan SEED``. The plans together must have been worth
running: every kind of trouble must have happened (``test_the_plans_are_not_vacuous``). Planted bugs that only a simulation can find
stand at the end.
"""

from typing import Any

import attrs
import pytest
from haltcore.adapters import durability, engine
from haltcore.fsm import life, order_rules
from haltcore.fsm.order import NO_TRADES

from tests.simulation.world import Lived, Plan, simulate

#: Denials, alerts, refusals and changes of mode that have to occur among the plans.
SEEN = (
    "max_order_value", "max_order_qty", "price_collar", "max_open_orders", "message_rate", "max_inventory_usd", "max_total_notional",
    "self_match", "duplicate_order", "not_reducing", "reduce_only", "restricted", "throttled", "unknown_order_in_slot",
    "freezing edge_collapse", "freezing feed_lost", "freezing breaker_open", "freezing clock_jump", "freezing drawdown", "freezing loss",
    "freezing reject_storm", "freezing peer", "frozen edge_collapse", "active edge_collapse", "freeze_escalated", "limits_changed",
    "override_pending", "override_active", "override_expired", "override_ended", "execution_throttled",
)  # fmt: skip


@pytest.fixture(scope="module")
def lives(request: pytest.FixtureRequest) -> dict[int, Lived]:
    """Every plan, run once."""
    first, count = request.config.getoption("--first-plan"), request.config.getoption("--plans")
    return {seed: _run(Plan.of(seed)) for seed in range(first, first + count)}


def _run(plan: Plan) -> Lived:
    try:
        return simulate(plan)
    except Exception as error:
        raise AssertionError(f"plan {plan.seed} failed; run it alone with `--plans 1 --first-plan {plan.seed}`: {plan}") from error


def test_every_plan_ends_proven_empty(lives: dict[int, Lived]) -> None:
    assert [seed for seed, lived in lives.items() if lived.open_at_venue != 0] == []


def test_the_same_plan_gives_the_same_bytes(lives: dict[int, Lived]) -> None:
    assert [seed for seed, lived in lives.items() if _run(Plan.of(seed)).journal != lived.journal] == []


def test_the_plans_are_not_vacuous(lives: dict[int, Lived], request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--plans") < 200:
        return
    plans = [Plan.of(seed) for seed in lives]
    assert sum(lived.kills for lived in lives.values()) >= 100
    assert sum(1 for lived in lives.values() if lived.kills >= 2) >= 20
    assert sum(lived.places for lived in lives.values()) >= 1_000
    assert sum(1 for plan in plans if plan.faults == "harsh") >= 50
    assert sum(1 for plan in plans if plan.disk_fills) >= 5
    assert sum(1 for plan in plans if plan.store and plan.store_faults) >= 20
    statuses = {report.status for lived in lives.values() for report in lived.proofs}
    assert {"success", "partial", "in_doubt"} <= {status.value for status in statuses}
    assert [code for code in SEEN if not any(code in lived.codes for lived in lives.values())] == []


def test_killed_at_every_boundary_of_one_plan() -> None:
    """One plan, killed at each of its effect boundaries in turn: nothing twice, nothing lost, the sweep finishes."""
    whole = attrs.evolve(Plan.of(1), faults="mild", acts=25, kill_at=(), store=True, store_faults=50, sync_delay_s=0.0005, disk_fills=False)
    boundaries = simulate(whole).boundaries
    assert boundaries >= 60
    kills = [_run(attrs.evolve(whole, kill_at=(at,))).kills for at in range(1, boundaries + 1)]
    # The rest are boundaries of the last life, which closes the story and cannot be killed again.
    assert sum(kills) >= 0.7 * boundaries


_settle = life.settle

# --- canaries: bugs that this layer must find ---------------------------------------------------------------------------


def _finding() -> str:
    """What the first plan that objects has to say."""
    for seed in range(200):
        try:
            simulate(Plan.of(seed))
        except Exception as error:
            return str(error)
    return "nothing"


def test_canary_queued_places_leave_after_the_freeze(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last check before the bytes leave is gone."""
    monkeypatch.setattr(engine, "may_send", lambda *_: "")
    assert "left after the freeze" in _finding()


def test_canary_effects_do_not_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """An order is sent before its record is durable: killed in between, it is unknown to the next life and lives on at the venue."""
    monkeypatch.setattr(durability.Durability, "hold", lambda self, effect: self._hands.begin(effect))
    finding = _finding()
    assert any(text in finding for text in ("placed twice", "the tag was used before", "the venue can come to"))


def test_canary_restart_forgets_what_was_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart does not take requests without outcome for doubtful."""
    monkeypatch.setattr(life, "settle", lambda turn, order, kind, report: kind != "restart" and _settle(turn, order, kind, report))
    assert "no proof" in _finding()


def test_canary_duplicated_trades_count_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trade ids are not looked at."""
    fill = order_rules.fill

    def forgetful(order: Any, event: Any, times: Any) -> Any:
        return fill(attrs.evolve(order, fills=attrs.evolve(order.fills, trades=NO_TRADES)), event, times)

    row = tuple(forgetful if rule is fill else rule for rule in order_rules.TABLE["filled"])
    monkeypatch.setitem(order_rules.TABLE, "filled", row)
    assert "SAFE-3" in _finding()


def test_canary_a_timeout_ends_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A placing request without an answer is taken for refused."""
    row = (order_rules.place_refused, *order_rules.TABLE["place_in_doubt"][1:])
    monkeypatch.setitem(order_rules.TABLE, "place_in_doubt", row)
    finding = _finding()
    assert "SAFE-2" in finding or "the venue can come to" in finding
