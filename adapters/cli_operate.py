"""The verbs of an operator: they speak to a running session through its control socket, and do nothing by themselves.

One word freezes. Whatever changes something says by whom and why, prints the number of the record that it has become, and ends with 0
only if it was done.
"""

import getpass
import os
import re
import sys
from collections.abc import Callable, Iterator
from decimal import ROUND_UP, Decimal
from typing import Any, TypeVar

import click
import msgspec

from ..effects import ValueRefused
from ..fsm.config import ConfigRefused
from . import views
from .arguments import scope as to_scope
from .cli_common import print_json
from .control import TOKEN_VARIABLE
from .control_socket import Address, Unreachable, address, ask, port_address
from .program import UNABLE, Unable

Fields = dict[str, Any]
F = TypeVar("F", bound=Callable[..., Any])
SOCKET_VARIABLE, DEFAULT_SOCKET = "HALTCORE_SOCKET", "haltcore.sock"
#: How long an answer may take; with --wait, how long a sweep may take to report, which its own deadline bounds.
ANSWER_S, REPORT_S = 10.0, 300.0


# --- what all verbs share -----------------------------------------------------------------------------------------------


def _reach(verb: F) -> F:
    """Where the runner is, and the form of the output."""
    for option in (
        click.option("-o", "--output", type=click.Choice(["text", "json"]), help="Form of the output; text by default."),
        click.option("--tcp", metavar="HOST:PORT", help=f"A runner that listens at a port; the token is taken from {TOKEN_VARIABLE}."),
        click.option("--socket", metavar="PATH", help=f"The runner's socket; by default {SOCKET_VARIABLE}, else ./{DEFAULT_SOCKET}."),
    ):
        verb = option(verb)
    return verb


def _scoped(verb: F) -> F:
    for option in (
        click.option("--venue", is_flag=True, help="The venue."),
        click.option("--strategy", default="", help="One strategy."),
        click.option("--symbol", default="", help="One symbol. Without any of these: the account."),
    ):
        verb = option(verb)
    return verb


_who = click.option("--who", required=True, help="Who asks for it.")
_why = click.option("--why", required=True, help="Why.")


def _given(name: str) -> Any:
    """An option of this verb, or of the group that it belongs to."""
    context: click.Context | None = click.get_current_context()
    while context is not None:
        if context.params.get(name) is not None:
            return context.params[name]
        context = context.parent
    return None


def _where() -> Address:
    socket, tcp = _given("socket"), _given("tcp")
    if socket and tcp:
        raise click.UsageError("give --socket or --tcp, not both")
    try:
        return port_address(tcp) if tcp else address(str(socket or os.environ.get(SOCKET_VARIABLE) or DEFAULT_SOCKET))
    except ConfigRefused as refused:
        raise click.UsageError(str(refused).removeprefix("control: ")) from None


