"""The store on a Redis or Valkey, 6.2 or later: each operation is one script, or one request.

============================== ============================================= ============
key                            what                                          lives
============================== ============================================= ============
``...:account``                epoch, leases, latch: see ``lua/account.lua`` for ever
``...:idempotency:effect:KEY`` the guard of a side effect; KEY is a SHA-256  its TTL
``...:state:NAME``             a shared state                                for ever
``...:hold:SYMBOL``            who holds a symbol                            its TTL
``...:once:MARK``              a mark                                        its TTL
``...:cool:NAME``              a cool-down                                   its TTL
``...:stream:NAME``            plans, and ``...:plans:NAME`` where each is   till trimmed
``...:probe:RANDOM``           what is tried by the check of rights          a second
============================== ============================================= ============

All begin with ``{haltcore:ACCOUNT}``, the one tag of an account, so that a cluster has them on one node. What lives for ever is small: a
few leases, the frozen scopes, the kinds of jobs.

Redis may forget, stall or lie; what it is trusted with is written in ``coordination.py``. Time is the server's, asked for within the
scripts. Every operation ends within ``timeout_ms``. With ``wait_replicas`` a grant, a claim or the word SENT counts once so many replicas
have confirmed it; with fewer, a grant is given back, and a claim and SENT are IN_DOUBT. That makes losing one in a failover rare; the
fence's epoch makes losing a grant harmless.
"""

import secrets
import time
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

from attrs import evolve

from ..effects import NO_FENCE, Fence, GuardState, Trigger
from ..fsm.events import GuardKind, StoreHealth
from ..fsm.guard import cut
from ..fsm.limit_faults import shown
from .coordination import (
    DEAD_LETTERS,
    Claim,
    Claimed,
    Entry,
    Grant,
    GuardRow,
    Held,
    Latch,
    StoreFacts,
    StoreFailed,
    another_epoch,
    dead_letters,
)
from .latch_row import MAX_AUTHORS, Said, read_row
from .ports import NowNs
from .redis_facts import ask_facts
from .redis_link import Line, Link, Script, Word
from .redis_url import ACCOUNT, ACCOUNT_FORM, Kind, read_url
from .store_effects import EffectStore

#: The one group of consumers of a stream.
GROUP: Final = "haltcore"
#: How many entries one script trims, and how many such scripts one request runs.
TRIMMED, TRIMS = 100, 20
#: Of the time limit, how much may be waited for replicas, in percent.
WAIT_SHARE: Final = 40


@cache
def script(*names: str) -> Script:
    """The files of ``lua/`` of these names, as one script."""
    folder = files(__package__).joinpath("lua")
    return Script.of("\n".join(folder.joinpath(f"{name}.lua").read_text(encoding="utf-8") for name in names))


def account_tag(account: str) -> str:
    """What the keys of an account begin with. Raises ValueError for a text that is no name of one."""
    if not ACCOUNT.match(account):
        raise ValueError(f"account: {shown(account)} is no name of an account; give {ACCOUNT_FORM}")
    return f"{{haltcore:{account}}}"


