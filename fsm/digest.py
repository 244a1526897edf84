"""The digest of the state: 32 bytes that two equal states share and two different ones do not.

Hashing a state of a million orders takes seconds, a step microseconds. So every order is hashed by itself, and the hashes
are *added*, modulo 2^256: when one order changes, its old hash is taken off the sum and its new one put on. The rest of the state is
small and hashed as a whole.

    H(map, key, order)  = SHA-256 over "map:key:" and the canonical encoding of the order, read as a big-endian integer
    sum                 = of all H over the maps ``orders`` and ``closed``, modulo 2^256
    digest              = SHA-256 over the canonical encoding of the other fields, then the sum as 64 hexadecimal digits

``touched`` is left out: it says what the last step did, not what the state is; ``resting`` and ``once`` are memos. A sum of hashes
detects accidents and bugs. It does not have to resist an attacker: who could choose orders for a collision could as well write another
log, and what protects the log is its chain of hashes.
"""

import hashlib
from functools import cache
from types import MappingProxyType
from typing import Any, Final, Protocol, get_args, get_type_hints

from immutables import Map

from .codec import NOT_STATE, Coder

_MAPS: Final = ("orders", "closed")
_MODULUS: Final = 2**256
_LEFT_OUT: Final = MappingProxyType({"orders": Map(), "closed": Map(), **NOT_STATE})


class State(Protocol):
    """What is needed of a core to digest it."""

    @property
    def orders(self) -> Map[int, Any]:
        """Working orders by key."""
        ...

    @property
    def closed(self) -> Map[int, Any]:
        """Finished orders by key."""
        ...

    @property
    def touched(self) -> tuple[int, ...]:
        """The keys that the last step wrote, in either map."""
        ...


@cache  # The memo is no state: it follows from the class alone.
def _coders(kind: type) -> tuple[dict[str, Coder[Any]], Coder[Any]]:
    """The coders of the values of both maps, and of everything else."""
    hints = get_type_hints(kind)
    rest: Coder[Any] = Coder(kind, left_out={name: value for name, value in _LEFT_OUT.items() if name in hints})
    return {name: Coder(get_args(hints[name])[1]) for name in _MAPS}, rest


def _order_hash(name: str, key: int, encoding: bytes) -> int:
    return int.from_bytes(hashlib.sha256(f"{name}:{key}:".encode() + encoding).digest(), "big")


def _order_sum(state: State) -> int:
    coders = _coders(type(state))[0]
    total = 0
    for name in _MAPS:
        encode = coders[name].encode
        for key, order in getattr(state, name).items():
            total += _order_hash(name, key, encode(order))
    return total % _MODULUS


def _digest(state: State, order_sum: int) -> str:
    rest = _coders(type(state))[1].encode(state)
    return hashlib.sha256(rest + f"{order_sum:064x}".encode()).hexdigest()


def digest(state: State) -> str:
    """The digest from scratch, as 64 hexadecimal digits. Takes time in proportion to the number of orders."""
    return _digest(state, _order_sum(state))


class DigestTracker:
    """Follows a state from step to step and knows its digest in time proportional to what changed since it was last asked."""

    def __init__(self, state: State) -> None:
        self._sum = _order_sum(state)
        self._summed = self._state = state
        self._touched: dict[int, None] = {}

    def advance(self, state: State) -> None:
        """To be called with the state after every step, none left out."""
        self._state = state
        for key in state.touched:
            self._touched[key] = None

    def digest(self) -> str:
        """The digest of the state that was given last."""
        coders = _coders(type(self._state))[0]
        for name in _MAPS:
            before, after, encode = getattr(self._summed, name), getattr(self._state, name), coders[name].encode
            for key in self._touched:
                old, new = before.get(key), after.get(key)
                if old is new:
                    continue
                if old is not None:
                    self._sum -= _order_hash(name, key, encode(old))
                if new is not None:
                    self._sum += _order_hash(name, key, encode(new))
        self._sum %= _MODULUS
        self._summed = self._state
        self._touched.clear()
        return _digest(self._state, self._sum)
