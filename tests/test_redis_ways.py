"""Ways to a server other than plain TCP: TLS, a socket of the host, sentinels, a cluster. Goal: each leads to the server that is meant, and
none sends a request to one that is not.

Method: all real. TLS is spoken by a proxy in front of the server, since not every server is built with it; a sentinel is told of another
master while a store is connected; in a cluster of two nodes every account is reached from either node.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from haltcore.adapters import demo_shared
from haltcore.adapters.redis_link import Script
from haltcore.adapters.redis_store import RedisStore, script

from tests.proxy import Proxy
from tests.servers import Server
from tests.test_redis_link import U, attempt, using, write

#: Valid for 127.0.0.1 and a hundred years, and trusted by nobody else.
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBmDCCAT6gAwIBAgIUCC7cmeHPUJZ9BJMaoKZY/WdQDVIwCgYIKoZIzj0EAwIw
GDEWMBQGA1UEAwwNaGFsdGNvcmUgdGVzdDAgFw0yNjExMjAyMzI5NTNaGA8yMTI2
MTAyNzIzMjk1M1owGDEWMBQGA1UEAwwNaGFsdGNvcmUgdGVzdDBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABGlHFhwS26RbYJvhdpugbPkxdvFPW/nHXhSvQcwUrQhs
RGOdai9m+325q2WGoAjVNrRVaA8JMhlhElAyd3udTnSjZDBiMB0GA1UdDgQWBBSV
RZ7Mb6wDwRFkS8bEAlj890YaGjAfBgNVHSMEGDAWgBSVRZ7Mb6wDwRFkS8bEAlj8
90YaGjAPBgNVHREECDAGhwR/AAABMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0E
AwIDSAAwRQIhAKn04rv6fziRwt9iC9N21KGIV9rvFeudAFGty/hzlBK/AiBXbJuB
+wtXWK+5/XGI4G+ZtmTAJ2uUitJsCIh2ksFSxw==
-----END CERTIFICATE-----
"""
KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgY+liOzppJ/AV2AZj
qmyBa+B3SK9NsXfiLMYtyXnv0ROhRANCAARpRxYcEtukW2Cb4XaboGz5MXbxT1v5
x14Ur0HMFK0IbERjnWovZvt9uatlhqAI1Ta0VWgPCTIZYRJQMnd7nU50
-----END PRIVATE KEY-----
"""


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    (tmp_path / "key.pem").write_text(KEY)
    (tmp_path / "ca.pem").write_text(CERTIFICATE)
    return tmp_path / "ca.pem"


@pytest.fixture
def tls(store_server: Server, certificate: Path) -> Iterator[Proxy]:
    """TLS in front of the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    with Proxy(store_server.port, context) as proxy:
        yield proxy


def test_tls_with_the_certificate_of_who_signed(tls: Proxy, certificate: Path) -> None:
    assert using(f"rediss://127.0.0.1:{tls.port}?ssl_ca_certs={certificate}", write, write) == [True, True]
    loose = f"rediss://localhost:{tls.port}?ssl_ca_certs={certificate}&ssl_check_hostname=false"
    assert using(loose, write) == [True]


def test_a_server_that_cannot_prove_who_it_is_gets_nothing(tls: Proxy, store_server: Server, certificate: Path) -> None:
    before = store_server.admin.dbsize()
    for url in (
        f"rediss://127.0.0.1:{tls.port}",
        f"rediss://localhost:{tls.port}?ssl_ca_certs={certificate}",
        f"rediss://127.0.0.1:{store_server.port}?ssl_ca_certs={certificate}",
        f"redis://127.0.0.1:{tls.port}",
    ):
        (outcome,) = using(url, write)
        assert outcome[0] is U, url
    assert store_server.admin.dbsize() == before


def test_a_socket_of_the_host(tmp_path: Path) -> None:
    path = tmp_path / "r.sock"
    with Server(options=("--unixsocket", str(path))) as server:
        assert using(f"unix://{path}?db=3", write, write) == [True, True]
        assert server.admin.info("keyspace")["db3"]["keys"] == 2
    assert using(f"unix://{path}", write) == [(U, "store_refused")]


# --- sentinels ------------------------------------------------------------------------------------------------------------


def sentinel(folder: Path, master: Server) -> Server:
    """A sentinel that watches the master, and finds nothing wrong with it."""
    file = folder / "sentinel.conf"
    file.write_text(f"sentinel monitor mm 127.0.0.1 {master.port} 1\nsentinel down-after-milliseconds mm 60000\n")
    return Server(before=(str(file), "--sentinel"))


