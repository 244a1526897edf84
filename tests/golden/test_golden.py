"""Golden logs: what a user's log of an earlier version looks like, byte for byte, replayed for ever.

Each log is a story, told at the function of the same name in ``make.py``. A core that decides otherwise than these logs say makes
existing logs diverge: then the rules have changed, ``RULES`` in ``fsm/record.py`` gets a new number, and new stories join the old
ones. A golden log is never made anew.
"""

import hashlib
from pathlib import Path

import pytest
from haltcore.fsm.replay import Source, replay
from haltcore.fsm.verdict import Kind

HERE = Path(__file__).parent

#: The state at the end, as the version that made the log digested it, and the SHA-256 of the file.
PINNED = {
    "v1/lifecycle": (
        "8c0727551aae455f3cd8752126dc1bfd15f43f1520c7b82a603af206cc2c5252",
        "2cf23963199ea04343053dfbce4a8ce080b80698d2885cbed4d5826bb238eb86",
    ),
    "v1/doubt": (
        "25fb074d11b03c182be3b7275ad06c847d6eb41902081a5fd724a29bf74ba3a7",
        "73e3373b058051a1767deff7bc0c455867d356261bd327d3fc8ea55d4f3c6c42",
    ),
    "v1/freeze": (
        "18a7a3e34bd959ec57add79fe2167947965634edab9dfadcd19a46088faecea9",
        "d75fefb8fb1b6ad4df6e3da29c89150e0afb96c4258ab6bb09c190cf7e8d3c15",
    ),
}


@pytest.mark.parametrize("name", PINNED)
def test_replays_to_the_same_state(name: str) -> None:
    data = (HERE / f"{name}.jsonl").read_bytes()
    verdict = replay([Source(name, [data])], require_seal=True)
    assert verdict.kind is Kind.SAME, verdict
    assert (verdict.digest, hashlib.sha256(data).hexdigest()) == PINNED[name]


def test_every_log_is_pinned() -> None:
    assert sorted(str(path.relative_to(HERE).with_suffix("")) for path in HERE.glob("v*/*.jsonl")) == sorted(PINNED)
