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
    "v2/lifecycle": "6aa6d74d337ef600830e897bf9833e2e90965fcbf05d67432643419078dc3433",
    "v2/doubt": "30d23fcbcdaa845d843ce40e503bb414509267e3cd4340b391dc0aa1d10bf2e0",
    "v2/freeze": "0861cf20777fae2082a0a282d2fd10cb949262ec6a7db4eb9f3af8ad6d1c95d8",
    "v2/overrides": "9427ae6dfbb5da4e94ea14d74af7070f8dc0847d42f4084c70660c9197f55b4c",
    "v2/strategies": "48c7a20866435ef3f84195c7464abaf4763d1da71c54a45987e58f59fcc6589d",
    "v2/losses": "a69ac18c6e6c4671448332b7077e98cdcec4b5c04de82d13cc2ecd36f09dd7c3",
    "v2/cool_down": "72c78e7b4e08c286b2b44faf48c169dc7770ec4ec979dc410837ad45e199368f",
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
