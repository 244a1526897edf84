"""Where the coordination store is, as a file of settings says it: ``url`` and ``account`` in [store].

They are no part of ``Config``: what stands there is written into every log, and a URL may hold a password. So the file holds none
either: it names a variable of the environment, ``redis://:${REDIS_PASSWORD}@10.0.0.5:6379/0``, and :func:`resolved` puts its value in
when somebody connects. A password that is written out is refused, in words that do not repeat it. ``HALTCORE_STORE_URL`` holds instead of
the file's URL where it is set. Which URLs there are stands in ``redis_url.py``.
"""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, unquote_plus

from .answers import HaltcoreError
from .redis_url import ACCOUNT, UrlRefused, read_url
from .settings_values import Wrong, shown, text

#: The environment variable with a URL that holds instead of the file's.
URL_VARIABLE: Final = "HALTCORE_STORE_URL"
URL_FORM: Final = "a URL of redis, rediss, unix, redis+sentinel or redis+cluster, with ${NAME} for a password in the environment"
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class NoStoreUrl(HaltcoreError, ValueError):
    """There is no URL to connect to, or a variable that it needs is not set. Names the variable, never a value."""

    def __init__(self, reason: str) -> None:
        super().__init__("no_store_url", reason)

    def __str__(self) -> str:
        return self.reason


def store_url(value: Any) -> str:
    """A URL without a password in it. Nothing of a wrong one is repeated, since what is wrong may be where the password stands."""
    url = text(value)
    if not url:
        return url
    # A password may have any letter in it; the last @ ends it.
    _, _, password = url.partition("://")[2].rpartition("@")[0].partition(":")
    if any(word and not _VARIABLE.fullmatch(word) for word in (password, *_passwords_behind(url))):
        raise Wrong("has a password in it, and nothing secret stands in this file")
    try:
        # A variable may stand for a port too.
        read_url(_VARIABLE.sub("1", url))
    except UrlRefused as error:
        raise Wrong(str(error).partition("; ")[0]) from None
    return url


def _passwords_behind(url: str) -> list[str]:
    """What stands behind the ? as a password. The name of an option may be percent-encoded."""
    pairs = (pair.partition("=") for pair in url.partition("?")[2].split("&"))
    return [word for name, _, word in pairs if "password" in unquote_plus(name).lower()]


def account(value: Any) -> str:
    """The name of an account: a part of the names of keys."""
    if text(value) and not ACCOUNT.match(value):
        raise Wrong(f"{shown(value)} is no name of an account")
    return text(value)


def found_here(url: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Where a program would connect with this environment, without anything secret, and what is in its way, if anything is."""
    shown = url
    try:
        where = read_url(resolved(url, environ))
        if environ.get(URL_VARIABLE, ""):
            shown = str(where)
    except (NoStoreUrl, UrlRefused) as refused:
        return shown, f"{URL_VARIABLE}: {refused}" if environ.get(URL_VARIABLE, "") else str(refused)
    return shown, ""


def resolved(url: str, environ: Mapping[str, str]) -> str:
    """The URL to connect to: that of the environment, or this one with its variables replaced, each encoded for a URL.

    Raises :class:`NoStoreUrl` if there is none, or a variable is not set.
    """
    if instead := environ.get(URL_VARIABLE, ""):
        return instead
    if not url:
        raise NoStoreUrl(f"where is the store? Give url in [store] of the settings, or set the environment variable {URL_VARIABLE}")
    return filled_in(url, environ)


def filled_in(url: str, environ: Mapping[str, str]) -> str:
    """The URL with its variables replaced. Raises :class:`NoStoreUrl` if one is not set."""
    for name in _VARIABLE.findall(url):
        if name not in environ:
            raise NoStoreUrl(f"the environment variable {name} is not set, and the URL of the store names it")
    # The environment is bytes: what is no UTF-8 in it comes as surrogates, and goes back to the same bytes.
    return _VARIABLE.sub(lambda found: quote(environ[found[1]], safe="", errors="surrogateescape"), url)
