"""How long to wait before trying again: full jitter, without a random number generator.

The wait before try ``attempt`` is uniform between 0 and ``min(cap, base x 2^attempt)``, which spreads retries of many processes
better than a fixed or partly fixed wait. The uniform draw is a hash of (seed, effect id, attempt), so the same log gives the
same waits, and two runners with different seeds do not march in step.
"""

from hashlib import sha256

from ..effects import EffectId

_NS_PER_MS = 1_000_000


def backoff_ns(seed: int, effect: EffectId, attempt: int, base_ms: int, cap_ms: int) -> int:
    """Nanoseconds to wait. ``attempt`` counts from 0."""
    # The shift is bounded, so that an attempt number of a million does not make a number of a million bits.
    ceiling = min(cap_ms, base_ms << min(attempt, 40)) * _NS_PER_MS
    draw = sha256(f"{seed}:{effect[0]}:{effect[1]}:{attempt}".encode()).digest()[:8]
    return int.from_bytes(draw, "big") % (ceiling + 1)
