"""The metrics table is what gets exposed: all of it from the start, with closed labels, in the right units, and it never raises.

Method: the exposition is read back as text, sample by sample, and compared with the table. The names are checked by rules of our own
always, and by promtool where it is installed. A session that trades is scraped all the while from another thread. What the gauges of the
state say is the business of ``test_gauges.py``.
"""

import asyncio
import re
import shutil
import subprocess
import sys
import threading
import urllib.request

import attrs
import pytest
from haltcore.adapters import metrics as module
from haltcore.adapters.gauges import GAUGES
from haltcore.adapters.metrics import COUNTER, GAUGE, HISTOGRAM, METRIC_NAMES, OTHER, SYMBOLS, TABLE, UNKNOWN, Metrics, Spec
from haltcore.effects import Alert, Effect, Metric, Severity, SweepStatus, Trigger, usd
from haltcore.fsm.core import EMPTY
from haltcore.fsm.limits import Limits
from haltcore.fsm.risk import CHECKS
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from tests.helpers import BTC, ETH, Session, config
from tests.runner_rig import LOG, Rig, buy, later, simulated

CONFIGURED = ("BTCUSDT", "ETHUSDT")
#: promtool's finding about the one name that is kept although its unit is no base unit.
KNOWN_FINDING = "mm_cancel_all_duration_ms"


