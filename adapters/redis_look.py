"""What lies in a Redis or Valkey for an account, for a person to read: as it is there, row by row, and nothing is written.

A bot asks for what it needs by the operations of ``coordination.py``; a person who has to understand a store, perhaps while no bot runs,
needs the rest as well: who set a freeze, who has the lease, which breakers there are, how many guards. A row that cannot be read is shown
as it is.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from attrs import frozen

from ..fsm.breaker_text import BreakerTextRefused, from_text
from .latch_row import Said, parsed
from .redis_link import Line, Link
from .redis_store import account_tag
from .redis_url import read_url

#: A person waits longer than a bot.
TIMEOUT_MS: Final = 2_000
#: So many keys are looked at in one request.
_COUNT: Final = 1_000
#: Stands for what a row is, where nobody can tell.
UNREADABLE: Final = "unreadable"
_BREAKER: Final = "state:breaker:"
#: Kinds of keys that are counted.
KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {"guards": "idempotency:effect:", "holds": "hold:", "cool-downs": "cool:", "streams": "stream:"}
)


@frozen
class LeaseSeen:
    """A lease as it was granted. ``left_ms`` is by the store's clock, 0 for one that has run out."""

    name: str
    holder: str
    epoch: int
    counter: int
    left_ms: int


@frozen
class LatchSeen:
    """A row of the latch: what each session has said. ``unnamed``: others stand behind it, too. ``unreadable`` is the text of a row that
    this version cannot read."""

    scope: str
    words: tuple[Said, ...]
    unnamed: bool
    unreadable: str


@frozen
class BreakerSeen:
    """A shared breaker, as it was put last: what has run out since says so by ``until_ns``."""

    job: str
    mode: str
    by: str
    why: str
    since_ns: int
    until_ns: int


@frozen
class Seen:
    """All that an account has in a store. ``epoch`` is the store's, 0 if nobody has asked it yet. ``kinds`` counts the keys beside: guards,
    holds, cool-downs, streams."""

    epoch: int
    latch: tuple[LatchSeen, ...]
    leases: tuple[LeaseSeen, ...]
    breakers: tuple[BreakerSeen, ...]
    kinds: Mapping[str, int]


async def look(url: str, account: str) -> Seen:
    """What is there. Raises UrlRefused, ValueError for a name that no account can have, and StoreFailed."""
    tag, link = account_tag(account), Link(read_url(url), TIMEOUT_MS)
    try:
        clock = await link.talk(lambda line: line.command("TIME"))
        fields = await _hash(link, f"{tag}:account")
        names = await _names(link, tag)
        breakers = [_breaker(name, await _hash(link, f"{tag}:{_BREAKER}{name}")) for name in _named(names, _BREAKER)]
    finally:
        await link.close()
    now_us = int(clock[0]) * 1_000_000 + int(clock[1])
    return Seen(
        int(fields.get("epoch", 0)),
        tuple(_latched(name, fields[f"latch:{name}"]) for name in _named(fields, "latch:")),
        tuple(_lease(name, fields[f"lease:{name}"], now_us) for name in _named(fields, "lease:")),
        tuple(breakers),
        {kind: len(_named(names, prefix)) for kind, prefix in KINDS.items()},
    )


async def _hash(link: Link, key: str) -> dict[str, str]:
    found = await link.talk(lambda line: line.command("HGETALL", key))
    return dict(zip(found[::2], found[1::2], strict=True))


async def _names(link: Link, tag: str) -> list[str]:
    """The keys of the account, without its tag. A scan may tell one twice."""
    names: dict[str, None] = {}
    cursor = "0"

    async def some(line: Line) -> str:
        found, keys = await line.command("SCAN", cursor, "MATCH", f"{tag}:*", "COUNT", _COUNT)
        names.update(dict.fromkeys(key.removeprefix(f"{tag}:") for key in keys))
        return str(found)

    while (cursor := await link.talk(some)) != "0":
        pass
    return list(names)


def _named(names: Iterable[str], prefix: str) -> list[str]:
    return sorted(name.removeprefix(prefix) for name in names if name.startswith(prefix))


def _latched(scope: str, text: str) -> LatchSeen:
    row = parsed(text)
    return LatchSeen(scope, row.words, row.unnamed, "") if row is not None else LatchSeen(scope, (), True, text)


def _lease(name: str, text: str, now_us: int) -> LeaseSeen:
    """See ``lua/lease.lua`` for the text."""
    epoch, counter, _, ends_us, holder = [*text.split(" ", 4), "", "", "", "", ""][:5]
    if not (epoch.isdigit() and counter.isdigit() and ends_us.isdigit()):
        return LeaseSeen(name, f"{UNREADABLE}: {text}", 0, 0, 0)
    return LeaseSeen(name, holder, int(epoch), int(counter), max(0, int(ends_us) - now_us) // 1_000)


def _breaker(job: str, row: dict[str, str]) -> BreakerSeen:
    try:
        state = from_text(row.get("text", ""))
    except BreakerTextRefused as refused:
        return BreakerSeen(job, UNREADABLE, "", str(refused), 0, 0)
    return BreakerSeen(job, state.mode.value, state.by, state.why, state.since_ns, state.until_ns)
