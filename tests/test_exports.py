"""What ``haltcore.adapters`` offers. Goal: every name that it lists is there, importing it loads nothing that only some programs need, and
one ``except`` is enough for all that it raises.

Method: the list is gone through; a fresh interpreter imports the package and says what it has loaded; each error is made once.
"""

import ast
import subprocess
import sys
from pathlib import Path

import haltcore.adapters
import pytest
from haltcore import adapters
from haltcore.adapters.settings_file import Fault


@pytest.mark.parametrize("name", haltcore.adapters.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(haltcore.adapters, name).__module__.startswith("haltcore.")


@pytest.mark.parametrize(
    "name",
    [
        "Absent", "BreakerOpen", "Done", "HaltcoreError", "JobBlocked", "NoStoreUrl", "NotExecuted", "NothingHappened", "Once",
        "SettingsRefused", "Unknown", "ValueRefused", "order_entity_id",
    ],
)  # fmt: skip
def test_what_a_job_needs_is_listed(name: str) -> None:
    assert name in haltcore.adapters.__all__


@pytest.mark.parametrize(
    ("error", "code", "executed"),
    [
        (adapters.OrderDenied("frozen", "why"), "frozen", False),
        (adapters.NotExecuted("guard_held", "why", None, 5), "guard_held", None),
        (adapters.NotExecuted("guard_frozen", "why"), "guard_frozen", False),
        (adapters.NothingHappened("why"), "nothing_happened", False),
        (adapters.JobBlocked("breaker_open", "why", 5), "breaker_open", False),
        (adapters.BreakerOpen("breaker_open", "why", 5), "breaker_open", False),
        (adapters.NoStoreUrl("why"), "no_store_url", False),
        (adapters.SettingsRefused([Fault("why", 0, "", "no")]), "settings_refused", False),
    ],
)
def test_errors_have_one_base_with_a_code_a_reason_and_what_is_certain(
    error: adapters.HaltcoreError, code: str, executed: bool | None
) -> None:
    assert isinstance(error, adapters.HaltcoreError)
    assert (error.code, error.executed, error.client_id) == (code, executed, "")
    assert error.reason.startswith("why")
    assert error.reason in str(error)


def test_errors_of_settings_are_still_value_errors_whose_text_is_for_people() -> None:
    assert issubclass(adapters.NoStoreUrl, ValueError)
    assert issubclass(adapters.SettingsRefused, ValueError)
    assert str(adapters.NoStoreUrl("where is it?")) == "where is it?"
    assert str(adapters.SettingsRefused([Fault("a.toml", 3, "", "odd")])) == "a.toml: 1 fault\na.toml:3: odd"


def test_no_module_takes_what_is_private_to_another() -> None:
    taken = [
        (path.name, name.name)
        for path in sorted(Path(haltcore.adapters.__file__).parent.glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
        for name in node.names
        if name.name.startswith("_")
    ]
    assert taken == []


def test_what_comes_later_is_listed() -> None:
    assert set(haltcore.adapters._LATER) < set(haltcore.adapters.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = haltcore.adapters.Nothing


def test_what_only_some_programs_need_is_not_loaded() -> None:
    program = (
        "import sys, haltcore.adapters\n"
        "later = set(haltcore.adapters._LATER.values())\n"
        "print([m for m in sys.modules if m.split('.')[0] == 'redis' or m.removeprefix('haltcore.adapters.') in later])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
