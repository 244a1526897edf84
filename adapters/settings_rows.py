"""Which keys may stand where in a file of settings: what each means and how it is written. What the sections mean stands in
``settings_guide.py``, how they are read in ``settings.py``."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final

import attrs

from ..fsm.config import BreakerPolicy, StorePolicy, SweepPolicy, VenueTraits
from ..fsm.limits import FIGURES
from . import settings_values as kinds
from .redis_url import ACCOUNT_FORM
from .settings_file import Key
from .settings_store import URL_FORM, account, store_url

_MS = "a whole number of milliseconds"
_RATE = 'so many in a time, such as "100/1s"; units are ms, s, m and h'
_CLOCK = "hours and minutes UTC, in quotes"
_FLAG = "true or false"
_TERM = "an exact number, in quotes unless it is whole; 0 is none"

TOP: Final = (
    Key(
        "session", kinds.text, "7 characters: a letter, then lower-case letters and digits", '"mm00001"',
        "what client order ids begin with; never used before on the account. Better left out: then every new session draws its own",
    ),
    Key(
        "symbols", kinds.texts, "an array of the symbols that are traded, 1 to 64 characters each", '["BTCUSDT", "ETHUSDT"]',
        "what is traded; no other key has to be there",
    ),
    Key(
        "strategies", kinds.texts, "an array of names", '["mm"]',
        "each order names one of them, and each has books, limits and freezes of its own; without, nothing is kept per strategy",
    ),
    Key("restricted", kinds.texts, "an array of symbols", '["ETHUSDT"]', "the symbols that begin on the restricted list"),
    Key("two_persons", kinds.flag, _FLAG, "true", "an override needs a second person, and a change may only tighten"),
    Key("attribution", kinds.flag, _FLAG, "true", "every order has to name strategy, trader and client"),
    Key("day_roll", kinds.clock, _CLOCK, '"00:00"', "when the trading day begins, UTC"),
    Key("evidence_ms", kinds.whole, _MS, "1000", "an acknowledged request whose report stays away for longer is asked for"),
    Key("venue_lost_ms", kinds.whole, _MS, "5000", "the venue freezes when its link is down for longer"),
    Key("seed", kinds.whole, "a whole number", "0", "feeds the jitter of waits"),
)  # fmt: skip
SECTIONS: Final = ("limits", "triggers", "venue", "sweep", "store", "breaker", "instrument")


def _figure_key(name: str, example: str, meaning: str) -> Key:
    """The row of a limit. Most are amounts."""
    if name == "prevent_self_match":
        return Key(name, kinds.flag, _FLAG, example, meaning)
    read: Callable[[Any], Any] = kinds.amount
    expected = "an exact number above 0, in quotes unless it is whole"
    if name == "edge_freeze_threshold_bps":
        read, expected = kinds.exact, "an exact number of basis points, in quotes unless it is whole"
    elif name == "max_open_orders":
        read, expected = kinds.whole, "a whole number above 0"
    elif name.endswith("_ms"):
        read, expected = kinds.whole, f"{_MS} above 0"
    elif name.endswith("_rate"):
        read, expected = kinds.rate, _RATE
    return Key(name, kinds.optional(read), f'{expected}, or "none"', example if example.isdigit() else f'"{example}"', meaning)


def _default_key(name: str, default: Any, meaning: str) -> Key:
    """The row of a field that is best explained by its default."""
    if isinstance(default, bool):
        return Key(name, kinds.flag, _FLAG, "false" if default else "true", meaning)
    if isinstance(default, StrEnum):
        return Key(name, kinds.choice(type(default)), " or ".join(f'"{member}"' for member in type(default)), f'"{default}"', meaning)
    return Key(name, kinds.whole, _MS if name.endswith("_ms") else "a whole number", str(default), meaning)


def _default_keys(kind: type[VenueTraits | SweepPolicy | StorePolicy | BreakerPolicy], **meanings: str) -> tuple[Key, ...]:
    return tuple(_default_key(field.name, field.default, meanings[field.name]) for field in attrs.fields(kind))


FIGURE_KEYS: Final = tuple(_figure_key(figure.name, figure.example, figure.bounds) for figure in FIGURES)
WINDOW: Final = (
    Key("from", kinds.clock, _CLOCK, '"22:00"', "when the window begins"),
    Key("to", kinds.clock, _CLOCK, '"06:00"', "when it ends; before `from`, it goes over midnight"),
    Key("symbol", kinds.name, "one of the symbols", '"BTCUSDT"', "for orders in this symbol"),
    Key("strategy", kinds.name, "one of the strategies", '"mm"', "for orders of this strategy"),
    Key("band", kinds.name, "the name of a volatility band", '"high"', "while the market is in this volatility band"),
)
CONDITIONS: Final = ("strategy", "symbol", "band")
TRIGGERS: Final = (
    Key(
        "reject_storm", kinds.optional(kinds.rate), f'{_RATE}, or "none"', '"10/60s"', "more refusals by the venue than that freeze",
    ),
    Key("clock_jump_ms", kinds.optional(kinds.whole), f'{_MS} above 0, or "none"', "500", "a clock that steps by more freezes"),
    Key("breaker_open", kinds.flag, _FLAG, "true", "the circuit breaker of any kind of job freezes when it opens"),
)  # fmt: skip
COOL_DOWN: Final = (
    Key("wait_ms", kinds.whole, f"{_MS} above 0", "5000", "lifted so long after the proof; doubled with every freeze of the class"),
    Key("cap_ms", kinds.whole, f"{_MS} above 0", "60000", "the longest such wait"),
    Key("repeats", kinds.whole, "a whole number above 0", "3", "after so many it is a person's turn"),
    Key("memory_ms", kinds.whole, f"{_MS} above 0", "3600000", "after so long without such a freeze the count begins anew"),
)
VENUE: Final = _default_keys(
    VenueTraits,
    cancel_all="it has a cancel-all call per symbol",
    conditional="stop orders rest in a book of their own, with a list and a cancel-all of its own",
    batch="how many orders one batch cancel takes; below 2 there is none",
    place_expiry_ms="how long after sending a request can still be applied; only then does \"not found\" say that it never arrived",
)
SWEEP: Final = _default_keys(
    SweepPolicy,
    lease_wait_ms="the longest wait for the lease",
    deadline_ms="after that the sweep is reported as not successful, and goes on at the pace of `cap_ms`",
    base_ms="a failed round is followed by a wait of 0 to this, to twice as much with each further one",
    cap_ms="the longest such wait",
    attempts="after so many failed rounds, too, the sweep is reported as not successful",
    empty_snapshots="how many empty lists in a row prove that nothing is open",
    foreign="orders of others on the account: cancel them too, or leave them alone",
)
#: Where the store is: for whoever connects, no part of the configuration.
STORE_PLACE: Final = (
    Key(
        "url", store_url, URL_FORM, '"redis://:${REDIS_PASSWORD}@127.0.0.1:6379/0"',
        "where the store is; `HALTCORE_STORE_URL` in the environment holds instead of it. No part of the configuration in the log",
    ),
    Key("account", account, ACCOUNT_FORM, '"main"', "what the processes share: the same name in all of them, another for another account"),
)  # fmt: skip
STORE: Final = _default_keys(
    StorePolicy,
    configured="whether there is a coordination store; has to be said where anything else of the store is",
    lease_ttl_ms="how long a lease holds",
    lease_renew_ms="how often it is renewed; below `lease_ttl_ms`",
    latch_poll_ms="how often the freezes of other processes are looked for",
    lease_cap_ms="the longest that one sweep may hold the lease at a stretch",
    guard="every place and replace is claimed in the store before it is sent",
    claim_ms="how long after that it may leave",
    guard_ttl_ms="how long the store keeps such a claim",
    check="whether the store is looked at before it is trusted: not at all, with a warning, or nothing is placed while it is unfit",
)
BREAKER: Final = _default_keys(
    BreakerPolicy,
    failures="so many placements that fail or stay in doubt open the breaker,",
    window_ms="when they lie within this time",
    open_ms="so long nothing is placed; then a few probes are; 0: only a person closes it",
    probes="how many those are; one that succeeds closes it",
)
INSTRUMENT: Final = (
    Key("tick", kinds.term, _TERM, '"0.1"', "prices are multiples of it"),
    Key("lot", kinds.term, _TERM, '"0.001"', "quantities are multiples of it"),
    Key("min_qty", kinds.term, _TERM, '"0.001"', "the least quantity of an order"),
    Key("max_qty", kinds.term, _TERM, "1000", "the largest quantity of an order"),
    Key("min_notional", kinds.term, _TERM, "100", "the least value of an order that is not reduce-only"),
    Key(
        "multiplier", kinds.amount, "an exact number above 0, in quotes unless it is whole", "1",
        "one contract is so many units of the base currency, or of quote money if it is inverse",
    ),
    Key("inverse", kinds.flag, _FLAG, "true", "a contract is worth its multiplier whatever the price; else it is linear"),
)  # fmt: skip

#: The rows by where they stand; sections of rules and instruments by their first name.
ROWS: Final[Mapping[str, tuple[Key, ...]]] = {
    "": TOP, "limits": (*FIGURE_KEYS, *WINDOW), "triggers": (*TRIGGERS, *COOL_DOWN), "venue": VENUE, "sweep": SWEEP,
    "store": (*STORE_PLACE, *STORE), "breaker": BREAKER, "instrument": INSTRUMENT,
}  # fmt: skip
HOMES: Final[Mapping[str, str]] = {
    **{key.name: "in [instrument.SYMBOL]" for key in INSTRUMENT},
    **{key.name: "in [triggers.cool_down.network] or [triggers.cool_down.edge]" for key in COOL_DOWN},
    **{key.name: f"in [{name}]" for name in ("sweep", "store", "breaker", "venue") for key in ROWS[name]},
    **{key.name: "in [triggers]" for key in TRIGGERS},
    **{key.name: "in [limits]" for key in FIGURE_KEYS},
    **{key.name: "in a [[limits.window]]" for key in WINDOW},
    **{key.name: "at the top of the file, before the first [section]" for key in TOP},
    **{name: f"at the top level, as [{name}]" for name in SECTIONS},
    "cool_down": "in [triggers]",
    "cap_ms": "in [triggers.cool_down.network], [triggers.cool_down.edge] or [sweep]",
}
