"""What an operator decides beforehand. The whole of it stands in the first event of a log, so a log explains itself.

Times are in milliseconds, because people write them; amounts are exact numbers (see ``haltcore.effects.values``).
``Config`` validates itself: a configuration that exists is a configuration that can run.
"""

from collections import Counter
from collections.abc import Callable, Container, Iterable
from enum import StrEnum

from attrs import frozen

from ..effects import is_session_tag
from .limit_faults import (
    count_faults,
    flag_faults,
    is_name,
    is_whole,
    minute_faults,
    not_a,
    rate_faults,
    rule_faults,
    says_nothing,
    shown,
    time_faults,
)
from .limits import MAX_MS, MAX_NUMBER, MAX_RULES, NO_LIMITS, LimitRule, Limits, Rate

#: A book's key holds both numbers (``exposure.book_key``).
MAX_SYMBOLS, MAX_STRATEGIES = 2**16, 2**15
#: How many failures and probes a breaker remembers at most.
MAX_MARKS = 1_000
#: How the scopes are called that are no symbols.
VENUE_SCOPE, STRATEGY_SCOPE = "venue", "strategy:"


class ForeignPolicy(StrEnum):
    """Whose orders a freeze may cancel.

    CANCEL: the account is ours alone; whatever is open goes, and cancel-all calls may be used. LEAVE: others trade on the
    account; only orders of this session are cancelled, one by one or in batches, since a cancel-all call would take theirs too.
    """

    CANCEL = "cancel"
    LEAVE = "leave"


class ConfigRefused(ValueError):
    """A configuration that cannot run. The text lists every fault as ``path: what is wrong; what to give``, and ``problems`` has them one
    by one."""

    def __init__(self, text: str, problems: Iterable[str] = ()) -> None:
        super().__init__(text)
        self.problems = tuple(problems)


class FreezeClass(StrEnum):
    """What kind of reason a freeze has. Which trigger is of which class stands in ``fsm/triggers.py``."""

    NETWORK = "network"
    EDGE = "edge"
    POSITION = "position"
    MANUAL = "manual"
    INTERNAL = "internal"


#: Reasons that may pass by themselves. The others need a person: a loss does not heal, and what a person froze a person lifts.
TRANSIENT = (FreezeClass.NETWORK, FreezeClass.EDGE)


@frozen
class CoolDown:
    """Lift freezes of a transient class without a person, once proven and after a wait.

    The wait is ``wait_ms``, doubled with every freeze of the class in the same scope, up to ``cap_ms``. After ``repeats`` of them it
    is a person's turn (escalation). A scope that was not frozen by this class for ``memory_ms`` begins anew.
    """

    kind: FreezeClass
    wait_ms: int
    cap_ms: int
    repeats: int = 3
    memory_ms: int = 3_600_000


@frozen
class Triggers:
    """What freezes besides limits; None and False switch a trigger off.

    ``reject_storm``: more refusals by the venue than that. ``clock_jump_ms``: a clock that steps by more. ``breaker_open``: the breaker
    of any kind of job opens. ``cool_downs`` holds at most one per class; without one only a person unfreezes.
    """

    reject_storm: Rate | None = None
    clock_jump_ms: int | None = None
    breaker_open: bool = False
    cool_downs: tuple[CoolDown, ...] = ()


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


class StoreCheck(StrEnum):
    """What follows when the store is found unfit to coordinate (it may evict keys, keeps nothing over a restart, ...). OFF: nobody looks.
    WARN: people are told. STRICT: besides, nothing is placed.
    """

    OFF = "off"
    WARN = "warn"
    STRICT = "strict"


@frozen
class StorePolicy:
    """The coordination store. ``configured`` False means: one process, no store, nothing is asked of it.

    A store that is configured but fails is another world: then nothing is placed; what exactly stands in ``fsm/degraded.py``.
    ``lease_cap_ms``: how long one sweep may hold the lease at a stretch, renewals included. ``guard``: every place and replace is claimed
    in the store before it is sent, and may leave for ``claim_ms`` from then, by this process's own clock; the store keeps the claim for
    ``guard_ttl_ms``.
    """

    configured: bool = False
    lease_ttl_ms: int = 30_000
    lease_renew_ms: int = 10_000
    latch_poll_ms: int = 1_000
    lease_cap_ms: int = 300_000
    guard: bool = True
    claim_ms: int = 2_000
    guard_ttl_ms: int = 259_200_000
    check: StoreCheck = StoreCheck.WARN


