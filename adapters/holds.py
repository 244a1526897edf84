"""Holds, marks and cool-downs: what keeps several processes from acting on the same thing twice, or too soon.

All three stand in the store and are *closed* when it fails: what cannot be read counts as held, as seen, as cooling
(``fsm/degraded.py``). So they are for what adds risk; nothing that cancels may ask them.

What a process has set itself it also remembers by its own clock, since a store's clock can be set, and its data can go: a hold lasts
until the later of the two ends, and a cool-down too.
"""

import os
import secrets
from typing import Any

from attrs import evolve, frozen

from ..fsm.degraded import Conduct, Deed, conduct
from .arguments import milliseconds
from .coordination import Coordination, Held, StoreFailed
from .ports import NowNs

_NS_PER_MS = 1_000_000
#: How long a hold lasts, and how far apart firings for one cause are.
HOLD_MS = 900_000
SPACING_MS = 120_000
#: How many cool-downs a process remembers at most.
_REMEMBERED = 10_000


def _assume(deed: Deed, error: StoreFailed) -> None:
    """What the matrix says when the store has failed; whatever is not "as if it had said yes" is the caller's error."""
    if conduct(deed, error.health) is not Conduct.ASSUME:
        raise error


# --- holds ------------------------------------------------------------------------------------------------------------


@frozen
class Hold:
    """A hold as it counts here: whose, why, for which plan, and until when by this process's clock. ``known``: whether the store has said
    so; if not, and ``owner`` is empty, nobody knows whether there is one."""

    symbol: str
    owner: str
    reason: str
    plan: str
    until_ns: int
    known: bool = True


class Holds:
    """The holds of one owner, and a look at everybody's. ``owner`` is a name that no other process has. Raises ValueRefused for a
    ``ttl_ms`` that is no whole number of milliseconds, which a store would take for no end at all."""

    def __init__(self, store: Coordination, owner: str, now_ns: NowNs, ttl_ms: int = HOLD_MS) -> None:
        self._store, self._owner, self._now_ns, self._ttl_ms = store, owner, now_ns, milliseconds(ttl_ms, "ttl_ms")
        self._mine: dict[str, Hold] = {}

    async def hold(self, symbol: str, reason: str, plan: str = "") -> Hold:
        """Hold a symbol. It is held here from now on, whatever the store says; the hold as it counts, this owner's or another's."""
        now_ns = self._now_ns()
        self._mine[symbol] = mine = Hold(symbol, self._owner, reason, plan, now_ns + self._ttl_ms * _NS_PER_MS, known=False)
        try:
            found = await self._store.set_hold(symbol, self._owner, reason, plan, self._ttl_ms)
        except StoreFailed as error:
            _assume(Deed.HOLD, error)
            return mine
        return self._effective(symbol, found, now_ns)

    async def renew(self, symbol: str) -> bool:
        """Whether the store has it that this owner holds the symbol; then its time begins anew. Before acting under a hold: only then.

        A hold of this process that the store has lost is set again; that it was there all the time nobody knows, so the answer is no.
        """
        now_ns, mine = self._now_ns(), self._mine.get(symbol)
        if mine is not None:
            self._mine[symbol] = mine = evolve(mine, until_ns=max(mine.until_ns, now_ns + self._ttl_ms * _NS_PER_MS))
        try:
            renewed = await self._store.renew_hold(symbol, self._owner, self._ttl_ms)
            if mine is not None and not renewed:
                await self._store.set_hold(symbol, self._owner, mine.reason, mine.plan, self._ttl_ms)
        except StoreFailed as error:
            _assume(Deed.HOLD, error)
            return False
        return renewed

    async def release(self, symbol: str) -> bool:
        """Whether this owner held the symbol, and now nobody does. Where the store fails it stays held; say it again."""
        try:
            released = await self._store.release_hold(symbol, self._owner)
        except StoreFailed as error:
            _assume(Deed.HOLD, error)
            return False
        self._mine.pop(symbol, None)
        return released

    async def held(self, symbol: str) -> Hold | None:
        """The hold on a symbol, None if it is known that nobody holds it."""
        now_ns = self._now_ns()
        try:
            found = await self._store.held(symbol)
        except StoreFailed as error:
            _assume(Deed.HOLD, error)
            return self._own(symbol, now_ns) or Hold(symbol, "", f"unknown: {error}", "", now_ns, known=False)
        return self._effective(symbol, found, now_ns) if found is not None else self._own(symbol, now_ns)

    def _own(self, symbol: str, now_ns: int) -> Hold | None:
        mine = self._mine.get(symbol)
        if mine is not None and mine.until_ns <= now_ns:
            del self._mine[symbol]
            return None
        return mine

    def _effective(self, symbol: str, found: Held, now_ns: int) -> Hold:
        """The store's hold, or the one here, whichever ends later; ``now_ns`` is from before the store was asked."""
        theirs = Hold(symbol, found.owner, found.reason, found.plan, now_ns + found.left_ms * _NS_PER_MS)
        mine = self._own(symbol, now_ns)
        if mine is None:
            return theirs
        until_ns = max(mine.until_ns, theirs.until_ns)
        if found.owner == self._owner:
            self._mine[symbol] = evolve(theirs, until_ns=until_ns)
        return evolve(theirs, until_ns=until_ns)


