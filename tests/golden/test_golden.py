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
        "23bba23b1784c7671660e3e38bbed2d911d109ecd6d2a2dbca7ba519263b149d",
    ),
    "v1/doubt": (
        "25fb074d11b03c182be3b7275ad06c847d6eb41902081a5fd724a29bf74ba3a7",
        "33eb83a8f31275a38ddaa9debd26a1b8c52f746b6ecc83d5b98783809b25f15c",
    ),
    "v1/freeze": (
        "18a7a3e34bd959ec57add79fe2167947965634edab9dfadcd19a46088faecea9",
        "acdedec064e745c0dd654b92f7ad71feaec6a56cb6bf07869b42538d69bdd843",
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