def _ask(command: str, timeout_s: float = ANSWER_S, **fields: Any) -> Fields:
    """The answer to one request; raises Unable if there is none."""
    where = _where()
    request = {"command": command, **fields}
    if where.host:
        request["token"] = os.environ.get(TOKEN_VARIABLE, "")
    try:
        answer = msgspec.json.decode(ask(where, msgspec.json.encode(request), timeout_s), type=dict)
    except Unreachable as error:
        raise Unable(f"{error}{_still_possible(command, error.sent)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Unable(f"what answers at {where} is no runner of haltcore") from None
    return answer


def _still_possible(command: str, sent: bool) -> str:
    if sent and command not in ("status", "limits"):
        return ". It may have been done; look with haltcore status"
    if command == "freeze":
        return ". Nothing was frozen: if the bot has to stop now, interrupt its process (Ctrl-C, SIGINT), or cancel at the venue itself"
    return ""


def _scope(symbol: str, strategy: str, venue: bool) -> Fields:
    try:
        to_scope(symbol, strategy, venue)
    except ValueRefused as refused:
        raise click.UsageError(str(refused)) from None
    return {"symbol": symbol, "strategy": strategy, "venue": venue}


def _finish(answer: Fields, lines: Callable[[Fields], Iterator[str]]) -> int:
    """Show an answer; the exit code."""
    ok = bool(answer.get("ok"))
    if _given("output") == "json":
        print_json(answer)
    elif ok:
        for line in lines(answer):
            click.echo(views.clean(line))
    else:
        click.echo(views.clean(f"error: {answer.get('code')}: {answer.get('text')}{_recorded(answer)}"), err=True)
    return 0 if ok else UNABLE


def _recorded(answer: Fields) -> str:
    return f" (record {answer['record']})" if answer.get("record") else ""


def _said(answer: Fields) -> Iterator[str]:
    mode = f"; the scope is {str(answer['mode']).upper()}" if answer.get("mode") else ""
    yield f"{answer['text']}{mode}{_recorded(answer)}"


# --- freeze -----------------------------------------------------------------------------------------------------------


@click.command(short_help="Freeze a running session, at once.")
@click.argument("reason", nargs=-1)
@_scoped
@click.option("--who", default="", help="Who freezes; by default the user of the system.")
@click.option("--wait", is_flag=True, help="Wait for the proof that nothing is open; ends with 1 if it is not there by the deadline.")
@_reach
def freeze(reason: tuple[str, ...], symbol: str, strategy: str, venue: bool, who: str, wait: bool, **_: Any) -> int:
    """Freeze a running session: nothing may be placed any more, everything is cancelled.

    One word suffices, and nothing is asked back. REASON is kept with the freeze.
    """
    fields = {**_scope(symbol, strategy, venue), "who": who or _user(), "wait": wait}
    if reason:
        fields["reason"] = " ".join(reason)
    answer = _ask("freeze", REPORT_S if wait else ANSWER_S, **fields)
    code = _finish(answer, _said)
    return code or (UNABLE if wait and not (answer.get("proof") or {}).get("verified") else 0)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


@click.command(short_help="Lift a freeze.")
@_scoped
@_who
@_why
@click.option("--force", is_flag=True, help="Also while the proof that nothing is open is still missing.")
@click.option("--yes", is_flag=True, help="Do not ask back.")
@_reach
def unfreeze(symbol: str, strategy: str, venue: bool, who: str, why: str, force: bool, yes: bool, **_: Any) -> int:
    """Lift a freeze: the bot may place orders again.

    On a terminal it says first what is frozen and why, and asks back.
    """
    fields = {**_scope(symbol, strategy, venue), "who": who, "why": why, "force": force}
    if not yes and sys.stdin.isatty():
        status = _ask("status")
        if not status.get("ok"):
            return _finish(status, _said)
        for line in _consequence(status["status"], to_scope(symbol, strategy, venue)):
            click.echo(views.clean(line), err=True)
        click.confirm("Lift it?", abort=True, err=True)
    return _finish(_ask("unfreeze", **fields), _said)


def _consequence(status: Fields, scope: str) -> Iterator[str]:
    frozen = [s for s in status["scopes"] if s["scope"] == scope]
    if not frozen:
        yield f"{_name(scope)} is not frozen."
    for s in frozen:
        yield _scope_line(s, status["now_ns"])
    if status["sweep"] is not None:
        yield _sweep_line(status["sweep"])
    yield f"After this the bot may place orders again in: {_name(scope)}. Orders open or unknown now: {status['open_orders']}."
    if others := [_name(s["scope"]) for s in status["scopes"] if s["scope"] != scope]:
        yield f"What stays as it is: {', '.join(others)}."


@click.command(name="reduce-only", short_help="Allow only orders that reduce positions, or all again.")
@click.argument("switch", type=click.Choice(["on", "off"]))
@_scoped
@_who
@_why
@_reach
def reduce_only(switch: str, symbol: str, strategy: str, venue: bool, who: str, why: str, **_: Any) -> int:
    """Allow only orders that reduce positions, or all again."""
    return _finish(_ask("reduce-only", on=switch == "on", who=who, why=why, **_scope(symbol, strategy, venue)), _said)


@click.command(short_help="The restricted list.")
@click.argument("symbol")
@click.option("--off", is_flag=True, help="Take it off the list.")
@_who
@_why
@_reach
def restrict(symbol: str, off: bool, who: str, why: str, **_: Any) -> int:
    """Put SYMBOL on the restricted list, where only orders that reduce the position are allowed, or take it off."""
    return _finish(_ask("restrict", symbol=symbol, on=not off, who=who, why=why), _said)


@click.command(short_help="Trade again after the execution throttle.")
@click.option("--strategy", default="", help="One strategy; by default the account.")
@_who
@_why
@_reach
def reenable(strategy: str, who: str, why: str, **_: Any) -> int:
    """Let a strategy, or the account, trade again that the execution throttle has switched off."""
    return _finish(_ask("reenable", strategy=strategy, who=who, why=why), _said)


# --- status -----------------------------------------------------------------------------------------------------------


@click.command(short_help="How a running session stands, on one screen.")
@_reach
def status(**_: Any) -> int:
    """How a running session stands: what is frozen and why, what is open, how much of the limits is used."""
    return _finish(_ask("status"), _status_lines)


def _status_lines(answer: Fields) -> Iterator[str]:
    s, v = answer["status"], answer["versions"]
    standing = "stopping" if s["stopping"] else "ready" if s["ready"] else "starting" if s["running"] else "stopped"
    yield f"SESSION  {s['session']}, {standing}, at record {s['record']:,} ({views.utc(s['now_ns'])} UTC)"
    for scope in s["scopes"]:
        yield f"STATE    {_scope_line(scope, s['now_ns'])}"
    if not s["scopes"]:
        yield "STATE    ACTIVE"
    if s["sweep"] is not None:
        yield f"PROOF    {_sweep_line(s['sweep'])}"
    elif any(scope["mode"] == "frozen" for scope in s["scopes"]):
        yield "PROOF    proven empty where FROZEN"
    yield f"ORDERS   {s['open_orders']:,} open, {s['in_flight']:,} in flight, {s['unknown']:,} unknown"
    yield f"VENUE    {'connected' if s['link_up'] else 'DOWN'}; store: {s['store']}"
    journal = f"FAILED: {s['journal_failed']}" if s["journal_failed"] else "being written" if s["journal_pending"] else "on disk"
    yield f"JOURNAL  {s['journal']}: {journal}" if s["journal"] else "JOURNAL  none"
    yield from _used(answer["utilization"])
    yield f"VERSION  haltcore {v['haltcore']}, log format {v['format']}, rules {v['rules']}"


def _name(scope: str) -> str:
    return scope or "the account"


def _scope_line(s: Fields, now_ns: int) -> str:
    since = f"{views.utc(s['since_ns'])} UTC ({max(0, now_ns - s['since_ns']) // 10**9:,} s ago)"
    return f"{_name(s['scope'])} is {s['mode'].upper()} since {since}, {s['trigger']} by {s['by']}: {s['reason']}"


def _sweep_line(sweep: Fields) -> str:
    return (
        f"under way ({sweep['phase']}): round {sweep['rounds']}, {sweep['cancelled']} cancelled, {sweep['failed']} failed, "
        f"{sweep['left']} left; empty lists {sweep['empty_lists']} of {sweep['lists_needed']}"
    )


def _used(rows: list[Fields]) -> Iterator[str]:
    """The limits, the most used first."""
    for row in sorted(rows, key=lambda row: -Decimal(row["percent"])):
        percent = Decimal(row["percent"])
        used = f"{percent.quantize(Decimal('0.1'), ROUND_UP)} %" if percent < 10**6 else "far more than 100 %"
        yield f"LIMIT    {used} of {row['figure']} ({_name(row['subject'])}): {row['value']} of {row['bound']}, by {row['source']}"


# --- limits -----------------------------------------------------------------------------------------------------------


@click.group(invoke_without_command=True, short_help="The limits of a running session: see, change, override.")
@_reach
def limits(**_: Any) -> int:
    """The limits of a running session and how much of them is used; with a command below, change them.

    \b
    haltcore limits
    haltcore limits set max_order_value=500 max_open_orders=none --symbol BTCUSDT --who ann --why "thin market"
    haltcore limits override max_order_value=5000 --for 15m --who ann --why "hedge of the day"
    """
    return 0 if click.get_current_context().invoked_subcommand is not None else _finish(_ask("limits"), _limits_lines)


def _limits_lines(answer: Fields) -> Iterator[str]:
    told = answer["limits"]
    for rule in told["rules"]:
        yield f"{rule['applies']}: {_figures_line(rule['figures'])}"
    for o in told["overrides"]:
        force = f"verified by {o['verified_by']}" if o["verified_by"] else "WAITS for a second person"
        to = ", ".join(name for name in (o["symbol"], o["strategy"]) if name) or "all orders"
        until = f"until {views.utc(o['until_ns'])} UTC"
        yield f"override {o['id']} ({to}) {until} by {o['by']}, {force}: {_figures_line(o['limits'])}; {o['why']}"
    if told["restricted"]:
        yield f"restricted: {', '.join(told['restricted'])}"
    if told["throttled"]:
        yield f"switched off by the execution throttle: {', '.join(_name(name) for name in told['throttled'])}"
    yield from _used(answer.get("utilization", []))


def _figures_line(figures: Fields) -> str:
    return ", ".join(f"{name} {str(value).lower()}" for name, value in figures.items()) or "no limit"


def _changed(answer: Fields) -> Iterator[str]:
    yield from _said(answer)
    yield from _limits_lines(answer)


def _figures(pairs: tuple[str, ...]) -> dict[str, str | None]:
    figures: dict[str, str | None] = {}
    for pair in pairs:
        name, equal, value = pair.partition("=")
        if not equal or not name or not value:
            raise click.UsageError(f"{pair!r}: write figure=value, such as max_order_value=500, or max_order_value=none to take it away")
        figures[name.strip()] = None if value.strip() == "none" else value.strip()
    return figures


@limits.command(name="set", short_help="Change figures of a rule until somebody changes them again.")
@click.argument("figures", nargs=-1, required=True, metavar="FIGURE=VALUE...")
@click.option("--symbol", default="", help="Of the rule for this symbol.")
@click.option("--strategy", default="", help="Of the rule for this strategy.")
@click.option("--band", default="", help="Of the rule for this volatility band.")
@_who
@_why
@_reach
def set_limits(figures: tuple[str, ...], symbol: str, strategy: str, band: str, who: str, why: str, **_: Any) -> int:
    """Change figures of the account's rule, or of the one with these conditions; its other figures stay. `none` takes one away."""
    answer = _ask("limits-set", figures=_figures(figures), symbol=symbol, strategy=strategy, band=band, who=who, why=why)
    return _finish(answer, _changed)


@limits.command(short_help="Let other figures hold for a while.")
@click.argument("figures", nargs=-1, required=True, metavar="FIGURE=VALUE...")
@click.option("--for", "period", required=True, metavar="TIME", help="How long: 90s, 15m, 2h.")
@click.option("--symbol", default="", help="For orders of this symbol only.")
@click.option("--strategy", default="", help="For orders of this strategy only.")
@_who
@_why
@_reach
def override(figures: tuple[str, ...], period: str, symbol: str, strategy: str, who: str, why: str, **_: Any) -> int:
    """Let figures hold instead of all others for a while. It may need a second person: see verify."""
    answer = _ask(
        "limits-override", figures=_figures(figures), for_ms=_period_ms(period), symbol=symbol, strategy=strategy, who=who, why=why
    )
    return _finish(answer, _changed)


def _period_ms(period: str) -> int:
    found = re.fullmatch(r"(\d{1,9})(ms|s|m|h|d)", period.strip())
    if found is None:
        raise click.UsageError(f"--for {period!r}: write a number and ms, s, m, h or d, such as 15m")
    return int(found[1]) * {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}[found[2]]


@limits.command(short_help="Agree to an override, as a second person.")
@click.argument("override_id", metavar="ID", type=click.IntRange(1))
@_who
@_reach
def verify(override_id: int, who: str, **_: Any) -> int:
    """Agree to override ID, as another person than the one who asked for it."""
    return _finish(_ask("limits-verify", override=override_id, who=who), _said)


@limits.command(short_help="End an override before its time.")
@click.argument("override_id", metavar="ID", type=click.IntRange(1))
@_who
@_why
@_reach
def end(override_id: int, who: str, why: str, **_: Any) -> int:
    """End override ID before its time."""
    return _finish(_ask("limits-end", override=override_id, who=who, why=why), _said)


VERBS = (freeze, unfreeze, status, limits, reduce_only, restrict, reenable)