def samples(metrics: Metrics) -> dict[str, float]:
    lines = [line.rsplit(" ", 1) for line in metrics.text().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def tell(metrics: Metrics, name: str, value: int, label: str = "") -> None:
    assert asyncio.run(metrics.perform(Metric((1, 0), name, value, label))) == ()


def expected_series(spec: Spec) -> list[str]:
    values = (*CONFIGURED, OTHER) if spec.values is SYMBOLS else spec.values
    # The exposition sorts the labels of a series by name.
    pairs = [sorted(zip(spec.label.split(","), value.split(","), strict=True)) for value in values]
    labels = [",".join(f'{name}="{word}"' for name, word in pair) for pair in pairs]
    if spec.kind != HISTOGRAM:
        return [f"{spec.name}{{{label}}}" for label in labels] or [spec.name]
    assert not labels
    buckets = [f'{spec.name}_bucket{{le="{float(bound)}"}}' for bound in spec.buckets]
    return [*buckets, f'{spec.name}_bucket{{le="+Inf"}}', f"{spec.name}_count", f"{spec.name}_sum"]


def test_every_series_exists_before_any_event_and_no_other() -> None:
    expected = {series: 0.0 for spec in (*TABLE, UNKNOWN) for series in expected_series(spec)}
    assert samples(Metrics(CONFIGURED)) == expected


def test_the_label_values_are_those_of_the_core() -> None:
    by_name = {spec.name: spec for spec in TABLE}
    assert by_name["mm_cancel_all_total"].values == tuple(SweepStatus)
    assert by_name["freeze_triggered_total"].values == tuple(Trigger)
    assert by_name["mm_orders_denied_total"].values == tuple(check.code for check in CHECKS)
    assert {"frozen", "sweeping", "max_inventory_usd", "daily_loss", "off_tick"} <= set(by_name["mm_orders_denied_total"].values)
    assert by_name["mm_cancel_all_skipped_total"].values == ("lock_held_verified_empty", "not_frozen", "duplicate_epoch")
    assert by_name["mm_cancel_all_duration_seconds"].buckets == (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60)


def lint(spec: Spec) -> list[str]:
    """The naming rules of Prometheus, as promtool has them, and two of our own about help texts and label sets."""
    faults = []
    if not re.fullmatch(r"[a-z][a-z0-9_]*", spec.name):
        faults.append("characters")
    if (spec.kind == COUNTER) != spec.name.endswith("_total"):
        faults.append("only counters, and all of them, end in _total")
    if spec.name.endswith(("_count", "_sum", "_bucket")) or re.search(r"_(counter|gauge|histogram)(_|$)", spec.name):
        faults.append("name contains what the type says already")
    if re.search(r"_(ms|milliseconds|minutes|hours|us|ns|percent)(_|$)", spec.name):
        faults.append("no base unit")
    if not spec.help.endswith("."):
        faults.append("help")
    if bool(spec.label) != bool(spec.values):
        faults.append("label without closed values")
    if (spec.kind == HISTOGRAM) != bool(spec.buckets) or list(spec.buckets) != sorted(spec.buckets):
        faults.append("buckets")
    return faults


def test_names_keep_the_rules_but_for_the_one_that_is_kept() -> None:
    gauges = [Spec(gauge.name, GAUGE, gauge.help, " ".join(gauge.labels), ("any",) if gauge.labels else ()) for gauge in GAUGES]
    assert {spec.name: lint(spec) for spec in (*TABLE, UNKNOWN, *gauges) if lint(spec)} == {KNOWN_FINDING: ["no base unit"]}
    names = [*METRIC_NAMES, UNKNOWN.name, *(gauge.name for gauge in GAUGES)]
    assert len(dict.fromkeys(names)) == len(names) == len(TABLE) + 1 + len(GAUGES)


@pytest.mark.parametrize(
    "spec",
    [
        Spec("Bad", GAUGE, "x."), Spec("bad", COUNTER, "x."), Spec("bad_total", GAUGE, "x."), Spec("bad", GAUGE, ""),
        Spec("bad_gauge", GAUGE, "x."), Spec("bad_minutes", GAUGE, "x."), Spec("bad", GAUGE, "x.", "label"),
        Spec("bad", HISTOGRAM, "x."), Spec("bad", HISTOGRAM, "x.", buckets=(2, 1)),
    ],
)
def test_the_rules_find_what_breaks_them(spec: Spec) -> None:
    assert len(lint(spec)) == 1


def test_promtool_agrees_where_it_is_installed() -> None:
    metrics = Metrics(CONFIGURED)
    metrics.watch(lambda: Session(limits=Limits(max_inventory_usd=usd(1))).core)
    text = metrics.text()
    assert text.endswith("\n")
    assert "mm_limit_utilization_ratio{" in text
    promtool = shutil.which("promtool")
    if promtool is None:
        print("promtool is not on PATH: its check of the names did not run; our own rules did")
        return
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    findings = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    assert findings
    assert [line for line in findings if not line.startswith(KNOWN_FINDING)] == []


def changed(name: str, value: int, label: str = "") -> dict[str, float]:
    metrics = Metrics(CONFIGURED)
    before = samples(metrics)
    tell(metrics, name, value, label)
    return {series: now for series, now in samples(metrics).items() if now != before[series]}


@pytest.mark.parametrize(
    ("name", "value", "label", "expected"),
    [
        ("mm_cancel_all_total", 1, "partial", {'mm_cancel_all_total{status="partial"}': 1}),
        ("mm_cancel_all_orders_total", 40, "", {"mm_cancel_all_orders_total": 40}),
        ("mm_cancel_all_remaining_orders", 3, "", {"mm_cancel_all_remaining_orders": 3}),
        ("mm_freeze_epoch", -1, "", {"mm_freeze_epoch": -1}),
        ("freeze_triggered_total", 1, "edge_collapse", {'freeze_triggered_total{reason="edge_collapse"}': 1}),
        ("mm_fence_rejected_total", 1, "cancel_all", {'mm_fence_rejected_total{effect="cancel_all"}': 1}),
        ("mm_cancel_all_per_order_failure_total", 2, "ETHUSDT", {'mm_cancel_all_per_order_failure_total{symbol="ETHUSDT"}': 2}),
        ("mm_cancel_all_per_order_failure_total", 2, "DOGEUSDT", {'mm_cancel_all_per_order_failure_total{symbol="other"}': 2}),
        (
            "mm_cancel_all_last_run_timestamp_seconds", 1_767_225_600_250_000_000, "",
            {"mm_cancel_all_last_run_timestamp_seconds": 1_767_225_600.25},
        ),
    ],
)
def test_an_effect_changes_its_own_series_only(name: str, value: int, label: str, expected: dict[str, float]) -> None:
    assert changed(name, value, label) == expected


@pytest.mark.parametrize(("name", "unit"), [("mm_cancel_all_duration_ms", "500.0"), ("mm_cancel_all_duration_seconds", "0.5")])
def test_durations_come_in_nanoseconds(name: str, unit: str) -> None:
    after = changed(name, 400_000_000)
    bounds = [series for series in after if "_bucket" in series]
    assert bounds[0] == f'{name}_bucket{{le="{unit}"}}'
    assert after[f"{name}_sum"] == float(unit) * 0.8
    assert after[f"{name}_count"] == 1


@pytest.mark.parametrize(
    ("name", "value", "label"),
    [
        ("no_such_metric", 1, ""),
        ("", 1, ""),
        ("mm_cancel_all_total", 1, "no_such_status"),
        ("mm_cancel_all_total", 1, ""),
        ("mm_freeze_active", 1, "label_for_one_without"),
        ("mm_cancel_all_orders_total", -1, ""),
        ("mm_cancel_all_duration_ms", -1, ""),
        ("mm_freeze_epoch", 10**400, ""),
        (UNKNOWN.name, 1, ""),
    ],
)
def test_what_does_not_fit_is_counted_and_nothing_else(name: str, value: int, label: str) -> None:
    assert changed(name, value, label) == {UNKNOWN.name: 1}


@given(st.sampled_from([*METRIC_NAMES, "x"]), st.integers(), st.sampled_from(["", "success", "BTCUSDT", "x\n", "\x00"]))
def test_it_never_raises_and_never_makes_a_series(name: str, value: int, label: str) -> None:
    tell(SHARED, name, value, label)
    assert list(samples(SHARED)) == NAMES_OF_SHARED


SHARED = Metrics(CONFIGURED)
NAMES_OF_SHARED = list(samples(SHARED))


def test_other_effects_are_none_of_its_business() -> None:
    metrics = Metrics(CONFIGURED)
    before = metrics.text()
    stranger: Effect = Alert((1, 0), Severity.INFO, "CODE", "text", 0, "")
    assert asyncio.run(metrics.perform(stranger)) == ()
    assert metrics.text() == before


def test_a_symbol_named_other_is_no_clash() -> None:
    assert 'mm_cancel_all_per_order_success_total{symbol="other"}' in samples(Metrics((*CONFIGURED, OTHER)))


def test_it_can_appear_in_the_registry_of_the_program() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(CONFIGURED, registry)
    assert registry.get_sample_value("mm_freeze_active") == 0
    tell(metrics, "mm_freeze_active", 1)
    assert registry.get_sample_value("mm_freeze_active") == 1
    with pytest.raises(ValueError, match="Duplicated"):
        Metrics(CONFIGURED, registry)


# --- the gauges of the state ------------------------------------------------------------------------------------------


def test_a_state_that_is_watched_is_read_at_each_scrape() -> None:
    metrics, session = Metrics(CONFIGURED), Session(limits=Limits(max_open_orders=4))
    before = samples(metrics)
    core = EMPTY
    metrics.watch(lambda: core)
    # Before a session has begun there is nothing to say.
    assert samples(metrics) == before
    core = session.core
    used, count = 'mm_limit_utilization_ratio{limit="max_open_orders",scope="account"}', f'mm_open_orders{{scope="{BTC}"}}'
    assert (samples(metrics)[used], samples(metrics)[count]) == (0, 0)
    session.submit()
    core = session.core
    assert (samples(metrics)[used], samples(metrics)[count]) == (0.25, 1)
    # What is recorded is not touched by what is read.
    assert {name: value for name, value in samples(metrics).items() if name in before} == before


def test_another_session_takes_the_place_of_the_first() -> None:
    metrics, one, two = Metrics(CONFIGURED), Session(), Session()
    one.submit()
    metrics.watch(lambda: one.core)
    metrics.watch(lambda: two.core)
    assert samples(metrics)[f'mm_open_orders{{scope="{BTC}"}}'] == 0


def test_a_gauge_that_cannot_be_read_is_left_out_and_harms_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*_: object) -> dict[tuple[str, ...], float]:
        raise ZeroDivisionError

    broken = tuple(attrs.evolve(gauge, read=failing) if gauge.name == "mm_gain_usd" else gauge for gauge in GAUGES)
    monkeypatch.setattr(module, "GAUGES", broken)
    metrics = Metrics(CONFIGURED)
    metrics.watch(lambda: Session().core)
    names = {series.split("{")[0] for series in samples(metrics)}
    assert "mm_gain_usd" not in names
    assert {"mm_exposure_usd", "mm_open_orders", "freeze_triggered_total"} <= names
    assert "mm_gain_usd cannot be read" in caplog.text


