"""The generated pages of ``spec/`` say what the program does now.

Method: the generator runs in this process and its pages are compared with those on disk. Since a generator that overlooks something
would be compared with itself, it is also shown sources and tables in which something is new, and has to notice; and the arrows of
the diagrams are held against what the essays and the design promise.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from haltcore.effects import GuardState, Mode
from haltcore.fsm.core import SweepPhase
from haltcore.fsm.events import Freeze, Unfreeze, VerifyOverride
from haltcore.fsm.freeze import HELD_BACK
from haltcore.fsm.order import Phase
from haltcore.fsm.order_change import Note
from haltcore.fsm.order_rules import TABLE
from haltcore.fsm.reports import ACTIONS

SPEC = Path(__file__).parent.parent / "spec"
MODULES = ("generate", "tables", "risk_tables", "coordination_tables", "settings_page", "diagrams", "invariants")


@pytest.fixture(scope="module")
def spec() -> Iterator[dict[str, ModuleType]]:
    """The modules of the generator, which stand beside each other in their own folder."""
    clash = [name for name in MODULES if name in sys.modules]
    assert not clash, f"{clash} are imported already, from elsewhere"
    sys.path.insert(0, str(SPEC))
    try:
        __import__("generate")
        yield {name: sys.modules[name] for name in MODULES}
    finally:
        sys.path.remove(str(SPEC))
        for name in MODULES:
            sys.modules.pop(name, None)


def test_no_page_is_stale(spec: dict[str, ModuleType]) -> None:
    stale = list(spec["generate"].stale())
    assert not stale, f"stale: {stale}; run python spec/generate.py and look at what it changed"


def test_a_changed_page_is_stale_and_check_says_so(
    spec: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generate = spec["generate"]
    monkeypatch.setattr(generate, "FOLDER", tmp_path)
    monkeypatch.setattr(generate, "PAGES", {"tables.md": lambda: "one\n", "risk.md": lambda: "two\n"})
    assert generate.main(["--check"]) == 1
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    (tmp_path / "tables.md").write_text((tmp_path / "tables.md").read_text("utf-8") + "\n", "utf-8")
    capsys.readouterr()
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().err == "spec/tables.md is stale; run python spec/generate.py\n"
    assert generate.main(["--chekc"]) == 2


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(turn):\n    turn.reject('a_code', 'why')", ("Rejected", "a_code", "why")),
        ("def f(turn):\n    turn.alert(Severity.INFO, 'a_code', f'{x} is so')", ("Alert", "a_code", "... is so")),
        ("def f(turn):\n    turn.emit(Denied, 'a_code', 'why', 'X', 0)", ("Denied", "a_code", "why")),
        ("class C:\n    def f(self):\n        return Rejected((1, 0), 'a_code', 'why')", ("Rejected", "a_code", "why")),
    ],
)
def test_every_way_to_make_a_code_is_found(spec: dict[str, ModuleType], source: str, expected: tuple[str, str, str]) -> None:
    (code,) = spec["tables"].codes_in("some", source)
    assert (code.effect, code.code, code.words, code.where) == (*expected, "some.f")


@pytest.mark.parametrize("call", ["turn.reject(name, 'why')", "turn.emit(Alert, s, code, '', 0, '')", "turn.reject(*pair)"])
def test_a_computed_code_that_nobody_explained_stops_the_generator(spec: dict[str, ModuleType], call: str) -> None:
    with pytest.raises(LookupError, match=r"some\.f: .*COMPUTED"):
        list(spec["tables"].codes_in("some", f"def f(turn):\n    {call}"))


def test_a_new_scope_or_trigger_stops_the_generator(spec: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    risk = spec["risk_tables"]
    monkeypatch.setattr(risk, "TRIGGERS", risk.TRIGGERS[1:])
    with pytest.raises(LookupError, match="no row in TRIGGERS"):
        risk.triggers()
    monkeypatch.delitem(risk.SCOPES, "venue")
    with pytest.raises(LookupError, match="SCOPES"):
        risk.scopes()


def test_the_rejections_of_a_command_are_those_of_its_handler_and_helpers(spec: dict[str, ModuleType]) -> None:
    rejections = spec["risk_tables"].rejections
    assert rejections(VerifyOverride) == ["no_change", "same_person", "unknown_override", "who_and_why"]
    assert {"who_and_why", "sweep_running", "unknown_scope"} <= set(rejections(Unfreeze))
    assert rejections(Freeze) == ["unknown_scope"]


def test_every_word_of_the_last_moment_is_listed(spec: dict[str, ModuleType]) -> None:
    listed = "\n".join(spec["tables"].send_codes())
    assert [code for code in (*HELD_BACK, "freeze_over", "not_started") if f"| `{code}` |" not in listed] == []


def test_a_name_that_means_a_code_in_one_module_means_none_elsewhere(spec: dict[str, ModuleType]) -> None:
    source = "def f(turn):\n    _tell(turn, Severity.INFO, 'a_code', override, 'so')"
    assert [code.code for code in spec["tables"].codes_in("operators", source)] == ["a_code"]
    assert list(spec["tables"].codes_in("guards", source)) == []


def test_a_deed_without_conduct_stops_the_generator(spec: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    pages = spec["coordination_tables"]
    monkeypatch.setattr(pages, "MATRIX", {deed: row for deed, row in pages.MATRIX.items() if deed.value != "cancel"})
    with pytest.raises(LookupError, match="cancel"):
        pages.matrix()


def test_the_page_of_coordination_shows_the_rules_and_not_a_copy(spec: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell of the guard is what its rule says, so another rule is another page."""
    pages = spec["coordination_tables"]
    assert "| `in_doubt` | `held` | `mismatch` | `held` | `mismatch` |" in pages.claims()
    monkeypatch.setattr(pages, "on_claim", lambda row, own, same: pages.on_settle(GuardState.DONE, row, own, same))
    assert "| `in_doubt` | `settled`, writes `done` | `lost` | `lost` | `lost` |" in pages.claims()