@frozen
class BreakerPolicy:
    """The circuit breaker of one kind of job. ``failures`` within ``window_ms`` open it; after ``open_ms`` it lets ``probes`` through, and
    closes when one of them succeeds. ``open_ms`` 0: only a person closes it.
    """

    failures: int = 10
    window_ms: int = 300_000
    open_ms: int = 60_000
    probes: int = 3


@frozen
class Config:
    """Everything that decisions depend on besides events.

    ``session`` is the tag that client order ids begin with: 7 characters, a letter, then lower-case letters and digits, never used
    before on the account. ``seed`` feeds the jitter. ``evidence_ms``: how long after an acknowledged request its report may stay
    away before the order is asked for. ``venue_lost_ms``: how long the venue link may be down before the venue freezes.

    ``limits`` are the account's, ``rules`` those of symbols, strategies, windows and bands. When ``strategies`` are named, each order
    names one of them, and each has books of its own; without, orders may name any and nothing is kept per strategy. A
    restart may add symbols and strategies at the end, a strategy only while no open order names it. ``restricted`` symbols
    begin on the restricted list. ``two_persons``: an override needs a second one, and a change of limits may only tighten.
    ``attribution``: every order names strategy, trader and client.
    ``day_roll_minute``: when the trading day begins, in minutes after midnight UTC. ``breaker``: that of placing; None is none.
    """

    session: str
    symbols: tuple[str, ...]
    limits: Limits = NO_LIMITS
    venue: VenueTraits = VenueTraits()
    sweep: SweepPolicy = SweepPolicy()
    store: StorePolicy = StorePolicy()
    seed: int = 0
    evidence_ms: int = 1_000
    venue_lost_ms: int = 5_000
    rules: tuple[LimitRule, ...] = ()
    strategies: tuple[str, ...] = ()
    restricted: tuple[str, ...] = ()
    triggers: Triggers = Triggers()
    two_persons: bool = False
    attribution: bool = False
    day_roll_minute: int = 0
    breaker: BreakerPolicy | None = None

    def __attrs_post_init__(self) -> None:
        faults = config_faults(self)
        if faults:
            raise ConfigRefused("the configuration cannot run:\n  " + "\n  ".join(faults), faults)


def config_faults(config: Config) -> list[str]:
    """Every fault, each as ``path: what is wrong; what to give``."""
    session: object = config.session
    faults = []
    if not isinstance(session, str) or not is_session_tag(session):
        faults.append(f"session: {shown(session)} is no tag; give 7 characters, a letter first, then lower-case letters and digits")
    symbols = _names_faults("symbols", config.symbols, MAX_SYMBOLS, _is_symbol, "BTCUSDT", 1)
    strategies = _names_faults("strategies", config.strategies, MAX_STRATEGIES, is_name, "mm")
    known = None if symbols else dict.fromkeys(config.symbols)
    faults += symbols + strategies
    faults += _rules_faults(config.limits, config.rules, known, None if strategies else dict.fromkeys(config.strategies))
    faults += _names_faults("restricted", config.restricted, MAX_SYMBOLS, _is_symbol, "BTCUSDT")
    if isinstance(config.restricted, tuple) and known is not None:
        faults += [
            f"restricted: {symbol!r} is not among the symbols; name it there too"
            for symbol in config.restricted if _is_symbol(symbol) and symbol not in known
        ]  # fmt: skip
    return faults + _part_faults(config) + _trigger_faults(config.triggers) + _field_faults(config, "", _FIELDS)


# --- names and limits -----------------------------------------------------------------------------------------------