def test_the_gauges_appear_in_the_registry_of_the_program_too() -> None:
    registry = CollectorRegistry()
    Metrics(CONFIGURED, registry).watch(lambda: Session().core)
    assert registry.get_sample_value("mm_exposure_usd", {"scope": "account"}) == 0


@simulated
async def test_a_session_is_scraped_while_it_runs() -> None:
    metrics = Metrics((BTC, ETH))
    scrapes: list[dict[str, float]] = []
    done = threading.Event()

    def scrape() -> None:
        while not done.is_set():
            scrapes.append(samples(metrics))

    async with Rig(conf=config(limits=Limits(max_open_orders=40)), metrics=metrics) as rig:
        thread = threading.Thread(target=scrape)
        thread.start()
        try:
            for number in range(30):
                seen = len(scrapes)
                while len(scrapes) < seen + 2 and thread.is_alive():
                    await buy(rig.bot, str(100 - number), wait=False)
                    await later(0.001)
                    if rig.bot.status().open_orders > 20:
                        await rig.bot.cancel(rig.bot.orders()[0])
        finally:
            done.set()
            thread.join()
        await later(1)
        last = samples(metrics)
        assert last['mm_open_orders{scope="account"}'] == rig.bot.status().open_orders > 0
        assert last['mm_limit_utilization_ratio{limit="max_open_orders",scope="account"}'] == rig.bot.status().open_orders / 40
    assert len(scrapes) >= 60
    for found in scrapes:
        # Each scrape is of one state: its parts agree with each other.
        count = found['mm_open_orders{scope="account"}']
        assert count == found[f'mm_open_orders{{scope="{BTC}"}}'] + found[f'mm_open_orders{{scope="{ETH}"}}']
        assert found['mm_limit_utilization_ratio{limit="max_open_orders",scope="account"}'] == count / 40
        assert found[UNKNOWN.name] == 0
    # Looking is no event.
    assert b"mm_limit_utilization_ratio" not in rig.disk.content[LOG]


# --- over HTTP --------------------------------------------------------------------------------------------------------


def test_http_exposition_on_loopback() -> None:
    metrics = Metrics(CONFIGURED)
    port = metrics.serve(0)
    try:
        with pytest.raises(RuntimeError, match="served already"):
            metrics.serve(0)
        tell(metrics, "mm_freeze_active", 1)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
            assert reply.read().decode() == metrics.text()
    finally:
        metrics.close()
        metrics.close()
    with pytest.raises(OSError, match="refused"):
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{port}/metrics", timeout=10)


def test_importing_the_module_does_not_import_the_client_library() -> None:
    code = "import sys, haltcore.adapters.metrics; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
