"""Runners on a server that hangs, is slow, forgets, or cannot be reached by one of them. Goal: what takes risk away never waits for the
store, what adds risk never goes without it, and what was frozen stays frozen.

Method: real runners in real time on a real server process, which is stopped, killed, or kept busy, or to which a proxy does not lead any
more. What has left towards the venue is counted there. That a freeze begins in time is judged by the log and not by a clock: its first
cancels are in the record of the sweep's own timer, or of the answer that did not come, or of the freeze itself.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import redis
from haltcore.effects import AcquireLease, Mode, Place, PublishFreeze, Purpose, ReadFreeze, SetTimer
from haltcore.fsm.config import SweepPolicy
from haltcore.fsm.events import Freeze, LatchAnswer, LatchKind, StoreHealth, TimerFired

from tests.faults.fleet import PATIENT_MS, Fleet, Member, answered, placed
from tests.figures import Figures
from tests.helpers import BTC, ETH
from tests.proxy import Proxy
from tests.servers import Server
from tests.test_many_runners import CANCELS, ONE_BY_ONE, Link

#: A freeze has to begin cancelling within so many milliseconds.
IN_TIME_MS = 300
Story = Callable[[], Coroutine[Any, Any, None]]


# --- the server hangs -----------------------------------------------------------------------------------------------------


class Stopped:
    """The process hangs: nothing is answered."""

    def __init__(self, fleet: Fleet) -> None:
        self._server = fleet.server

    def begin(self) -> None:
        self._server.pause()

    def end(self) -> None:
        self._server.resume()


class Swallowed:
    """The network takes everything and passes nothing on."""

    def __init__(self, fleet: Fleet) -> None:
        way = fleet.members[0].way
        assert way is not None
        self._way: Proxy = way

    def begin(self) -> None:
        self._way.swallow()

    def end(self) -> None:
        self._way.restore()


class Busy:
    """Somebody's script does not end; others are told so."""

    def __init__(self, fleet: Fleet) -> None:
        self._server = fleet.server
        self._thread = threading.Thread(target=self._hog)

    def _hog(self) -> None:
        with contextlib.suppress(redis.RedisError), redis.Redis(port=self._server.port) as client:
            client.eval("while true do end", 0)

    def begin(self) -> None:
        self._thread.start()
        with redis.Redis(port=self._server.port) as client:
            while True:
                try:
                    client.get("anything")
                except redis.ResponseError:
                    return

    def end(self) -> None:
        with redis.Redis(port=self._server.port) as client:
            client.execute_command("SCRIPT", "KILL")
        self._thread.join()


FAULTS = {"server hangs": Stopped, "black hole": Swallowed, "slow script of another": Busy}


@contextlib.contextmanager
def befallen(fault: Any) -> Iterator[None]:
    """The fault, and its end whatever happens."""
    fault.begin()
    try:
        yield
    finally:
        fault.end()


