"""Goal: only who may reaches the control socket, no caller can hold it up or keep another one out, and it goes away as it came.

Method: real sockets on this machine, in a folder of the test or on the loopback, around an answer made by hand. What is to be too
slow has its time shortened; nothing waits longer than a few hundredths of a second.
"""

import asyncio
import functools
import os
import socket
import stat
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from haltcore.adapters import control_socket
from haltcore.adapters.control_socket import (
    BACKLOG,
    MAX_CONNECTIONS,
    MAX_LINE,
    MAX_PATH,
    Address,
    Listener,
    Unreachable,
    address,
    ask,
    listen,
    port_address,
)
from haltcore.fsm.config import ConfigRefused

HERE = f"uid {os.getuid()}"


def live(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on a loop of this machine, for 20 seconds at most."""

    @functools.wraps(test)
    def go(*arguments: Any, **named: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*arguments, **named), 20))

    return go


class Echo(Listener):
    """Answers each line with who sent it and what it was; keeps what was refused. ``gate`` holds the answers back."""

    def __init__(self, where: str) -> None:
        super().__init__(address(where), self._echo, self._keep)
        self.refused: list[tuple[str, str]] = []
        self.lines: list[bytes] = []
        self.callers: list[asyncio.StreamWriter] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def _echo(self, line: bytes, peer: str) -> bytes:
        self.lines.append(line)
        await self.gate.wait()
        return peer.encode() + b"|" + line.strip()

    def _keep(self, code: str, text: str, peer: str) -> bytes:  # noqa: ARG002
        self.refused.append((code, peer))
        return code.encode()

    async def __aenter__(self) -> "Echo":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        for caller in self.callers:
            caller.transport.abort()
        for _ in range(10):  # until the loop has closed what was aborted
            await asyncio.sleep(0)


async def connected(echo: Echo) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A caller."""
    if echo.where.path:
        reader, writer = await asyncio.open_unix_connection(echo.where.path)
    else:
        reader, writer = await asyncio.open_connection(echo.where.host, echo.where.port)
    echo.callers.append(writer)
    return reader, writer


async def until(condition: Callable[[], Any]) -> None:
    """Let the sockets work until it is so."""
    while not condition():
        await asyncio.sleep(0.001)


# --- addresses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:7300", "127.0.0.1", 7300), ("localhost:1", "127.0.0.1", 1), ("[::1]:65535", "::1", 65535)],
)
def test_ports_of_this_machine(text: str, host: str, port: int) -> None:
    assert address(text) == port_address(text) == Address(host=host, port=port)


@pytest.mark.parametrize(
    "text",
    ["0.0.0.0:7300", "192.168.1.5:7300", "10.0.0.1:1", "[::]:7300", "example.com:80", "[2001:db8::1]:1", "127.0.0.1:70000", "1.2.3:5",
     "[127.0.0.1:5", "host:123456", "run/x:12"],
)  # fmt: skip
def test_what_others_could_reach_or_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigRefused, match=r"^control: "):
        address(text)


def test_paths_are_absolute_and_short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert address("run/mm1.sock") == Address(path=f"{tmp_path}/run/mm1.sock")
    assert str(address("run/mm1.sock")) == f"{tmp_path}/run/mm1.sock"
    assert (str(address("127.0.0.1:5")), str(address("[::1]:5"))) == ("127.0.0.1:5", "[::1]:5")
    for text in ("", "a\0b"):
        with pytest.raises(ConfigRefused, match="is no path"):
            address(text)
    with pytest.raises(ConfigRefused, match=f"at most {MAX_PATH} bytes"):
        address("/" + "x" * MAX_PATH)
    assert address("/" + "x" * (MAX_PATH - 1)).path


# --- the file -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o777])
def test_the_file_is_its_owners_alone_whatever_the_mask(tmp_path: Path, mask: int) -> None:
    path = tmp_path / "s"
    old = os.umask(mask)
    try:
        listener = listen(Address(path=str(path)))
    finally:
        os.umask(old)
    with listener:
        assert stat.S_IMODE(path.lstat().st_mode) == 0o600