def test_sentinels_say_where_the_master_is_and_are_asked_again_when_it_is_not(tmp_path: Path) -> None:
    with Server() as first, Server() as second, sentinel(tmp_path, first) as watcher:
        gone = Server()
        url = f"redis+sentinel://127.0.0.1:{gone.port},127.0.0.1:{watcher.port}/mm"
        gone.end()

        async def go() -> None:
            store = RedisStore(url, "link", timeout_ms=5_000)
            assert await attempt(store, write) == (U, "store_refused"), "the first sentinel is gone"
            assert await write(store), "the second one is not"
            assert (first.admin.dbsize(), second.admin.dbsize()) == (1, 0)
            first.replicate(second)
            for words in (("REMOVE", "mm"), ("MONITOR", "mm", "127.0.0.1", second.port, 1)):
                watcher.admin.execute_command("SENTINEL", *words)
            assert await attempt(store, write) == (U, "store_readonly")
            outcomes = [await attempt(store, write) for _ in range(2)]
            assert True in outcomes
            assert second.admin.dbsize() == outcomes.count(True)
            await store.close()

        asyncio.run(go())
        assert using(f"redis+sentinel://127.0.0.1:{watcher.port}/other", write) == [(U, "store_refused")]


# --- cluster --------------------------------------------------------------------------------------------------------------


def until(done: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[Server, Server]]:
    """Two nodes with half of the slots each."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "500")
    with Server(options=options) as one, Server(options=options) as two:
        one.admin.execute_command("CLUSTER", "ADDSLOTS", *range(8_192))
        two.admin.execute_command("CLUSTER", "ADDSLOTS", *range(8_192, 16_384))
        one.admin.execute_command("CLUSTER", "MEET", "127.0.0.1", two.port)
        until(lambda: all("cluster_state:ok" in raw(node, "CLUSTER", "INFO") for node in (one, two)))
        yield one, two


def raw(server: Server, *words: str) -> str:
    """What a server answers, as text."""
    answer = server.admin.execute_command(*words)
    return "\n".join(f"{name}:{value}" for name, value in answer.items()) if isinstance(answer, dict) else str(answer)


def test_every_account_is_reached_from_either_node(cluster: tuple[Server, Server]) -> None:
    one, two = cluster

    async def go(start: Server, account: str) -> None:
        store = RedisStore(f"redis+cluster://127.0.0.1:{start.port}", account, timeout_ms=5_000)
        assert await store.mark_once(f"m{start.port}", "t", 60_000)
        assert await store.mark_once(f"m{start.port}", "t", 60_000)
        entry = await store.append("s", "p", "body")
        (given,) = await store.read("s", "a", 1)
        assert given.id == entry
        assert await store.bury("s", "a", entry, "why")
        grant = await store.acquire("sweep", "a", 60_000)
        assert await store.release("sweep", "a", grant.fence)
        await store.close()

    slots = {account: int(one.admin.execute_command("CLUSTER", "KEYSLOT", f"{{haltcore:{account}}}")) for account in "abcdefgh"}
    assert {slot < 8_192 for slot in slots.values()} == {True, False}
    for account in slots:
        asyncio.run(go(one if slots[account] < 8_192 else two, account))
        one.admin.flushall()
        two.admin.flushall()
        asyncio.run(go(two if slots[account] < 8_192 else one, account))


def test_the_facts_are_those_of_the_account_s_node_whichever_the_url_names(cluster: tuple[Server, Server]) -> None:
    one = cluster[0]
    one.admin.config_set("maxmemory-policy", "allkeys-lru")
    try:
        for account in "abcdefgh":
            here = int(one.admin.execute_command("CLUSTER", "KEYSLOT", f"{{haltcore:{account}}}")) < 8_192
            for start in cluster:

                async def go(start: Server = start, account: str = account) -> str | None:
                    store = RedisStore(f"redis+cluster://127.0.0.1:{start.port}", account, timeout_ms=5_000)
                    try:
                        return (await store.facts()).eviction
                    finally:
                        await store.close()

                assert asyncio.run(go()) == ("allkeys-lru" if here else "noeviction")
    finally:
        one.admin.config_set("maxmemory-policy", "noeviction")


def test_the_demo_takes_its_keys_away_from_the_node_that_has_them(cluster: tuple[Server, Server]) -> None:
    async def go(start: Server, account: str) -> None:
        url = f"redis+cluster://127.0.0.1:{start.port}"
        store = RedisStore(url, account, timeout_ms=5_000)
        await store.mark_once("m", "t", 60_000)
        await store.put_state("s", 0, "text")
        await store.close()
        assert sum(node.admin.dbsize() for node in cluster) > 0
        await demo_shared._forget(url, account)
        assert [node.admin.dbsize() for node in cluster] == [0, 0]

    for node in cluster:
        node.admin.flushall()
    for node in cluster:
        for account in "abcd":
            asyncio.run(go(node, account))


def test_a_plain_url_says_that_the_account_is_elsewhere(cluster: tuple[Server, Server]) -> None:
    outcomes = [using(node.url(), write)[0] for node in cluster]
    assert (U, "store_moved") in outcomes
    assert True in outcomes


def test_every_script_names_keys_of_one_slot() -> None:
    """A cluster of one node would not notice a key that a script makes up: no script does."""
    scripts: list[Script] = [script(path.stem) for path in Path(script.__wrapped__.__code__.co_filename).parent.glob("lua/*.lua")]
    assert len(scripts) > 10
    for one in scripts:
        assert "haltcore:" not in one.source
