"""The verbs of an operator: they speak to a running session through its control socket, and do nothing by themselves.

One word freezes. Whatever changes something says by whom and why, prints the number of the record that it has become, and ends with 0
only if it was done.
"""

import getpass
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click
import msgspec

from ..effects import ValueRefused
from ..fsm.config import ConfigRefused
from ..fsm.core import JOB
from . import operator_lines as lines
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


def _finish(answer: Fields, told: Callable[[Fields], Iterator[str]]) -> int:
    """Show an answer; the exit code."""
    ok = bool(answer.get("ok"))
    if _given("output") == "json":
        print_json(answer)
    elif ok:
        for line in told(answer):
            click.echo(views.clean(line))
    else:
        click.echo(views.clean(_refusal(answer)), err=True)
    return 0 if ok else UNABLE


def _refusal(answer: Fields) -> str:
    """Why it was not done, in the words of a shell."""
    text = str(answer.get("text"))
    option = "--strategy" if _given("strategy") else "--symbol"
    if answer.get("code") == "unknown_scope":
        text = f"{_given(option[2:])!r} is not configured; leave out {option} for the account"
    for scope in answer.get("frozen", []):
        text += f"; {lines.name_of(scope)} is frozen: {lines.option(scope)}"
    return f"error: {answer.get('code')}: {text}{lines.recorded(answer)}"


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
    code = _finish(answer, lines.said)
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
@click.option(
    "--force", is_flag=True,
    help="Also while the proof is missing, and for every process; one that lives and stands behind it says it again.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Do not ask back.")
@_reach
def unfreeze(symbol: str, strategy: str, venue: bool, who: str, why: str, force: bool, yes: bool, **_: Any) -> int:
    """Lift a freeze: the bot may place orders again.

    Where several share an account, each that follows the freeze is lifted where it runs; what another has frozen is lifted there first.

    On a terminal it says first what is frozen and why, and asks back.
    """
    fields = {**_scope(symbol, strategy, venue), "who": who, "why": why, "force": force}
    if not yes and sys.stdin.isatty():
        status = _ask("status")
        if not status.get("ok"):
            return _finish(status, lines.said)
        for line in _consequence(status["status"], to_scope(symbol, strategy, venue)):
            click.echo(views.clean(line), err=True)
        click.confirm("Lift it?", abort=True, err=True)
    return _finish(_ask("unfreeze", **fields), lines.said)


def _consequence(status: Fields, scope: str) -> Iterator[str]:
    frozen = [s for s in status["scopes"] if s["scope"] == scope]
    if not frozen:
        yield f"{lines.name_of(scope)} is not frozen."
    for s in frozen:
        yield lines.scope_line(s, status["now_ns"])
    if status["sweep"] is not None:
        yield lines.sweep_line(status["sweep"])
    yield f"After this the bot may place orders again in: {lines.name_of(scope)}. Orders open or unknown now: {status['open_orders']}."
    if others := [lines.name_of(s["scope"]) for s in status["scopes"] if s["scope"] != scope]:
        yield f"What stays as it is: {', '.join(others)}."


@click.command(name="reduce-only", short_help="Allow only orders that reduce positions, or all again.")
@click.argument("switch", type=click.Choice(["on", "off"]))
@_scoped
@_who
@_why
@_reach
def reduce_only(switch: str, symbol: str, strategy: str, venue: bool, who: str, why: str, **_: Any) -> int:
    """Allow only orders that reduce positions, or all again."""
    return _finish(_ask("reduce-only", on=switch == "on", who=who, why=why, **_scope(symbol, strategy, venue)), lines.said)


@click.command(short_help="The restricted list.")
@click.argument("symbol")
@click.option("--off", is_flag=True, help="Take it off the list.")
@_who
@_why
@_reach
def restrict(symbol: str, off: bool, who: str, why: str, **_: Any) -> int:
    """Put SYMBOL on the restricted list, where only orders that reduce the position are allowed, or take it off."""
    return _finish(_ask("restrict", symbol=symbol, on=not off, who=who, why=why), lines.said)


