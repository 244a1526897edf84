"""What is read out of a failure's own words: codes, status, how long to wait; and the secrets that are taken out of them.

A text may be anything: a page of a proxy that has an "error code: 1009" of its own, a URL with a parameter that looks like a code, an
answer to a batch with a code for each order. So a code is *firm* only as a field of an answer, and all codes of a text are found, not
the first.

How long to wait is said in three ways: by the header Retry-After in seconds or as an HTTP date (RFC 9110 section 10.2.3), by a header that
names the moment at which the limit begins anew (Bybit's in milliseconds, BitMEX's in seconds), and in a sentence ("banned until
1769384278629"; Kraken's "Throttled: 1769384278"). The longest counts. Nobody is believed beyond three days, the longest ban that
Binance documents; what lies in the past, is negative or no number says nothing.
"""

import re
from bisect import bisect_right
from collections.abc import Collection, Mapping
from itertools import islice
from typing import Final

from attrs import frozen

MAX_WAIT_MS = 3 * 24 * 3_600 * 1_000
#: What is kept of a text.
TEXT_CHARS = 500
#: How much of a text is read. What is longer proves nothing: the rest may say otherwise.
READ_CHARS = 20_000
_REDACT_CHARS = 8_000
_HEADERS = 200
_ITEMS = 1_000

_BANNED_UNTIL = re.compile(r"(?i:banned until)\W{0,3}([0-9]{10,30})")
_THROTTLED = re.compile(r"(?i:throttled):\s{0,3}([0-9]{10,30})")
_SECONDS = re.compile(r"\s*([0-9]{1,19})(?:\.([0-9]{1,3})[0-9]*)?\s*", re.ASCII)
_HTTP_DATE = re.compile(r"\s*[A-Z][a-z]{2}, ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT\s*")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
#: Headers that name a moment, in milliseconds after they are multiplied.
_RESETS: Final = (("x-bapi-limit-reset-timestamp", 1), ("x-ratelimit-reset", 1_000))

# Where a code may stand. A field of an answer, quoted and escaped however often; an order's own goes before that of its batch.
_SUB_CODE = re.compile(r"\bsCode\\{0,8}[\"']\s{0,3}:\s{0,3}\\{0,8}[\"']?(-?[0-9]{1,9})(?![0-9])")
_FIELD = re.compile(r"(?<![A-Za-z])(?:retCode|ret_code|code)\\{0,8}[\"']\s{0,3}:\s{0,3}\\{0,8}[\"']?(-?[0-9]{1,9})(?![0-9])")
_CALL = re.compile(r"\(code=(-?[0-9]{1,9})\)")
_BARE = re.compile(r"(?<![\w.+=-])(-[0-9]{4})(?![\w.-])", re.ASCII)
# Words about a code, which may be of whatever stands before the venue: "error code: 1009" is Cloudflare's.
_LOOSE = re.compile(r"(?<![A-Za-z])(?:sCode|retCode|ret_code|code)\s{0,3}[:=]\s{0,3}(-?[0-9]{1,9})(?![0-9])")
_URL = re.compile(r"https?://[^\s\"'<>\\]+")
_PAGE = re.compile(r"<\s{0,3}!?(?:doctype|html|head|body|title|center|h[1-6])\b", re.IGNORECASE)
_MESSAGE = re.compile(r"\"(?:msg|message|retMsg)\"\s{0,3}:\s{0,3}\"((?:[^\"\\]|\\.){0,1000})\"")
_STATUS = re.compile(r"\b(?:GET|POST|PUT|DELETE|PATCH) https?://\S+ ([1-5][0-9]{2})\b|\A[a-z0-9]{1,30} (418|429) ")

