"""A venue in another process. Goal: it keeps the duties of a venue over its socket, whatever the other side does, and several sessions
trade on one book without taking each other's reports.

Method: a real server and real clients on a socket in the test's folder, and servers made by hand that hang up, send nonsense, or do not
read. Waits are for what has to come, a few milliseconds each.
"""

import asyncio
import functools
import os
import socket
import stat
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, get_args

import pytest
from attrs import evolve
from haltcore.adapters import venue_server
from haltcore.adapters.faults import Fault, FaultPlan, Scripted
from haltcore.adapters.paper import PaperVenue
from haltcore.adapters.ports import VenueAnswer, VenueReport
from haltcore.adapters.remote_venue import RemoteVenue
from haltcore.adapters.venue_server import VenueServer
from haltcore.adapters.venue_wire import (
    FROM_CLIENT,
    FROM_SERVER,
    MAX_BYTES,
    VERSION,
    Answer,
    Hello,
    Report,
    Request,
    Welcome,
    framed,
    next_message,
)
from haltcore.effects import (
    NO_FENCE,
    Cancel,
    CancelAll,
    CancelTarget,
    Effect,
    Fence,
    FetchOpenOrders,
    OrdType,
    Place,
    Price,
    Qty,
    QueryOrder,
    ReadFreeze,
    Side,
    TimeInForce,
)
from haltcore.fsm.codec import CodecError
from haltcore.fsm.config import ConfigRefused
from haltcore.fsm.events import (
    EVENT_CLASSES,
    EVIDENCE_CLASSES,
    Event,
    FetchedOrders,
    FetchFailed,
    InstrumentDefined,
    MarkPrice,
    OpenOrders,
    OrderAccepted,
    OrderCancelled,
    Outcome,
    OutcomeKind,
    VenueLink,
)
from haltcore.fsm.instrument import Instrument
from haltcore.fsm.outcomes import outcome

BTC = "BTCUSDT"
ACKNOWLEDGED, REFUSED, UNAVAILABLE, IN_DOUBT = OutcomeKind
_REPORTS, _ANSWERS = get_args(VenueReport), get_args(VenueReport | VenueAnswer)


def live(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on a loop of this machine, for 10 seconds at most."""

    @functools.wraps(test)
    def go(*arguments: Any, **named: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*arguments, **named), 10))

    return go


class Bot:
    """A process with a session of its own: what it was told, and what may be sent."""

    def __init__(self, path: str, tag: str, **options: Any) -> None:
        self.venue, self.tag = RemoteVenue(path, tag, **options), tag
        self.stream: list[Event] = []
        self.code = ""
        self.now = 10**18
        self._effects = 0
        self.venue.connect(self.stream.append, self._now_ns, lambda _: self.code)

    def _now_ns(self) -> int:
        self.now += 1
        return self.now

    def place(self, name: str, price: int = 100) -> Place:
        return Place(
            self.id(), 7, self.tag + name, BTC, Side.BUY, OrdType.LIMIT, Qty(10), Price(price), None, TimeInForce.GTC, False, False, "", "",
            "", 0, NO_FENCE,
        )  # fmt: skip

    def cancel(self, client_id: str) -> Cancel:
        return Cancel(self.id(), BTC, CancelTarget(7, client_id, ""), False, 0, NO_FENCE)

    def cancel_all(self) -> CancelAll:
        return CancelAll(self.id(), BTC, False, 0, NO_FENCE)

    def fetch(self) -> FetchOpenOrders:
        return FetchOpenOrders(self.id(), "", False)

    def id(self) -> tuple[int, int]:
        self._effects += 1
        return self._effects, 0

    async def ask(self, effect: Effect) -> list[Event]:
        return await self.venue.perform(effect)

    async def hears(self, kind: type[Event], count: int = 1) -> list[Any]:
        """The events of a kind, as soon as there are so many."""
        while len(found := [event for event in self.stream if isinstance(event, kind)]) < count:
            await asyncio.sleep(0.001)
        return found


class World:
    """A paper venue behind a server, and bots that are hung up in the end."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = str(path / "v.sock")
        self.venue = PaperVenue([BTC], latency_ms=(0, 1), **options)
        self.arrived: list[tuple[str, type[Effect]]] = []
        self.server = VenueServer(self.venue, self.path, watch=lambda tag, effect: self.arrived.append((tag, type(effect))))
        self.bots: list[Bot] = []

    async def __aenter__(self) -> "World":
        await self.server.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        for bot in self.bots:
            await bot.venue.close()
        await self.server.close()
        await self.venue.close()
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task() and "wait_for" not in repr(task)] == []

    def bot(self, tag: str, **options: Any) -> Bot:
        bot = Bot(self.path, tag, **options)
        self.bots.append(bot)
        return bot

    def open(self) -> list[str]:
        return [row.client_id for row in self.venue.exchange.all_open()]