def test_nobody_could_connect_before_the_mode_was_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at between all the calls that make the socket: whenever a connection could succeed, the mode is 0600."""
    path = tmp_path / "s"
    seen: list[tuple[str, int, bool]] = []

    def look(name: str) -> None:
        if path.exists():
            with socket.socket(socket.AF_UNIX) as caller:
                seen.append((name, stat.S_IMODE(path.lstat().st_mode), caller.connect_ex(str(path)) == 0))

    class Watched(socket.socket):
        def bind(self, where: Any) -> None:
            super().bind(where)
            look("bind")

        def listen(self, backlog: int = 0) -> None:
            look("listen")
            super().listen(backlog)

    monkeypatch.setattr(socket, "socket", Watched)
    old = os.umask(0)
    try:
        listener = listen(Address(path=str(path)))
    finally:
        os.umask(old)
    with listener:
        look("end")
    assert [name for name, _, _ in seen] == ["bind", "listen", "end"]
    assert all(mode == 0o600 for _, mode, reachable in seen if reachable)
    assert (seen[1][1:], seen[2][1:]) == ((0o600, False), (0o600, True))


def test_a_file_of_the_dead_is_replaced_and_one_of_the_living_is_not(tmp_path: Path) -> None:
    where = Address(path=str(tmp_path / "s"))
    dead = listen(where)
    first = os.lstat(where.path).st_ino
    with pytest.raises(ConfigRefused, match="another runner listens there"):
        listen(where)
    dead.close()
    assert os.path.exists(where.path)
    with listen(where) as living:
        assert os.lstat(where.path).st_ino != first or living.fileno() > 0
        with pytest.raises(ConfigRefused, match="another runner listens there"):
            listen(where)


def test_one_that_is_alive_but_answers_nobody_is_alive(tmp_path: Path) -> None:
    """Its queue of callers is full: a connection fails, but not as with a dead one."""
    where = Address(path=str(tmp_path / "s"))
    with listen(where):
        waiting = []
        for _ in range(BACKLOG + 2):
            caller = socket.socket(socket.AF_UNIX)
            caller.setblocking(False)
            waiting.append(caller)
            if caller.connect_ex(where.path):
                break
        else:
            pytest.fail("the queue was never full")
        with pytest.raises(ConfigRefused, match="another runner listens there"):
            listen(where)
        for caller in waiting:
            caller.close()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s"
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigRefused, match="is no socket"):
        listen(Address(path=str(path)))
    assert os.path.lexists(path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigRefused, match=f"Make the folder {tmp_path}/run first"):
        listen(Address(path=str(tmp_path / "run" / "s")))


def test_of_many_that_start_at_once_over_a_dead_ones_file_exactly_one_wins(tmp_path: Path) -> None:
    where = Address(path=str(tmp_path / "s"))
    for _ in range(20):
        listen(where).close()
        won: list[socket.socket] = []
        lost: list[BaseException] = []
        start = threading.Barrier(6)

        def try_it(won: list[Any] = won, lost: list[Any] = lost, start: threading.Barrier = start) -> None:
            start.wait()
            while True:
                try:
                    won.append(listen(where))
                except BlockingIOError:
                    continue
                except ConfigRefused as refused:
                    lost.append(refused)
                return

        threads = [threading.Thread(target=try_it) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(won), len(lost)) == (1, 5)
        with socket.socket(socket.AF_UNIX) as caller:
            assert caller.connect_ex(where.path) == 0, "and the file is the winner's"
        won[0].close()


@live
async def test_a_folder_that_stays_locked_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(where: Address) -> socket.socket:  # noqa: ARG001
        raise BlockingIOError

    monkeypatch.setattr(control_socket, "listen", locked)
    monkeypatch.setattr(control_socket, "LOCK_TRIES", 3)
    with pytest.raises(ConfigRefused, match="locked by another program"):
        await Echo(str(tmp_path / "s")).open()


@live
async def test_the_file_is_removed_at_the_end_if_it_is_still_ours(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with Echo(str(path)) as echo:
        assert path.is_socket()
    assert not path.exists()
    echo.close()
    async with Echo(str(path)):
        path.unlink()
        path.write_text("somebody else's")
    assert path.read_text() == "somebody else's"


@live
async def test_a_port_that_is_taken_is_refused() -> None:
    async with Echo("127.0.0.1:0") as echo:
        assert echo.where.port
        with pytest.raises(ConfigRefused, match="Give another port"):
            listen(echo.where)


# --- conversations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["s", "127.0.0.1:0", "[::1]:0"])
@live
async def test_each_line_is_answered_in_order_and_the_caller_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    monkeypatch.chdir(tmp_path)
    async with Echo(where) as echo:
        reader, writer = await connected(echo)
        writer.write(b"one\ntwo\nthr")
        assert [await reader.readline(), await reader.readline()] == [f"{_me(echo)}|{line}\n".encode() for line in ("one", "two")]
        writer.write(b"ee")
        writer.write_eof()
        assert await reader.readline() == f"{_me(echo)}|three\n".encode(), "the last line needs no end"
        assert await reader.read() == b""


def _me(echo: Echo) -> str:
    return HERE if echo.where.path else "tcp"


@live
async def test_a_line_that_is_too_long_is_refused_and_ends_the_connection(tmp_path: Path) -> None:
    async with Echo(str(tmp_path / "s")) as echo:
        reader, writer = await connected(echo)
        writer.write(b"x" * (MAX_LINE - 1) + b"\n")
        assert len(await reader.readexactly(MAX_LINE + len(HERE) + 1)) > MAX_LINE, "just as long as allowed"
        for tail in (b"\n", b"x" * 5_000_000):
            reader, writer = await connected(echo)
            writer.write(b"x" * MAX_LINE + tail)
            assert await reader.readline() == b"too_long\n"
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
        assert echo.refused == [("too_long", HERE)] * 2
        assert len(echo.lines) == 1


@live
async def test_a_caller_that_sends_nothing_or_only_half_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_socket, "LINE_S", 0.03)
    async with Echo(str(tmp_path / "s")) as echo:
        idle, _ = await connected(echo)
        half, writer = await connected(echo)
        writer.write(b'{"command": ')
        assert await idle.read() == b""
        assert await half.readline() == b"slow\n"
        assert await half.read() == b""
        assert echo.refused == [("slow", HERE)]
        await until(lambda: not echo._connections)


@live
async def test_a_caller_that_sends_byte_by_byte_has_no_more_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_socket, "LINE_S", 0.05)
    async with Echo(str(tmp_path / "s")) as echo:
        reader, writer = await connected(echo)

        async def drip() -> None:
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.005)

        dripping = asyncio.ensure_future(drip())
        assert await reader.readline() == b"slow\n"
        dripping.cancel()


@live
async def test_a_caller_that_does_not_take_its_answers_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_socket, "LINE_S", 0.05)
    async with Echo(str(tmp_path / "s")) as echo:
        with socket.socket(socket.AF_UNIX) as caller:
            caller.setblocking(False)
            caller.connect(echo.where.path)
            line = b"x" * 60_000 + b"\n"

            async def send() -> None:
                while True:
                    await asyncio.get_running_loop().sock_sendall(caller, line)

            with pytest.raises(ConnectionError):
                await send()
            await until(lambda: not echo._connections)


@live
async def test_one_connection_more_than_there_is_room_for_costs_the_oldest(tmp_path: Path) -> None:
    async with Echo(str(tmp_path / "s")) as echo:
        idle = [await connected(echo) for _ in range(MAX_CONNECTIONS)]
        await until(lambda: len(echo._connections) == MAX_CONNECTIONS)
        reader, writer = await connected(echo)
        writer.write(b"freeze\n")
        assert await reader.readline() == f"{HERE}|freeze\n".encode()
        assert await idle[0][0].read() == b""
        idle[1][1].write(b"still here\n")
        assert await idle[1][0].readline() == f"{HERE}|still here\n".encode()
        assert len(echo._connections) == MAX_CONNECTIONS


@live
async def test_a_flood_of_connections_does_not_keep_a_request_out(tmp_path: Path) -> None:
    """Five hundred callers at once, each with a line: every line is read before its caller has to go."""
    async with Echo(str(tmp_path / "s")) as echo:
        flooding = threading.Event()

        def flood() -> list[socket.socket]:
            callers = []
            for n in range(500):
                caller = socket.socket(socket.AF_UNIX)
                caller.connect(echo.where.path)
                if n % 50 == 25:
                    caller.sendall(b"%d\n" % n)
                callers.append(caller)
            flooding.set()
            return callers

        callers = await asyncio.to_thread(flood)
        await until(lambda: len(echo.lines) == 10)
        assert sorted(int(line) for line in echo.lines) == list(range(25, 500, 50))
        for caller in callers:
            caller.close()


@live
async def test_a_connection_that_waits_for_its_answer_does_not_hold_up_another(tmp_path: Path) -> None:
    async with Echo(str(tmp_path / "s")) as echo:
        echo.gate.clear()
        waiting, writer = await connected(echo)
        writer.write(b"slow work\n")
        await until(lambda: echo.lines)
        echo.gate.set()
        other, its_writer = await connected(echo)
        its_writer.write(b"quick\n")
        assert await other.readline() == f"{HERE}|quick\n".encode()
        assert await waiting.readline() == f"{HERE}|slow work\n".encode()


@live
async def test_at_the_end_everybody_is_hung_up_on(tmp_path: Path) -> None:
    echo = Echo(str(tmp_path / "s"))
    async with echo:
        echo.gate.clear()
        reader, writer = await connected(echo)
        writer.write(b"x\n")
        await until(lambda: echo.lines)
    assert await reader.read() == b""
    assert len(asyncio.all_tasks()) <= 2


@live
async def test_an_answer_that_fails_costs_its_connection_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Echo(str(tmp_path / "s")) as echo:

        async def broken(line: bytes, peer: str) -> bytes:  # noqa: ARG001
            raise ZeroDivisionError

        well, echo._answer = echo._answer, broken
        reader, writer = await connected(echo)
        writer.write(b"x\n")
        assert await reader.read() == b""
        echo._answer = well
        reader, writer = await connected(echo)
        writer.write(b"y\n")
        assert await reader.readline() == f"{HERE}|y\n".encode()
    assert "a control connection failed" in caplog.text


@live
async def test_where_the_system_lets_nobody_in_it_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As when no file is left: without a pause, the loop would do nothing else."""
    monkeypatch.setattr(control_socket, "PAUSE_S", 0.02)
    tries, full = 0, True

    class Full(socket.socket):
        def accept(self) -> Any:
            nonlocal tries
            tries += 1
            if full:
                raise OSError(24, "Too many open files")
            return super().accept()

    async with Echo(str(tmp_path / "s")) as echo:
        assert echo._socket is not None
        asyncio.get_running_loop().remove_reader(echo._socket)
        echo._socket = Full(echo._socket.family, echo._socket.type, 0, echo._socket.detach())
        echo._hear()
        reader, writer = await connected(echo)
        writer.write(b"x\n")
        await until(lambda: tries >= 2)
        await asyncio.sleep(0.005)
        assert tries <= 3, "not in every turn of the loop"
        full = False
        assert await reader.readline() == f"{HERE}|x\n".encode()
    assert "cannot let anybody in: [Errno 24] Too many open files" in caplog.text


