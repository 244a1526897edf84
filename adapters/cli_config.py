"""``haltcore check-config``: whether a file of settings can run, and what it comes to."""

import hashlib
import os
from collections.abc import Iterator
from typing import Any

import attrs
import click
import msgspec

from ..fsm.codec import CONFIG
from ..fsm.config import BreakerPolicy, Config, Triggers
from ..fsm.limits import FIGURES, LimitRule, rate_text
from . import views
from .cli_common import output_option, print_json
from .program import UNABLE
from .settings import Settings, SettingsRefused, load
from .settings_guide import example
from .settings_store import URL_VARIABLE, found_here
from .settings_text import figure_lines, to_toml
from .settings_values import amount_text

#: Stands for the session of a file that names none.
_NO_SESSION = "a000000"


@click.command(name="check-config", short_help="Whether a file of settings can run; all that is wrong with it.")
@click.argument("file", required=False, type=click.Path())
@click.option("--example", "wanted", is_flag=True, help="Print a file that has every section and key, with comments, to begin with.")
@click.option("--show", is_flag=True, help="Print the effective configuration, defaults included, as TOML, and nothing else.")
@output_option
def check_config(file: str | None, wanted: bool, show: bool, output: str) -> int:
    """Check a file of settings: all that is wrong with it at once, each with its line and what to write instead.

    If nothing is wrong, say which limits and triggers hold, and note figures that can never bind. The hash is of everything but the session
    and the instruments: the same hash is the same configuration, however it is written. With -o json the effective configuration is always
    part of the output.
    """
    if wanted:
        if file is not None or show or output != "text":
            raise click.UsageError("--example stands alone: haltcore check-config --example > bot.toml")
        click.echo(example(), nl=False)
        return 0
    if file is None:
        raise click.UsageError("give the path of a file of settings, such as bot.toml; --example prints one to begin with")
    try:
        settings = load(file, _NO_SESSION)
    except SettingsRefused as refusal:
        if output == "json":
            faults = [attrs.asdict(fault) for fault in refusal.faults]
            print_json({"file": file, "runs": False, "faults": faults, "more": refusal.more, "exit_code": UNABLE})
        else:
            for line in str(refusal).splitlines():
                click.echo(views.clean(line), err=show)
        return UNABLE
    if output == "json":
        print_json(_as_json(file, settings))
    elif show:
        click.echo(to_toml(settings.config, settings.instruments, settings.session_named, _store(settings)), nl=False)
    else:
        for line in _lines(file, settings):
            click.echo(views.clean(line))
    return 0


def _store(settings: Settings) -> dict[str, str]:
    """Where the store is, as the file says it."""
    return {"url": settings.store_place, "account": settings.store_account}


def _store_here(settings: Settings) -> dict[str, str]:
    """The same; where a program would connect with the environment that there is here; and what is in its way, if anything is."""
    if not settings.config.store.configured:
        return {**_store(settings), "connects_to": "", "problem": ""}
    where, problem = found_here(settings.store_place, os.environ)
    return {**_store(settings), "connects_to": where, "problem": problem}


def config_hash(config: Config) -> str:
    """SHA-256, in hexadecimal, of everything but the session, as it stands in a log."""
    return hashlib.sha256(CONFIG.encode(attrs.evolve(config, session=_NO_SESSION))).hexdigest()


def _as_json(file: str, settings: Settings) -> dict[str, Any]:
    config = msgspec.json.decode(CONFIG.encode(settings.config))
    if not settings.session_named:
        config["session"] = None
    instruments = {
        symbol: {
            field.name: value if isinstance(value := getattr(instrument, field.name), bool) else amount_text(value).strip('"')
            for field in attrs.fields(type(instrument))
        }
        for symbol, instrument in settings.instruments.items()
    }
    rules = (LimitRule(settings.config.limits), *settings.config.rules)
    limits = [{"rule": rule.label, "figure": name, "value": text.strip('"')} for rule in rules for name, text in figure_lines(rule.limits)]
    return {
        "file": file, "runs": True, "hash": config_hash(settings.config), "limits": limits, "config": config, "instruments": instruments,
        "store": _store_here(settings),
        "notes": [attrs.asdict(note) for note in settings.notes], "exit_code": 0,
    }  # fmt: skip


