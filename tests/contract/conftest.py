"""The stores that the contract holds for: memory, and the server that ``tests/servers.py`` finds."""

from collections.abc import Callable, Iterator

import pytest

from tests.contract.rig import Client, MemoryRig, RedisRig, Rig, client
from tests.servers import Server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One for all; each test has an account of its own there."""
    with Server() as running:
        yield running


@pytest.fixture(params=["memory", "redis"])
def make_rig(request: pytest.FixtureRequest) -> Callable[[], Rig]:
    """Makes stores with nothing in them."""
    if request.param == "memory":
        return MemoryRig
    running: Server = request.getfixturevalue("server")
    return lambda: RedisRig(running)


@pytest.fixture
def rig(make_rig: Callable[[], Rig]) -> Iterator[Rig]:
    """A store with nothing in it."""
    made = make_rig()
    yield made
    made.close()


@pytest.fixture
def a(rig: Rig) -> Client:
    """A connection to it."""
    return client(rig)


@pytest.fixture
def b(rig: Rig) -> Client:
    """Another one."""
    return client(rig)