# --- asking ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["s", "127.0.0.1:0", "[::1]:0"])
@live
async def test_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    monkeypatch.chdir(tmp_path)
    async with Echo(where) as echo:
        long = b"x" * (MAX_LINE - 1)
        assert await asyncio.to_thread(ask, echo.where, b"hello", 5) == f"{_me(echo)}|hello\n".encode()
        assert len(await asyncio.to_thread(ask, echo.where, long, 5)) > MAX_LINE


@live
async def test_asking_a_busy_runner_goes_on_for_a_while(tmp_path: Path) -> None:
    where = Address(path=str(tmp_path / "s"))
    listener = listen(where)
    crowd = []
    while True:
        caller = socket.socket(socket.AF_UNIX)
        caller.setblocking(False)
        crowd.append(caller)
        if caller.connect_ex(where.path):
            break
    asking = asyncio.ensure_future(asyncio.to_thread(ask, where, b"freeze", 5))
    await asyncio.sleep(0.02)
    for caller in crowd:
        caller.close()
    listener.setblocking(False)
    while True:
        link, _ = await asyncio.get_running_loop().sock_accept(listener)
        if await asyncio.get_running_loop().sock_recv(link, 100) == b"freeze\n":
            break
        link.close()
    link.sendall(b"done\n")
    assert await asking == b"done\n"
    link.close()
    listener.close()


