"""``haltcore check-store`` and ``haltcore store``: whether a Redis or Valkey is fit to coordinate, what lies in it, and, where a guard
stands still for good, a person's word of what became of it.

No bot needs to run for it. Nothing but that word changes anything.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import attrs
import click

from ..effects import GuardState
from ..fsm.guard import PLACE, guard_key
from . import views
from .cli_common import output_option, print_json
from .coordination import Claim, GuardRow, StoreFacts, StoreFailed
from .program import UNABLE
from .redis_look import TIMEOUT_MS, Seen, look
from .redis_store import RedisStore, account_tag
from .redis_url import UrlRefused, read_url
from .settings_store import URL_VARIABLE, NoStoreUrl, resolved
from .side_effects import TTL_MS
from .store_check import verdict

T = TypeVar("T")
FIT, UNFIT, NOT_REACHED = 0, 1, 2
#: The account of a check that names none: of what is tried nothing stays.
_ACCOUNT = "check"
_SETTLED = {"done": GuardState.DONE, "rejected": GuardState.REJECTED}


# --- what all share -----------------------------------------------------------------------------------------------------


def _where(url: str | None) -> tuple[str, str]:
    """The URL to connect to, and as it is shown."""
    environ = {name: value for name, value in os.environ.items() if url is None or name != URL_VARIABLE}
    try:
        where = resolved(url or "", environ)
        return where, str(read_url(where))
    except NoStoreUrl as missing:
        raise click.UsageError(f"{missing}" if url else f"give a URL such as redis://127.0.0.1:6379/0, or set {URL_VARIABLE}") from None
    except UrlRefused as refused:
        raise click.UsageError(str(refused)) from None


def _account(context: click.Context, parameter: click.Parameter, name: str) -> str:  # noqa: ARG001 - click's shape
    try:
        account_tag(name)
    except ValueError as refused:
        raise click.BadParameter(str(refused).removeprefix("account: ")) from None
    return name


_account_option = click.option("--account", required=True, callback=_account, help="The account, as in [store] of the settings.")


async def _with_store(url: str, account: str, ask: Callable[[RedisStore], Awaitable[T]]) -> T:
    store = RedisStore(url, account, timeout_ms=TIMEOUT_MS)
    try:
        return await ask(store)
    finally:
        await store.close()


def _not_reached(failure: StoreFailed, shown: str, output: str, **known: Any) -> int:
    if output == "json":
        print_json({"store": shown, **known, "code": failure.code, "problem": failure.text, "exit_code": NOT_REACHED})
    click.echo(f"error: {views.clean(str(failure))}", err=True)
    return NOT_REACHED


def _found(facts: StoreFacts) -> Iterator[str]:
    """Kind and version, and what is to be said against it."""
    faults, notes = verdict(facts)
    yield f"{facts.kind} {facts.version}, {'unfit' if faults else 'fit'} to coordinate"
    for title, texts in (("FAULTS", faults), ("NOTES", notes)):
        if texts:
            yield title
        for text in texts:
            yield from views.wrap(text, "  - ", "    ")


# --- check --------------------------------------------------------------------------------------------------------------


@click.command(name="check-store", short_help="Whether a Redis or Valkey is fit to coordinate; what to change.")
@click.argument("url", required=False)
@click.option("--account", default=_ACCOUNT, callback=_account, help="Whose keys the rights are tried on; any, unless an ACL names one.")
@output_option
def check_store(url: str | None, account: str, output: str) -> int:
    """Ask a Redis or Valkey about itself: eviction, persistence, memory, version, replication, clock; and try whether the user may do what
    haltcore does, on a key of its own that is deleted at once.

    URL is redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://; without it, that of the environment variable
    HALTCORE_STORE_URL. Write a password as ${NAME}, in single quotes: it is put in from the environment, and stands in no list of
    processes.

    The exit code is 0 for a fit store, 1 for an unfit one, 2 if it cannot be asked.
    """
    where, shown = _where(url)
    try:
        facts = asyncio.run(_with_store(where, account, lambda store: store.facts()))
    except StoreFailed as failure:
        return _not_reached(failure, shown, output, fit=None)
    faults, notes = verdict(facts)
    code = UNFIT if faults else FIT
    if output == "json":
        print_json({"store": shown, "fit": not faults, "faults": faults, "notes": notes, "facts": attrs.asdict(facts), "exit_code": code})
        return code
    first, *rest = _found(facts)
    for line in (f"{shown}: {first}", *rest):
        click.echo(views.clean(line))
    return code


# --- show ---------------------------------------------------------------------------------------------------------------


@click.group(name="store", short_help="What lies in a store; settle a guard that stands still.")
def store() -> None:
    """What lies in a Redis or Valkey for an account, without a bot: freezes, leases, breakers, guards.

    URL is as with check-store.
    """


@store.command(short_help="Freezes with who said them, leases, breakers, guards, fitness.")
@click.argument("url", required=False)
@_account_option
@output_option
def show(url: str | None, account: str, output: str) -> int:
    """Show what an account has in a store. Nothing is changed.

    A freeze is lifted by `haltcore unfreeze` at a running bot, and not here: the bot would say it again.
    """
    where, shown = _where(url)

    async def ask() -> tuple[Seen, StoreFacts]:
        return await look(where, account), await _with_store(where, account, lambda store: store.facts())

    try:
        seen, facts = asyncio.run(ask())
    except StoreFailed as failure:
        return _not_reached(failure, shown, output, account=account)
    if output == "json":
        faults, notes = verdict(facts)
        print_json({"store": shown, "account": account, **attrs.asdict(seen), "faults": faults, "notes": notes, "exit_code": 0})
        return 0
    for line in _seen_lines(seen):
        click.echo(views.clean(line))
    first, *rest = _found(facts)
    for line in (f"STORE    {shown}: {first}", *rest):
        click.echo(views.clean(line))
    return 0


def _seen_lines(seen: Seen) -> Iterator[str]:
    for row in seen.latch:
        scope = row.scope or "the account"
        for word in row.words:
            yield f"FREEZE   {scope}: {word.trigger} by {word.by or views.NOBODY}: {word.reason} (session {word.author})"
        if row.unreadable:
            yield f"FREEZE   {scope}: a row that this version cannot read: {row.unreadable}"
        elif row.unnamed:
            yield f"FREEZE   {scope}: others who are not named"
    if not seen.latch:
        yield "FREEZE   none"
    for lease in seen.leases:
        left = f"for another {lease.left_ms:,} ms" if lease.left_ms else "run out"
        yield f"LEASE    {lease.name}: {lease.holder}, {left} (fence {lease.epoch}:{lease.counter})"
    for breaker in seen.breakers:
        said = f" by {breaker.by}" if breaker.by else ""
        until = f", until {views.utc(breaker.until_ns)} UTC" if breaker.until_ns else ""
        why = f": {breaker.why}" if breaker.why else ""
        yield f"BREAKER  {breaker.job}: {breaker.mode}{said} since {views.utc(breaker.since_ns)} UTC{until}{why}"
    yield f"KEYS     {', '.join(f'{number:,} {kind}' for kind, number in seen.kinds.items())}; store epoch {seen.epoch}"


# --- guard --------------------------------------------------------------------------------------------------------------


@store.command(short_help="The guard of one side effect; settle it by a person's word.")
@click.argument("url", required=False)
@_account_option
@click.option("--kind", default=PLACE, show_default=True, help="The type of the side effect.")
@click.option("--entity", required=True, help="What it is about: the text of `once`; of an order without it, its client id.")
@click.option("--settle", type=click.Choice(list(_SETTLED)), help="What became of it, as somebody knows who has looked.")
@click.option("--who", default="", help="Who says so; needed with --settle.")
@click.option("--why", default="", help="Why; needed with --settle.")
@click.option("--yes", is_flag=True, help="Do not ask back.")
@output_option
def guard(
    url: str | None, account: str, kind: str, entity: str, settle: str | None, who: str, why: str, yes: bool, output: str
) -> int:
    """Show the guard of one side effect; with --settle, say what became of it, as the one who owns it can no longer do.

    Look first: at the venue, in the database. `done`: it has happened, and nobody does it again. `rejected`: it has not happened and cannot
    happen any more, and whoever claims it next may do it. On a terminal it asks back. It is settled only if the row is still as it was
    shown, and never once it is done.
    """
    if settle is not None and not (who.strip() and why.strip()):
        raise click.UsageError("--settle needs --who and --why")
    if "\0" in kind:
        raise click.UsageError("--kind has a NUL in it")
    where, shown = _where(url)
    key = guard_key(kind, entity)
    try:
        row = asyncio.run(_with_store(where, account, lambda store: store.look(key)))
        if settle is None:
            return _tell(row, "", output, UNABLE if row is None else 0)
        refused = _refusal(row, _SETTLED[settle])
        if refused or row is None:
            return _tell(row, refused, output, UNABLE)
        _ask_back(row, settle, yes, output)
        ours = Claim(key, f"person:{who}", row.params)
        done = asyncio.run(_with_store(where, account, lambda store: _settled(store, ours, row, _SETTLED[settle], f"{who}: {why}")))
        now = asyncio.run(_with_store(where, account, lambda store: store.look(key)))
    except StoreFailed as failure:
        return _not_reached(failure, shown, output, account=account, key=key)
    if not done:
        return _tell(now, "the row is not as it was shown any more; nothing was settled. Look again", output, UNABLE)
    return _tell(now, "", output, 0, f"settled; {_FOLLOWS[settle]}")


_FOLLOWS = {
    "done": "whoever claims it hears that it is done, with these words as the result",
    "rejected": "the next claim does it; a bot that has it in doubt still says so by an alert, guard_lost, once it knows better",
}


def _refusal(row: GuardRow | None, to: GuardState) -> str:
    if row is None:
        return "there is no such guard: it was never claimed, it has run out, or kind and entity are others; nothing holds it up"
    if row.state is GuardState.DONE:
        return "it is done, and that is not taken back: whatever was done has to be undone in the world"
    return f"it is {to.value} already" if row.state is to else ""


def _ask_back(row: GuardRow, settle: str, yes: bool, output: str) -> None:
    if yes or output == "json" or not sys.stdin.isatty():
        return
    for line in _row_lines(row):
        click.echo(views.clean(line), err=True)
    click.echo(f"After this {_FOLLOWS[settle]}.", err=True)
    click.confirm("Settle it?", abort=True, err=True)


async def _settled(store: RedisStore, ours: Claim, row: GuardRow, to: GuardState, result: str) -> bool:
    """Take the row over as it was shown, and say what became of it. A person who was cut off between both goes on where the row is."""
    if row.owner != ours.owner and not await store.retake(ours, row, TTL_MS):
        return False
    return await store.settle(ours, to, result, TTL_MS)


def _tell(row: GuardRow | None, problem: str, output: str, code: int, said: str = "") -> int:
    if output == "json":
        print_json({"row": attrs.asdict(row) if row is not None else None, "problem": problem, "text": said, "exit_code": code})
        return code
    for line in _row_lines(row) if row is not None else () if problem else ("there is no such guard",):
        click.echo(views.clean(line))
    if problem:
        click.echo(f"error: {views.clean(problem)}", err=True)
    if said:
        click.echo(said)
    return code


def _row_lines(row: GuardRow) -> Iterator[str]:
    yield f"{row.state.upper()} since {views.utc(row.at_ms * 1_000_000)} UTC, of {row.owner}"
    if row.result:
        yield f"result: {row.result}"
