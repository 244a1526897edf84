"""Operator control of a running session: the words, who said them, and that each is in the journal.

A request is one JSON object on one line, ``{"command": "freeze"}``, and so is the answer: ``ok``, ``code`` and ``text``, the number of the
``record`` that the command has become, the ``mode`` of its scope, and what else was asked for. The words stand in ``control_words.py``.

Every command becomes its event, by the name that was given and what the system knows of the caller: "ops (uid 1000)". What never becomes
one (a wrong token, an unknown word, a wrong value) is recorded as ``OperatorRefused``, the first ones in each minute one by one and
the rest as one sum, so that nobody can fill the disk. Reading (status, limits) changes nothing and is not recorded.

A freeze goes at once: it needs one word and no name, it does not wait for its proof unless asked to, and it is the one word that is never
put off: not when there are too many (then one that a person has said already, and that holds, is answered as it stands, and counted with
what was refused), and not while the runner still reads its log (it is the first thing in the new session then).

The token is compared in constant time, and stands in no record, log or answer.
"""

import asyncio
import hmac
import logging
import os
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from ..effects import ValueRefused
from ..fsm.bucket import FULL, left, take
from ..fsm.config import ConfigRefused
from ..fsm.limits import Rate
from .answers import CommandRejected, HaltcoreError
from .arguments import words as fitted
from .control_socket import Listener, address
from .control_words import WORDS, FreezeWord, Word, frozen_by

if TYPE_CHECKING:
    from .operations import Operations

#: The environment variable with the token that a port demands, and the least length of a token that is no guess.
TOKEN_VARIABLE: Final = "HALTCORE_TOKEN"
MIN_TOKEN: Final = 16
#: The longest name of a person.
MAX_NAME: Final = 100
#: How many refusals are recorded one by one in each period, and how long that is.
REFUSALS: Final = 10
PERIOD_S: Final = 60.0
#: How many requests are answered; a freeze is answered at any rate.
PACE: Final = Rate(50, 2_500)
_LOG = logging.getLogger("haltcore")
Fields = dict[str, Any]


