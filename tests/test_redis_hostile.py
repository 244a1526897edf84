"""What lies in a store, or answers in its place, and is nothing of ours. Goal: no password comes back in a text, no row of a stranger is
taken for one of haltcore's or raises what nobody expects, and what runs out leaves nothing behind.

Method: servers made by hand that repeat what they are told, or say nonsense of themselves; on a real server, rows that were written past
haltcore, users without rights, times to live that are none, and names of leases that nobody asks for again.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import re
import socket
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
from haltcore.adapters.coordination import NO_VERSION, UNREADABLE, StoreFacts, StoreFailed
from haltcore.adapters.latch_row import NO_EPOCH, parsed
from haltcore.adapters.redis_link import LENIENT
from haltcore.adapters.redis_store import RedisStore
from haltcore.adapters.shared_breaker import SharedBreaker
from haltcore.adapters.store_check import verdict
from haltcore.effects import BreakerMode, ShareBreaker, Trigger
from haltcore.fsm.config import BreakerPolicy
from haltcore.fsm.events import BreakerAnswer, BreakerKind, LatchRow, StoreHealth

from tests.servers import Server

T = TypeVar("T")
SECRET, USER = "hunter2secret", "joe"
accounts = (f"hostile{number}" for number in itertools.count())


@contextlib.contextmanager
def answering(reply: Callable[[bytes], bytes]) -> Iterator[int]:
    """The port of something that answers so to what it reads."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk(connection: socket.socket) -> None:
            with contextlib.suppress(OSError), connection:
                while read := connection.recv(65_536):
                    connection.sendall(reply(read))

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=talk, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)


def asked(url: str, ask: Callable[[RedisStore], Awaitable[T]], account: str = "", timeout_ms: int = 5_000) -> T:
    """What one request of a store of its own comes to."""

    async def go() -> T:
        store = RedisStore(url, account or next(accounts), timeout_ms=timeout_ms)
        try:
            return await ask(store)
        finally:
            await store.close()

    return asyncio.run(go())


# --- what answers is no Redis -----------------------------------------------------------------------------------------


def _error(read: bytes) -> bytes:
    return b"-ERR unknown command, with args beginning with: " + read.replace(b"\r\n", b" ") + b"\r\n"


ECHOES: list[Callable[[bytes], bytes]] = [
    _error, lambda read: read, lambda read: b"-" + read.replace(b"\r\n", b"") + b"\r\n", lambda read: b"+" + read,
    lambda _: b"HTTP/1.1 400 no\r\n",
]  # fmt: skip


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster", "redis+sentinel"])
@pytest.mark.parametrize("number", range(len(ECHOES)))
def test_what_a_server_repeats_of_a_password_is_in_no_text_and_no_traceback(number: int, scheme: str) -> None:
    tail = f"/m?sentinel_password={SECRET}" if scheme == "redis+sentinel" else ""
    with answering(ECHOES[number]) as port, pytest.raises(StoreFailed) as failed:
        asked(f"{scheme}://{USER}:{SECRET}@127.0.0.1:{port}{tail}", lambda store: store.look("k"), timeout_ms=1_000)
    said = "".join(traceback.format_exception(failed.value)) + failed.value.text
    assert SECRET not in said
    assert USER not in failed.value.text


def test_a_password_that_is_no_utf_8_is_sent_byte_by_byte() -> None:
    with Server() as server:
        server.admin.execute_command("CONFIG", "SET", "requirepass", b"a\xffb")
        assert asked(f"redis://:a%FFb@127.0.0.1:{server.port}", lambda store: store.look("k")) is None


def _info(info: bytes) -> Callable[[bytes], bytes]:
    def reply(read: bytes) -> bytes:
        if b"\r\nINFO\r\n" in read:
            return b"$%d\r\n%s\r\n" % (len(info), info)
        if b"\r\nTIME\r\n" in read:
            return b"*2\r\n$10\r\n1700000000\r\n$1\r\n0\r\n"
        # What is said on connecting comes in one piece.
        return b"*0\r\n" if b"EVALSHA" in read or b"CONFIG" in read else b"+OK\r\n" * len(re.findall(rb"\*\d+\r\n\$", read))

    return reply


