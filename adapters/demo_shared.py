"""The demo on a shared store: two market makers on one account, one of them killed in the middle of its sweep.

Real processes, real time, a real Redis or Valkey. The venue is the paper one, in the process that tells the story, so its books are the
truth that the market makers (``demo_worker.py``) cannot see:

======================  ==============================================================================================
first seconds           both quote; every order is claimed in the store before it is sent
then                    the edge of one collapses: it freezes itself, and publishes that in the store
the first cancel        takes effect at the venue, which does only a part of what it is asked to: the process is killed
meanwhile               the other one finds the freeze in the store, and freezes too; the lease of the sweep is a dead process's,
                        so it looks for itself, goes on, and proves the book empty
at last                 the killed one is started anew with its journal, finds itself frozen, and proves the book empty as well
======================  ==============================================================================================

Each run has an account of its own in the store, and takes its keys away. Both logs are replayed. What is promised is checked, and what
was not kept is said and makes the exit code 1.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from attrs import frozen

from ..effects import CancelAll, Effect, Place, price
from ..effects.ids import TAG_LENGTH, base36
from ..fsm.verdict import Verdict
from .coordination import StoreFailed
from .demo import not_yet, read_again
from .demo_maker import DemoFailed, Maker
from .demo_worker import INSTRUMENTS, PLACE_EXPIRY_MS, QUOTES, Role
from .disk import Disk
from .faults import Fault, FaultPlan, Scripted
from .journal import exists
from .paper import PaperVenue
from .redis_link import Line, Link
from .redis_store import RedisStore, account_tag
from .redis_url import read_url
from .spectator import Say
from .venue_server import VenueServer

#: The longest that all of it may take.
LIMIT_S = 28.0
#: How long both quote.
QUOTING_S = 2.0
#: How many of the cancel-alls take a part only, and how large a part: those of the first round do.
_PARTIAL, _PART = 4, 2
_NAMES = ("one", "two")
#: Starts a server that check-store calls fit, and that only this machine reaches.
SERVER = "redis-server --bind 127.0.0.1 --appendonly yes"


@frozen
class Log:
    """A market maker's log: its files, the record of the freeze, and what a replay says."""

    name: str
    files: tuple[str, ...]
    frozen_at: int
    verdict: Verdict


@frozen
class Shared:
    """What came of it. ``promises`` says of each whether it was kept; ``open_at_venue`` is the venue's own count at the end."""

    store: str
    account: str
    promises: tuple[tuple[str, bool], ...]
    open_at_venue: int
    logs: tuple[Log, ...]

    @property
    def exit_code(self) -> int:
        """0 only if every promise was kept and every replay agrees."""
        worst = max(log.verdict.exit_code for log in self.logs)
        return worst or int(not all(kept for _, kept in self.promises))


def log_names(stem: str) -> tuple[str, ...]:
    """The names of the logs."""
    return tuple(f"{stem}-{name}.jsonl" for name in _NAMES)


def free_stem(stem: str, disk: Disk) -> str:
    """``STEM``, or ``STEM-2``, ``STEM-3`` and so on: the first that no log has."""
    number, found = 1, stem
    while any(exists(name, disk) for name in log_names(found)):
        number += 1
        found = f"{stem}-{number}"
    return found


def play(url: str, seed: int, stem: str, disk: Disk, say: Say) -> Shared:
    """Tell the story. ``say`` gets each line as it happens; the logs are :func:`log_names` of ``stem``.

    Raises UrlRefused, JournalFailed when a log is there already, and DemoFailed. Whatever happens, no process is left.
    """
    for name in log_names(stem):
        not_yet(name, disk)
    return asyncio.run(_play(url, seed, stem, disk, say))


async def _play(url: str, seed: int, stem: str, disk: Disk, say: Say) -> Shared:
    account = f"demo-{secrets.token_hex(6)}"
    try:
        async with asyncio.timeout(LIMIT_S), _account(url, account) as about:
            return await _Story(url, account, seed, stem, disk, say).tell(about)
    except TimeoutError:
        raise DemoFailed(f"the demo took longer than {LIMIT_S:g} s; is this machine busy? Its logs are {stem}-*.jsonl") from None


@contextlib.asynccontextmanager
async def _account(url: str, account: str) -> AsyncIterator[str]:
    """See whether the store answers and takes writes, and take the account's keys away in the end; what the store is."""
    store = RedisStore(url, account, timeout_ms=1_000)
    try:
        facts = await store.facts()
        # What everything begins with; it writes a little, so that a store that takes no writes says so now, and not by a silence later.
        await store.read_latch(account)
    except StoreFailed as failed:
        raise DemoFailed(f"{failed.text.rstrip('.')}.\nTo start one on this machine: {SERVER}") from None
    finally:
        await store.close()
    try:
        yield f"{facts.kind} {facts.version} at {read_url(url)}"
    finally:
        with contextlib.suppress(StoreFailed):
            await _forget(url, account)


