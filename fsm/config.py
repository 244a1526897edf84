"""What an operator decides beforehand. The whole of it stands in the first event of a log, so a log explains itself.

Times are in milliseconds, because people write them; amounts are exact numbers (see ``haltcore.effects.values``).
``Config`` validates itself: a configuration that exists is a configuration that can run.
"""

from enum import StrEnum

from attrs import frozen

from ..effects import Bps, Usd, is_session_tag, to_text

#: What a log can hold as an integer, and the longest time: a year, so that no sum of moment and time leaves that range.
MAX_NUMBER = 2**63 - 1
MAX_MS = 366 * 24 * 3_600_000


class ForeignPolicy(StrEnum):
    """Whose orders a freeze may cancel.

    CANCEL: the account is ours alone; whatever is open goes, and cancel-all calls may be used. LEAVE: others trade on the
    account; only orders of this session are cancelled, one by one or in batches, since a cancel-all call would take theirs too.
    """

    CANCEL = "cancel"
    LEAVE = "leave"


#: A limit below a millionth is a raw number that somebody forgot to scale: 5 instead of usd("5").
_LEAST = 10**6


class ConfigRefused(ValueError):
    """A configuration that cannot run. The text lists every fault with its field and what was expected."""


@frozen
class Limits:
    """Bounds on exposure and the edge trigger; None switches one off.

    ``max_inventory_usd`` holds per symbol and side, ``max_total_notional`` over all symbols, both for positions plus every order that
    may still fill. An edge strictly below ``edge_freeze_threshold_bps`` freezes the account.
    """

    max_inventory_usd: Usd | None = None
    max_total_notional: Usd | None = None
    edge_freeze_threshold_bps: Bps | None = None


@frozen
class VenueTraits:
    """What the venue can do.

    ``cancel_all``: it has a cancel-all call per symbol. ``conditional``: stop orders rest in a book of their own, with their own
    open-order list and cancel-all. ``batch``: how many orders one batch cancel takes; below 2 there is none.
    ``place_expiry_ms``: how long after sending a request can still be applied (Binance: recvWindow, 5000 by default).
    Only after that does "not found" say that an order never arrived.
    """

    cancel_all: bool = True
    conditional: bool = True
    batch: int = 10
    place_expiry_ms: int = 5_000

    @property
    def books(self) -> tuple[bool, ...]:
        """The books that have a list and a cancel-all of their own, each by whether it is the conditional one."""
        return (False, True) if self.conditional else (False,)


@frozen
class SweepPolicy:
    """How hard and how long a sweep tries.

    ``lease_wait_ms`` bounds the wait for the lease; ``empty_snapshots`` is how many consecutive empty snapshots prove emptiness;
    a failed round ``a`` is followed by a wait of uniformly 0 to min(``cap_ms``, ``base_ms`` x 2^a) (full jitter); after ``attempts``
    failed rounds, or ``deadline_ms``, the sweep is reported as not successful and goes on at the pace of ``cap_ms``.
    """

    lease_wait_ms: int = 250
    deadline_ms: int = 10_000
    base_ms: int = 200
    cap_ms: int = 5_000
    attempts: int = 7
    empty_snapshots: int = 2
    foreign: ForeignPolicy = ForeignPolicy.CANCEL


@frozen
class StorePolicy:
    """The coordination store. ``configured`` False means: one process, no store, nothing is asked of it.

    A store that is configured but fails is another world: then nothing is placed.
    """

    configured: bool = False
    lease_ttl_ms: int = 30_000
    lease_renew_ms: int = 10_000
    latch_poll_ms: int = 1_000


@frozen
class Config:
    """Everything that decisions depend on besides events.

    ``session`` is the tag that client order ids begin with: 7 characters, a letter, then lower-case letters and digits, never used
    before on the account. ``seed`` feeds the jitter. ``evidence_ms``: how long after an acknowledged request its report may stay
    away before the order is asked for. ``venue_lost_ms``: how long the venue link may be down before the account freezes.
    """

    session: str
    symbols: tuple[str, ...]
    limits: Limits = Limits()
    venue: VenueTraits = VenueTraits()
    sweep: SweepPolicy = SweepPolicy()
    store: StorePolicy = StorePolicy()
    seed: int = 0
    evidence_ms: int = 1_000
    venue_lost_ms: int = 5_000

    def __attrs_post_init__(self) -> None:
        faults = config_faults(self)
        if faults:
            raise ConfigRefused("the configuration cannot run: " + "; ".join(faults))


