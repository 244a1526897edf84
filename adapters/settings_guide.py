"""The language of the settings file, for people: its sections with all their keys, and one file that has everything.

The keys, their meanings and forms are those that files are read by (``settings_rows.py``), the defaults those of the classes in ``fsm/``;
nothing is said twice. ``PARTS`` becomes ``spec/settings.md``, :func:`example` stands there too and is what ``haltcore check-config
--example`` prints.

The example can run as it is. Where a key has a default that does something, the example gives that; limits, triggers and instruments,
which are off by default, have the examples of their rows.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

import attrs
from attrs import frozen

from ..fsm.config import BreakerPolicy, Config, CoolDown, StorePolicy, SweepPolicy, Triggers, VenueTraits
from ..fsm.instrument import Instrument
from ..fsm.limits import Limits
from .settings_file import Key
from .settings_rows import BREAKER, COOL_DOWN, FIGURE_KEYS, INSTRUMENT, STORE, STORE_PLACE, SWEEP, TOP, TRIGGERS, VENUE, WINDOW
from .settings_values import amount_text, clock_text, quoted


@frozen
class Part:
    """A kind of section. ``defaults`` are values as TOML has them, or words; a key without one has to be given."""

    title: str
    about: str
    keys: tuple[Key, ...]
    defaults: Mapping[str, str]


def _defaults(kind: type[Any], keys: Sequence[Key], **words: str) -> dict[str, str]:
    """The defaults of a class as TOML has them."""
    fields = attrs.fields_dict(kind)
    values = {key.name: fields["day_roll_minute" if key.name == "day_roll" else key.name].default for key in keys}
    return {name: _text(kind, name, value) for name, value in values.items() if value is not attrs.NOTHING} | words


def _text(kind: type[Any], name: str, value: Any) -> str:
    if value is None:
        return '"none"'
    if value == ():
        return "[]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, StrEnum) or name == "day_roll":
        return quoted(value if isinstance(value, str) else clock_text(value))
    return amount_text(value) if kind is Instrument else str(value)


_LIMITS = """The figures of the account, for one process: each counts its own orders, so N processes may come to N times a figure. Left out,
or "none", is no limit. The same keys stand in rules: [limits.symbol.NAME], [limits.strategy.NAME], [limits.band.NAME], and several
of these together in the order strategy, symbol, band, such as
[limits.strategy.mm.symbol.BTCUSDT.band.high]; in which rules a figure has a meaning stands in `risk.md`. Of several rules that hold for an
order each has to be kept; only a rule for the symbol alone replaces the account's figure, upwards too, where `risk.md` says so."""
_WINDOW = """A rule for a time of day, every day; one such section for each. It has the figures of [limits] besides these keys, and names in
itself what else it is for. It can only tighten."""
_COOL_DOWN = """Lift freezes without a person, once proven and after a wait; NAME is `network` or `edge`, the classes of reasons that may
pass by themselves. Without the section only a person unfreezes."""
_STORE = """The store by which several processes of one account agree. `url` and `account` say where it is, for whoever connects."""
_BREAKER = """The circuit breaker of placing: it holds placements back while the venue fails, never a cancel. Without the section there is
none; a section without keys is one with these defaults."""

PARTS: Final = (
    Part("The top of the file", "Before the first section.", TOP, _defaults(Config, TOP, session="drawn anew for each session")),
    Part("[limits]", _LIMITS, FIGURE_KEYS, _defaults(Limits, FIGURE_KEYS)),
    Part("[[limits.window]]", _WINDOW, WINDOW, dict.fromkeys(("symbol", "strategy", "band"), "any")),
    Part("[triggers]", "What freezes besides limits.", TRIGGERS, _defaults(Triggers, TRIGGERS)),
    Part("[triggers.cool_down.NAME]", _COOL_DOWN, COOL_DOWN, _defaults(CoolDown, COOL_DOWN)),
    Part("[venue]", "What the venue can do.", VENUE, _defaults(VenueTraits, VENUE)),
    Part("[sweep]", "How hard and how long a cancel-all tries.", SWEEP, _defaults(SweepPolicy, SWEEP)),
    Part("[store]", _STORE, (*STORE_PLACE, *STORE), dict.fromkeys(("url", "account"), '""') | _defaults(StorePolicy, STORE)),
    Part("[breaker]", _BREAKER, BREAKER, _defaults(BreakerPolicy, BREAKER)),
    Part(
        "[instrument.NAME]", "The venue's terms for a symbol; 0 is no such term. They go into the log as events.", INSTRUMENT,
        _defaults(Instrument, INSTRUMENT),
    ),
)  # fmt: skip

