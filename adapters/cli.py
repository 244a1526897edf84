"""The command line. Thin: each verb reads its arguments, calls the library, prints, and returns an exit code.

The verbs that read logs stand here, the others in modules of their own, ``cli_*.py``. What the exit codes mean, and what happens to
errors, stands in ``program.py``.
"""

import re
from importlib.metadata import PackageNotFoundError, version

import click

from ..effects import EFFECT_CLASSES
from ..fsm.chain import LogBroken, Unsupported
from ..fsm.events import EVENT_CLASSES
from ..fsm.record import FORMAT, RULES
from ..fsm.replay import Entry, entries, replay
from ..fsm.verdict import EXIT_CODES, Kind, Verdict, report
from . import views, why
from .cli_common import in_words, log_files, output_option, print_json, reading, verdict_json
from .cli_config import check_config
from .cli_demo import demo
from .cli_operate import VERBS
from .cli_store import check_store, store
from .cli_what_if import what_if
from .program import CODES, Program, Unable


def _version() -> str:
    try:
        return version("haltcore")
    except PackageNotFoundError:
        return "unknown"


@click.group(cls=Program, epilog=CODES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(_version(), prog_name="haltcore", message=f"%(prog)s %(version)s, log format {FORMAT}, rules {RULES}")
def main() -> None:
    """The part of a trading bot that must not be wrong: what it decides, why, and how to check it.

    Begin with `haltcore demo`: a bot that freezes itself, cancels everything, and proves it.
    """


main.add_command(demo)
main.add_command(check_config)
main.add_command(check_store)
main.add_command(store)
main.add_command(what_if)
for verb in VERBS:
    main.add_command(verb)

# --- replay -----------------------------------------------------------------------------------------------------------


def _refused(error: LogBroken | Unsupported, output: str) -> int:
    """What ``show`` says of a log that it cannot read."""
    kind = Kind.BROKEN if isinstance(error, LogBroken) else Kind.UNSUPPORTED
    if output == "json":
        print_json({"kind": kind, "problem": str(error), "exit_code": EXIT_CODES[kind]})
    click.echo(views.clean(f"{kind.upper()}: {error}"), err=True)
    return EXIT_CODES[kind]


@main.command(name="replay", short_help="Verify a log and decide everything in it again.")
@click.argument("log", nargs=-1, required=True, type=click.Path())
@click.option("--require-seal", is_flag=True, help="A log that was not closed, or lost its end, is broken.")
@click.option("--strict", is_flag=True, help="Other metrics count as diverged.")
@click.option("--until", type=click.IntRange(1), help="Stop after this record.")
@output_option
def replay_command(log: tuple[str, ...], require_seal: bool, strict: bool, until: int | None, output: str) -> int:
    """Verify a log and decide everything in it again.

    LOG is a file; the segments that follow it are read too. Or give all segments, in order. Nothing is sent anywhere: a replay
    has no connection to anything.
    """
    notes: list[str] = []
    files = log_files(log, notes)
    with reading(files) as sources:
        verdict = replay(sources, require_seal=require_seal, strict=strict, until=until)
    if until is not None and verdict.exit_code == 0 and verdict.last < until:
        notes.append(f"the log ends before record {until}")
    if output == "json":
        print_json({"files": files, **verdict_json(verdict)})
        return verdict.exit_code
    for note in notes:
        click.echo(views.clean(note))
    click.echo(in_words(verdict))
    for line in report(verdict).splitlines():
        click.echo(views.clean(line))
    return verdict.exit_code


# --- show -------------------------------------------------------------------------------------------------------------

_KINDS = {kind.__name__.lower(): kind for kind in (*EVENT_CLASSES, *EFFECT_CLASSES)}


def _kinds(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[type, ...]:  # noqa: ARG001
    unknown = [value for value in values if value.lower() not in _KINDS]
    if unknown:
        names = ", ".join(sorted(kind.__name__ for kind in _KINDS.values()))
        raise click.BadParameter(f"{unknown[0]!r} is no event or effect; there are {names}")
    return tuple(_KINDS[value.lower()] for value in values)


@main.command(short_help="A log as a timeline.")
@click.argument("log", nargs=-1, required=True, type=click.Path())
@click.option("--from", "first", type=click.IntRange(1), help="Begin with this record.")
@click.option("--to", "last", type=click.IntRange(1), help="End with this record.")
@click.option("--at", type=click.IntRange(1), help="This record only.")
@click.option("--order", help="Only records that name this order, by client id or by key.")
@click.option("--only", multiple=True, callback=_kinds, metavar="KIND", help="Only records with this event or effect; may be repeated.")
@output_option
def show(
    log: tuple[str, ...], first: int | None, last: int | None, at: int | None, order: str | None, only: tuple[type, ...], output: str
) -> int:
    """Show a log as a timeline: number, time (UTC) and event, then what it called for.

    The chain is verified on the way, and no decision is made again; see replay. With -o json each record is one line of JSON.
    """
    if at is not None and (first is not None or last is not None):
        raise click.UsageError("--at stands for itself; leave out --from and --to")
    first, last = (at, at) if at is not None else (first or 1, last)
    key = _key(order) if order is not None else 0
    client_id = order if order is not None and not order.isdigit() else ""
    names, shown = views.Names(), 0
    notes: list[str] = []
    try:
        with reading(log_files(log, notes)) as sources:
            for entry in entries(sources):
                names.learn(entry.event, entry.effects)
                if (last is not None and entry.n > last) or entry.n < first or not _chosen(entry, key, client_id or names(key), only):
                    continue
                shown += 1
                _show(entry, names, output)
    except (LogBroken, Unsupported) as error:
        return _refused(error, output)
    if not shown:
        raise Unable("the log is whole, and no record in it is asked for by these options")
    return 0


def _chosen(entry: Entry, key: int, client_id: str, only: tuple[type, ...]) -> bool:
    if key and not views.concerns(entry, client_id, key):
        return False
    return not only or isinstance(entry.event, only) or any(isinstance(effect, only) for effect in entry.effects)


def _show(entry: Entry, names: views.Names, output: str) -> None:
    if output == "json":
        print_json(views.record_json(entry))
        return
    for line in views.record_lines(entry, names):
        click.echo(line)


def _key(order: str) -> int:
    key = why.key_of(order)
    if not key:
        raise click.UsageError(f"{order!r} is no order; give a client id such as d0000071pa, or the record that submitted it")
    return key


# --- why --------------------------------------------------------------------------------------------------------------


@main.command(name="why", short_help="Why an order ended, was denied, or was cancelled.")
@click.argument("log", nargs=-1, required=True, type=click.Path())
@click.option("--order", help="An order, by client id or by key: its whole story.")
@click.option("--seq", type=click.IntRange(1), help="A record: what decided, and what it changed.")
@click.option("--effect", metavar="N:I", help="Effect I of record N, as show numbers them.")
@output_option
def why_command(log: tuple[str, ...], order: str | None, seq: int | None, effect: str | None, output: str) -> int:
    """Say why: why was this order denied or cancelled, why did this record freeze, who sent this.

    The log is verified and decided again on the way; if this core decides otherwise, the exit code is 3.
    """
    if sum(given is not None for given in (order, seq, effect)) != 1:
        raise click.UsageError("give one of --order, --seq and --effect")
    index: int | None = None
    if effect is not None:
        parts = re.fullmatch(r"(\d{1,18}):(\d{1,9})", effect)
        if parts is None:
            raise click.UsageError(f"--effect {effect!r}: give record and index, such as 2207:5")
        seq, index = int(parts[1]), int(parts[2])
    key = _key(order) if order is not None else 0
    client_id = order if order is not None and not order.isdigit() else ""
    notes: list[str] = []
    with reading(log_files(log, notes)) as sources:
        case = why.investigate(sources, lambda moment: moment.n == seq if seq is not None else why.touches(moment, client_id, key))
    if case.verdict.kind in (Kind.BROKEN, Kind.UNSUPPORTED):
        return _not_explained(case.verdict, output)
    if not case.moments:
        if case.verdict.exit_code:
            return _not_explained(case.verdict, output)
        what = f"order {order}" if order is not None else f"record {seq}"
        raise Unable(f"there is no {what} in the log, which ends with record {case.verdict.last}")
    if index is not None and index >= len(case.moments[0].effects):
        raise Unable(f"record {seq} has {len(case.moments[0].effects)} effects, numbered from 0")
    lines = list(why.order_lines(case, client_id, key) if order is not None else why.record_lines(case, index))
    if output == "json":
        records = [{"n": m.n, "utc": views.utc(m.event.at_ns), "event": views.event_line(m.event, case.names)} for m in case.moments]
        print_json({"sentence": lines[-1], "lines": lines[:-2], "records": records, "exit_code": case.verdict.exit_code})
    else:
        for line in [*lines[:-1], *views.wrap(lines[-1])]:
            click.echo(line)
        if case.verdict.exit_code:
            click.echo(f"But: {in_words(case.verdict)} See haltcore replay.", err=True)
    return case.verdict.exit_code


def _not_explained(verdict: Verdict, output: str) -> int:
    if output == "json":
        print_json(verdict_json(verdict))
    for line in report(verdict).splitlines():
        click.echo(views.clean(line), err=True)
    return verdict.exit_code
