"""What a failed request means: may it have been applied, and would asking again help.

A venue says no in many ways: a number, an HTTP status, a sentence, silence. Each is reduced to one *class*, and the class says what
became of the request, by what was asked:

====================== =========== =========== =========== =========== ====== =====================================================
class                  place       replace     cancel      question    passes what it is
====================== =========== =========== =========== =========== ====== =====================================================
rate_limit             unavailable unavailable unavailable unavailable yes    too many requests: not taken
ban                    unavailable unavailable unavailable unavailable no     shut out for a while; asking prolongs it
timeout                unavailable unavailable unavailable unavailable yes    outside its receive window, or with an old nonce: not taken
busy                   unavailable unavailable unavailable unavailable yes    not taken, by the venue's word; "try again"
maintenance            unavailable unavailable unavailable unavailable yes    the venue or the market takes nothing for a while
not_sent               unavailable in_doubt    unavailable unavailable yes    no connection was made, so nothing left
temporary_error        in_doubt    in_doubt    in_doubt    unavailable yes    trouble inside the venue, before or after it was applied
network                in_doubt    in_doubt    in_doubt    unavailable yes    the connection broke after bytes may have left
unknown_outcome        in_doubt    in_doubt    in_doubt    unavailable yes    no answer, or "execution status unknown"
partial                in_doubt    in_doubt    in_doubt    unavailable no     one half was applied
duplicate_id           in_doubt    in_doubt    in_doubt    refused     no     the id is taken: by an earlier send of this very order?
insufficient_balance   refused     refused     refused     refused     no     not enough money or margin
validation             refused     refused     refused     refused     no     price, quantity or type break a rule of the instrument
bad_request            refused     refused     refused     refused     no     malformed, or asks for what does not exist
rejected               refused     refused     refused     refused     no     a rule of the market, the position or the book forbids it now
would_cross            refused     refused     refused     refused     no     post-only or stop order that would trade at once
auth                   refused     refused     refused     refused     no     key, signature or session are not accepted
restricted             refused     refused     refused     refused     no     this account, place or feature may not
not_found              in_doubt    refused     refused     refused     no     no such order
not_cancellable        in_doubt    refused     refused     refused     no     filled, cancelled already, or live and may not be cancelled
unknown                in_doubt    in_doubt    in_doubt    unavailable yes    nothing that is known
====================== =========== =========== =========== =========== ====== =====================================================

*Passes*: the same request may do better later. A request is *retryable* if it passes and certainly was not applied; a deed that does no
harm twice may be repeated whenever it passes. A refused cancel says nothing of the order, which may be filled, gone or live: it
is asked for (Binance gives -2011 for each). A venue that answers "no such order" to a place says something that cannot be about
it. A refused connection is no proof for a replace, since HTTP clients silently repeat a PUT whose first answer was lost.

A doubt that is called a "no" sends the order twice or forgets a live one; a "no" that is called a doubt costs a question. So rules, in this
order (from the venues' documents, and from what was measured with ccxt 4.5.90 against a venue on loopback):

1. Of all that an answer says, the most doubtful counts: an order may be refused in the same breath in which another "timed out".
2. A place, replace or cancel that is answered by a 5xx is in doubt, but for the few answers of ``failure_tables.OUTRIGHT``. A 5xx is
   often not the venue's, and Binance's spot market says that its own mean "unknown", whatever their code.
3. 418 and "banned until" are a ban, 429 is a rate limit.
4. A known code decides, before the status: -1006 comes with a 400. Some codes stand for many sentences; then the sentence decides.
5. A code that is given and not known is ``unknown``, whatever the status: never "failed". So is one in a page, in words about a code
   ("error code: 1009"); and a text that is too long to be read to its end says no more than that either.
6. Without a code: a known text of that venue's, then the status, by what HTTP and the venue say of it.
7. An exception's class decides last: a client library's class mixes what was refused with what nobody knows (ccxt's ExchangeNotAvailable
   is both, Bybit's "server timeout" is a plain ExchangeError). A WebSocket's close code is no code of a venue.

Texts are kept for people, after secrets are taken out of them: a client's error text may hold the whole signed query.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from attrs import frozen

from .events import OutcomeKind, Verb
from .failure_classes import FailureClass
from .failure_exceptions import EXCEPTIONS, LOCAL
from .failure_tables import ALIASES, CODES, OUTRIGHT, SENTENCES, STATUSES, TEXTS
from .failure_words import READ_CHARS, as_text, codes_in, is_page, message_in, redact, retry_after_ms, says_banned, status_in

#: Venues whose codes are words.
TEXT_CODED: Final = ("kraken_spot", "kraken_futures", "bitmex")
#: A ban that does not say how long it lasts: Binance's first lasts two minutes, and each is longer than the one before.
BAN_MS = 120_000
_CODE_CHARS = 200
_NONE: Final[Mapping[str, Any]] = MappingProxyType({})
# Where an error of Kraken's spot market begins: "EService:".
_KRAKEN: Final = re.compile(r"(?=\bE[A-Z][A-Za-z]{2,20}:)")


@frozen
class Row:
    """What a class means for a place, a replace, a cancel and a question, and whether it passes."""

    place: OutcomeKind
    replace: OutcomeKind
    cancel: OutcomeKind
    question: OutcomeKind
    passes: bool


_F = FailureClass
_U, _D, _R = OutcomeKind.UNAVAILABLE, OutcomeKind.IN_DOUBT, OutcomeKind.REFUSED
_NOT_TAKEN = Row(_U, _U, _U, _U, passes=True)
_DOUBT = Row(_D, _D, _D, _U, passes=True)
_NO = Row(_R, _R, _R, _R, passes=False)
TABLE: Final[Mapping[FailureClass, Row]] = MappingProxyType(
    {
        _F.RATE_LIMIT: _NOT_TAKEN,
        _F.BAN: Row(_U, _U, _U, _U, passes=False),
        _F.TIMEOUT: _NOT_TAKEN,
        _F.BUSY: _NOT_TAKEN,
        _F.MAINTENANCE: _NOT_TAKEN,
        _F.NOT_SENT: Row(_U, _D, _U, _U, passes=True),
        _F.TEMPORARY_ERROR: _DOUBT,
        _F.NETWORK: _DOUBT,
        _F.UNKNOWN_OUTCOME: _DOUBT,
        _F.PARTIAL: Row(_D, _D, _D, _U, passes=False),
        _F.DUPLICATE_ID: Row(_D, _D, _D, _R, passes=False),
        _F.INSUFFICIENT_BALANCE: _NO,
        _F.VALIDATION: _NO,
        _F.BAD_REQUEST: _NO,
        _F.REJECTED: _NO,
        _F.WOULD_CROSS: _NO,
        _F.AUTH: _NO,
        _F.RESTRICTED: _NO,
        _F.NOT_FOUND: Row(_D, _R, _R, _R, passes=False),
        _F.NOT_CANCELLABLE: Row(_D, _R, _R, _R, passes=False),
        _F.UNKNOWN: _DOUBT,
    }
)


@frozen
class Failure:
    """A failed request, understood. ``retry_after_ms`` is 0 where nothing was said of it; ``code`` and ``text`` are the venue's, for
    people."""

    failure_class: FailureClass
    kind: OutcomeKind
    retry_after_ms: int
    code: str
    text: str

    @property
    def retryable(self) -> bool:
        """Whether the same request may be sent again: it was certainly not applied, and may do better."""
        return self.kind is OutcomeKind.UNAVAILABLE and self.passes

    @property
    def passes(self) -> bool:
        """Whether it may do better later. Enough for a deed that does no harm twice."""
        return TABLE[self.failure_class].passes


def classify(
    venue: str,
    verb: Verb | None,
    *,
    code: int | str | None = None,
    status: int | None = None,
    text: str = "",
    headers: Mapping[str, str] | None = None,
    now_ms: int = 0,
) -> Failure:
    """What an answer of a venue means. Never raises, and looks at no more than a bounded part, whatever is given.

    ``venue`` is one of ``failure_tables.CODES``, or ccxt's id of it; of any other venue only HTTP is understood. ``verb`` is what was
    asked, None a question, which changes nothing. ``code`` is the venue's own (of an order in a batch: that order's, and then ``text`` too
    is that order's alone; of Bybit's trading stream: "WS 10429"); the codes in ``text`` count beside it. ``now_ms`` is UTC, for a moment
    that the venue names.
    """
    venue = ALIASES.get(venue, venue) if isinstance(venue, str) else ""
    verb, status, text = _verb(verb), _status(status), as_text(text)
    told = as_text(code, _CODE_CHARS).strip()
    found = _class_of(venue, verb, told, status, text)
    known_headers = headers if isinstance(headers, Mapping) else MappingProxyType({})
    now_ms = now_ms if isinstance(now_ms, int) else 0
    try:
        wait = retry_after_ms(text, known_headers, now_ms, limited=found in (_F.RATE_LIMIT, _F.BAN))
    except Exception:
        # A mapping of somebody's that cannot be read.
        wait = retry_after_ms(text, {}, now_ms, limited=False)
    if found is _F.BAN and wait == 0:
        wait = BAN_MS
    if not told and venue not in TEXT_CODED:
        told = next((said.code for said in codes_in(text) if said.code != "0"), "")
    return Failure(found, kind_of(found, verb), wait, redact(told), redact(text))


def _verb(verb: object) -> Verb | None:
    """What was asked; a place for what is no verb."""
    try:
        return None if verb is None else Verb(str(verb))
    except Exception:
        return Verb.PLACE


def _status(status: object) -> int | None:
    """An HTTP status, also from a text that begins with one; None for what is none."""
    if isinstance(status, (str, bytes)):
        first = as_text(status, 10).strip()[:3]
        return int(first) if len(first) == 3 and first.isascii() and first.isdigit() else None
    number: Any = None if isinstance(status, bool) else status
    try:
        whole = int(number)
    except (TypeError, ValueError, OverflowError):
        return None
    return whole if 0 <= whole < 1_000 else None


def kind_of(failure_class: FailureClass, verb: Verb | None) -> OutcomeKind:
    """What became of a request of this kind that failed in this way."""
    row = TABLE[failure_class]
    if verb is None:
        return row.question
    return {Verb.PLACE: row.place, Verb.REPLACE: row.replace}.get(verb, row.cancel)


def _class_of(venue: str, verb: Verb | None, code: str, status: int | None, text: str) -> FailureClass:
    """The rules 1 to 6 of the module."""
    said = _said(venue, code, text)
    found = max(said, key=lambda one: _doubt(one, verb)) if said else None
    doubt = found is not None and kind_of(found, verb) is _D
    if found is not None and doubt and (found is not _F.UNKNOWN or (status is not None and status >= 500)):
        return found if found is not _F.UNKNOWN else _F.UNKNOWN_OUTCOME
    if verb is not None and status is not None and status >= 500:
        return _outright(venue, status, code, text) or _F.UNKNOWN_OUTCOME
    if status == 418 or says_banned(text):
        return _F.BAN
    if status == 429:
        return _F.RATE_LIMIT
    return found or _by_status(venue, status)


def _doubt(found: FailureClass, verb: Verb | None) -> tuple[bool, bool, bool]:
    """What counts more, of two classes that an answer names: the greater."""
    return kind_of(found, verb) is _D, found is not _F.UNKNOWN, not TABLE[found].passes


def _said(venue: str, code: str, text: str) -> list[FailureClass]:
    """The classes of all that an answer says: of the code that is given, and of the codes and known words in its text."""
    given = [_by_code(venue, code, text) or _F.UNKNOWN] if code else []
    in_text: list[FailureClass] = []
    if venue in TEXT_CODED:
        in_text += [_F.UNKNOWN if is_page(text) else found for found in _by_words(venue, text)]
    else:
        for said in codes_in(text):
            half = _F.PARTIAL if said.code == "0" else None
            found = half or _by_code(venue, said.code, said.words) if said.firm else None
            in_text.append(found or _F.UNKNOWN)
    folded = text.casefold()
    in_text += [failure_class for words, failure_class in TEXTS.get(venue, ()) if words.casefold() in folded]
    if len(text) > READ_CHARS:
        in_text.append(_F.UNKNOWN)
    return given + in_text


def _outright(venue: str, status: int, code: str, text: str) -> FailureClass | None:
    """The class of an answer that is definite although it is a 5xx."""
    codes = [one.code for one in codes_in(text) if one.firm]
    said = (code or (codes[0] if len(codes) == 1 else ""), message_in(text))
    return next((one.failure_class for one in OUTRIGHT if (one.venue, one.status) == (venue, status) and one.said in said), None)


def _by_code(venue: str, code: str, text: str) -> FailureClass | None:
    """The class of a code, by its sentence where it has many; for venues whose codes are words, of the most doubtful of them."""
    codes = CODES.get(venue, _NONE)
    if code in SENTENCES.get(venue, _NONE):
        folded = text.casefold()
        found = [failure_class for words, failure_class in SENTENCES[venue][code] if words.casefold() in folded]
        if found:
            return max(found, key=lambda one: _doubt(one, Verb.PLACE))
    if code in codes or venue not in TEXT_CODED:
        return codes.get(code)
    return max(_by_words(venue, code), key=lambda one: _doubt(one, Verb.PLACE), default=None)


def _by_words(venue: str, text: str) -> list[FailureClass]:
    """The classes of the words that a venue has for codes. Of words that hold each other the longest counts. Of Kraken's spot market each
    error is looked at by itself, and one that is not known is ``unknown``."""
    found = []
    for part in _KRAKEN.split(text) if venue == "kraken_spot" and _KRAKEN.search(text) else [text]:
        words = [one for one in CODES[venue] if one in part]
        longest = [one for one in words if not any(one != other and one in other for other in words)]
        found += [CODES[venue][one] for one in longest]
        if not longest and _KRAKEN.match(part):
            found.append(_F.UNKNOWN)
    return found


def _by_status(venue: str, status: int | None) -> FailureClass:
    if status is None:
        return _F.UNKNOWN
    own = STATUSES.get(venue, MappingProxyType({})).get(status) or STATUSES[""].get(status)
    if own is not None:
        return own
    # An answer of success that is no answer, or a failure of whatever stands before the venue: it may have been applied.
    return _F.UNKNOWN_OUTCOME if status < 300 or status >= 500 else _F.UNKNOWN


def known(venue: str, code: str) -> bool:
    """Whether the tables know this code, were it only as one whose meaning is not documented."""
    return _by_code(ALIASES.get(venue, venue), code, "") is not None


def classify_exception(
    error: BaseException, venue: str, verb: Verb | None, *, headers: Mapping[str, str] | None = None, now_ms: int = 0
) -> Failure:
    """What an exception of a client library, or of Python itself, means. Never raises.

    What the operating system and asyncio raise is known by its class: a refused connection was certainly not sent, a timeout, a reset and a
    cancelled wait are in doubt. Otherwise code and HTTP status, from the exception's attributes or its text, decide as in
    :func:`classify`; only without both the class does, by its name and its parents' names, so that no client library is imported.
    """
    names = tuple(parent.__name__ for parent in type(error).__mro__)
    venue = ALIASES.get(venue, venue) if isinstance(venue, str) else ""
    verb, text = _verb(verb), as_text(error) or names[0]
    local = next((LOCAL[name] for name in names if name in LOCAL), None)
    if local is None and any(name.startswith("ConnectionClosed") for name in names):
        local = _F.NETWORK
    if local is not None:
        return Failure(local, kind_of(local, verb), 0, names[0], redact(text))
    status = _number(error, ("status_code", "status", "http_status"))
    if status is None:
        status = status_in(text)
    code = _attribute(error, ("code",))
    if not isinstance(code, (int, str)) or isinstance(code, bool) or code == status:
        code = None
    headers = _headers(error) if headers is None else headers
    found = classify(venue, verb, code=code, status=status, text=text, headers=headers, now_ms=now_ms)
    if found.failure_class is _F.UNKNOWN and not found.code and "BaseError" in names and len(text) <= READ_CHARS and not is_page(text):
        by_name = next((EXCEPTIONS[name] for name in names if name in EXCEPTIONS), _F.UNKNOWN)
        return Failure(by_name, kind_of(by_name, verb), found.retry_after_ms, names[0], found.text)
    return found


def _attribute(error: object, names: tuple[str, ...]) -> object:
    """The first attribute of these names that is there. A property that raises is none."""
    for name in names:
        try:
            value = getattr(error, name, None)
        except Exception:
            value = None
        if value is not None:
            return value
    return None


def _number(error: BaseException, names: tuple[str, ...]) -> int | None:
    for holder in (error, _attribute(error, ("response",))):
        value = _attribute(holder, names)
        if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599:
            return value
    return None


def _headers(error: BaseException) -> Mapping[str, str]:
    for holder in (error, _attribute(error, ("response",))):
        value = _attribute(holder, ("headers",))
        if isinstance(value, Mapping):
            return value
    return MappingProxyType({})
