"""What an error of a Redis or Valkey, or of the way to it, means for the request: certainly not applied, or perhaps.

A request is certainly not applied (UNAVAILABLE) when nothing of it had left, or when the server refused it with one of the words in
:data:`REFUSALS`. Those hold for scripts, too: servers check them before a script's first write, and not again once it has written. Whatever
else goes wrong after the first byte left is IN_DOUBT: a time-out, a reset, a closed connection, a word that is not in the table, and a
command within a script that the server does not permit, since the script may have come to it after a write.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from attrs import frozen

from ..fsm.events import StoreHealth
from .coordination import StoreFailed


@frozen
class Refusal:
    """``code`` is ours and stable. ``remedy`` is for people. ``elsewhere``: the server is not, or no longer, the one to ask, so every
    connection to it is dropped, and the next request looks for the right one."""

    code: str
    remedy: str
    elsewhere: bool = False


_NO_TEXT: Final = "what stands there is no text, so haltcore has not written it; look at the account's keys"
_NO_TLS: Final = "Does it speak TLS? If not, begin the URL with redis"
#: By the first word of the server's error.
REFUSALS: Final[Mapping[str, Refusal]] = MappingProxyType(
    {
        "READONLY": Refusal("store_readonly", "the server is a replica; point the URL at the master, or use redis+sentinel://", True),
        "LOADING": Refusal("store_loading", "the server is reading its data from disk; it answers when it has", False),
        "MASTERDOWN": Refusal("store_master_down", "the server is a replica without its master; look at the replication", True),
        "NOREPLICAS": Refusal("store_no_replicas", "fewer replicas are in step than min-replicas-to-write; look at the replication"),
        "OOM": Refusal("store_oom", "the server has no memory left (maxmemory); give it more, or an instance of its own"),
        "MISCONF": Refusal("store_disk", "the server cannot write to its disk and takes no writes; look at its log and its disk"),
        "BUSY": Refusal("store_busy", "the server is in somebody's slow script; find it with SLOWLOG, end it with SCRIPT KILL"),
        "UNKILLABLE": Refusal("store_busy", "the server is in a slow script that has written; it has to end by itself"),
        "NOAUTH": Refusal("store_auth", "the server asks for a password; put it into the URL by ${NAME}"),
        "WRONGPASS": Refusal("store_auth", "the server does not accept user and password of the URL"),
        "NOPASS": Refusal("store_auth", "the URL has a password, and the server has none; take it out, or set requirepass"),
        "NOPERM": Refusal("store_forbidden", "the server's ACL forbids a command; give the user +@all on the keys ~{haltcore:*"),
        "NOSCRIPT": Refusal("store_no_script", "the server forgot a script that it was just given; is somebody flushing scripts?"),
        "CLUSTERDOWN": Refusal("store_cluster_down", "the cluster does not serve all slots; look at CLUSTER INFO", True),
        "MOVED": Refusal("store_moved", "the account is on another node; use redis+cluster://", True),
        "ASK": Refusal("store_moving", "the account's slot is on its way to another node; it answers when it is there"),
        "TRYAGAIN": Refusal("store_moving", "the account's slot is on its way to another node; it answers when it is there"),
        "CROSSSLOT": Refusal("store_cross_slot", "keys of one account have different slots: a bug in haltcore"),
    }
)
#: Classes by which redis-py, whatever its version, tells errors whose first word it has cut off.
_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ReadOnlyError": "READONLY", "BusyLoadingError": "LOADING", "MasterDownError": "MASTERDOWN", "OutOfMemoryError": "OOM",
        "NoPermissionError": "NOPERM", "NoScriptError": "NOSCRIPT", "ClusterDownError": "CLUSTERDOWN", "MovedError": "MOVED",
        "AskError": "ASK", "TryAgainError": "TRYAGAIN", "ClusterCrossSlotError": "CROSSSLOT",
        "AuthenticationError": "NOAUTH", "AuthenticationWrongNumberOfArgsError": "NOAUTH",
    }
)  # fmt: skip
#: How a server before 7.0 words the error of a command within a script: the command's own error is at the end.
_IN_SCRIPT: Final = re.compile(r"user_script:\s*\d+: -?([A-Z]+) ")
#: How servers from 7.0 on word it that a script's user may not do something: under the word ERR.
_NO_RIGHT: Final = re.compile(r"user executing the script can't|ACL failure in script")
#: What a server's word looks like.
_WORD: Final = re.compile(r"[A-Z]{2,20}\b")


def word_of(error: BaseException) -> str:
    """The first word of a server's error, also where it comes out of a script; empty for what is no answer of a server."""
    if not _is_answer(error):
        return ""
    text = str(error)
    if known := _WORDS.get(type(error).__name__):
        return _about_password(text) if known == "NOAUTH" else known
    if _NO_RIGHT.search(text):
        return "NOPERM"
    inner = _IN_SCRIPT.search(text)
    return inner[1] if inner else text.partition(" ")[0]