def _names_faults(path: str, names: object, most: int, fits: Callable[[object], bool], example: str, least: int = 0) -> list[str]:
    if not isinstance(names, tuple):
        return [f"{path}: {shown(names)} is a {type(names).__name__}; give a tuple, such as (\"{example}\",)"]
    if not least <= len(names) <= most:
        return [f"{path}: {len(names)} of them; name {least} to {most}, such as {example}"]
    reserved = f", and neither \"{VENUE_SCOPE}\" nor \"{STRATEGY_SCOPE}...\"" if fits is _is_symbol else ""
    faults = [f"{path}: {shown(name)} is no name; give printable text of 1 to 64 characters{reserved}" for name in names if not fits(name)]
    if not faults and len(times := Counter(names)) != len(names):
        faults += [f"{path}: {name!r} is named twice; name it once" for name, count in times.items() if count > 1]
    return faults


def _is_symbol(symbol: object) -> bool:
    """A text that is no other scope's name."""
    return is_name(symbol) and symbol != VENUE_SCOPE and not symbol.startswith(STRATEGY_SCOPE)


def _rules_faults(limits: object, rules: object, symbols: Container[str] | None, strategies: Container[str] | None) -> list[str]:
    faults = rule_faults(LimitRule(limits), "limits", symbols, strategies)  # type: ignore[arg-type]  # whatever it is, it is looked at
    if not isinstance(rules, tuple):
        return [*faults, f"rules: {shown(rules)} is a {type(rules).__name__}; give a tuple of LimitRule"]
    if len(rules) >= MAX_RULES:
        return [*faults, f"rules: {len(rules)}; give at most {MAX_RULES - 1}, since every order looks at all of them"]
    seen = {LimitRule(NO_LIMITS).conditions: "limits"}
    for number, rule in enumerate(rules):
        where = f"rules[{number}]"
        found = rule_faults(rule, where, symbols, strategies)
        if not found:
            if says_nothing(rule.limits):
                found.append(f"{where}.limits: there is no figure in it; give one, or leave the rule out")
            if rule.conditions in seen:
                found.append(f"{where}: {seen[rule.conditions]} is for {rule.label} too; give one rule all its figures")
            seen[rule.conditions] = where
        faults += found
    return faults


# --- the rest -------------------------------------------------------------------------------------------------------

#: What each whole number must at least be; those in milliseconds are at most a year.
_LEAST = {
    "venue": {"batch": 0, "place_expiry_ms": 0},
    "sweep": {"lease_wait_ms": 0, "deadline_ms": 1, "base_ms": 1, "cap_ms": 1, "attempts": 1, "empty_snapshots": 1},
    "store": {
        "lease_ttl_ms": 1, "lease_renew_ms": 1, "latch_poll_ms": 1, "lease_cap_ms": 1, "claim_ms": 1, "guard_ttl_ms": 1,
    },
    "breaker": {"failures": 1, "window_ms": 1, "open_ms": 0, "probes": 1},
}  # fmt: skip
_FLAGS = {"venue": ("cancel_all", "conditional"), "sweep": (), "store": ("configured", "guard")}
_FIELDS = {"seed": -MAX_NUMBER, "evidence_ms": 1, "venue_lost_ms": 1}


def _part_faults(config: Config) -> list[str]:
    faults = []
    for path, kind in (("venue", VenueTraits), ("sweep", SweepPolicy), ("store", StorePolicy)):
        part: object = getattr(config, path)
        if not isinstance(part, kind):
            faults.append(f"{path}: {not_a(part, kind.__name__, '...')}")
            continue
        found = _field_faults(part, path + ".", _LEAST[path])
        found += [f"{path}.{name}: {text}" for name in _FLAGS[path] for text in flag_faults(getattr(part, name))]
        if isinstance(part, SweepPolicy) and type(part.foreign) is not ForeignPolicy:
            # Its text would compare equal to it, and yet not be it.
            found.append(f"sweep.foreign: {shown(part.foreign)} is no policy; give ForeignPolicy.CANCEL or ForeignPolicy.LEAVE")
        if isinstance(part, StorePolicy):
            found += _store_faults(part, bool(found))
        faults += found
    faults += _breaker_faults(config.breaker)
    faults += [f"{name}: {text}" for name in ("two_persons", "attribution") for text in flag_faults(getattr(config, name))]
    return faults + [f"day_roll_minute: {text}" for text in minute_faults(config.day_roll_minute)]


