"""Names that derive from the log position, so that retry, restart and replay give the same ones.

An effect is named by ``(record number, index)``: the record whose event caused it, and its place among that record's
effects. An order is known by its *key*, the number of the record that submitted it. The client order id is the
session tag followed by that key; it goes to the venue and comes back in every report, so a report finds its order
without any table of names.

Form of a client order id: 7 characters of session tag (a letter, then lower-case letters and digits), then the key in base
36. At most 14 characters, alphanumeric, so every venue takes it; the key is below 2^32.
"""

import re
from typing import TypeAlias

#: ``(record number, index)``.
EffectId: TypeAlias = tuple[int, int]

TAG_LENGTH = 7
#: Keys stay below 2^32: persistent maps iterate such keys in the same order in every process.
MAX_KEY = 2**32 - 1
_TAG = re.compile(r"[a-z][a-z0-9]{6}\Z")
_KEY = re.compile(r"[1-9a-z][0-9a-z]{0,6}\Z")
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


def is_session_tag(text: str) -> bool:
    """Whether the text may serve as a session tag."""
    return _TAG.match(text) is not None


def base36(number: int) -> str:
    """A natural number in lower-case base 36."""
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = _ALPHABET[digit] + text
    return text or "0"


def client_order_id(session: str, key: int) -> str:
    """The id under which the venue knows the order. Raises ValueError for a key that no report could be traced back to."""
    if not 0 < key <= MAX_KEY:
        raise ValueError(f"order key {key}: keys are 1 to {MAX_KEY}; begin a new session before the log grows that long")
    return session + base36(key)


def order_key(session: str, client_id: str) -> int:
    """The order's key, or 0 when the id was not made by this session."""
    if not client_id.startswith(session):
        return 0
    rest = client_id[TAG_LENGTH:]
    if _KEY.match(rest) is None:
        return 0
    key = int(rest, 36)
    return key if key <= MAX_KEY else 0