# A secret: its name, what stands between, and the value, which ends with its quote. Without quotes it ends with the blank, but for
# those that may hold blanks and commas, which end with the line; and a bracket ends with the text. Rather too much is taken.
_GAP = r"(?:\\{0,8}[\"']|%22|%27)?\s{0,3}(?:=>|:=|[:=]|%3[AaDd]|%253[AaDd]|(?<=[\"'])\s{0,3},)\s{0,3}(?:[bBrRuU]{1,2}(?=\\{0,8}[\"']))?"
_QUOTED = r"(?P<quote{0}>\\{{0,8}}[\"'])(?s:.*?)(?:(?<!\\)(?P=quote{0})|\Z)"
_LINES = (
    r"(?:secret|pass[-_ ]?phrase|password|passwd|pwd|private[-_ ]?key|mnemonic|seed[-_ ]?phrase|authorization|cookie|credential)"
    r"[\w-]{0,30}"
)
_TOKENS = r"(?:signature|(?<![a-z])sign|(?<![a-z])sig|api[-_ ]?key|access[-_ ]?key|listen[-_ ]?key|authent|token)[\w-]{0,30}"
_SECRET = re.compile(
    rf"((?:{_LINES}){_GAP})(?:[\[({{]\s{{0,3}}(?s:.*)|{_QUOTED.format(1)}|[^\r\n]+)"
    rf"|((?:{_TOKENS}){_GAP})(?:[\[({{]\s{{0,3}}(?s:.*)|{_QUOTED.format(2)}|[^\s\"'&]+)",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b(Bearer|Basic)(?:\s{1,3}|%20|\+)[^\s]+", re.IGNORECASE)
_PEM = re.compile(r"-----BEGIN(?s:.*)")
_USER_INFO = re.compile(r"(://)[^\s\"]{1,1000}@")
# The same where the text is cut before the @.
_CUT_USER_INFO = re.compile(r"(://)[^\s\"]{1,1000}\Z")


@frozen
class Said:
    """A code in a text and the words up to the next. ``firm``: it is a field of an answer, not words about one."""

    code: str
    words: str
    firm: bool


def as_text(value: object, chars: int = READ_CHARS + 1) -> str:
    """Anything as a text of bounded length that can be printed. Never raises; None is empty, and so is what cannot be written."""
    try:
        if value is None:
            return ""
        if isinstance(value, (bytes, bytearray)):
            return bytes(value[:chars]).decode("utf-8", "replace")
        if isinstance(value, BaseException) and type(value).__str__ is BaseException.__str__ and len(value.args) == 1:
            return as_text(value.args[0], chars)
        large = value.bit_length() if isinstance(value, int) else 0
        if isinstance(value, Collection) and not isinstance(value, str):
            large = len(value)
        if large > _ITEMS:
            return "too large to be read".ljust(chars)
        text = value if isinstance(value, str) else str(value)
        return str.__getitem__(text, slice(chars)).encode("utf-8", "replace").decode()
    except Exception:
        return ""


def redact(text: object) -> str:
    """The text, or anything as one, without what looks like a key, a signature, a password, and without its end if it is long."""
    whole = as_text(text)
    clean = whole[:_REDACT_CHARS]
    if len(whole) > _REDACT_CHARS:
        clean = _CUT_USER_INFO.sub(r"\1***", clean)
    clean = _SECRET.sub(lambda found: f"{found[1] or found[3]}***", clean)
    clean = _PEM.sub("***", _BEARER.sub(r"\1 ***", clean))
    return _USER_INFO.sub(r"\1***@", clean)[:TEXT_CHARS]


def is_page(text: str) -> bool:
    """Whether a text is, or holds, a page: the words of whatever stands before a venue."""
    return _PAGE.search(text) is not None


def message_in(text: str) -> str:
    """The one message of a JSON answer, else the text itself; empty if there are several, or for a page."""
    found = _MESSAGE.findall(text)
    if is_page(text) or len(found) > 1:
        return ""
    return found[0] if found else text.strip()


def codes_in(text: str) -> tuple[Said, ...]:
    """The venue's codes in the text of an answer or an exception, each once, the orders' own before that of their batch. None is "0",
    unless others beside it are not: then one half went well.

    OKX's "1" only says that the orders' own codes follow. A bare number such as -1003 counts where there is nothing better.
    """
    text = _URL.sub(" ", text)
    firm = not is_page(text)
    own, fields = list(_SUB_CODE.finditer(text)), [*_FIELD.finditer(text), *_CALL.finditer(text)]
    found = own + [match for match in fields if not (own and match[1] == "1")]
    seen = [match.start(1) for match in fields]
    loose = [match for match in _LOOSE.finditer(text) if match.start(1) not in seen]
    if not found and not loose:
        found = list(_BARE.finditer(text))
    # A code that is alone has all words, one of several those up to the next.
    starts = sorted([0, len(text), *(match.start() for match in found)]) if len(found) > 1 else [0, len(text)]
    said = {}
    for number, match in enumerate(found + loose):
        words = text[match.end() if len(found) > 1 else 0 : starts[min(bisect_right(starts, match.start()), len(starts) - 1)]]
        said[match[1], words] = Said(match[1], words, firm and number < len(found))
    return tuple(said.values()) if any(one.code != "0" for one in said.values()) else ()


def status_in(text: str) -> int | None:
    """The HTTP status in a text of the form "POST https://... 503 ..." or "binance 429 ...", as ccxt writes it."""
    match = _STATUS.search(text[:READ_CHARS])
    return int(match[1] or match[2]) if match else None


def says_banned(text: str) -> bool:
    """Whether a text names the end of a ban."""
    return _BANNED_UNTIL.search(text[:READ_CHARS]) is not None


def retry_after_ms(text: str, headers: Mapping[str, str], now_ms: int, limited: bool) -> int:
    """How many milliseconds to wait; 0 if nothing is said. Needs ``now_ms``, UTC, where a moment is named; 0 leaves moments unread.

    ``limited``: a limit was hit. Only then the headers that name its new beginning mean anything: they come with every answer.
    """
    waits = [0]
    for name, value in islice(headers.items(), _HEADERS):
        waits.append(_by_header(as_text(name, 100).lower(), as_text(value, 100), now_ms, limited))
    for pattern in (_BANNED_UNTIL, _THROTTLED):
        match = pattern.search(text[:READ_CHARS])
        if match:
            # Thirteen digits are milliseconds for the next three centuries, ten are seconds.
            told = int(match.group(1))
            waits.append(_until(told * 1_000 if told < 10**11 else told, now_ms))
    return min(max(waits), MAX_WAIT_MS)


def _by_header(name: str, value: str, now_ms: int, limited: bool) -> int:
    if name == "retry-after":
        seconds = _SECONDS.fullmatch(value)
        if seconds:
            return int(seconds.group(1)) * 1_000 + int((seconds.group(2) or "0").ljust(3, "0"))
        return _until(_http_date_ms(value), now_ms)
    for header, factor in _RESETS:
        if limited and name == header and value.isascii() and value.isdigit() and len(value) < 20:
            return _until(int(value) * factor, now_ms)
    return 0


def _until(moment_ms: int, now_ms: int) -> int:
    return max(0, moment_ms - now_ms) if now_ms > 0 else 0


def _http_date_ms(value: str) -> int:
    """UTC milliseconds of an HTTP date; 0 if it is none."""
    match = _HTTP_DATE.fullmatch(value)
    if not match or match.group(2) not in _MONTHS:
        return 0
    day, month, year = int(match.group(1)), _MONTHS.index(match.group(2)) + 1, int(match.group(3))
    # Days since 1970-01-01, counted in years that begin in March, so that the leap day is the last.
    shifted = year - (month < 3)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    days = shifted * 365 + shifted // 4 - shifted // 100 + shifted // 400 + day_of_year - 719_468
    seconds = days * 86_400 + int(match.group(4)) * 3_600 + int(match.group(5)) * 60 + int(match.group(6))
    return max(0, seconds * 1_000)