@pytest.mark.parametrize("known", [False, True], ids=["unknown", "known"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_freeze_does_not_wait_for_a_store_that_does_not_answer(name: str, known: bool, figures: Figures) -> None:
    with Server(options=("--lua-time-limit", "50")) as server:

        async def story() -> None:
            async with Fleet(server, 1, ways=True) as fleet:
                (member,) = fleet.members
                await fleet.quote(6)
                before = len(member.sent(Place))
                with befallen(FAULTS[name](fleet)):
                    if known:
                        await until_without_store(member)
                        assert [await member.tries(symbol=ETH) for _ in range(3)] == ["store_unavailable"] * 3
                    called_s = asyncio.get_running_loop().time()
                    proof = await member.bot.freeze("test", "ops")
                    assert [await member.tries() for _ in range(3)] == ["frozen"] * 3
                assert proof.verified
                assert fleet.open() == 0
                in_core_ms = began_in_time(member)
                wall_ms = 1_000 * (next(at for at, effect in member.link.left if isinstance(effect, CANCELS)) - called_s)
                polls = await until_latched(member)
                assert len(member.sent(Place)) == before
                assert not (known and member.decided(AcquireLease)), "a store that does not answer was asked"
                lease = await fleet.probe.acquire("sweep", "another", 1)
                figures(
                    f"{name}, {'known' if known else 'not known'} when the freeze comes", first_cancel_due_within_ms=in_core_ms,
                    first_cancel_left_ms=round(wall_ms), proof_ms=proof.duration_ms, placed_meanwhile=len(member.sent(Place)) - before,
                    polls_until_latched_after=polls, lease_leaked=int(not lease.mine),
                )  # fmt: skip
                assert in_core_ms <= (0 if known else IN_TIME_MS)
                assert polls <= 3
                assert lease.mine

        asyncio.run(story())


def began_in_time(member: Member) -> int:
    """When the first cancels were due by the core's own clock, in milliseconds from the freeze; and nothing of the store was needed."""
    frozen = member.since(Freeze)
    first = next(n for n in range(frozen, len(member.records)) if any(isinstance(e, CANCELS) for e in member.records[n].effects))
    if first == frozen:
        return 0
    said = member.records[frozen].core.seq
    waited = [record.event for record in member.records[frozen + 1 : first + 1] if answered(record.event)]
    assert not any(event.effect[0] >= said for event in waited), "it has waited for an answer"  # type: ignore[union-attr]
    (timer,) = [e for e in member.records[frozen].effects if isinstance(e, SetTimer) and e.purpose is Purpose.SWEEP]
    by = member.records[first].event
    assert not isinstance(by, TimerFired) or by.effect == timer.id
    return (timer.due_ns - member.records[frozen].event.at_ns) // 1_000_000


async def until_without_store(member: Member) -> None:
    """Wait until it knows that the store does not answer."""
    await member.until(lambda: member.health is not StoreHealth.OK)


async def until_latched(member: Member) -> int:
    """Wait until the store shows the freeze that this member has said; how many readings of the latch came before."""
    since = len(member.records)

    def shown() -> bool:
        return any(isinstance(r.event, LatchAnswer) and any(row.mine for row in r.event.rows) for r in member.records[since:])

    await member.until(shown)
    answers = [r.event for r in member.records[since:] if isinstance(r.event, LatchAnswer) and r.event.kind is LatchKind.OK]
    published = {e.id for r in member.records for e in r.effects if isinstance(e, PublishFreeze)}
    return sum(answer.effect not in published for answer in answers)


# --- one of three is cut off ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cut", "swallow"])
def test_one_of_three_that_is_cut_off_places_nothing_and_learns_of_the_freeze_at_its_first_reading(how: str, figures: Figures) -> None:
    with Server() as server:

        async def story() -> None:
            async with Fleet(server, 3, ways=True) as fleet:
                alone, *others = reversed(fleet.members)
                await fleet.quote()
                assert alone.way is not None
                getattr(alone.way, how)()
                before = placed([alone])
                fleet.keep_trying(alone)
                await until_without_store(alone)
                await others[0].bot.freeze("test", "ops")
                await fleet.until_verified(*others)
                others_before = placed(others)
                fleet.keep_trying(*others)
                await asyncio.sleep(0.3)
                assert alone.mode() is Mode.ACTIVE, "nobody could tell it"
                since = len(alone.records)
                alone.way.restore()
                await alone.until(lambda: alone.mode() is not Mode.ACTIVE)
                heard = [r.event for r in alone.records[since:] if isinstance(r.event, LatchAnswer) and r.event.kind is LatchKind.OK]
                await fleet.until_verified()
                figures(
                    f"one of three partitioned ({how})", placed_by_it=placed([alone]) - before, tried_by_it=tried(alone, before),
                    placed_by_the_others=placed(others) - others_before, left_open=fleet.open(), readings_until_frozen=len(heard),
                )  # fmt: skip
                assert (placed([alone]) - before, placed(others) - others_before, len(heard)) == (0, 0, 1)

        asyncio.run(story())


def tried(member: Member, before: int) -> int:
    """How many orders it wanted besides so many."""
    return sum(type(record.event).__name__ == "SubmitOrder" for record in member.records) - before


def test_a_holder_that_is_cut_off_in_the_middle_of_its_sweep(figures: Figures) -> None:
    policy = {"lease_ttl_ms": 600, "lease_renew_ms": 200}
    with Server() as server:

        async def story() -> None:
            async with Fleet(server, 3, ways=True, store=policy, venue=ONE_BY_ONE, sweep=SweepPolicy(lease_wait_ms=500)) as fleet:
                await fleet.quote(8)
                before = placed(fleet.members)
                holder = fleet.members[0]
                turn = asyncio.Lock()

                async def slowly(_: Link, __: Any) -> None:
                    async with turn:
                        await asyncio.sleep(0.05)

                holder.link.pace = slowly
                freezing = asyncio.ensure_future(holder.bot.freeze("test", "ops"))
                await holder.until(lambda: len(holder.sent(*CANCELS)) >= 2)
                assert holder.way is not None
                assert fleet.open() > 10
                holder.way.swallow()
                fleet.keep_trying(*fleet.members)
                await fleet.until_verified()
                proof = await freezing
                holder.way.restore()
                await asyncio.sleep(0.3)
                assert "lease_lost" in holder.alerts
                lost_s = next(r.at_s for r in holder.records if any(getattr(e, "code", "") == "lease_lost" for e in r.effects))
                under_it = [at for at, e in holder.link.left if isinstance(e, CANCELS) and e.fence.epoch]
                figures(
                    "the lease's holder partitioned in mid-sweep", left_open=fleet.open(), placed=placed(fleet.members) - before,
                    cancels_by_it=len(holder.sent(*CANCELS)), under_its_lease=len(under_it),
                    under_its_lease_after_the_end=sum(at > lost_s for at in under_it),
                )  # fmt: skip
                assert proof.verified
                assert (fleet.open(), placed(fleet.members) - before) == (0, 0)
                assert under_it
                assert max(under_it) <= lost_s

        asyncio.run(story())


# --- the server forgets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("author_lives", [True, False], ids=["author lives", "author is dead"])
def test_a_server_that_forgets_is_told_again_and_what_was_frozen_stays_frozen(author_lives: bool, figures: Figures) -> None:
    with Server() as server:

        async def story() -> None:
            async with Fleet(server, 3) as fleet:
                await fleet.quote(2)
                author, *others = fleet.members
                await author.bot.freeze("ill", "ops", symbol=BTC)
                await asyncio.gather(*(member.until_frozen(BTC) for member in others))
                if not author_lives:
                    author.bot.abandon()
                alive = fleet.members if author_lives else others
                since = {member.tag: len(member.records) for member in alive}
                before = len([e for e in fleet.venue.sent if isinstance(e, Place) and e.symbol == BTC])
                for symbol in (BTC, ETH):
                    fleet.keep_trying(*alive, symbol=symbol)
                server.kill()
                await asyncio.gather(*(until_without_store(member) for member in alive))
                down = placed(alive)
                await asyncio.sleep(0.2)
                assert placed(alive) == down, "placed without a store"
                server.start()
                polls = await until_shown_again(alive, since)
                back = len(fleet.venue.sent)
                await others[0].until(lambda: any(isinstance(e, Place) for e in fleet.venue.sent[back:]))
                latch = await fleet.probe.read_latch("probe")
                frozen = len([e for e in fleet.venue.sent if isinstance(e, Place) and e.symbol == BTC]) - before
                figures(
                    f"server killed under runners, {'author of the freeze lives' if author_lives else 'author of the freeze dead'}",
                    readings_until_published_again=polls, placed_in_the_frozen_symbol=frozen,
                    placed_in_the_other_after=sum(isinstance(e, Place) for e in fleet.venue.sent[back:]),
                    rows=len(latch.rows),
                )  # fmt: skip
                assert (frozen, [row.scope for row in latch.rows]) == (0, [BTC])
                assert latch.rows[0].reason in ("ill", "manual: ill")
                assert polls <= 5
                assert all(member.mode(BTC) is Mode.FROZEN for member in alive)

        asyncio.run(story())


async def until_shown_again(members: list[Member], since: dict[str, int]) -> int:
    """Wait until each has seen the row in the new epoch; how many readings that took whom it took most."""
    polls = []
    for member in members:

        def epochs(member: Member = member) -> list[tuple[int, int, bool]]:
            return [
                (n, r.event.epoch, bool(r.event.rows)) for n, r in enumerate(member.records)
                if isinstance(r.event, LatchAnswer) and r.event.kind is LatchKind.OK and isinstance(asked(member, r.event), ReadFreeze)
            ]  # fmt: skip

        old = max(epoch for n, epoch, _ in epochs() if n < since[member.tag])
        await member.until(lambda: any(epoch > old and rows for _, epoch, rows in epochs()))  # noqa: B023
        polls.append(sum(epoch > old and not rows for _, epoch, rows in epochs()))
    return max(polls) + 1


def asked(member: Member, answer: LatchAnswer) -> Any:
    """The effect that this answers."""
    return next(e for r in member.records for e in r.effects if getattr(e, "id", None) == answer.effect)


# --- twenty at once ---------------------------------------------------------------------------------------------------------


def test_of_twenty_that_race_one_wins(store_server: Server, figures: Figures) -> None:
    rounds = 10

    async def story() -> None:
        async with Fleet(store_server, 20, timeout_ms=PATIENT_MS) as fleet:
            stores = [member.store for member in fleet.members]
            won: dict[str, list[int]] = {"guard": [], "lease": [], "cool_down": [], "hold": [], "mark": []}
            said = []
            for number in range(rounds):
                before = placed(fleet.members)
                codes = await asyncio.gather(*(member.tries(once=f"signal {number}") for member in fleet.members))
                won["guard"].append(codes.count(""))
                said.append(placed(fleet.members) - before)
                assert set(codes) <= {"", "guard_held", "guard_done"}
                name = f"round {number}"
                leases = await asyncio.gather(*(s.acquire(name, str(n), 60_000) for n, s in enumerate(stores)))
                won["lease"].append(sum(grant.mine for grant in leases))
                cooling = await asyncio.gather(*(s.cool_down(name, str(n), 60_000) for n, s in enumerate(stores)))
                won["cool_down"].append(cooling.count(0))
                holds = await asyncio.gather(*(s.set_hold(name, str(n), "race", "", 60_000) for n, s in enumerate(stores)))
                won["hold"].append(sum(held.owner == str(n) for n, held in enumerate(holds)))
                assert len({held.owner for held in holds}) == 1
                marks = await asyncio.gather(*(s.mark_once(name, str(n), 60_000) for n, s in enumerate(stores)))
                won["mark"].append(marks.count(True))
            orders = len(fleet.venue.placed)
            shown = {name: "/".join(map(str, sorted(set(counts)))) for name, counts in won.items()}
            figures(f"20 race, {rounds} rounds: winners of each", **shown, orders_at_the_venue=orders)
            assert won == {name: [1] * rounds for name in won}
            assert (said, orders) == ([1] * rounds, rounds)

    asyncio.run(story())


# --- many freeze at once ----------------------------------------------------------------------------------------------------


def test_of_many_that_freeze_at_once_one_sweeps_and_all_prove_it(store_server: Server, figures: Figures) -> None:
    count, rounds = 5, 5

    async def story() -> None:
        # How long the others watch before they look does not matter here: it has to be long on a busy machine.
        async with Fleet(store_server, count, timeout_ms=PATIENT_MS, sweep=SweepPolicy(lease_wait_ms=400)) as fleet:
            sweepers, verified = [], 0
            for _ in range(rounds):
                await fleet.quote()
                before = fleet.cancels()
                proofs = await asyncio.gather(*(member.bot.freeze("test", "ops") for member in fleet.members))
                sweepers.append(len(fleet.senders(before)))
                verified += sum(proof.verified for proof in proofs)
                assert fleet.open() == 0
                await until_latched(fleet.members[0])
                await lifted(fleet)
            figures(
                f"{count} freeze at once, {rounds} rounds", sweepers_in_each="/".join(map(str, sorted(set(sweepers)))),
                verified=f"{verified} of {count * rounds}", stale_refused=sum(fleet.fences.refused.values()),
            )  # fmt: skip
            assert (sweepers, verified) == ([1] * rounds, count * rounds)

    asyncio.run(story())


async def lifted(fleet: Fleet) -> None:
    """A person lifts the freeze everywhere."""
    for _ in range(20):
        for member in fleet.members:
            with contextlib.suppress(Exception):
                await member.bot.unfreeze("ops", "well again")
        await asyncio.sleep(0.15)
        if all(member.mode() is Mode.ACTIVE for member in fleet.members):
            return
    raise AssertionError([member.mode() for member in fleet.members])