class Refused(Exception):
    """What was asked for never becomes a command."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class _Envelope(msgspec.Struct):
    """What is looked at first, whatever else the line holds."""

    command: str
    token: str = ""


W = TypeVar("W", bound=Word)


class Control:
    """The control of one runner; see the module's essay. Raises ConfigRefused for an address that cannot be, or a port without a token."""

    def __init__(self, runner: "Operations", where: str) -> None:
        place = address(where)
        self._token = os.environ.get(TOKEN_VARIABLE, "") if not place.path else ""
        if not place.path and len(self._token) < MIN_TOKEN:
            raise ConfigRefused(
                f"control: at a port anybody on this machine can knock; put a token of at least {MIN_TOKEN} characters into the "
                f"environment variable {TOKEN_VARIABLE} of the runner and of its operators, or give the path of a socket file instead"
            )
        self._runner = runner
        self._listener = Listener(place, self._answer, self._turned_away)
        self._refusals = Refusals(self._record)
        self._pace = FULL

    @property
    def address(self) -> str:
        """Where it listens."""
        return str(self._listener.where)

    async def open(self) -> None:
        """Listen. Raises ConfigRefused."""
        await self._listener.open()

    def close(self) -> None:
        """Hear nobody any more; what was refused is recorded."""
        self._listener.close()
        self._refusals.close()

    def abandon(self) -> None:
        """As a process that is killed: the file stays."""
        self._listener.close(remove=False)
        self._refusals.forget()

    # --- one request -------------------------------------------------------------------------------------------------

    async def _answer(self, line: bytes, peer: str) -> bytes:
        answer: Fields = {"ok": True, "code": "", "text": "", "record": 0, "mode": ""}
        command, by = "", peer
        try:
            envelope = self._opened(line)
            command = envelope.command
            kind, act = WORDS[command]
            word = self._read(line, kind)
            by = _by(word, peer)
            standing = self._in_time(word, by)
            if standing and isinstance(word, FreezeWord):
                answer |= await frozen_by(self._runner, word, standing)
            else:
                answer |= await act(self._runner, word, by)
        except Refused as refused:
            return self._refuse(refused.code, str(refused), command, by)
        except ValueRefused as refused:
            return self._refuse("invalid_value", str(refused), command, by)
        except HaltcoreError as error:
            if error.code == "starting":
                return self._refuse(error.code, error.reason, command, by)
            answer |= {"ok": False, "code": error.code, "text": error.reason, "record": getattr(error, "record", 0)}
        except Exception:
            _LOG.exception("the control command %s failed", command)
            answer |= {"ok": False, "code": "internal_error", "text": "a bug in haltcore; the log of the program says more"}
        return msgspec.json.encode(answer)

    def _opened(self, line: bytes) -> _Envelope:
        """The word, once the token is right."""
        try:
            envelope = msgspec.json.decode(line, type=_Envelope)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Refused("malformed", 'no request; write one JSON object on one line, such as {"command": "freeze"}') from None
        if self._token and not hmac.compare_digest(envelope.token.encode("utf-8", "replace"), self._token.encode("utf-8", "replace")):
            raise Refused("bad_token", f"the token is missing or wrong; it stands in {TOKEN_VARIABLE} where the runner was started")
        if envelope.command not in WORDS:
            raise Refused("unknown_word", f"{fitted(envelope.command)[:40]!r} is no command; there are {', '.join(WORDS)}")
        return envelope

    def _read(self, line: bytes, kind: type[W]) -> W:
        """The whole request, strictly. Wherever else the token stands, by mistake, it is struck out."""
        try:
            word = msgspec.json.decode(line, type=kind)
        except msgspec.ValidationError as error:
            names = ", ".join(name for name in kind.__struct_fields__ if name not in ("command", "token"))
            raise Refused("malformed", f"{error}; the command takes {names or 'nothing else'}") from None
        for name in word.__struct_fields__:
            if name != "token" and isinstance(value := getattr(word, name), str):
                setattr(word, name, self._without_token(value))
        return word

    def _in_time(self, word: Word, by: str) -> int:
        """Too many requests take the bot's time: only a freeze is not put off. One that has been said already, and holds, is not recorded
        again but counted; the number of its record then, else 0."""
        now_ns = round(asyncio.get_running_loop().time() * 1e9)
        if left(self._pace, now_ns, PACE) > 0:
            self._pace = take(self._pace, now_ns, PACE, owed=0)
            return 0
        if not isinstance(word, FreezeWord):
            raise Refused("too_many", f"more than {PACE.count} requests in {PACE.per_ms} ms; wait a moment")
        try:
            standing = self._runner.frozen_by_word(word.scope)
        except CommandRejected as unknown:
            raise Refused(unknown.code, unknown.reason) from None
        if standing:
            self._refusals.add("frozen_already", word.command, by, f"record {standing} has frozen it; {word.reason}")
        return standing

    # --- refusals ----------------------------------------------------------------------------------------------------

    def _turned_away(self, code: str, text: str, peer: str) -> bytes:
        return self._refuse(code, text, "", peer)

    def _refuse(self, code: str, text: str, command: str, by: str) -> bytes:
        text = self._without_token(text)
        self._refusals.add(code, command if command in WORDS else "unknown", self._without_token(by), text)
        return msgspec.json.encode({"ok": False, "code": code, "text": text, "record": 0, "mode": ""})

    def _without_token(self, text: str) -> str:
        return text.replace(self._token, "***") if self._token else text

    def _record(self, command: str, by: str, reason: str) -> None:
        self._runner.note_refusal(command, by, reason)


def _by(word: Word, peer: str) -> str:
    """Who is named, and what the system knows of the caller."""
    who = getattr(word, "who", None)
    if who is None:
        return peer
    who = fitted(who).strip()[:MAX_NAME]
    if not who and not isinstance(word, FreezeWord):
        raise Refused("who_and_why", f"{word.command} needs to know who asks for it, and why; name who")
    return f"{who} ({peer})" if who else peer


class Refusals:
    """Records what was refused: the first ones of a period one by one, the rest in one sum at its end."""

    def __init__(self, record: Callable[[str, str, str], None]) -> None:
        self._record = record
        self._told = 0
        self._rest: Counter[str] = Counter()
        self._end: asyncio.TimerHandle | None = None

    def add(self, code: str, command: str, by: str, text: str) -> None:
        """One more."""
        if self._end is None:
            self._end = asyncio.get_running_loop().call_later(PERIOD_S, self._new_period)
        if self._told < REFUSALS:
            self._told += 1
            self._record(command, by, fitted(f"{code}: {text}"))
        else:
            self._rest[code] += 1

    def _new_period(self) -> None:
        self._end, self._told = None, 0
        rest, self._rest = self._rest, Counter()
        if rest:
            counts = ", ".join(f"{count} {code}" for code, count in sorted(rest.items()))
            self._record("several", "haltcore", f"too many to tell one by one: {counts} more within {PERIOD_S:g} s")

    def close(self) -> None:
        """The period ends now."""
        self.forget()
        self._new_period()

    def forget(self) -> None:
        """No timer any more."""
        if self._end is not None:
            self._end.cancel()
