"""Whether a store is fit to coordinate: a verdict over what it says about itself, each finding in words with its remedy.

A *fault* makes it unfit: it may forget what it was asked to remember, without anybody noticing, or nobody can write to it. Then nothing
is placed where that is configured (``StoreCheck.STRICT``). A *note* is worth knowing. What was kept of guards, as
``tests/faults/test_server.py`` finds it:

==================================== ==================================== ========
the store                            kept                                 finding
==================================== ==================================== ========
evicts any key (``allkeys-*``)       5 to 85 %, at times not the lease    fault
evicts what expires (``volatile-*``) 5 to 85 %                            fault
no persistence, kill -9              none                                 fault
snapshots only, kill -9              none, and the fences gone            fault
append-only file, every second       all; not so if power fails           note
append-only file, always             all                                  none
==================================== ==================================== ========
"""

import re
from collections.abc import Callable, Iterator
from typing import Final

from .coordination import StoreFacts

MB: Final = 1_000_000
#: What coordination of one account needs at the very most; a store that holds more is shared with something.
BUDGET_BYTES: Final = 100 * MB
#: Of the memory it may take, in percent.
FULL: Final = 80
#: Commands and options that the scripts use are there from this version on. Valkey began behind it.
OLDEST: Final = (6, 2)
CLOCK_NOTE_MS, CLOCK_FAULT_MS = 1_000, 60_000
_OWN: Final = "give haltcore an instance of its own"
#: Of the 250 ms that a request may take.
SLOW_MS: Final = 100
#: How servers word it that a user has no right, outside of scripts and within, from 6.2 on.
_FORBIDDEN: Final = re.compile(r"NOPERM|no permissions|ACL failure|executing the script can't", re.IGNORECASE)


