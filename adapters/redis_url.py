"""Where a Redis or Valkey is, as one URL says it.

====================================================== ==============================================================
``redis://[user:password@]host[:port][/db]``           one server; ``rediss://`` with TLS
``unix://[user:password@]/path/to.sock[?db=1]``        one server, by a socket of this host
``redis+sentinel://[u:p@]h1[:p],h2[:p]/NAME[/db]``     the master that sentinels know by that name; ``rediss+sentinel://``
``redis+cluster://[u:p@]h1[:p],h2[:p]``                the node of a cluster that has the account; ``rediss+cluster://``
====================================================== ==============================================================

User and password are percent-encoded where they have letters of URLs in them. Options stand behind a ``?``: see :data:`OPTIONS`. An account
needs one node of a cluster only, since all its keys have one tag.

A password is in no text that comes from here, also not in that of a wrong URL.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final
from urllib.parse import parse_qsl, quote, unquote

from attrs import field, frozen

#: What may stand behind the ``?``.
OPTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "db": "number of the database, with unix://",
        "wait_replicas": "how many replicas have to confirm a grant or a claim before it counts",
        "ssl_ca_certs": "file with the certificates of the authority that signed the server's",
        "ssl_certfile": "file with this client's certificate",
        "ssl_keyfile": "file with its key",
        "ssl_check_hostname": "true (default) or false",
        "sentinel_username": "user at the sentinels",
        "sentinel_password": "password there",
    }
)
#: Names of accounts: a part of the names of keys.
ACCOUNT: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}\Z")
ACCOUNT_FORM: Final = "1 to 64 letters, digits, and . _ : -"
_FORM: Final = "redis://host:6379/0, rediss://..., unix:///path, redis+sentinel://h1,h2/NAME or redis+cluster://h1,h2"
_BEFORE: Final = "a password before an @: redis://:PASSWORD@host:6379"
_ENCODE: Final = "percent-encode what a password has of the letters @ / ? # &"
_HIDDEN: Final = "[hidden]"
_TLS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")
_URL: Final = re.compile(r"(redis|rediss|unix|rediss?\+sentinel|rediss?\+cluster)://(.*)\Z", re.DOTALL)
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\[\]:/@,?\s]+)(?::(\d{1,5}))?\Z")


class UrlRefused(ValueError):
    """No URL of a store. Says what is wrong and what to give, and repeats neither user nor password."""


class Kind(StrEnum):
    """How the server is found."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@frozen
class StoreUrl:
    """A URL, read. ``nodes`` are the server, the sentinels, or some nodes of the cluster; ``path`` is a socket instead. ``master`` is the
    name that sentinels know."""

    kind: Kind
    nodes: tuple[tuple[str, int], ...]
    path: str
    master: str
    db: int
    tls: bool
    wait_replicas: int
    username: str = field(repr=False)
    password: str = field(repr=False)
    options: Mapping[str, str] = field(repr=False)

    def __str__(self) -> str:
        """For people: without user, password and options."""
        if self.path:
            return f"unix://{self.path}"
        scheme = ("rediss" if self.tls else "redis") + ("" if self.kind is Kind.SINGLE else f"+{self.kind}")
        nodes = ",".join(f"{host}:{port}" for host, port in self.nodes)
        return f"{scheme}://{nodes}" + (f"/{self.master}" if self.master else "") + (f"/{self.db}" if self.db else "")

    def hidden(self, text: str) -> str:
        """A text that somebody else wrote, a server say, which may have been told what it repeats: without users and passwords."""
        for secret in (self.password, self.options.get("sentinel_password", "")):
            for form in (secret, quote(secret, safe="", errors="surrogateescape"), repr(secret)[1:-1]):
                text = text.replace(form, _HIDDEN) if form else text
        for user in (self.username, self.options.get("sentinel_username", "")):
            # A short name may be a part of any word.
            text = re.sub(rf"(?<!\w){re.escape(user)}(?!\w)", _HIDDEN, text) if user else text
        return text


