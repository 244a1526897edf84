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
    "v3/lifecycle": "6868c9df60a5823200d76b2a48367c2502986e190ce928db80e5ff1c47c056f9",
    "v3/doubt": "38c937b1b42f0e04a64dde1162782ccf22ea26a6938c46729ec49b7b635fa1df",
    "v3/freeze": "8b72338e2484e21017c1cf65ebc35e7ce9725755f2493fa106c9d0d81d26bc0a",
    "v3/overrides": "38fb6ce1c288ba41c9843f12e316951f47107b8a35a52c857ee340ff5938e842",
    "v3/strategies": "1ac0cd5fee1a6931ea67256dc02041505e5ee338eb7ff70bc54a8ba967cdd63f",
    "v3/losses": "d6cf56da23afbbe4443ac1f7224eb2f5c702b1dfd94672f1c70e7494b6040b34",
    "v3/cool_down": "ffd7461833b3dd5b61b9c54bd8fd78bccaa710fd5f0a4ae39fc13af9ee61c7c0",
    "v3/claims": "94b28a3f4ba76e6fd4df2481417bf0e49131b3953170653ee92210b4bffbeee3",
    "v3/once": "49065297ea50358a387c4b424c36001c1d5738519f93bba62ef5f607311e8527",
    "v3/peers": "566d94b31244cb4e30f90936a7d6765d53f92d4a8fcde14599c4a4a6e26aeddd",
    "v3/breaker": "70c700d17d76cc6831835d191daa1144a64dc60dec9d491edd5a988a860d5761",
    "v3/lease_lost": "9258cd685a87d83e3c13903ab4e581fc5d8748e6334ac50e0e1f1a584dbdfe53",
    "v3/store_check": "3d3e6e88adfa44cf850db7cae7a9f42eac1af70fbddb510a442c852e7f3ab977",
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
