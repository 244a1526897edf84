"""A configuration that exists can run; one that cannot is refused with all its faults.

Method: every field is broken, alone and together.
"""

from typing import Any

import attrs
import pytest
from haltcore.effects import Bps, Usd, bps, usd
from haltcore.fsm.config import MAX_MS, Config, ConfigRefused, ForeignPolicy, Limits, StorePolicy, SweepPolicy, VenueTraits, config_faults

GOOD = Config("abcdefg", ("BTCUSDT", "ETHUSDT"))
GROUPS = {"limits": Limits, "venue": VenueTraits, "sweep": SweepPolicy, "store": StorePolicy}


def broken(field: str, value: object) -> Config:
    """GOOD with one field changed; ``field`` may be such as ``sweep.attempts``."""
    group, _, name = field.rpartition(".")
    change: Any = {name: attrs.evolve(getattr(GOOD, group), **{name: value})} if group else {field: value}
    return attrs.evolve(GOOD, **({group: change[name]} if group else change))


def test_the_defaults_run_and_are_those_of_the_design() -> None:
    assert config_faults(GOOD) == []
    sweep = GOOD.sweep
    assert (sweep.lease_wait_ms, sweep.deadline_ms, sweep.base_ms, sweep.cap_ms) == (250, 10_000, 200, 5_000)
    assert (sweep.attempts, sweep.empty_snapshots) == (7, 2)
    assert (GOOD.store.lease_ttl_ms, GOOD.store.lease_renew_ms, GOOD.store.configured) == (30_000, 10_000, False)


FAULTS: list[tuple[str, object, str]] = [
    ("session", "ABCDEFG", "session: 'ABCDEFG' is no tag"),
    ("session", "", "session: '' is no tag"),
    ("session", 1234567, "session: 1234567 is no tag"),
    ("symbols", (), "symbols: empty"),
    ("symbols", "BTCUSDT", "symbols: 'BTCUSDT' is a str; give a tuple"),
    ("symbols", ["BTCUSDT"], "symbols: ['BTCUSDT'] is a list; give a tuple"),
    ("symbols", ("A", "B", "A"), "symbols: one is named twice"),
    ("symbols", ("A", ""), "symbols: '' is no text of 1 to 64 characters"),
    ("symbols", ("A" * 65,), "is no text of 1 to 64 characters"),
    ("symbols", (["A"],), "symbols: ['A'] is no text of 1 to 64 characters"),
    ("limits.max_inventory_usd", 0, "limits.max_inventory_usd: must be above 0"),
    ("limits.max_inventory_usd", 1000.0, "limits.max_inventory_usd: 1000.0 is a float; give usd("),
    ("limits.max_total_notional", -1, "limits.max_total_notional: must be above 0"),
    ("limits.max_total_notional", "1000", "limits.max_total_notional: '1000' is a str; give usd("),
    ("limits.edge_freeze_threshold_bps", 5.0, "limits.edge_freeze_threshold_bps: 5.0 is a float; give bps("),
    ("venue.batch", -1, "venue.batch: -1 is below 0"),
    ("venue.place_expiry_ms", -1, "venue.place_expiry_ms: -1 is below 0"),
    ("sweep.lease_wait_ms", -1, "sweep.lease_wait_ms: -1 is below 0"),
    ("sweep.deadline_ms", 0, "sweep.deadline_ms: 0 is below 1"),
    ("sweep.base_ms", 0, "sweep.base_ms: 0 is below 1"),
    ("sweep.cap_ms", 0, "sweep.cap_ms: 0 is below 1"),
    ("sweep.cap_ms", 2.5, "sweep.cap_ms: 2.5 is a float; give a whole number"),
    ("sweep.attempts", 0, "sweep.attempts: 0 is below 1"),
    ("sweep.attempts", True, "sweep.attempts: True is a bool; give a whole number"),
    ("sweep.empty_snapshots", 0, "sweep.empty_snapshots: 0 is below 1"),
    ("sweep.foreign", "leave", "sweep.foreign: 'leave' is no policy"),
    ("store.lease_ttl_ms", 0, "store.lease_ttl_ms: 0 is below 1"),
    ("store.lease_ttl_ms", 10_000, "store.lease_renew_ms: 10000 is not below store.lease_ttl_ms, 10000"),
    ("store.lease_renew_ms", 0, "store.lease_renew_ms: 0 is below 1"),
    ("store.latch_poll_ms", None, "store.latch_poll_ms: None is a NoneType; give a whole number"),
    ("seed", 2**63, "seed: above 9223372036854775807"),
    ("seed", "7", "seed: '7' is a str; give a whole number"),
    ("evidence_ms", 0, "evidence_ms: 0 is below 1"),
    ("evidence_ms", MAX_MS + 1, f"evidence_ms: above {MAX_MS}"),
    ("venue_lost_ms", 0, "venue_lost_ms: 0 is below 1"),
]


@pytest.mark.parametrize(("field", "value", "text"), FAULTS)
def test_a_fault_is_refused_by_its_name(field: str, value: object, text: str) -> None:
    with pytest.raises(ConfigRefused) as refusal:
        broken(field, value)
    assert str(refusal.value).startswith("the configuration cannot run: ")
    assert text in str(refusal.value)
    assert "; " not in str(refusal.value).replace("; give", "").replace("; name", "").replace("; a lease", "").replace("; 1 to", "")


def test_every_field_that_can_be_wrong_is_checked() -> None:
    fields = [field.name for field in attrs.fields(Config) if field.name not in GROUPS]
    fields += [f"{group}.{field.name}" for group, kind in GROUPS.items() for field in attrs.fields(kind)]
    unchecked = {"venue.cancel_all", "venue.conditional", "store.configured"}  # truth values: any value has one
    assert {field for field, _, _ in FAULTS} == set(fields) - unchecked


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigRefused) as refusal:
        Config("?", (), limits=Limits(max_inventory_usd=usd(-1)), sweep=SweepPolicy(attempts=0), evidence_ms=0)
    for name in ("session", "symbols", "limits.max_inventory_usd", "sweep.attempts", "evidence_ms"):
        assert f"{name}: " in str(refusal.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("limits.max_inventory_usd", usd("0.000001")),
        ("limits.edge_freeze_threshold_bps", bps("-5")),
        ("limits.edge_freeze_threshold_bps", bps("0")),
        ("venue.batch", 0),
        ("sweep.lease_wait_ms", 0),
        ("sweep.foreign", ForeignPolicy.LEAVE),
        ("store.lease_ttl_ms", 10_001),
        ("seed", 2**63 - 1),
        ("seed", -(2**63) + 1),
        ("evidence_ms", MAX_MS),
        ("symbols", ("S" * 64,)),
    ],
)
def test_the_edge_of_what_runs(field: str, value: object) -> None:
    assert config_faults(broken(field, value)) == []


def test_a_raw_number_where_a_scaled_one_is_meant_is_refused() -> None:
    """Found by a new user: a threshold of 5 meant 0.000000000005 bps, so the trigger was off without a word."""
    with pytest.raises(ConfigRefused, match=r'write bps\("5"\)'):
        Config("abcdefg", ("BTCUSDT",), limits=Limits(edge_freeze_threshold_bps=Bps(5)))
    with pytest.raises(ConfigRefused, match=r'write usd\("5000"\)'):
        Config("abcdefg", ("BTCUSDT",), limits=Limits(max_inventory_usd=Usd(5000)))