async def _forget(url: str, account: str) -> None:
    """Take away every key of the account. All have its tag, so they are on one node; in a cluster only what names a key finds it."""
    link, cursor = Link(read_url(url), 2_000), "0"

    async def some(line: Line) -> str:
        await line.command("EXISTS", f"{account_tag(account)}:account")
        found, keys = await line.command("SCAN", cursor, "MATCH", f"{account_tag(account)}:*", "COUNT", 1_000)
        if keys:
            await line.command("UNLINK", *keys)
        return str(found)

    try:
        while (cursor := await link.talk(some)) != "0":
            pass
    finally:
        await link.close()


# --- the story ------------------------------------------------------------------------------------------------------------


class _Story:
    """The venue, the market makers, and what the spectator is told."""

    def __init__(self, url: str, account: str, seed: int, stem: str, disk: Disk, say: Say) -> None:
        self._url, self._account, self._seed, self._disk, self._say = url, account, seed, disk, say
        self._journals = dict(zip(_NAMES, log_names(stem), strict=True))
        script = tuple(Scripted(CancelAll, nth, Fault.CANCEL_ALL_SUBSET) for nth in range(1, _PARTIAL + 1))
        self._venue = PaperVenue(
            tuple(INSTRUMENTS), seed=seed, faults=FaultPlan(seed=seed, script=script, cancel_all_limit=_PART), latency_ms=(5, 25),
            place_expiry_ms=PLACE_EXPIRY_MS, instruments=INSTRUMENTS,
        )  # fmt: skip
        self._promises: list[tuple[str, bool]] = []
        self._makers: list[Maker] = []
        self._victim: Maker | None = None
        self._places: Counter[str] = Counter()
        self._since_s = 0.0
        #: Which process was granted the lease with which fence, in the order of hearing of it.
        self._grants: dict[tuple[int, int], int] = {}
        self._granted_twice = False

    async def tell(self, about: str) -> Shared:
        """All of it."""
        folder = tempfile.mkdtemp(prefix="haltcore-")
        self._socket = os.path.join(folder, "venue.sock")
        try:
            async with VenueServer(self._venue, self._socket, watch=self._on_request):
                self._say("SHARED   two market makers, two processes, one account at a paper venue")
                self._say(f"         the store is {about}; this run's account in it: {self._account}")
                victim, survivor = await self._quote()
                await self._freeze(victim, survivor)
                again = await self._start_anew(victim)
                await self._stop(again, survivor)
            return self._result(about, (again, survivor))
        finally:
            for maker in self._makers:
                maker.kill()
            await asyncio.gather(*(maker.end() for maker in self._makers))
            await self._venue.close()
            shutil.rmtree(folder, ignore_errors=True)

    async def _begin(self, name: str) -> Maker:
        # By the seed; the account is new in each run, so no tag on it was used before.
        session = f"{name[0]}{base36(self._seed):0>{TAG_LENGTH - 1}}"
        maker = Maker(Role(name, session, self._journals[name], self._socket, self._url, self._account, self._seed), self._on_told)
        self._makers.append(maker)
        await maker.begin()
        return maker

    async def _quote(self) -> tuple[Maker, Maker]:
        for symbol in INSTRUMENTS:
            self._venue.mark(symbol, price("60000" if symbol == "BTCUSDT" else "3000"))
        makers = [await self._begin(name) for name in _NAMES]
        for maker in makers:
            ready = await maker.hears("ready")
            self._say(f"         {maker.role.name}: process {maker.pid}, session {ready['session']}, log {maker.role.journal}")
        self._say("")
        self._say("   time   open: one   two   placed: one   two")
        for tick in range(1, round(QUOTING_S * 2) + 1):
            await asyncio.sleep(0.5)
            self._say(self._line(tick / 2))
        tick = 0
        while min(self._open(maker) for maker in makers) < QUOTES - 1 and tick < 60:
            tick += 1
            await asyncio.sleep(0.1)
        self._promise(f"both quote: each has about {QUOTES} orders open", min(self._open(maker) for maker in makers) >= QUOTES - 1)
        first = self._seed % 2
        return makers[first], makers[1 - first]

    async def _freeze(self, victim: Maker, survivor: Maker) -> None:
        self._head("FREEZE", f"the edge of {victim.role.name} falls to 3.2 bps, below its limit of 5")
        self._since_s = time.monotonic()
        self._victim = victim
        before = len(self._venue.exchange.all_open())
        victim.order("collapse")
        await victim.hears("latched")
        await victim.hears("cancels")
        # Its answers are still on their way when the books show the first of its cancels.
        while len(self._venue.exchange.all_open()) >= before and "proven" not in victim.told:
            await asyncio.sleep(0.001)
        victim.kill()
        left = len(self._venue.exchange.all_open())
        self._tell(victim, f"KILLED (SIGKILL to process {victim.pid}) in the middle of its sweep; open at the venue: {left} of {before}")
        killed = await victim.end() == -signal.SIGKILL and "proven" not in victim.told
        self._promise("the one that sweeps is killed before it is done", killed and 0 < left < before)
        frozen = await survivor.hears("freezing")
        self._promise("the freeze takes the other along, through the store", frozen["trigger"] == "peer")
        proof = await survivor.hears("proven")
        places = self._places.total()
        left = len(self._venue.exchange.all_open())
        self._say(f"PROVEN   by {survivor.role.name} alone; open at the venue, by its own books: {left}")
        self._promise("the survivor goes on and proves the book empty", proof["remaining"] == left == 0)
        survivor.order("try")
        tried = await survivor.hears("tried")
        self._promise("an order after that is denied, and does not leave", tried["code"] == "frozen" and places == self._places.total())

    async def _start_anew(self, victim: Maker) -> Maker:
        self._head("AGAIN", f"{victim.role.name} is started anew, with its journal")
        again = await self._begin(victim.role.name)
        self._tell(again, f"is process {again.pid} now, and reads its log")
        ready = await again.hears("ready")
        self._tell(again, f"goes on as session {ready['session']}, and finds the account {ready['modes'].get('account', 'active')}")
        proof = await again.hears("proven")
        same = ready["session"] == victim.role.session
        self._promise("the killed one goes on in its session, and finds itself frozen", same and "account" in ready["modes"])
        self._promise("it proves the book empty for itself", proof["remaining"] == 0)
        again.order("try")
        self._promise("its orders, too, are denied", (await again.hears("tried"))["code"] == "frozen")
        return again

    async def _stop(self, *makers: Maker) -> None:
        self._head("STOP", "both stop; a stop is a freeze, and ends with its proof")
        codes = []
        for maker in makers:
            maker.order("stop")
        for maker in makers:
            await maker.hears("stopped")
            codes.append(await maker.end())
        self._promise("both processes end in good order", codes == [0, 0])

    def _result(self, about: str, makers: tuple[Maker, ...]) -> Shared:
        left = len(self._venue.exchange.all_open())
        fences = list(self._grants)
        self._promise("nothing is open at the end, by the venue's own books", left == 0)
        self._promise("no order came to the venue twice", max(self._venue.placed.values()) == 1)
        self._promise("every grant of the lease has a higher fence", bool(fences) and fences == sorted(fences) and not self._granted_twice)
        logs = []
        for maker in sorted(makers, key=lambda maker: maker.role.name):
            files, verdict = read_again(maker.role.journal, self._disk, "")
            assert verdict is not None
            logs.append(Log(maker.role.name, files, self._frozen_at(maker.role.name), verdict))
        return Shared(about, self._account, tuple(self._promises), left, tuple(logs))

    def _frozen_at(self, name: str) -> int:
        told = [one for maker in self._makers if maker.role.name == name for one in maker.told.get("freezing", [])]
        return int(told[0]["record"]) if told else 0

    # --- what happens ---------------------------------------------------------------------------------------------------

    def _on_request(self, session: str, effect: Effect) -> None:
        """A request has arrived at the venue."""
        if isinstance(effect, Place):
            self._places[session] += 1

    def _on_told(self, maker: Maker, told: dict[str, Any]) -> None:
        """A market maker tells something."""
        match told["told"]:
            case "freezing":
                self._tell(maker, f"freezes: {told['trigger']}, {told['reason']}")
            case "latched" if maker is self._victim:
                self._tell(maker, "the store has its freeze")
            case "cancels":
                self._tell(maker, f"cancels: {told['count']} requests")
            case "lease" if told["kind"] == "granted":
                self._granted(maker, (told["fence"][0], told["fence"][1]))
            case "lease" if told["kind"] == "held":
                self._tell(maker, f"the lease is held by {told['holder']}: it looks for itself")
            case "proven":
                self._tell(maker, f"two empty lists running, every order of its own accounted for: proven after {told['ms']:,} ms")

    def _granted(self, maker: Maker, fence: tuple[int, int]) -> None:
        """A grant, or the renewal of one."""
        if fence not in self._grants:
            self._grants[fence] = maker.pid
            self._tell(maker, f"has the lease of the sweep: fence {fence[1]} of the store's epoch {fence[0]}")
        elif self._grants[fence] != maker.pid:
            self._granted_twice = True

    def _open(self, maker: Maker) -> int:
        return sum(row.client_id.startswith(maker.role.session) for row in self._venue.exchange.all_open())

    def _line(self, second: float) -> str:
        one, two = self._makers
        places = [self._places[maker.role.session] for maker in (one, two)]
        return f"  {second:>3.1f} s   {self._open(one):>9}  {self._open(two):>4}   {places[0]:>11}  {places[1]:>4}"

    def _head(self, word: str, text: str) -> None:
        self._say("")
        self._say(f"{word:<8} {text}")

    def _tell(self, maker: Maker, text: str) -> None:
        ms = round((time.monotonic() - self._since_s) * 1_000) if self._since_s else 0
        self._say(f"   +{ms:>6,} ms  {maker.role.name}  {text}")

    def _promise(self, text: str, kept: bool) -> None:
        self._promises.append((text, kept))
        if not kept:
            self._say(f"NOT SO   {text}")