@click.command(short_help="Trade again after the execution throttle.")
@click.option("--strategy", default="", help="One strategy; by default the account.")
@_who
@_why
@_reach
def reenable(strategy: str, who: str, why: str, **_: Any) -> int:
    """Let a strategy, or the account, trade again that the execution throttle has switched off."""
    return _finish(_ask("reenable", strategy=strategy, who=who, why=why), lines.said)


#: The words of the command line, and those of the core.
_FORCED = {"open": "forced_open", "close": "forced_closed", "reset": "closed"}


@click.command(short_help="Force the circuit breaker of placing.")
@click.argument("word", type=click.Choice(list(_FORCED)))
@click.option("--for", "period", default="", metavar="TIME", help="How long: 90s, 15m, 2h. Without it: until somebody says otherwise.")
@click.option("--job", default=JOB, show_default=True, help="The kind of job.")
@_who
@_why
@_reach
def breaker(word: str, period: str, job: str, who: str, why: str, **_: Any) -> int:
    """Force the circuit breaker open or closed, or reset it: then it begins anew, whatever it was.

    Open lets no order through, close lets all through whatever fails. Cancels are never held up.
    """
    if word == "reset" and period:
        raise click.UsageError("--for goes with open and close; after a reset the breaker opens by itself when it has to")
    for_ms = _period_ms(period) if period else 0
    return _finish(_ask("breaker", to=_FORCED[word], for_ms=for_ms, job=job, who=who, why=why), lines.said)


# --- status -----------------------------------------------------------------------------------------------------------


@click.command(short_help="How a running session stands, on one screen.")
@_reach
def status(**_: Any) -> int:
    """How a running session stands: what is frozen and why, what is open, how much of the limits is used."""
    return _finish(_ask("status"), lines.status)


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
    return 0 if click.get_current_context().invoked_subcommand is not None else _finish(_ask("limits"), lines.limits)


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
    return _finish(answer, lines.changed)


@limits.command(short_help="Let other figures hold for a while.")
@click.argument("figures", nargs=-1, required=True, metavar="FIGURE=VALUE...")
@click.option("--for", "period", required=True, metavar="TIME", help="How long: 90s, 15m, 2h.")
@click.option("--symbol", default="", help="For orders of this symbol only.")
@click.option("--strategy", default="", help="For orders of this strategy only.")
@_who
@_why
@_reach
def override(figures: tuple[str, ...], period: str, symbol: str, strategy: str, who: str, why: str, **_: Any) -> int:
    """Let figures hold for a while instead of those for the same symbol and strategy. Other limits stay in force.

    It may need a second person: see verify.
    """
    answer = _ask(
        "limits-override", figures=_figures(figures), for_ms=_period_ms(period), symbol=symbol, strategy=strategy, who=who, why=why
    )
    return _finish(answer, lines.changed)


def _period_ms(period: str) -> int:
    found = re.fullmatch(r"(\d{1,9})(ms|s|m|h|d)", period.strip())
    if found is None:
        raise click.UsageError(f"--for {period!r}: write a number and ms, s, m, h or d, such as 15m")
    return int(found[1]) * {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}[found[2]]


@limits.command(short_help="Agree to an override, as a second person.")
@click.argument("override_id", metavar="ID", type=click.IntRange(1))
@click.option("--who", required=True, help="Who agrees: another person than the one who asked for it.")
@_reach
def verify(override_id: int, who: str, **_: Any) -> int:
    """Agree to override ID, as another person than the one who asked for it."""
    return _finish(_ask("limits-verify", override=override_id, who=who), lines.said)


@limits.command(short_help="End an override before its time.")
@click.argument("override_id", metavar="ID", type=click.IntRange(1))
@_who
@_why
@_reach
def end(override_id: int, who: str, why: str, **_: Any) -> int:
    """End override ID before its time."""
    return _finish(_ask("limits-end", override=override_id, who=who, why=why), lines.said)


VERBS = (freeze, unfreeze, status, limits, reduce_only, restrict, reenable, breaker)