@pytest.mark.parametrize(
    "info",
    [
        b"redis_version:" + b"9" * 5_000 + b".1\r\nrole:master\r\n", b"redis_version:7." + b"9" * 5_000, b"used_memory:" + b"9" * 5_000,
        "redis_version:\u0667.\u0662\r\nused_memory:\u00b2\r\nmaxmemory:\u0663\r\n".encode(), b"role:" + b"x" * 100_000, b"",
    ],
    ids=range(6),
)  # fmt: skip
def test_whatever_a_server_says_of_itself_there_is_a_verdict_of_bearable_length(info: bytes) -> None:
    with answering(_info(info)) as port:
        facts: StoreFacts = asked(f"redis://127.0.0.1:{port}", lambda store: store.facts())
    faults, notes = verdict(facts)
    assert faults
    assert max(len(text) for text in (*faults, *notes)) < 400
    assert facts.used_bytes is facts.max_bytes is None


# --- rights -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", [["+@all", "-@dangerous"], ["+@all", "-info"]])
def test_who_may_not_run_info_in_a_script_is_told_that_it_is_forbidden_and_the_check_says_so(rules: list[str]) -> None:
    with Server() as server:
        server.admin.execute_command("ACL", "SETUSER", "mm", "on", ">pw", "~{haltcore:*", *rules)
        url = f"redis://mm:pw@127.0.0.1:{server.port}"
        with pytest.raises(StoreFailed) as failed:
            asked(url, lambda store: store.acquire("sweep", "a", 1_000))
        assert failed.value.code == "store_forbidden"
        assert "give the user +@all" in failed.value.text
        faults, _ = verdict(asked(url, lambda store: store.facts()))
    assert any("may not run INFO" in fault for fault in faults)


# --- rows of strangers --------------------------------------------------------------------------------------------------


STRANGE: list[dict[str, Any]] = [
    *({"version": version, "text": "t"} for version in ("abc", 2**53, 2**53 - 1, "1" * 5_000, "-3", "007", "1e3", "", "0", b"\xff")),
    *({"version": "4", "text": text} for text in (b"\xff\xfe", b"ok \xe2\x82", b"\xc0\xaf", b"\xf4\x90\x80\x80")),
    {"version": "4"}, {"text": "t"},
]  # fmt: skip


@pytest.mark.parametrize("row", STRANGE, ids=range(len(STRANGE)))
def test_a_state_that_nobody_here_has_put_is_not_put_over_unknowingly(store_server: Server, row: dict[str, Any]) -> None:
    account = next(accounts)
    key = f"{{haltcore:{account}}}:state:n"
    store_server.admin.hset(key, mapping=row)
    url = store_server.url()

    def put_over(version: int) -> Callable[[RedisStore], Awaitable[object]]:
        return lambda store: store.put_state("n", version, "mine")

    for request in (lambda store: store.get_state("n"), *(put_over(version) for version in (0, 4, 2**53 - 1, 2**53))):
        with pytest.raises(StoreFailed, match=r"delete it, or put another there|is no text") as failed:
            asked(url, request, account)
        assert (failed.value.code, len(failed.value.text) < 400) == (UNREADABLE, True)
        if b"\xff" not in row.values():
            assert failed.value.health is StoreHealth.UNAVAILABLE
    put, version, text = asked(url, lambda store: store.put_state("n", NO_VERSION, "mine"), account)
    assert (put, text) == (True, "mine")
    assert 2**40 < version < 2**53
    assert asked(url, lambda store: store.get_state("n"), account) == (version, "mine")
    # It is of the same make as any from here on, and not put over by who still believes that it cannot be read.
    assert asked(url, lambda store: store.put_state("n", version, "next"), account) == (True, version + 1, "next")
    assert asked(url, lambda store: store.put_state("n", NO_VERSION, "late"), account) == (False, version + 1, "next")


def test_a_state_of_another_type_is_unreadable_too(store_server: Server) -> None:
    account = next(accounts)
    store_server.admin.set(f"{{haltcore:{account}}}:state:n", "x")
    with pytest.raises(StoreFailed) as failed:
        asked(store_server.url(), lambda store: store.get_state("n"), account)
    assert (failed.value.code, failed.value.health) == (UNREADABLE, StoreHealth.UNAVAILABLE)
    assert asked(store_server.url(), lambda store: store.put_state("n", NO_VERSION, "\u20ac \U0001f600 \u00fc"), account)[0]
    assert asked(store_server.url(), lambda store: store.get_state("n"), account)[1] == "\u20ac \U0001f600 \u00fc"