def config_faults(config: Config) -> list[str]:
    """Every fault, each as ``field: what is wrong``."""
    faults = []
    if not isinstance(config.session, str) or not is_session_tag(config.session):
        faults.append(f"session: {config.session!r} is no tag; give 7 characters, a letter first, then lower-case letters and digits")
    faults += _symbol_faults(config.symbols)
    for name, amount in (
        ("limits.max_inventory_usd", config.limits.max_inventory_usd),
        ("limits.max_total_notional", config.limits.max_total_notional),
    ):
        if amount is not None and not _is_whole(amount):
            faults.append(f"{name}: {amount!r} is a {type(amount).__name__}; give usd(\"10000\"), or None for no limit")
        elif amount is not None and 0 < amount < _LEAST:
            faults.append(f"{name}: {to_text(amount)} is next to nothing; amounts are scaled, write usd(\"{amount}\")")
        elif amount is not None and amount <= 0:
            faults.append(f"{name}: must be above 0, or None for no limit")
    edge = config.limits.edge_freeze_threshold_bps
    if edge is not None and not _is_whole(edge):
        faults.append(f"limits.edge_freeze_threshold_bps: {edge!r} is a {type(edge).__name__}; give bps(\"5\"), or None for no trigger")
    elif edge is not None and 0 < abs(edge) < _LEAST:
        faults.append(f"limits.edge_freeze_threshold_bps: {to_text(edge)} is next to nothing; it is scaled, write bps(\"{edge}\")")
    if not _is_policy(config.sweep.foreign):
        faults.append(f"sweep.foreign: {config.sweep.foreign!r} is no policy; give ForeignPolicy.CANCEL or ForeignPolicy.LEAVE")
    return faults + _number_faults(config)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_policy(value: object) -> bool:
    # Its text would compare equal to it, and yet not be it.
    return isinstance(value, ForeignPolicy)


def _symbol_faults(symbols: object) -> list[str]:
    if not isinstance(symbols, tuple):
        return [f"symbols: {symbols!r} is a {type(symbols).__name__}; give a tuple, such as (\"BTCUSDT\",)"]
    if not symbols:
        return ["symbols: empty; name at least one, such as BTCUSDT"]
    faults = [f"symbols: {symbol!r} is no text of 1 to 64 characters" for symbol in symbols if not _is_symbol(symbol)]
    if not faults and len(dict.fromkeys(symbols)) != len(symbols):
        faults.append("symbols: one is named twice")
    return faults


def _is_symbol(symbol: object) -> bool:
    return isinstance(symbol, str) and 0 < len(symbol) <= 64


def _number_faults(config: Config) -> list[str]:
    faults = []
    for name, value, least in (
        ("venue.batch", config.venue.batch, 0),
        ("venue.place_expiry_ms", config.venue.place_expiry_ms, 0),
        ("sweep.lease_wait_ms", config.sweep.lease_wait_ms, 0),
        ("sweep.deadline_ms", config.sweep.deadline_ms, 1),
        ("sweep.base_ms", config.sweep.base_ms, 1),
        ("sweep.cap_ms", config.sweep.cap_ms, 1),
        ("sweep.attempts", config.sweep.attempts, 1),
        ("sweep.empty_snapshots", config.sweep.empty_snapshots, 1),
        ("store.lease_ttl_ms", config.store.lease_ttl_ms, 1),
        ("store.lease_renew_ms", config.store.lease_renew_ms, 1),
        ("store.latch_poll_ms", config.store.latch_poll_ms, 1),
        ("seed", config.seed, -MAX_NUMBER),
        ("evidence_ms", config.evidence_ms, 1),
        ("venue_lost_ms", config.venue_lost_ms, 1),
    ):
        if not _is_whole(value):
            faults.append(f"{name}: {value!r} is a {type(value).__name__}; give a whole number")
        elif value < least:
            faults.append(f"{name}: {value} is below {least}")
        elif value > (most := MAX_MS if name.endswith("_ms") else MAX_NUMBER):
            faults.append(f"{name}: above {most}")
    if not faults and config.store.lease_renew_ms >= config.store.lease_ttl_ms:
        faults.append(
            f"store.lease_renew_ms: {config.store.lease_renew_ms} is not below store.lease_ttl_ms, {config.store.lease_ttl_ms}; "
            "a lease has to be renewed before it runs out"
        )
    return faults