# --- marks ------------------------------------------------------------------------------------------------------------


async def first(store: Coordination, mark: str, token: str, ttl_ms: int) -> bool:
    """Whether a mark is set for the first time, or was set by this token: then go on. It has to live longer than whatever may ask for it
    again. If the store fails it counts as seen; ask again with the same token. Raises ValueRefused for a ``ttl_ms`` that is none."""
    milliseconds(ttl_ms, "ttl_ms")
    try:
        return await store.mark_once(mark, token, ttl_ms)
    except StoreFailed as error:
        _assume(Deed.DEDUPE, error)
        return False


# --- cool-downs -------------------------------------------------------------------------------------------------------


def left_ms(last_fired_ns: int | None, now_ns: int, spacing_ms: int) -> int:
    """For how many milliseconds it is still cooling, rounded up; 0 says that it may fire. A clock that went back does not shorten it."""
    if last_fired_ns is None:
        return 0
    left_ns = last_fired_ns + spacing_ms * _NS_PER_MS - now_ns
    return min(max(-(-left_ns // _NS_PER_MS), 0), spacing_ms)


class CoolDowns:
    """Minimum spacing between firings for the same cause, over all processes of the account: never two within ``spacing_ms``.

    Not buckets of time, whose edge lets two firings pass side by side. ``owner`` names this process for people; ``nonce`` tells its runs
    apart, random by default: a token that was used before would be taken for the same firing, asked for again. Raises ValueRefused for a
    ``spacing_ms`` that is no whole number of milliseconds.
    """

    def __init__(self, store: Coordination, owner: str, now_ns: NowNs, spacing_ms: int = SPACING_MS, *, nonce: str = "") -> None:
        self._store, self._owner, self._now_ns, self._spacing_ms = store, owner, now_ns, milliseconds(spacing_ms, "spacing_ms")
        self._nonce = nonce or secrets.token_hex(8)
        self._fired: dict[str, int] = {}
        self._asked: dict[str, int] = {}
        self._asking: dict[str, None] = {}
        self._tokens = 0

    async def fire(self, symbol: str, cause: str) -> int:
        """Begin to cool down and return 0: go. Or return for how many milliseconds it is still cooling: do not.

        If the store fails, it is cooling for all that anybody knows. Asking again for the same cause then goes on with the same
        request, so a firing that was granted unheard is not lost. While one call asks for a cause, it is cooling for every other.
        """
        name = f"{len(symbol)}:{symbol}{cause}"
        left = self._left_ms(name)
        if left or name in self._asking:
            return left or self._spacing_ms
        self._asking[name] = None
        try:
            return await self._ask(name)
        finally:
            del self._asking[name]

    async def _ask(self, name: str) -> int:
        if name not in self._asked:
            self._tokens += 1
        number = self._asked.setdefault(name, self._tokens)
        _bound(self._asked)
        # After a fork two processes have one nonce.
        token = f"{self._owner}:{self._nonce}:{os.getpid()}:{number}"
        try:
            left = await self._store.cool_down(name, token, self._spacing_ms)
        except StoreFailed as error:
            _assume(Deed.COOL_DOWN, error)
            return self._spacing_ms
        self._asked.pop(name, None)
        if left == 0:
            self._fired.pop(name, None)
            self._fired[name] = self._now_ns()
            _bound(self._fired)
        return left

    def _left_ms(self, name: str) -> int:
        """For how long it is still cooling from a firing of this process, by its own clock."""
        now_ns, fired_ns = self._now_ns(), self._fired.get(name)
        if fired_ns is not None and fired_ns > now_ns:
            # The clock was set back. By how much nobody knows, so all of it begins again from here, and not from a time yet to come.
            self._fired[name] = fired_ns = now_ns
        return left_ms(fired_ns, now_ns, self._spacing_ms)


def _bound(remembered: dict[str, Any]) -> None:
    """Forget the oldest beyond so many. The store still knows it."""
    if len(remembered) > _REMEMBERED:
        del remembered[next(iter(remembered))]
