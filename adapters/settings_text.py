"""A configuration as the TOML text that it could have been read from: ``parse(to_toml(config)) == config``.

Everything is written, defaults too, so that the text is the *effective* configuration. Only limits and triggers that are off have no line.
"""

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import attrs

from ..fsm.config import Config, Triggers
from ..fsm.instrument import Instrument
from ..fsm.limits import FIGURES, NO_LIMITS, LimitRule, Limits, Rate, rate_text
from .settings_values import amount_text, clock_text, name_text, quoted

_NOTHING: Mapping[str, Instrument] = MappingProxyType({})
_NOWHERE: Mapping[str, str] = MappingProxyType({})


def to_toml(
    config: Config, instruments: Mapping[str, Instrument] = _NOTHING, session: bool = True, store: Mapping[str, str] = _NOWHERE
) -> str:
    """The text. ``session`` False leaves the session out, so that every new one draws its own. ``store`` is where the store is, by key."""
    lines = [f"session = {quoted(config.session)}"] if session else []
    lines += [f"{name} = [{', '.join(map(quoted, getattr(config, name)))}]" for name in ("symbols", "strategies", "restricted")]
    lines += _plain(config, ("two_persons", "attribution"))
    lines += [f"day_roll = {quoted(clock_text(config.day_roll_minute))}"]
    lines += _plain(config, ("evidence_ms", "venue_lost_ms", "seed"))
    for rule in (LimitRule(config.limits), *config.rules):
        lines += ["", *_rule(rule)]
    lines += ["", *_triggers(config.triggers)]
    for name in ("venue", "sweep", "store", "breaker"):
        group = getattr(config, name)
        if group is None:
            continue
        place = [f"{key} = {quoted(text)}" for key, text in store.items() if text] if name == "store" else []
        lines += ["", f"[{name}]", *place, *_plain(group, [field.name for field in attrs.fields(type(group))])]
    for symbol, instrument in instruments.items():
        lines += ["", f"[instrument.{name_text(symbol)}]"]
        lines += [f"{name} = {amount_text(getattr(instrument, name))}" for name in _TERMS]
        lines += _plain(instrument, ("inverse",))
    return "\n".join(lines) + "\n"


_TERMS = ("tick", "lot", "min_qty", "max_qty", "min_notional", "multiplier")


def figure_lines(limits: Limits) -> Iterator[tuple[str, str]]:
    """Each figure that is not off, with its value as TOML has it."""
    for figure in FIGURES:
        value = getattr(limits, figure.name)
        if value != getattr(NO_LIMITS, figure.name):
            yield figure.name, _figure(figure.name, value)


def _figure(name: str, value: Any) -> str:
    if isinstance(value, Rate):
        return quoted(rate_text(value))
    return _text(value) if isinstance(value, bool) or name == "max_open_orders" or name.endswith("_ms") else amount_text(value)


def _rule(rule: LimitRule) -> Iterator[str]:
    names = {kind: getattr(rule, kind) for kind in ("strategy", "symbol", "band") if getattr(rule, kind)}
    if rule.from_minute == rule.to_minute:
        yield "[" + ".".join(["limits", *(f"{kind}.{name_text(name)}" for kind, name in names.items())]) + "]"
    else:
        yield "[[limits.window]]"
        yield f"from = {quoted(clock_text(rule.from_minute))}"
        yield f"to = {quoted(clock_text(rule.to_minute))}"
        yield from (f"{kind} = {quoted(name)}" for kind, name in names.items())
    for name, text in figure_lines(rule.limits):
        yield f"{name} = {text}"


def _triggers(triggers: Triggers) -> Iterator[str]:
    yield "[triggers]"
    if triggers.reject_storm:
        yield f"reject_storm = {quoted(rate_text(triggers.reject_storm))}"
    if triggers.clock_jump_ms is not None:
        yield f"clock_jump_ms = {triggers.clock_jump_ms}"
    yield from _plain(triggers, ("breaker_open",))
    for cool in triggers.cool_downs:
        yield f"[triggers.cool_down.{cool.kind}]"
        yield from _plain(cool, ("wait_ms", "cap_ms", "repeats", "memory_ms"))


def _plain(values: Any, names: Iterable[str]) -> list[str]:
    return [f"{name} = {_text(getattr(values, name))}" for name in names]


def _text(value: bool | int | StrEnum) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return quoted(value) if isinstance(value, str) else str(value)
