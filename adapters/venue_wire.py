"""What a remote venue and its server say to each other over a local socket.

A frame is its length, four bytes with the highest first, and one message as the log writes values (``fsm/codec.py``): strict in both
directions, so that a byte that is wrong ends the connection and nothing is guessed.

=========  =========  ==========================================================================================
message    from       means
=========  =========  ==========================================================================================
Hello      client     the version, and the session whose reports come here; the first frame
Welcome    server     the connection is up; the first frame
Request    client     an effect, under a number of the client's own
Answer     server     what came of it: evidence, then the outcome
Report     server     an event of the venue's stream
=========  =========  ==========================================================================================

A report and an answer hold what a venue may say (``ports.VenueReport``, ``ports.VenueAnswer``) and cannot hold anything else: a command is
no message, and ends the connection. That the connection is up or down the client sees for itself, and is not told.
"""

import asyncio
from typing import Final, TypeAlias

from attrs import frozen

from ..effects import Effect
from ..fsm.codec import Coder
from .ports import VenueAnswer, VenueReport

VERSION: Final = 1
#: The longest message. A list of a hundred thousand open orders is shorter.
MAX_BYTES: Final = 1 << 25
_LENGTH: Final = 4


class WireError(Exception):
    """The other side does not keep to the protocol. The text says in what."""


@frozen
class Hello:
    """The client's first word. ``session`` is the tag that its client ids begin with; empty if it has none."""

    version: int
    session: str


@frozen
class Request:
    """Carry this out."""

    number: int
    effect: Effect


@frozen
class Welcome:
    """The server's first word."""

    version: int


@frozen
class Answer:
    """What came of a request."""

    number: int
    events: tuple[VenueReport | VenueAnswer, ...]


@frozen
class Report:
    """Something happened at the venue."""

    event: VenueReport


FromClient: TypeAlias = Hello | Request
FromServer: TypeAlias = Welcome | Answer | Report
FROM_CLIENT: Final[Coder[FromClient]] = Coder(FromClient)
FROM_SERVER: Final[Coder[FromServer]] = Coder(FromServer)


def framed(message: bytes) -> bytes:
    """The bytes of a frame. Raises :class:`WireError` for a message that the other side would not take."""
    if len(message) > MAX_BYTES:
        raise WireError(f"a message of {len(message)} bytes; at most {MAX_BYTES} are sent")
    return len(message).to_bytes(_LENGTH, "big") + message


async def next_message(reader: asyncio.StreamReader) -> bytes:
    """The next message. Raises :class:`WireError` for one that is too long, and IncompleteReadError at the end."""
    length = int.from_bytes(await reader.readexactly(_LENGTH), "big")
    if length > MAX_BYTES:
        raise WireError(f"a message of {length} bytes; at most {MAX_BYTES} are taken")
    return await reader.readexactly(length)