def _about_password(text: str) -> str:
    """Servers say by one word that a password is missing, wrong, or one too many. NOPASS is ours."""
    if "without any password" in text or "no password is set" in text:
        return "NOPASS"
    return "WRONGPASS" if "invalid" in text.lower() else "NOAUTH"


def failure(
    error: BaseException, sent: bool, applied: bool, where: str, hidden: Callable[[str], str] = str
) -> StoreFailed:  # fmt: skip
    """What a failed request comes to. ``sent``: a byte of it had left. ``applied``: an earlier part of it was answered well. ``hidden``
    takes user and password out of a text: a server repeats what it does not understand, and that may be what it was told of them."""
    word, text = word_of(error), hidden(str(error))
    refusal = REFUSALS.get(word)
    in_script = word == "NOPERM" and "script" in str(error)
    health = StoreHealth.IN_DOUBT if sent else StoreHealth.UNAVAILABLE
    if refusal is not None:
        which = f" ({text})" if word == "NOPERM" else ""
        certain = not applied and not in_script
        return StoreFailed(
            StoreHealth.UNAVAILABLE if certain else health, refusal.code, f"{where}: {word}: {refusal.remedy}{which}"
        )
    if isinstance(error, (asyncio.TimeoutError, TimeoutError)) or type(error).__name__ == "TimeoutError":
        said = "no answer within the time limit" if sent else "not reached within the time limit; does the server run, and not hang?"
        if not sent and where.startswith("rediss"):
            said += f" {_NO_TLS}"
        return StoreFailed(health, "store_timeout", f"{where}: {said}")
    if word and not sent:
        # Nothing but user, password and database was said, so all that it repeats may be a secret, in whatever form.
        known = _WORD.match(word)
        return StoreFailed(health, "store_error", f"{where}: the server refuses the connection with {known[0] if known else 'an error'}")
    if word:
        return StoreFailed(health, "store_error", f"{where}: {text}")
    if type(error).__name__ == "InvalidResponse":
        return StoreFailed(health, "store_protocol", f"{where}: what answers there does not speak as a Redis does; is the port right?")
    if isinstance(error, UnicodeDecodeError):
        return StoreFailed(health, "store_unreadable", f"{where}: {_NO_TEXT}")
    if sent:
        return StoreFailed(health, "store_lost", f"{where}: the connection was lost before the answer: {text or type(error).__name__}")
    said = f"no connection; does the server run there? {text or type(error).__name__}"
    if "[SSL" in text and "CERTIFICATE" not in text:
        said += f" {_NO_TLS}"
    return StoreFailed(health, "store_refused", f"{where}: {said}")


def _is_answer(error: BaseException) -> bool:
    """Whether it is the server that said so. LOADING and a refused password are told as errors of the connection."""
    names = [kind.__name__ for kind in type(error).__mro__]
    return "ResponseError" in names or "BusyLoadingError" in names or "AuthenticationError" in names