def read_url(url: str) -> StoreUrl:
    """Raises :class:`UrlRefused`."""
    found = _URL.match(url)
    if found is None:
        raise UrlRefused(f"this is no URL of a store; give one such as {_FORM}")
    scheme, rest = found.groups()
    if "${" in rest:
        raise UrlRefused(
            "there is a ${NAME} in the URL that nothing has replaced; the file of settings and check-store do that, in any other place "
            "give the value itself (a password with these very letters is written %24%7B)"
        )
    rest, _, query = rest.partition("?")
    if "@" in query:
        # The password has a ? in it, and what looks like an option is a part of it.
        raise UrlRefused(f"there is an @ behind the ? of the URL; {_ENCODE}")
    secret, at, rest = rest.rpartition("@")
    username, _, password = secret.partition(":") if at else ("", "", "")
    options = _options(query, scheme)
    where, _, tail = ("", "", "") if scheme == "unix" else rest.partition("/")
    kind = Kind.SENTINEL if scheme.endswith("sentinel") else Kind.CLUSTER if scheme.endswith("cluster") else Kind.SINGLE
    master, _, database = tail.partition("/") if kind is Kind.SENTINEL else ("", "", tail)
    if kind is Kind.SENTINEL and not master:
        raise UrlRefused("the URL names no master; give redis+sentinel://h1,h2/NAME with the name by which the sentinels know it")
    if scheme == "unix":
        if not rest.startswith("/"):
            raise UrlRefused("the URL names no socket; give unix:///path/to.sock with a path that begins with /")
        database = options.pop("db", "")
    db = _number(database or "0", "the database, behind the last /,")
    if db and kind is Kind.CLUSTER:
        raise UrlRefused(f"database {db}: a cluster has only 0; leave it out")
    return StoreUrl(
        kind=kind,
        nodes=() if scheme == "unix" else _nodes(where, kind, bool(at)),
        path=unquote(rest) if scheme == "unix" else "",
        master=unquote(master),
        db=db,
        tls=scheme.startswith("rediss"),
        wait_replicas=_number(options.pop("wait_replicas", "0"), "wait_replicas"),
        username=unquote(username, errors="surrogateescape"),
        password=unquote(password, errors="surrogateescape"),
        options=MappingProxyType(options),
    )


def _nodes(where: str, kind: Kind, secret: bool) -> tuple[tuple[str, int], ...]:
    hosts = where.split(",")
    if kind is Kind.SINGLE and len(hosts) > 1:
        raise UrlRefused(f"the URL names {len(hosts)} hosts; give one, or redis+sentinel:// or redis+cluster:// for several")
    nodes = []
    for number, host in enumerate(hosts, 1):
        found = _HOST.match(host)
        port = int((found and found[2]) or (26_379 if kind is Kind.SENTINEL else 6_379))
        if found is None or not 1 <= port <= 65_535:
            # It is not repeated: what is wrong may be a password in the wrong place.
            port_wrong = host.rpartition(":")[2] and _HOST.match(host.rpartition(":")[0])
            what = "has a port that is no number from 1 to 65535" if port_wrong else "is no host:port"
            raise UrlRefused(f"host {number} of the URL {what}; write host:6379" + ("" if secret else f", and {_BEFORE}"))
        nodes.append((found[1].strip("[]"), port))
    return tuple(nodes)


def _options(query: str, scheme: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True, errors="surrogateescape"))
    for number, name in enumerate(options, 1):
        if name not in OPTIONS:
            # Not repeated: it may be the rest of a password that has an & in it.
            raise UrlRefused(f"option {number} behind the ? of the URL is unknown; there are {', '.join(OPTIONS)}; {_ENCODE}")
        if name in _TLS and not scheme.startswith("rediss"):
            raise UrlRefused(f"option {name} is for TLS; begin the URL with rediss")
        if name.startswith("sentinel_") and not scheme.endswith("sentinel"):
            raise UrlRefused(f"option {name} is for redis+sentinel://; leave it out")
        if name == "db" and scheme != "unix":
            raise UrlRefused("option db is for unix://; write the database behind the host, redis://host:6379/1")
    if options.get("ssl_check_hostname", "true") not in ("true", "false"):
        raise UrlRefused("option ssl_check_hostname is true or false")
    return options


def _number(text: str, what: str) -> int:
    if not re.fullmatch(r"\d{1,6}", text):
        raise UrlRefused(f"{what} of the URL is no number; give one, such as 0")
    return int(text)