@pytest.mark.parametrize("row", [{"version": "abc", "text": "t"}, {"version": "4", "text": b"\xff"}], ids=["version", "text"])
def test_a_breaker_whose_state_cannot_be_read_goes_on_and_puts_the_next_one_in_its_place(
    store_server: Server, caplog: pytest.LogCaptureFixture, row: dict[str, Any]
) -> None:
    account = next(accounts)
    store_server.admin.hset(f"{{haltcore:{account}}}:state:breaker:j", mapping=row)

    async def go(store: RedisStore) -> tuple[int, str]:
        clock = itertools.count(10**18, 10**7)
        breaker = SharedBreaker("j", store, BreakerPolicy(failures=1, window_ms=60_000), lambda: next(clock), refresh_ms=1)
        for _ in range(3):
            await breaker.success(await breaker.permit())
        said = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert ["no breaker's state" in record.getMessage() for record in said] == [True]
        await breaker.failure(await breaker.permit(), "broken")
        assert (breaker.status().mode, breaker.status().untold) == (BreakerMode.OPEN, False)
        return await store.get_state("breaker:j")

    version, text = asked(store_server.url(), go, account)
    assert version > 0
    assert '"open"' in text


def test_the_core_hears_of_an_unreadable_breaker_and_not_of_a_failing_store(store_server: Server) -> None:
    account = next(accounts)
    store_server.admin.hset(f"{{haltcore:{account}}}:state:breaker:place", mapping={"version": "abc", "text": "t"})

    async def go(store: RedisStore) -> None:
        store.connect(lambda: 1, "holder", "author")
        (read,) = await store.perform(ShareBreaker((1, 0), "place", 3, ""))
        assert isinstance(read, BreakerAnswer)
        assert (read.kind, read.version) == (BreakerKind.OK, NO_VERSION)
        assert "no state that haltcore has written" in read.state
        (put,) = await store.perform(ShareBreaker((1, 1), "place", 3, "mine"))
        assert isinstance(put, BreakerAnswer)
        assert (put.kind, put.version) == (BreakerKind.CONFLICT, NO_VERSION)
        (put,) = await store.perform(ShareBreaker((1, 2), "place", NO_VERSION, "mine"))
        assert isinstance(put, BreakerAnswer)
        assert (put.kind, put.state) == (BreakerKind.OK, "mine")

    asked(store_server.url(), go, account)


# --- rows of the latch ----------------------------------------------------------------------------------------------------


WORD = '{"author":"b","trigger":"manual","reason":"r","by":"bob"}'


def latch_row(epoch: str = "5", words: str = f"[{WORD}]", unnamed: str = "false", more: str = "") -> str:
    return f'{{"epoch":"{epoch}","joint":false,"unnamed":{unnamed},"words":{words}{more}}}'


#: Rows that JSON's readers in Lua and in Python may judge differently, and whether they can be read.
LATCH_ROWS: list[tuple[str | bytes, bool]] = [
    *((latch_row(epoch), False) for epoch in ("abc", "007", "", "-1", "+5", "5 ", "5.0", "1e3", "0x5", "00", "٥", "1" * 19, "9" * 5_000)),
    *((latch_row(epoch), True) for epoch in ("0", "5", "9" * 18)),
    *((latch_row(words=words), False) for words in ("[]", "{}", "null", "[null]", "[7]", f"[{WORD},null]", f'{{"1":{WORD}}}', '"b"')),
    *((latch_row(words=words, unnamed="true"), False) for words in ('{"b":"r"}', f'{{"1":{WORD}}}', "null", '[{"author":"b"}]')),
    *((latch_row(more=f',"x":{x}'), False) for x in ("nan", "NaN", "-Infinity", "[NaN]", "1e400", "9" * 5_000, '"\\ud800"', '"\\udc00"')),
    *((latch_row(more=f',"x":{x}'), True) for x in ("null", "1.5", "9" * 30, "[[]]", '{"a":{}}', '"\\ud83d\\ude00"', '"\\u0000"')),
    *((latch_row().encode().replace(b'"r"', b'"' + reason + b'"'), False) for reason in (
        b"\xe9", b"\\\xe9", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xf8\x88\x80\x80\x80", b"\x80", b"\\ud800", b"\\udc00\\ud800",
    )),
    *((latch_row().encode().replace(b'"r"', b'"' + reason + b'"'), True) for reason in (
        b"\xc3\xa9", b"\xe2\x82\xac", b"\xf0\x9f\x98\x80", b"\xf4\x8f\xbf\xbf", b"\xed\xa0\x80", b"\\u00e9", b"\\ud83d\\ude00", b"\\u0000/",
    )),
    ('{"epoch":"5","joint":false,"unnamed":true}', True), ('{"epoch":"5","joint":false,"unnamed":false}', False),
    ('{"epoch":5,"joint":false,"unnamed":true}', False), ('{"epoch":"5","joint":0,"unnamed":true}', False),
    ('{"epoch":"5","joint":false,"trigger":"manual","reason":"r","by":"b","authors":["b"]}', False),
    ("xx", False), ("", False), ("null", False), ("[]", False), ("[" * 100_000, False), (latch_row() + "}", False),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(LATCH_ROWS)))
