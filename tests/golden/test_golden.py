"""Golden logs: what a user's log of an earlier version looks like, byte for byte, replayed for ever.

Each log is a story, told at the function of the same name in ``make.py``. A core that decides otherwise than these logs say makes
existing logs diverge: then the rules have changed, ``RULES`` in ``fsm/record.py`` gets a new number, and new stories join the old
ones. A golden log is never made anew.

Logs of an old format are compared by their effects alone, since their digests are over encodings that no longer exist; and a later core
may count more than the one that wrote them. Those of the present format have to be the same to the byte.
"""

import hashlib
from pathlib import Path

import pytest
from haltcore.fsm.replay import Source, replay
from haltcore.fsm.verdict import Kind

HERE = Path(__file__).parent

#: The SHA-256 of each file. The state at the end is pinned with it: a file of the present format ends with its digest.
PINNED = {
    "v1/lifecycle": "23bba23b1784c7671660e3e38bbed2d911d109ecd6d2a2dbca7ba519263b149d",
    "v1/doubt": "33eb83a8f31275a38ddaa9debd26a1b8c52f746b6ecc83d5b98783809b25f15c",
    "v1/freeze": "acdedec064e745c0dd654b92f7ad71feaec6a56cb6bf07869b42538d69bdd843",
}
#: What the logs of an old format replay to. The two that are not the same have a denial in them: each is counted since rules 2.
OLD = {"v1/lifecycle": Kind.OTHER_TELEMETRY, "v1/doubt": Kind.SAME, "v1/freeze": Kind.OTHER_TELEMETRY}


@pytest.mark.parametrize("name", PINNED)
def test_the_decisions_are_the_same(name: str) -> None:
    data = (HERE / f"{name}.jsonl").read_bytes()
    assert hashlib.sha256(data).hexdigest() == PINNED[name]
    verdict = replay([Source(name, [data])], require_seal=True)
    assert verdict.kind is OLD.get(name, Kind.SAME), verdict


def test_every_log_is_pinned() -> None:
    assert sorted(str(path.relative_to(HERE).with_suffix("")) for path in HERE.glob("v*/*.jsonl")) == sorted(PINNED)