def _lines(file: str, settings: Settings) -> Iterator[str]:
    config = settings.config
    yield f"{file}: can run"
    yield f"  session      {config.session if settings.session_named else 'drawn at the start'}"
    yield f"  symbols      {', '.join(config.symbols)}"
    if config.strategies:
        yield f"  strategies   {', '.join(config.strategies)}"
    if config.restricted:
        yield f"  restricted   {', '.join(config.restricted)}"
    yield from _store_lines(settings)
    yield f"  hash         {config_hash(config)}"
    yield ""
    yield from _limits(config)
    yield ""
    yield "TRIGGERS"
    yield from _triggers(config.triggers)
    yield from _breaker(config.breaker)
    if settings.instruments:
        yield ""
        yield "INSTRUMENTS"
        for symbol, instrument in settings.instruments.items():
            terms = [f"{name} {amount_text(value)}".replace('"', "") for name in _TERMS if (value := getattr(instrument, name))]
            yield f"  {symbol}: {', '.join([*terms, 'inverse' if instrument.inverse else 'linear'])}"
    if settings.notes:
        yield ""
        yield "NOTES   this can run, and is probably not what you mean"
        yield from (f"  {note.text}" for note in settings.notes)


def _store_lines(settings: Settings) -> Iterator[str]:
    """Where the store is, by the file and by the environment."""
    here = _store_here(settings)
    if not settings.config.store.configured:
        if here["url"]:
            yield f"  store        {here['url']}; not used, configured = false"
            yield f"  account      {here['account']}"
        return
    instead = f" ({URL_VARIABLE}, instead of {here['url'] or 'no url in the file'})" if os.environ.get(URL_VARIABLE) else ""
    yield f"  store        {here['connects_to'] or 'nowhere'}{instead}"
    yield f"  account      {here['account'] or 'none; give account in [store], the same in every process of the account'}"
    if here["problem"]:
        yield f"  NOT HERE     {here['problem']}"


_TERMS = ("tick", "lot", "min_qty", "max_qty", "min_notional", "multiplier")


def _limits(config: Config) -> Iterator[str]:
    """The limits by rule; then what has none."""
    bounds = {figure.name: figure.bounds.partition(" (")[0] for figure in FIGURES}
    rules = [(rule.label, list(figure_lines(rule.limits))) for rule in (LimitRule(config.limits), *config.rules)]
    figures = [figure for _, found in rules for figure in found]
    if not figures:
        yield "LIMITS   none at all: only the form of orders is checked"
        return
    yield "LIMITS"
    left, right = (max(len(figure[column].strip('"')) for figure in figures) for column in (0, 1))
    for label, found in rules:
        if found:
            yield f"  {label}"
        for name, value in found:
            text = value.strip('"')
            yield f"    {name:{left}}  {text:>{right}}  {bounds[name]}"
    limited = [name for name, _ in figures]
    free = [figure.name for figure in FIGURES if figure.name not in limited]
    if free:
        yield from views.wrap(", ".join(free), "  not limited anywhere: ", "    ")


def _triggers(triggers: Triggers) -> Iterator[str]:
    storm, jump = triggers.reject_storm, triggers.clock_jump_ms
    yield f"  reject_storm   {f'more than {rate_text(storm)}' if storm else 'off'}"
    yield f"  clock_jump_ms  {jump if jump is not None else 'off'}"
    yield f"  breaker_open   {'freezes' if triggers.breaker_open else 'off'}"
    for cool in triggers.cool_downs:
        yield (
            f"  cool_down      {cool.kind}: lifted after {cool.wait_ms} ms, doubled up to {cool.cap_ms} ms; "
            f"a person after {cool.repeats} within {cool.memory_ms} ms"
        )
    if not triggers.cool_downs:
        yield "  cool_down      none: only a person lifts a freeze"


def _breaker(breaker: BreakerPolicy | None) -> Iterator[str]:
    """The breaker of placing in words."""
    if breaker is None:
        yield "  breaker        none"
        return
    then = f"after {breaker.open_ms} ms {breaker.probes} may try" if breaker.open_ms else "a person closes it"
    yield f"  breaker        opens at {breaker.failures} failed placements within {breaker.window_ms} ms; {then}"