def test_a_row_of_the_latch_is_read_alike_by_the_script_and_here_and_a_freeze_mends_it_and_force_clears_it(
    store_server: Server, number: int
) -> None:
    odd, readable = LATCH_ROWS[number]
    account = next(accounts)
    key = f"{{haltcore:{account}}}:account"
    stored = odd.encode() if isinstance(odd, str) else odd
    row = parsed(stored.decode("utf-8", LENIENT)) if b"\\\xe9" not in stored else None

    async def go(store: RedisStore) -> None:
        async def found() -> LatchRow:
            store_server.admin.hset(key, "latch:", stored)
            (there,) = (await store.read_latch("s")).rows
            assert (there.readable, there.epoch == NO_EPOCH) == (readable, not readable)
            assert (row is not None) == readable
            assert row is None or there == row.seen("", "s")
            return there

        there = await found()
        assert not (await store.clear("s", "", there.epoch + 1, True)).done, "another epoch"
        unforced = await store.clear("s", "", NO_EPOCH)
        assert (unforced.done, unforced.rows) == (not readable, (there,)), "the script has judged it alike"
        cleared = await store.clear("s", "", there.epoch, True)
        assert (cleared.done, cleared.rows, (await store.read_latch("s")).rows) == (True, (), ())

        await found()
        (published,) = (await store.publish("s", "", Trigger.MANUAL, "ours", "ops")).rows
        assert (published.readable, published.mine) == (True, True)
        assert published.joint == (row is None or bool(row.words))
        assert published.epoch > 2**40
        assert (await store.read_latch("s")).rows == (published,)
        text = store_server.admin.execute_command("HGET", key, "latch:", NEVER_DECODE=True).decode("utf-8", LENIENT)
        assert parsed(text) is not None
        assert set(json.loads(text)) == {"epoch", "joint", "unnamed", "words"}, "nothing of a stranger's is kept"
        (left,) = (await store.clear("s", "", published.epoch)).rows
        assert not left.mine, "others stand behind it"
        assert (await store.clear("s", "", left.epoch, True)).rows == ()

    asked(store_server.url(), go, account)


# --- what has to run out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ttl_ms", [9e5, 0, -1, "", "abc", 10**400, "1e3", 10**17])
def test_a_hold_without_a_time_to_live_is_not_set(store_server: Server, ttl_ms: Any) -> None:
    account = next(accounts)
    before = store_server.admin.dbsize()
    with pytest.raises(StoreFailed):
        asked(store_server.url(), lambda store: store.set_hold("BTC", "me", "why", "", ttl_ms), account)
    assert store_server.admin.dbsize() == before
    asked(store_server.url(), lambda store: store.set_hold("BTC", "me", "why", "", 60_000), account)
    with pytest.raises(StoreFailed):
        asked(store_server.url(), lambda store: store.renew_hold("BTC", "me", ttl_ms), account)
    assert 50_000 < store_server.admin.pttl(f"{{haltcore:{account}}}:hold:BTC") <= 60_000


def test_names_of_leases_that_have_run_out_do_not_pile_up(store_server: Server) -> None:
    account = next(accounts)

    async def go(store: RedisStore) -> list[bool]:
        kept = [await store.acquire(f"kept{number}", "a", 60_000) for number in range(20)]
        for number in range(1_000):
            await store.acquire(f"job{number}", "a", 1)
        await store.acquire("last", "b", 60_000)
        return [await store.renew(f"kept{number}", "a", grant.fence, 60_000) for number, grant in enumerate(kept)]

    assert asked(store_server.url(), go, account) == [True] * 20
    names = store_server.admin.hkeys(f"{{haltcore:{account}}}:account")
    assert {"lease:last", *(f"lease:kept{number}" for number in range(20))} <= set(names)
    assert len(names) < 100


# --- the end of a connection ----------------------------------------------------------------------------------------------


def test_a_request_that_is_under_way_when_a_store_is_closed_leaves_no_connection() -> None:
    with Server() as server:

        async def go() -> None:
            store = RedisStore(server.url(), "a", timeout_ms=5_000)
            await store.look("k")
            asking = [asyncio.ensure_future(store.get_state("n")) for _ in range(5)]
            await asyncio.sleep(0)
            await store.close()
            assert [await request for request in asking] == [(0, "")] * 5
            assert await store.look("k") is None
            while len(server.admin.client_list()) > 1:
                await asyncio.sleep(0.001)

        asyncio.run(asyncio.wait_for(go(), 5))