def test_nobody_there(tmp_path: Path) -> None:
    where = Address(path=str(tmp_path / "s"))
    with pytest.raises(Unreachable, match="there is no such file") as error:
        ask(where, b"x", 1)
    assert not error.value.sent
    listen(where).close()
    with pytest.raises(Unreachable, match="died and left the file"):
        ask(where, b"x", 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable, match="nobody listens there"):
            ask(Address(host="127.0.0.1", port=taken.getsockname()[1]), b"x", 1)


def test_somebody_who_never_answers_or_hangs_up(tmp_path: Path) -> None:
    where = Address(path=str(tmp_path / "s"))
    with listen(where) as listener:
        with pytest.raises(Unreachable, match=r"does not answer within 0.05 s") as error:
            ask(where, b"x", 0.05)
        assert error.value.sent

        def hang_up() -> None:
            for _ in range(2):
                link, _ = listener.accept()
                link.recv(10)
                link.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(Unreachable, match="hung up") as error:
            ask(where, b"x", 5)
        assert error.value.sent
        thread.join()


def test_a_socket_of_another_user_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(where: Address, until_s: float) -> socket.socket:  # noqa: ARG001
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(control_socket, "_reach", forbidden)
    with pytest.raises(Unreachable, match="no permission; the socket belongs to the user that runs the bot"):
        ask(Address(path=str(tmp_path / "s")), b"x", 1)