def _store_faults(part: StorePolicy, faulty: bool) -> list[str]:
    faults = []
    if type(part.check) is not StoreCheck:
        faults.append(f"store.check: {shown(part.check)} is no policy; give StoreCheck.OFF, StoreCheck.WARN or StoreCheck.STRICT")
    if faulty:
        return faults
    if part.lease_renew_ms >= part.lease_ttl_ms:
        faults.append(
            f"store.lease_renew_ms: {part.lease_renew_ms} is not below store.lease_ttl_ms, {part.lease_ttl_ms}; "
            "give less, since a lease has to be renewed before it runs out"
        )
    if part.lease_cap_ms < part.lease_ttl_ms:
        faults.append(f"store.lease_cap_ms: {part.lease_cap_ms} is below store.lease_ttl_ms, {part.lease_ttl_ms}; give that or more")
    if part.claim_ms > part.guard_ttl_ms:
        faults.append(f"store.claim_ms: {part.claim_ms} is above store.guard_ttl_ms, {part.guard_ttl_ms}; give that or less")
    return faults


def _breaker_faults(breaker: object) -> list[str]:
    if breaker is None:
        return []
    if not isinstance(breaker, BreakerPolicy):
        return [f"breaker: {not_a(breaker, 'BreakerPolicy', '')}"]
    faults = _field_faults(breaker, "breaker.", _LEAST["breaker"])
    return faults or [
        f"breaker.{name}: {count} is out of range; give 1 to {MAX_MARKS}, since each of them is kept and shared"
        for name, count in (("failures", breaker.failures), ("probes", breaker.probes)) if count > MAX_MARKS
    ]  # fmt: skip


def _field_faults(part: object, prefix: str, fields: dict[str, int]) -> list[str]:
    faults = []
    for name, least in fields.items():
        value: object = getattr(part, name)
        most = MAX_MS if name.endswith("_ms") else MAX_NUMBER
        if not is_whole(value):
            faults.append(f"{prefix}{name}: {shown(value)} is a {type(value).__name__}; give a whole number")
        elif not least <= value <= most:
            faults.append(f"{prefix}{name}: {shown(value)} is out of range; give {least} to {most}")
    return faults


def _trigger_faults(triggers: object) -> list[str]:
    if not isinstance(triggers, Triggers):
        return [f"triggers: {not_a(triggers, 'Triggers', '...')}"]
    faults = []
    if triggers.reject_storm is not None:
        faults += [f"triggers.reject_storm: {text}" for text in rate_faults(triggers.reject_storm)]
    if triggers.clock_jump_ms is not None:
        faults += [f"triggers.clock_jump_ms: {text}" for text in time_faults(triggers.clock_jump_ms)]
    faults += [f"triggers.breaker_open: {text}" for text in flag_faults(triggers.breaker_open)]
    cool_downs: object = triggers.cool_downs
    if not isinstance(cool_downs, tuple):
        return [*faults, f"triggers.cool_downs: {shown(cool_downs)} is a {type(cool_downs).__name__}; give a tuple of CoolDown"]
    seen: list[FreezeClass] = []
    for number, cool in enumerate(cool_downs):
        faults += _cool_down_faults(cool, f"triggers.cool_downs[{number}]", seen)
    return faults


def _cool_down_faults(cool: object, where: str, seen: list[FreezeClass]) -> list[str]:
    if not isinstance(cool, CoolDown):
        return [f"{where}: {not_a(cool, 'CoolDown', 'FreezeClass.NETWORK, 60_000, 600_000')}"]
    faults = []
    if type(cool.kind) is not FreezeClass or cool.kind not in TRANSIENT:
        allowed = " or ".join(f"FreezeClass.{kind.name}" for kind in TRANSIENT)
        faults.append(f"{where}.kind: {shown(cool.kind)} is no class of reasons that may pass by themselves; give {allowed}")
    elif cool.kind in seen:
        faults.append(f"{where}.kind: the class {cool.kind.value} has a cool-down already; give it one")
    seen.append(cool.kind)
    times = [f"{where}.{name}: {text}" for name in ("wait_ms", "cap_ms", "memory_ms") for text in time_faults(getattr(cool, name))]
    if not times and cool.cap_ms < cool.wait_ms:
        times.append(f"{where}.cap_ms: {cool.cap_ms} is below wait_ms, {cool.wait_ms}; give that or more")
    return [*faults, *times, *(f"{where}.repeats: {text}" for text in count_faults(cool.repeats))]