def kinds(events: list[Event]) -> list[type[Event]]:
    return [type(event) for event in events]


# --- what goes well -------------------------------------------------------------------------------------------------


@live
async def test_requests_are_answered_as_by_the_venue_itself(tmp_path: Path) -> None:
    async with World(tmp_path, instruments={BTC: Instrument(tick=Price(10))}) as world:
        bot = world.bot("aaaaaaa")
        place = bot.place("1")
        accepted, answer = await bot.ask(place)
        assert isinstance(accepted, OrderAccepted)
        assert accepted.client_id == "aaaaaaa1"
        assert answer == outcome(place, answer.at_ns, ACKNOWLEDGED)
        # Stamped on this side's clock, not on the server's.
        assert 10**18 < answer.at_ns <= bot.now
        (report,) = await bot.hears(OrderAccepted)
        assert report.venue_id == accepted.venue_id
        (terms,) = await bot.hears(InstrumentDefined)
        assert terms.instrument == Instrument(tick=Price(10))
        (listed,) = await bot.ask(bot.fetch())
        assert isinstance(listed, OpenOrders)
        assert isinstance(listed.result, FetchedOrders)
        assert [row.client_id for row in listed.result.rows] == ["aaaaaaa1"]
        (found,) = await bot.ask(QueryOrder(bot.id(), 7, "aaaaaaa1", "", BTC, False))
        assert "Found" in repr(found)
        assert kinds(await bot.ask(bot.cancel("aaaaaaa1"))) == [OrderCancelled, Outcome]
        assert world.open() == []
        assert [kind for _, kind in world.arrived] == [Place, FetchOpenOrders, QueryOrder, Cancel]
        with pytest.raises(TypeError, match="ReadFreeze is no request to a venue"):
            await bot.ask(ReadFreeze(bot.id()))


