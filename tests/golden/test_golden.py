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
    "v2/lifecycle": "e678ce2a91722639e1b918383389cfb2b5fb17f346f94b4c6a5bd92fd7b50cc6",
    "v2/doubt": "ec68e6a6a7ef340eb2e65e3a0e29b22239b04b6f70c2cd4ce5d242076629d7a5",
    "v2/freeze": "6685783bd5c9ccd1203c19fc3f87d6f521f57b7739314fb12b67064ea6cf5fc8",
    "v2/overrides": "e15aa0ec1f0ad492856ff85a280d84cd694b63a92d3d3024ffe98839328e780b",
    "v2/strategies": "d78ed9701f4473d580ddc94a5e6e41379be2b6b854ebae5d574cb11939c6c28a",
    "v2/losses": "389c119976ba1e2cceda0557beee8dc043691b6ed9d53b5ac24f8bce06b8c365",
    "v2/cool_down": "c78bd73b967d7be2db0266d0f7d7a910077b7c5ae0c964423cf0421d3c58039d",
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