def verdict(facts: StoreFacts) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Faults and notes. A store that has neither is as it should be."""
    if facts.kind == "memory":
        return (), ("the store is in this process's memory: it coordinates nothing beyond it, and keeps nothing over a restart",)
    found = [finding for look in _LOOKS for finding in look(facts)]
    return tuple(text for fault, text in found if fault), tuple(text for fault, text in found if not fault)


_Findings = Iterator[tuple[bool, str]]


def _version(facts: StoreFacts) -> _Findings:
    numbers = re.match(r"([0-9]{1,4})\.([0-9]{1,4})(?![0-9])", facts.version)
    if numbers is None:
        yield False, f"the server does not say its version ({facts.version!r}); it has to be 6.2 or later"
    elif facts.kind == "redis" and (int(numbers[1]), int(numbers[2])) < OLDEST:
        yield True, f"the server is Redis {facts.version}; install 6.2 or later, or Valkey"


def _role(facts: StoreFacts) -> _Findings:
    if facts.role is None:
        yield False, "the server does not say whether it is a master; point the URL at one that is"
    elif facts.role != "master":
        yield True, f"the server is a {facts.role}, and takes no writes; point the URL at the master, or use redis+sentinel://"
    if facts.role == "master" and facts.replicas and facts.min_replicas == 0:
        yield False, (
            f"{facts.replicas} replica(s), and min-replicas-to-write is 0: a master that is cut off goes on granting what the next one "
            "does not know; set min-replicas-to-write 1 and min-replicas-max-lag 10"
        )


def _rights(facts: StoreFacts) -> _Findings:
    if facts.role not in ("master", None):
        return  # it takes no writes at all, and that is said already
    forbidden = [(command, words) for command, words in facts.refused if _FORBIDDEN.search(words)]
    needed = list(dict.fromkeys(command for command, _ in forbidden if not _for_plans(command)))
    others = list(dict.fromkeys(command for command, _ in forbidden if _for_plans(command)))
    if needed:
        yield True, f"this user may not run {', '.join(needed)} ({forbidden[0][1]}); give it +@all on the keys ~{{haltcore:*"
    if others:
        yield False, f"this user may not run {', '.join(others)}: plans cannot be sent or taken on; give it +@stream"
    # What is tried after a first write has failed says nothing by itself.
    if (written := dict(facts.refused).get("HSET", "")) and not _FORBIDDEN.search(written):
        # A note, since it may pass, and a claim that is refused says so by itself.
        yield False, f"the server takes no writes now ({written}), and nothing is placed until it does; look at its log"


def _for_plans(command: str) -> bool:
    return command.startswith("X")


def _cluster(facts: StoreFacts) -> _Findings:
    if facts.cluster_url and facts.cluster is False:
        yield True, "the URL says redis+cluster://, and this is a server by itself; write redis://"
    if facts.cluster and not facts.cluster_url:
        yield False, "the server is a node of a cluster, and the account may move to another; write redis+cluster://"


def _eviction(facts: StoreFacts) -> _Findings:
    if facts.eviction is None:
        yield False, "the server does not say its eviction policy; make sure that it is noeviction"
    elif facts.eviction != "noeviction":
        bounded = facts.max_bytes != 0
        what = "guards would be forgotten while they count" if bounded else "it evicts nothing only as long as maxmemory is 0"
        yield bounded, f"the eviction policy is {facts.eviction}: {what}; set maxmemory-policy noeviction, and {_OWN}"
    if facts.evicted:
        yield True, (
            f"the server has evicted {facts.evicted} keys since it started, and nobody knows which; set maxmemory-policy noeviction, "
            "wait for the longest guard to run out (guard_ttl_ms), and restart the server or CONFIG RESETSTAT"
        )


def _memory(facts: StoreFacts) -> _Findings:
    used, most = facts.used_bytes, facts.max_bytes
    if most == 0:
        yield False, "maxmemory is not set: the server takes what it gets until the kernel ends it; set maxmemory 256mb"
    if used is None or most is None:
        return
    if most and used * 100 > most * FULL:
        percent = used * 100 // most
        yield False, f"{percent} % of maxmemory is in use, and at 100 % nothing is placed any more; raise maxmemory, or {_OWN}"
    if used > BUDGET_BYTES:
        yield False, f"the server holds {used // MB} MB, and coordination needs less than {BUDGET_BYTES // MB}; {_OWN}"


def _persistence(facts: StoreFacts) -> _Findings:
    if facts.aof is None:
        yield False, "the server does not say whether it has an append-only file; set appendonly yes"
    elif not facts.aof and facts.snapshots:
        yield True, (
            "the server keeps snapshots only: killed, it lost every guard of the last minutes, and the fences; set appendonly yes and "
            "appendfsync everysec, or always"
        )
    elif not facts.aof:
        kept = "keeps nothing over a restart" if facts.snapshots is False else "has no append-only file"
        yield True, f"the server {kept}: what was done could be done again; set appendonly yes and appendfsync everysec, or always"
    elif facts.aof_fsync == "everysec":
        yield False, "if the machine fails, up to a second of guards is lost (the journal has them); appendfsync always keeps them"
    elif facts.aof_fsync == "no":
        yield False, "if the machine fails, half a minute of guards is lost (the journal has them); set appendfsync everysec, or always"


def _clock(facts: StoreFacts) -> _Findings:
    ahead, trip = facts.clock_ahead_ms, facts.round_trip_ms or 0
    if ahead is not None and abs(ahead) > CLOCK_NOTE_MS + trip:
        side = "ahead of" if ahead > 0 else "behind"
        yield abs(ahead) > CLOCK_FAULT_MS + trip, (
            f"the server's clock is {abs(ahead)} ms {side} this machine's; run NTP on both, since a clock that is set right later "
            "frees leases early or late"
        )
    if trip > SLOW_MS:
        yield False, f"a request took {trip} ms, and has 250; bring the server nearer"


_LOOKS: Final[tuple[Callable[[StoreFacts], _Findings], ...]] = (
    _version, _role, _cluster, _rights, _eviction, _memory, _persistence, _clock
)  # fmt: skip
