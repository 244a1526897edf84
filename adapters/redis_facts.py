"""What a Redis or Valkey says about itself: INFO and TIME, and CONFIG where it is allowed; and whether it lets us do what the scripts do.

Rights are tried, not read: a user's rules may be forbidden to read, and have too many forms to be judged by anybody but the server.

A managed server forbids CONFIG, and what only that could say is None then: how often the append-only file reaches the disk, whether
there are snapshots, how many replicas a write needs.
"""

import re
from typing import Any, Final

from .coordination import StoreFacts
from .ports import NowNs
from .redis_errors import word_of
from .redis_link import Line, Script

NS_PER_MS = 1_000_000


#: How long what is tried may lie in the store, should nobody delete it.
PROBE_MS = 1_000
#: No fact is longer, in characters; people have to read it.
_LONGEST: Final = 80


async def ask_facts(line: Line, wall_ns: NowNs, probe: Script, key: str, cluster_url: bool) -> StoreFacts:
    """Ask on one line. ``wall_ns`` is this process's own clock, and the server is taken to have read its own halfway between question and
    answer. ``probe`` is ``lua/probe.lua``, and ``key`` where it tries."""
    # First what has a key: in a cluster only that finds the node of the account, whose facts are asked for then.
    refused = await _refused(line, probe, key)
    info = _fields(await _if_allowed(line, "INFO") or "")
    before_ns = wall_ns()
    time = await _if_allowed(line, "TIME")
    after_ns = wall_ns()
    server_ns = int(time[0]) * 1_000 * NS_PER_MS + int(time[1]) * 1_000 if time is not None else None
    valkey = "valkey_version" in info
    fsync, save, least = [await _config(line, name) for name in ("appendfsync", "save", "min-replicas-to-write")]
    return StoreFacts(
        kind="valkey" if valkey else "redis",
        version=info.get("valkey_version") or info.get("redis_version", ""),
        eviction=info.get("maxmemory_policy"),
        max_bytes=_number(info.get("maxmemory")),
        used_bytes=_number(info.get("used_memory")),
        evicted=_number(info.get("evicted_keys")),
        aof=info["aof_enabled"] == "1" if "aof_enabled" in info else None,
        aof_fsync=fsync,
        snapshots=None if save is None else bool(save),
        role={"slave": "replica"}.get(info.get("role", ""), info.get("role")),
        replicas=_number(info.get("connected_slaves")),
        min_replicas=_number(least),
        clock_ahead_ms=None if server_ns is None else (server_ns - (before_ns + after_ns) // 2 + NS_PER_MS // 2) // NS_PER_MS,
        round_trip_ms=(after_ns - before_ns) // NS_PER_MS,
        cluster=info["cluster_enabled"] == "1" if "cluster_enabled" in info else None,
        cluster_url=cluster_url,
        refused=refused,
    )


async def _refused(line: Line, probe: Script, key: str) -> tuple[tuple[str, str], ...]:
    """What is not let through of what the scripts do."""
    from redis.exceptions import ResponseError

    try:
        return tuple((command, words) for command, words in await line.run(probe, [key], [PROBE_MS]))
    except ResponseError as error:
        if word_of(error) == "MOVED":
            raise
        return (("EVALSHA and EVAL", str(error)),)


async def _if_allowed(line: Line, command: str) -> Any:
    """The answer; None where the user may not ask."""
    from redis.exceptions import ResponseError

    try:
        return await line.command(command)
    except ResponseError as error:
        if word_of(error) != "NOPERM":
            raise
        return None


def _fields(info: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in info.splitlines() if not line.startswith("#"))
    return {name: value[:_LONGEST] for name, _, value in pairs if name}


def _number(text: Any) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", str(text)) else None


async def _config(line: Line, name: str) -> str | None:
    """A line of the configuration; None where the server will not say."""
    from redis.exceptions import ResponseError

    try:
        found = await line.command("CONFIG", "GET", name)
    except ResponseError:
        return None
    return dict(zip(found[::2], found[1::2], strict=True)).get(name)