class RedisStore(EffectStore):
    """One runner's connection to a Redis or Valkey.

    ``url``: see ``redis_url.py``; raises UrlRefused. ``account``: who shares a name shares leases, latch and guards. Raises ValueError for
    one that is no name of an account, by the rule of the settings. ``wall_ns`` is the clock that the server's is compared with. Nothing is
    connected before the first request.
    """

    def __init__(
        self, url: str, account: str, *, timeout_ms: int = 250, wait_replicas: int | None = None, wall_ns: NowNs = time.time_ns
    ) -> None:
        super().__init__()
        where = read_url(url)
        self._tag = account_tag(account)
        self._where = where
        self._timeout_ms = timeout_ms
        self._wait_replicas = where.wait_replicas if wait_replicas is None else wait_replicas
        self._wall_ns = wall_ns
        self._link = Link(where, timeout_ms)

    def __repr__(self) -> str:
        return f"<RedisStore {self._where} {self._tag}>"

    async def close(self) -> None:
        """As for every store; then the connections are closed."""
        await super().close()
        await self._link.close()

    def _key(self, kind: str, name: str = "") -> str:
        return f"{self._tag}:{kind}:{name}" if name else f"{self._tag}:{kind}"

    # --- lease ------------------------------------------------------------------------------------------------------

    async def acquire(self, name: str, holder: str, ttl_ms: int) -> Grant:
        async def speak(line: Line) -> Grant:
            found = await line.run(_LEASE, [self._key("account")], ["acquire", name, holder, ttl_ms])
            if not found[0]:
                return Grant(False, NO_FENCE, found[1])
            fence = Fence(int(found[1]), int(found[2]))
            if not await self._confirmed(line):
                await line.run(_LEASE, [self._key("account")], ["release", name, holder, fence.epoch, fence.counter])
                raise StoreFailed(StoreHealth.UNAVAILABLE, "store_few_replicas", self._too_few("the lease was given back"))
            return Grant(True, fence, holder)

        return await self._link.talk(speak)

    async def renew(self, name: str, holder: str, fence: Fence, ttl_ms: int) -> bool:
        return await self._flag(_LEASE, ["account"], ["renew", name, holder, fence.epoch, fence.counter, ttl_ms])

    async def release(self, name: str, holder: str, fence: Fence | None) -> bool:
        of = [fence.epoch, fence.counter] if fence is not None else []
        return await self._flag(_LEASE, ["account"], ["release", name, holder, *of])

    # --- latch ------------------------------------------------------------------------------------------------------

    async def publish(self, author: str, scope: str, trigger: Trigger, reason: str, by: str) -> Latch:
        said = Said.of(author, trigger, reason, by)
        return await self._latch(author, ["publish", scope, author, said.trigger, said.reason, said.by, MAX_AUTHORS])

    async def read_latch(self, author: str) -> Latch:
        return await self._latch(author, ["read"])

    async def clear(self, author: str, scope: str, latch_epoch: int, force: bool = False) -> Latch:
        return await self._latch(author, ["clear", scope, author, latch_epoch, int(force)])

    async def _latch(self, author: str, asked: list[Word]) -> Latch:
        done, epoch, *rows = await self._link.run(_LATCH, [self._key("account")], asked)
        latched = sorted(zip(rows[::2], rows[1::2], strict=True))
        return Latch(tuple(read_row(scope, text, author) for scope, text in latched), int(epoch), bool(done))

    # --- guard ------------------------------------------------------------------------------------------------------

    async def claim(self, claim: Claim, ttl_ms: int) -> Claimed:
        async def speak(line: Line) -> Claimed:
            words: list[Word] = ["claim", claim.owner, claim.params, ttl_ms, claim.epoch, *claim.scopes]
            kind, *row = await line.run(_GUARD, [self._key("account"), self._guard(claim.key)], words)
            if kind == "epoch":
                raise another_epoch(str(self._where), claim, int(row[0]))
            if kind == GuardKind.FROZEN:
                return Claimed(GuardKind.FROZEN, None, row[0])
            if kind == GuardKind.CLAIMED and not await self._confirmed(line):
                raise StoreFailed(StoreHealth.IN_DOUBT, "store_few_replicas", self._too_few("the claim may be lost"))
            return Claimed(GuardKind(kind), _guard_row(row))

        return await self._link.talk(speak)

    async def settle(self, claim: Claim, state: GuardState, result: str, ttl_ms: int) -> bool:
        if state is GuardState.INTENT:
            raise ValueError("intent is no settlement; claim the side effect instead")

        async def speak(line: Line) -> bool:
            words: list[Word] = ["settle", claim.owner, claim.params, ttl_ms, state.value, cut(result)]
            settled = bool(await line.run(_GUARD, [self._key("account"), self._guard(claim.key)], words))
            if settled and state is GuardState.SENT and not await self._confirmed(line):
                raise StoreFailed(StoreHealth.IN_DOUBT, "store_few_replicas", self._too_few("that it is being sent may be forgotten"))
            return settled

        return await self._link.talk(speak)

    async def retake(self, claim: Claim, was: GuardRow, ttl_ms: int) -> bool:
        words: list[Word] = ["retake", claim.owner, claim.params, ttl_ms, was.owner, was.state.value, *claim.scopes]
        return bool(await self._link.run(_GUARD, [self._key("account"), self._guard(claim.key)], words))

    async def look(self, key: str) -> GuardRow | None:
        row = await self._link.talk(lambda line: line.command("HMGET", self._guard(key), "state", "owner", "params", "result", "at"))
        return _guard_row(row) if row[0] is not None else None

    def _guard(self, key: str) -> str:
        return self._key("idempotency:effect", key)

    # --- shared state -----------------------------------------------------------------------------------------------

    async def get_state(self, name: str) -> tuple[int, str]:
        _, version, text = await self._state(name, [])
        return version, text

    async def put_state(self, name: str, version: int, text: str) -> tuple[bool, int, str]:
        return await self._state(name, [version, text])

    async def _state(self, name: str, words: list[Word]) -> tuple[bool, int, str]:
        key = self._key("state", name)
        put, version, *text = await self._link.run(_STATE, [key], words)
        if put < 0:
            said = f"{self._where}: {key} is no state that haltcore has written (version {shown(version)}); delete it, or put another there"
            raise StoreFailed(StoreHealth.UNAVAILABLE, "store_unreadable", said)
        return bool(put), int(version), text[0]

    # --- hold, dedupe, cool-down --------------------------------------------------------------------------------------

    async def set_hold(self, symbol: str, owner: str, reason: str, plan: str, ttl_ms: int) -> Held:
        return Held(symbol, *await self._link.run(_HOLD, [self._key("hold", symbol)], ["set", owner, reason, plan, ttl_ms]))

    async def renew_hold(self, symbol: str, owner: str, ttl_ms: int) -> bool:
        return await self._flag(_HOLD, ["hold", symbol], ["renew", owner, ttl_ms])

    async def release_hold(self, symbol: str, owner: str) -> bool:
        return await self._flag(_HOLD, ["hold", symbol], ["release", owner])

    async def held(self, symbol: str) -> Held | None:
        row = await self._link.run(_HOLD, [self._key("hold", symbol)], ["look", ""])
        return Held(symbol, *row) if row else None

    async def mark_once(self, mark: str, token: str, ttl_ms: int) -> bool:
        return await self._flag(_MARK, ["once", mark], ["once", token, ttl_ms])

    async def cool_down(self, name: str, token: str, spacing_ms: int) -> int:
        return int(await self._link.run(_MARK, [self._key("cool", name)], ["cool", token, spacing_ms]))

    # --- stream of plans ----------------------------------------------------------------------------------------------

    async def append(self, stream: str, plan: str, body: str) -> str:
        return str(await self._link.run(script("stream_append"), self._stream(stream), [plan, body]))

    async def read(self, stream: str, consumer: str, count: int) -> Sequence[Entry]:
        return await self._entries("stream_read", stream, [GROUP, consumer, count], count)

    async def claim_stuck(self, stream: str, consumer: str, idle_ms: int, count: int) -> Sequence[Entry]:
        return await self._entries("stream_claim", stream, [GROUP, consumer, idle_ms, count], count)

    async def keep(self, stream: str, consumer: str, entry: str) -> bool:
        return await self._said("keep", stream, consumer, entry)

    async def acknowledge(self, stream: str, consumer: str, entry: str) -> bool:
        return await self._said("done", stream, consumer, entry)

    async def bury(self, stream: str, consumer: str, entry: str, why: str) -> bool:
        return await self._said("bury", stream, consumer, entry, why)

    async def pending(self, stream: str) -> int:
        return int(await self._link.run(script("stream_pending"), self._stream(stream)[:1], [GROUP]))

    async def trim(self, stream: str, keep: int) -> int:
        async def speak(line: Line) -> int:
            dropped = 0
            for _ in range(TRIMS):
                once: int = await line.run(script("stream_trim"), self._stream(stream), [GROUP, max(0, keep)])
                dropped += once
                if once < TRIMMED:
                    break
            return dropped

        return await self._link.talk(speak)

    def _stream(self, stream: str) -> list[str]:
        return [self._key("stream", stream), self._key("plans", stream)]

    async def _entries(self, name: str, stream: str, words: list[Word], count: int) -> list[Entry]:
        if count <= 0:
            return []
        found = await self._link.run(script(name), self._stream(stream)[:1], words)
        return [_entry(entry, fields, deliveries) for entry, fields, deliveries in found]

    async def _said(self, action: str, stream: str, consumer: str, entry: str, why: str = "") -> bool:
        dead = dead_letters(stream)
        keys = [self._key("stream", stream), self._key("stream", dead), self._key("plans", dead)]
        return bool(await self._link.run(script("stream_settle"), keys, [action, GROUP, consumer, entry, why, DEAD_LETTERS]))

    # --- itself -----------------------------------------------------------------------------------------------------

    async def facts(self) -> StoreFacts:
        key, clustered = self._key("probe", secrets.token_hex(8)), self._where.kind is Kind.CLUSTER
        found = await self._link.talk(lambda line: ask_facts(line, self._wall_ns, script("probe"), key, clustered))
        return evolve(found, refused=tuple((command, self._where.hidden(words)) for command, words in found.refused))

    async def _flag(self, of: Script, key: list[str], words: list[Word]) -> bool:
        return bool(await self._link.run(of, [self._key(*key)], words))

    async def _confirmed(self, line: Line) -> bool:
        """Whether so many replicas as wanted have what was just written on this line."""
        wanted = self._wait_replicas
        return not wanted or await line.command("WAIT", wanted, self._timeout_ms * WAIT_SHARE // 100) >= wanted

    def _too_few(self, so: str) -> str:
        return f"{self._where}: fewer than {self._wait_replicas} replicas have confirmed it: {so}; look at the replication"


_LEASE, _LATCH, _GUARD = script("account", "lease"), script("account", "latch"), script("account", "guard")
_STATE, _HOLD, _MARK = script("state"), script("hold"), script("mark")


def _guard_row(row: Sequence[str]) -> GuardRow:
    state, owner, params, result, at_ms = row
    return GuardRow(GuardState(state), owner, params, result, int(at_ms))


def _entry(entry: str, fields: list[str], deliveries: int) -> Entry:
    named: dict[str, Any] = dict(zip(fields[::2], fields[1::2], strict=True))
    return Entry(entry, named.get("plan", ""), named.get("body", ""), deliveries, named.get("why", ""))