# --- the example ------------------------------------------------------------------------------------------------------

_HEAD = """A file of settings that has every section and every key. Only `symbols` has to be there; whatever else you leave out has its
default. The figures are examples, not advice. `haltcore check-config FILE` says what is wrong with yours. Nothing secret stands in it."""
_WIDTH, _COLUMN = 120, 36


_PART: Final = {part.title: part for part in PARTS}


def _shown(keys: Sequence[Key], **other: str) -> dict[str, str]:
    """Each key with its example."""
    return {key.name: key.example for key in keys} | other


def _usual(title: str) -> tuple[str, str, tuple[Key, ...], Mapping[str, str]]:
    """A block of a section whose keys all have their defaults."""
    part = _PART[title]
    return title, part.about, part.keys, {key.name: part.defaults[key.name] for key in part.keys}


_NAMES: Final = _shown(TOP[:3])
#: Header, what it is, the rows of its keys, and the keys with their values.
_BLOCKS: Final[tuple[tuple[str, str, tuple[Key, ...], Mapping[str, str]], ...]] = (
    ("", "", TOP, _NAMES | {key.name: PARTS[0].defaults[key.name] for key in TOP if key.name not in _NAMES}),
    ("[limits]", "The account's limits.", FIGURE_KEYS, _shown(FIGURE_KEYS)),
    ("[limits.symbol.BTCUSDT]", "For one symbol; this replaces the account's 10000, upwards too.", (), {"max_inventory_usd": "20000"}),
    ("[limits.strategy.mm]", "For one strategy.", (), {"max_drawdown": "300", "execution_rate": '"20/1m"'}),
    ("[limits.band.high]", "While the market is in one volatility band; the bot says which it is in.", (), {"max_order_value": "1000"}),
    (
        "[limits.strategy.mm.symbol.BTCUSDT.band.high]", "Any of them together, in this order.", (),
        {"max_order_qty": '"0.5"', "max_open_orders": "10"},
    ),
    (
        "[[limits.window]]", "At a time of day, UTC; as many of these as you like. symbol, strategy and band may be left out.",
        WINDOW, _shown(WINDOW, max_order_value="500"),
    ),
    ("[triggers]", _PART["[triggers]"].about, TRIGGERS, _shown(TRIGGERS)),
    ("[triggers.cool_down.network]", "Lifts what a network fault froze, without a person, once proven.", COOL_DOWN, _shown(COOL_DOWN)),
    ("[triggers.cool_down.edge]", "The same after a collapse of the edge.", (), {"wait_ms": "60000", "cap_ms": "600000"}),
    _usual("[venue]"),
    _usual("[sweep]"),
    ("[store]", _STORE, (*STORE_PLACE, *STORE), _shown(STORE_PLACE) | {key.name: _PART["[store]"].defaults[key.name] for key in STORE}),
    ("[breaker]", "Holds placements back while the venue fails, never a cancel; without this section there is none.", BREAKER,
     _PART["[breaker]"].defaults),
    ("[instrument.BTCUSDT]", _PART["[instrument.NAME]"].about, INSTRUMENT, _shown(INSTRUMENT, inverse="false")),
)  # fmt: skip


def example() -> str:
    """The file that has everything, with comments."""
    lines = textwrap.wrap(_HEAD.replace("\n", " "), _WIDTH, initial_indent="# ", subsequent_indent="# ")
    for header, about, keys, values in _BLOCKS:
        meanings = {key.name: key.meaning for key in keys}
        lines += ["", f"# {about}", header] if header else [""]
        for name, value in values.items():
            # A tag that was copied would be one that somebody else has used.
            lines += _commented(f"# {name} = {value}" if name == "session" else f"{name} = {value}", meanings.get(name, ""))
    return "\n".join(lines) + "\n"


def _commented(text: str, comment: str) -> Iterator[str]:
    """A line with a comment, which goes on in the lines below it."""
    column = max(_COLUMN, len(text))
    first, *others = textwrap.wrap(comment, _WIDTH - column - 4) or [""]
    yield f"{text:{column}}  # {first}" if first else text
    yield from (f"{'':{column}}  # {other}" for other in others)
