"""The servers of the tests leave nothing behind.

Method: a process that has started a server is killed, so that it can clean up nothing; after that nobody may listen on the server's port.
"""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROGRAM = """
import sys
from tests.servers import Server
server = Server()
server.start()
print(server.port, server.folder, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is dead")
def test_a_server_dies_with_the_tests() -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        port, _, folder = tests.stdout.readline().rstrip("\n").partition(" ")
        assert _listens(int(port))
        tests.kill()
    deadline = time.monotonic() + 5
    while _listens(int(port)):
        assert time.monotonic() < deadline, "the server goes on without its tests"
        time.sleep(0.01)
    for path in Path(folder).iterdir():
        path.unlink()
    Path(folder).rmdir()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