def test_a_computed_code_of_a_failed_request_stops_the_generator(
    spec: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = spec["coordination_tables"]
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "some.py").write_text("raise StoreFailed(health, name, 'why')", "utf-8")
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    with pytest.raises(LookupError, match="some: the code name"):
        pages.other_codes()


def test_a_new_note_stops_the_generator(spec: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(ACTIONS, Note.GONE)
    with pytest.raises(LookupError, match="GONE"):
        spec["tables"].notes()


def test_a_row_that_is_not_tried_stops_the_generator(spec: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLE, "new_row", TABLE["accepted"])
    with pytest.raises(LookupError, match="new_row"):
        spec["diagrams"].order_arrows()


def test_a_scenario_that_no_longer_fits_stops_the_generator(spec: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spec["diagrams"], "SCENARIOS", ("begin none",))
    with pytest.raises(LookupError, match="word 2, 'none'"):
        spec["diagrams"].step_arrows()


def test_the_order_diagram_ends_only_on_evidence(spec: dict[str, ModuleType]) -> None:
    """No time-out, lost reply or refused cancel leads to an end; what was refused or cancelled stays so."""
    arrows = spec["diagrams"].order_arrows()
    ended = {"CANCELLED", "EXPIRED", "REJECTED"}
    for (before, after), labels in arrows.items():
        assert before not in ended, (before, after)
        if after in ended | {"FILLED"}:
            assert not [label for label in labels if label.endswith("_in_doubt") or label.startswith("cancel_") or label == "unanswered"]
    assert {phase for arrow in arrows for phase in arrow} == {phase.name for phase in Phase}
    assert arrows["FILLED", "WORKING"], "a busted trade opens a filled order again"


def test_the_mode_and_sweep_diagrams_show_every_mode_and_phase(spec: dict[str, ModuleType]) -> None:
    modes, sweeps = spec["diagrams"].step_arrows()
    assert {mode for arrow in modes for mode in arrow} == {mode.name for mode in Mode}
    assert {phase for arrow in sweeps for phase in arrow} == {phase.name for phase in SweepPhase} | {"[*]"}
    assert {before for before, after in modes if after == "FROZEN"} == {"FREEZING"}
    assert modes["FREEZING", "FROZEN"] == ["nothing listed"], "only a proof freezes"
    assert ("FROZEN", "REDUCE_ONLY") not in modes


def test_a_test_module_is_credited_with_what_it_checks(spec: dict[str, ModuleType]) -> None:
    mentions = spec["invariants"].mentions
    assert mentions("from haltcore.fsm.invariants import broken\n") == ["broken"]
    assert mentions("from haltcore.fsm import broken_state, step\n") == ["broken_state"]
    assert mentions("x = 'breaks SAFE-1: so'") == ["SAFE-1"]
    assert mentions("x = 'SAFE-99'\nbroken = 3") == []