@live
async def test_two_sessions_share_the_books_and_get_their_own_reports(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        one, two = world.bot("aaaaaaa"), world.bot("bbbbbbb")
        await asyncio.gather(one.ask(one.place("1")), two.ask(two.place("1")), one.ask(one.place("2", 90)))
        assert sorted(world.open()) == ["aaaaaaa1", "aaaaaaa2", "bbbbbbb1"]
        (listed,) = await two.ask(two.fetch())
        assert isinstance(listed, OpenOrders)
        assert isinstance(listed.result, FetchedOrders)
        assert len(listed.result.rows) == 3
        await one.ask(one.cancel_all())
        assert [event.client_id for event in await two.hears(OrderCancelled)] == ["bbbbbbb1"]
        assert sorted(event.client_id for event in await one.hears(OrderCancelled, 2)) == ["aaaaaaa1", "aaaaaaa2"]
        assert {event.client_id[:7] for event in one.stream if isinstance(event, (OrderAccepted, OrderCancelled))} == {"aaaaaaa"}
        assert {event.client_id[:7] for event in two.stream if isinstance(event, (OrderAccepted, OrderCancelled))} == {"bbbbbbb"}


@live
async def test_an_order_of_nobody_is_reported_to_everybody(tmp_path: Path) -> None:
    from haltcore.adapters.ladder import Ticket

    async with World(tmp_path) as world:
        one, two = world.bot("aaaaaaa"), world.bot("bbbbbbb")
        await asyncio.gather(one.ask(one.fetch()), two.ask(two.fetch()))
        world.venue.by_hand(Ticket("byhand", BTC, Side.BUY, Qty(1), Price(5), OrdType.LIMIT))
        for bot in (one, two):
            assert [event.client_id for event in await bot.hears(OrderAccepted)] == ["byhand"]


@live
async def test_a_process_that_starts_anew_gets_the_reports_of_its_session(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        first, other = world.bot("aaaaaaa"), world.bot("bbbbbbb")
        await asyncio.gather(first.ask(first.place("1")), other.ask(other.fetch()))
        await first.venue.close()
        again = world.bot("aaaaaaa")
        await again.ask(again.fetch())
        await other.ask(other.cancel_all())
        assert [event.client_id for event in await again.hears(OrderCancelled)] == ["aaaaaaa1"]
        assert not any(isinstance(event, OrderCancelled) for event in [*first.stream, *other.stream])


# --- the last check -------------------------------------------------------------------------------------------------


@live
async def test_what_may_not_be_sent_does_not_leave(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        bot = world.bot("aaaaaaa")
        bot.code = "frozen_at_send"
        (answer,) = await bot.ask(bot.place("1"))
        assert isinstance(answer, Outcome)
        assert (answer.kind, answer.code) == (REFUSED, "frozen_at_send")
        bot.code = ""
        await bot.ask(bot.fetch())
        assert world.arrived == [("aaaaaaa", FetchOpenOrders)]


@live
async def test_the_last_check_is_asked_when_everything_before_it_has_left(tmp_path: Path) -> None:
    """The other side reads nothing: the pipe fills up, requests queue, and a freeze reaches every one of them that has not left."""
    reads = asyncio.Event()
    came: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_message(reader)
        writer.write(framed(FROM_SERVER.encode(Welcome(VERSION))))
        await reads.wait()
        while True:
            try:
                request = FROM_CLIENT.decode(await next_message(reader))
            except (asyncio.IncompleteReadError, OSError):
                break
            assert isinstance(request, Request)
            assert isinstance(request.effect, Place)
            came.append(request.effect.client_id)
            writer.write(framed(FROM_SERVER.encode(Answer(request.number, (outcome(request.effect, 1, ACKNOWLEDGED),)))))
        writer.close()

    path = str(tmp_path / "v.sock")
    server = await asyncio.start_unix_server(serve, path, limit=2**10)
    bot = Bot(path, "aaaaaaa", timeout_ms=5_000)
    long = "x" * 20_000
    waiting = [asyncio.ensure_future(bot.ask(bot.place(f"{number}{long}"))) for number in range(60)]
    await asyncio.sleep(0.05)
    written = len(bot.venue._asked)
    assert 0 < written < 60
    assert bot.venue._writer is not None
    assert bot.venue._writer.transport.get_write_buffer_size() < 2 * len(long)
    bot.code = "frozen_at_send"
    reads.set()
    answers = [answer for (answer,) in await asyncio.gather(*waiting)]
    assert all(isinstance(answer, Outcome) for answer in answers)
    refused = [answer for answer in answers if answer.code == "frozen_at_send"]  # type: ignore[union-attr]
    assert len(came) == written
    assert len(refused) == 60 - written
    await bot.venue.close()
    server.close()


@live
async def test_a_fence_that_is_older_than_another_session_s_is_refused(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        one, two = world.bot("aaaaaaa"), world.bot("bbbbbbb")
        await one.ask(one.place("1"))
        await two.ask(evolve(two.cancel_all(), fence=Fence(5, 2)))
        await one.ask(one.place("2"))
        (answer,) = await one.ask(evolve(one.cancel_all(), fence=Fence(5, 1)))
        assert isinstance(answer, Outcome)
        assert (answer.kind, answer.code) == (REFUSED, "stale_fence")
        assert world.open() == ["aaaaaaa2"]
        assert sum(world.server.fences.refused.values()) == 1
        await one.ask(one.cancel_all())
        assert world.open() == []


# --- what goes wrong ------------------------------------------------------------------------------------------------


@live
async def test_no_answer_in_time_is_in_doubt_and_a_late_one_is_evidence(tmp_path: Path) -> None:
    late = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_message(reader)
        writer.write(framed(FROM_SERVER.encode(Welcome(VERSION))))
        request = FROM_CLIENT.decode(await next_message(reader))
        assert isinstance(request, Request)
        await late.wait()
        events = (OrderAccepted(1, "aaaaaaa1", "v1"), outcome(request.effect, 1, ACKNOWLEDGED))
        writer.write(framed(FROM_SERVER.encode(Answer(request.number, events))))
        await reader.read()
        writer.close()

    path = str(tmp_path / "v.sock")
    server = await asyncio.start_unix_server(serve, path)
    bot = Bot(path, "aaaaaaa", timeout_ms=30)
    (answer,) = await bot.ask(bot.place("1"))
    assert isinstance(answer, Outcome)
    assert (answer.kind, answer.code) == (IN_DOUBT, "timeout")
    late.set()
    await bot.hears(OrderAccepted)
    assert kinds(bot.stream) == [OrderAccepted]
    await bot.venue.close()
    server.close()


@live
async def test_a_venue_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    plan = FaultPlan(script=(Scripted(Place, 1, Fault.REPLY_LOST),))
    async with World(tmp_path, faults=plan, timeout_ms=60_000) as world:
        bot = world.bot("aaaaaaa", retry_ms=10, timeout_ms=5_000)
        waiting = asyncio.ensure_future(bot.ask(bot.place("1")))
        await bot.hears(OrderAccepted)
        await world.server.close()
        (answer,) = await waiting
        assert isinstance(answer, Outcome)
        assert (answer.kind, answer.code) == (IN_DOUBT, "disconnected")
        (down,) = await bot.hears(VenueLink)
        assert not down.up
        assert down.at_ns > 10**18
        (answer,) = await bot.ask(bot.place("2"))
        assert isinstance(answer, Outcome)
        assert (answer.kind, answer.code) == (UNAVAILABLE, "not_connected")
        (listed,) = await bot.ask(bot.fetch())
        assert isinstance(listed, OpenOrders)
        assert isinstance(listed.result, FetchFailed)
        # Tried many times meanwhile, told once.
        await asyncio.sleep(0.05)
        assert len(await bot.hears(VenueLink)) == 1
        await world.server.open()
        _, up = await bot.hears(VenueLink, 2)
        assert up.up
        (listed,) = await bot.ask(bot.fetch())
        assert isinstance(listed, OpenOrders)
        assert isinstance(listed.result, FetchedOrders)
        assert [row.client_id for row in listed.result.rows] == ["aaaaaaa1"]


@live
async def test_no_venue_at_all(tmp_path: Path) -> None:
    bot = Bot(str(tmp_path / "v.sock"), "aaaaaaa", retry_ms=10)
    (answer,) = await bot.ask(bot.place("1"))
    assert isinstance(answer, Outcome)
    assert (answer.kind, answer.code) == (UNAVAILABLE, "not_connected")
    (down,) = await bot.hears(VenueLink)
    assert not down.up
    assert "v.sock" in down.reason
    await bot.venue.close()
    with pytest.raises(RuntimeError, match="call connect first"):
        await bot.ask(bot.place("1"))


NONSENSE = [
    b"HTTP/1.1 400 Bad Request\r\n\r\n", framed(b"{}"), framed(b"\xff\xfe"), framed(FROM_SERVER.encode(Welcome(VERSION + 1))),
    (MAX_BYTES + 1).to_bytes(4, "big"), framed(FROM_SERVER.encode(Answer(1, ()))), b"",
    framed(FROM_SERVER.encode(Welcome(VERSION))) + framed(FROM_SERVER.encode(Answer(99, ()))),
    framed(FROM_SERVER.encode(Welcome(VERSION))) + framed(FROM_SERVER.encode(Welcome(VERSION))),
    framed(FROM_SERVER.encode(Welcome(VERSION))) + framed(b'{"class":"Report","event":{"class":"OrderFilled"}}'),
]  # fmt: skip


@pytest.mark.parametrize("nonsense", NONSENSE, ids=range(len(NONSENSE)))
@live
async def test_a_server_that_talks_nonsense_is_a_lost_connection(tmp_path: Path, nonsense: bytes) -> None:
    calls = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        await next_message(reader)
        writer.write(nonsense)
        writer.close()

    path = str(tmp_path / "v.sock")
    server = await asyncio.start_unix_server(serve, path)
    bot = Bot(path, "aaaaaaa", retry_ms=10)
    (down,) = await bot.hears(VenueLink)
    assert not down.up
    (answer,) = await bot.ask(bot.place("1"))
    assert isinstance(answer, Outcome)
    assert answer.kind in (UNAVAILABLE, IN_DOUBT)
    while calls < 2:
        await asyncio.sleep(0.001)
    await bot.venue.close()
    server.close()


#: What would unfreeze, trade, or lie about the connection, as it would stand on the wire.
WORDS = [
    b'{"class":"Unfreeze","at_ns":1,"scope":"","by":"mallory","why":"by the socket","force":true}',
    b'{"class":"Heartbeat","at_ns":1,"symbol":""}',
    b'{"class":"VenueLink","at_ns":1,"up":true,"reason":"all is well"}',
    b'{"class":"TimerFired","at_ns":1,"effect":[1,0],"purpose":"sweep","key":0}',
]


@pytest.mark.parametrize("word", WORDS, ids=[word[10:20].decode() for word in WORDS])
@pytest.mark.parametrize(
    "message", [b'{"class":"Report","event":%s}', b'{"class":"Answer","number":1,"events":[%s]}'], ids=["told", "answered"]
)
@live
async def test_a_server_that_says_what_no_venue_may_say_is_hung_up_on(tmp_path: Path, word: bytes, message: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_message(reader)
        writer.write(framed(FROM_SERVER.encode(Welcome(VERSION))))
        await next_message(reader)
        writer.write(framed(message % word))
        await reader.read()
        writer.close()

    path = str(tmp_path / "v.sock")
    server = await asyncio.start_unix_server(serve, path)
    bot = Bot(path, "aaaaaaa", retry_ms=60_000)
    (answer,) = await bot.ask(bot.place("1"))
    assert isinstance(answer, Outcome)
    assert (answer.kind, answer.code) == (IN_DOUBT, "disconnected")
    (down,) = await bot.hears(VenueLink)
    assert not down.up
    assert kinds(bot.stream) == [VenueLink]
    await bot.venue.close()
    server.close()


def test_only_what_a_venue_may_say_has_a_form_on_the_wire() -> None:
    """Of a name that may stand there, what is missed are its fields."""
    forms = {b'{"class":"Report","event":{"class":"%s"}}': _REPORTS, b'{"class":"Answer","number":1,"events":[{"class":"%s"}]}': _ANSWERS}
    for form, allowed in forms.items():
        for kind in EVENT_CLASSES:
            with pytest.raises(CodecError, match="missing required field" if kind in allowed else f"Invalid value '{kind.__name__}'"):
                FROM_SERVER.decode(form % kind.__name__.encode())
    reports = {kind.__name__ for kind in _REPORTS if kind not in EVIDENCE_CLASSES}
    assert reports == {"InstrumentDefined", "MarkPrice"}
    assert {kind.__name__ for kind in _ANSWERS if kind not in _REPORTS} == {"Outcome", "OrderQueried", "OpenOrders", "Positions"}
    report = Report(MarkPrice(1, BTC, Price(7)))
    assert FROM_SERVER.decode(FROM_SERVER.encode(report)) == report


REQUESTS = [
    framed(FROM_CLIENT.encode(Hello(VERSION + 1, "x"))), framed(b"nonsense"), b"\xff\xff\xff\xff", framed(b'{"class":"Hello"}'), b"\x00",
    framed(FROM_CLIENT.encode(Hello(VERSION, ""))) * 2,
    framed(FROM_CLIENT.encode(Hello(VERSION, ""))) + framed(FROM_CLIENT.encode(Request(1, ReadFreeze((1, 0))))),
    framed(FROM_CLIENT.encode(Request(1, ReadFreeze((1, 0))))),
]  # fmt: skip


@pytest.mark.parametrize("nonsense", REQUESTS, ids=range(len(REQUESTS)))
@live
async def test_a_client_that_talks_nonsense_is_hung_up_on_alone(tmp_path: Path, nonsense: bytes) -> None:
    async with World(tmp_path) as world:
        bot = world.bot("aaaaaaa")
        reader, writer = await asyncio.open_unix_connection(world.path)
        writer.write(nonsense)
        if nonsense == b"\x00":
            writer.write_eof()
        await reader.read()
        writer.close()
        assert kinds(await bot.ask(bot.place("1"))) == [OrderAccepted, Outcome]
        assert world.venue._links[-1].tag == "aaaaaaa"
        assert len(world.venue._links) == 1


@live
async def test_what_a_process_had_sent_before_it_died_is_carried_out(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        bot = world.bot("aaaaaaa")
        await bot.ask(bot.fetch())
        _, writer = await asyncio.open_unix_connection(world.path)
        writer.write(framed(FROM_CLIENT.encode(Hello(VERSION, "bbbbbbb"))))
        dying = Bot.__new__(Bot)
        dying.tag, dying._effects = "bbbbbbb", 0
        for number in range(3):
            writer.write(framed(FROM_CLIENT.encode(Request(number, dying.place(str(number))))))
        writer.write_eof()
        while len(world.open()) < 3:
            await asyncio.sleep(0.001)
        writer.close()
        assert sorted(world.open()) == ["bbbbbbb0", "bbbbbbb1", "bbbbbbb2"]
        assert bot.stream == []


@live
async def test_a_client_that_does_not_read_is_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venue_server, "MAX_UNREAD", 1_000)
    async with World(tmp_path, timeout_ms=60_000) as world:
        _, writer = await asyncio.open_unix_connection(world.path, limit=1)
        writer.write(framed(FROM_CLIENT.encode(Hello(VERSION, "bbbbbbb"))))
        bot = world.bot("aaaaaaa")
        await bot.ask(bot.place("1"))
        fetch = framed(FROM_CLIENT.encode(Request(1, bot.fetch())))
        while len(world.venue._links) == 2 or not world.venue._tags.keys() >= {"bbbbbbb"}:
            writer.write(fetch * 100)
            await asyncio.sleep(0.001)
        assert kinds(await bot.ask(bot.place("2"))) == [OrderAccepted, Outcome]
        writer.transport.abort()


@live
async def test_a_path_where_a_venue_listens_is_not_taken_and_a_file_of_another_is_left(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        with pytest.raises(ConfigRefused, match="another venue listens there"):
            await VenueServer(world.venue, world.path).open()
        bot = world.bot("aaaaaaa")
        assert kinds(await bot.ask(bot.place("1"))) == [OrderAccepted, Outcome]
    # What a dead one has left is no hindrance.
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(world.path)
    async with World(tmp_path) as world:
        os.unlink(world.path)
        Path(world.path).write_text("mine")
    assert Path(world.path).read_text() == "mine"


@live
async def test_who_never_says_hello_is_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venue_server, "HELLO_S", 0.02)
    async with World(tmp_path) as world:
        reader, writer = await asyncio.open_unix_connection(world.path)
        assert await reader.read() == b""
        writer.close()
        bot = world.bot("aaaaaaa")
        await bot.ask(bot.fetch())
        await asyncio.sleep(0.05)
        await bot.ask(bot.fetch())
        assert not any(isinstance(event, VenueLink) for event in bot.stream)


@live
async def test_the_socket_is_for_its_owner_and_goes_away(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        assert stat.S_IMODE(os.lstat(world.path).st_mode) == 0o600
    assert not os.path.exists(world.path)
    with pytest.raises(ConfigRefused, match=r"venue: .*Give a path of at most 100 bytes"):
        await VenueServer(world.venue, str(tmp_path / ("x" * 200))).open()
    with pytest.raises(ConfigRefused, match="No such file"):
        await VenueServer(world.venue, str(tmp_path / "nowhere" / "all.sock")).open()
