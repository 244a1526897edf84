"""The command line. Thin: each verb reads its arguments, calls the library, prints, and returns an exit code.

What the exit codes mean, and what happens to errors, stands in ``program.py``.
"""

import re
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import attrs
import click
import msgspec

from ..effects import EFFECT_CLASSES
from ..fsm.chain import LogBroken, Unsupported
from ..fsm.events import EVENT_CLASSES
from ..fsm.record import FORMAT, RULES
from ..fsm.replay import Entry, Source, entries, replay
from ..fsm.verdict import EXIT_CODES, Kind, Verdict, report
from . import demo as demos
from . import views, why
from .disk import RealDisk
from .faults import PRESETS
from .journal import exists, segments
from .program import CODES, INTERRUPTED, Program, Unable

_IN_WORDS = {
    Kind.SAME: "The log is whole, and this core, given the same events, decides the same to the byte.",
    Kind.OTHER_TELEMETRY: "The log is whole and every decision is the same; only metrics differ.",
    Kind.BROKEN: "These are not the bytes that haltcore wrote. Nothing behind this place can be trusted.",
    Kind.DIVERGED: "The bytes are true, but this core decides otherwise: its code is not the code that wrote the log.",
    Kind.UNSAFE: "The bytes are true and this core decides the same, but the decision breaks a promise: a bug in haltcore.",
    Kind.UNSUPPORTED: "This version of haltcore cannot read the log.",
}


def _version() -> str:
    try:
        return version("haltcore")
    except PackageNotFoundError:
        return "unknown"


_output = click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Form of the output.")


@click.group(cls=Program, epilog=CODES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(_version(), prog_name="haltcore", message=f"%(prog)s %(version)s, log format {FORMAT}, rules {RULES}")
def main() -> None:
    """The part of a trading bot that must not be wrong: what it decides, why, and how to check it.

    Begin with `haltcore demo`: a bot that freezes itself, cancels everything, and proves it.
    """


# --- demo -----------------------------------------------------------------------------------------------------------


class _Screen:
    """Shows the demo's lines, and on a terminal lets a simulated second take a tenth of one; the sweep runs in real time for a while.

    Lines are printed when time moves, not when they are said: an output that fails then raises outside of the session's tasks.
    """

    def __init__(self, silent: bool) -> None:
        self._silent = silent
        self._paced = not silent and sys.stdout.isatty()
        self._lines: list[str] = []
        self._last_ns = 0
        self._slow_ns = 0

    def say(self, line: str) -> None:
        """Keep a line for the next time that time moves."""
        if line.startswith("FREEZE"):
            self._slow_ns = 3 * 10**9
        self._lines.append(line)

    def on_jump(self, now_ns: int) -> None:
        """Time has moved."""
        self.flush()
        passed, self._last_ns = now_ns - self._last_ns, now_ns
        slow = min(passed, self._slow_ns)
        self._slow_ns -= slow
        if self._paced:
            time.sleep((slow + (passed - slow) / 10) / 1e9)

    def flush(self) -> None:
        """Print what was said."""
        lines, self._lines = self._lines, []
        if not self._silent:
            for line in lines:
                click.echo(views.clean(line))


@main.command(short_help="See it work: trade, freeze, prove that nothing is open, replay.")
@click.option(
    "--seed", type=click.IntRange(0, demos.MAX_SEED), default=7, show_default=True,
    help="The same seed gives the same log, byte for byte.",
)  # fmt: skip
@click.option(
    "--faults", type=click.Choice(list(PRESETS)), default="mild", show_default=True,
    help="How ill the venue and the network behave.",
)  # fmt: skip
@click.option(
    "--orders", type=click.IntRange(4, demos.MAX_ORDERS), default=40, show_default=True,
    help="About how many are open at the freeze.",
)  # fmt: skip
@click.option("--journal", type=click.Path(), help="Where to write the log; by default haltcore-demo-SEED.jsonl here.")
@click.option("--quick", is_flag=True, help="10 simulated seconds of trading instead of 45.")
@_output
def demo(seed: int, faults: str, orders: int, journal: str | None, quick: bool, output: str) -> int:
    """Trade on a paper venue, freeze, prove that nothing is open, replay the log.

    A small market maker quotes two symbols. Then its edge collapses and it freezes itself: nothing may be placed any more, everything
    is cancelled, and the sweep ends only with the proof that nothing is open. The venue loses requests, answers late and lies a little.

    The demo's clock is simulated: it begins on 2026-01-01, and a minute passes in seconds.
    """
    disk = RealDisk(threaded=False)
    path = journal if journal is not None else demos.free_name(f"haltcore-demo-{seed}", disk)
    if Path(path).is_dir():
        raise Unable(f"{path}: is a directory. Give the path of a file, such as demo.jsonl")
    screen = _Screen(silent=output == "json")
    plan = demos.Plan(seed, faults, orders, 10 if quick else 45)
    try:
        result = demos.play(plan, path, disk, screen.say, screen.on_jump)
        screen.flush()
    except demos.TimeLimit:
        raise Unable(f"no proof after {demos.PATIENCE_S // 3_600} simulated hours: a bug in haltcore. The log is {path}") from None
    except KeyboardInterrupt:
        click.echo(f"\nstopped by Ctrl-C; the log so far is {path}", err=True)
        return INTERRUPTED
    if output == "json":
        _json(_demo_json(result))
    else:
        for line in _demo_lines(result):
            click.echo(views.clean(line))
    return result.exit_code


def _demo_json(result: demos.Result) -> dict[str, Any]:
    verdict = _verdict_json(result.verdict) if result.verdict is not None else None
    return {**attrs.asdict(attrs.evolve(result, verdict=None)), "verdict": verdict, "exit_code": result.exit_code}


def _demo_lines(result: demos.Result) -> Iterator[str]:
    proof, verdict = result.proof, result.verdict
    yield ""
    late = ", after it had reported that it was not done yet" if result.late else ""
    yield f"PROOF    {'VERIFIED' if proof.verified else proof.status.upper()} after {proof.duration_ms:,} ms{late}"
    fates = ", ".join(f"{count} {fate}" for fate, count in result.fates)
    yield f"         {sum(count for _, count in result.fates)} orders at the freeze: {fates}; rounds of cancels: {proof.rounds}"
    yield f"         orders open at the venue, by its own books: {result.open_at_venue}"
    yield ""
    if result.problem:
        yield f"JOURNAL  {result.problem}"
        yield "         The bot froze itself for that, and cancelled without a log."
        return
    assert verdict is not None
    yield f"REPLAY   {verdict.kind.upper()}: {verdict.records:,} records read again, every decision compared"
    yield f"         {_IN_WORDS[verdict.kind]}"
    yield ""
    log = shlex.quote(result.files[0])
    yield f"The log is {result.files[0]}. What to try next:"
    if result.sample:
        yield f"  haltcore why {log} --order {result.sample:<14} an order, and who cancelled it"
    yield f"  haltcore why {log} --seq {result.frozen_at:<16} the freeze"
    if result.denied_at:
        yield f"  haltcore why {log} --seq {result.denied_at:<16} a denied order, check by check"
    yield f"  haltcore show {log} --from {result.frozen_at} | less"
    yield f"  haltcore replay {log}"
    yield f"  sed '100s/1/2/' {log} > changed.jsonl; haltcore replay changed.jsonl"
    if result.exit_code:
        yield f"exit {result.exit_code}"


# --- reading logs -----------------------------------------------------------------------------------------------------


def _files(paths: tuple[str, ...], notes: list[str]) -> list[str]:
    """The segments to read. One path stands for its log from there on; several are taken as they are."""
    if len(paths) > 1:
        return list(paths)
    disk, path = RealDisk(threaded=False), Path(paths[0])
    later = re.fullmatch(r"(.+)\.(\d{4,})", path.stem)
    first = path.with_name(later[1] + path.suffix) if later else path
    if later and exists(str(first), disk) and first.exists():
        files = segments(str(first), disk)[int(later[2]) - 1 :] or [paths[0]]
    else:
        files = segments(paths[0], disk)
    if len(files) > 1:
        notes.append(f"the log has {len(files)} segments from here on: {', '.join(files)}")
    return files


@contextmanager
def _reading(files: list[str]) -> Iterator[list[Source]]:
    """The segments as sources, with a progress bar on a terminal when there is much to read."""
    disk = RealDisk(threaded=False)
    for name in files:
        if Path(name).is_dir():
            raise Unable(f"{name}: is a directory. Give the path of a log, such as logs/mm1.jsonl")
    total = sum(Path(name).stat().st_size for name in files)
    if total < 8 * 1024 * 1024 or not sys.stderr.isatty():
        yield [Source(name, disk.read(name)) for name in files]
        return
    with click.progressbar(length=total, label="reading", file=sys.stderr) as bar:

        def counted(name: str) -> Iterator[bytes]:
            for chunk in disk.read(name):
                yield chunk
                bar.update(len(chunk))

        yield [Source(name, counted(name)) for name in files]


def _json(value: Any) -> None:
    click.echo(msgspec.json.encode(value).decode())


def _verdict_json(verdict: Verdict) -> dict[str, Any]:
    fields = {field.name: getattr(verdict, field.name) for field in attrs.fields(Verdict) if field.name != "core"}
    return {**fields, "in_words": _IN_WORDS[verdict.kind]}


def _refused(error: LogBroken | Unsupported, output: str) -> int:
    """What ``show`` says of a log that it cannot read."""
    kind = Kind.BROKEN if isinstance(error, LogBroken) else Kind.UNSUPPORTED
    if output == "json":
        _json({"kind": kind, "problem": str(error), "exit_code": EXIT_CODES[kind]})
    click.echo(views.clean(f"{kind.upper()}: {error}"), err=True)
    return EXIT_CODES[kind]


@main.command(name="replay", short_help="Verify a log and decide everything in it again.")
@click.argument("log", nargs=-1, required=True, type=click.Path())
@click.option("--require-seal", is_flag=True, help="A log that was not closed, or lost its end, is broken.")
@click.option("--strict", is_flag=True, help="Other metrics count as diverged.")
@click.option("--until", type=click.IntRange(1), help="Stop after this record.")
@_output
def replay_command(log: tuple[str, ...], require_seal: bool, strict: bool, until: int | None, output: str) -> int:
    """Verify a log and decide everything in it again.

    LOG is a file; the segments that follow it are read too. Or give all segments, in order. Nothing is sent anywhere: a replay
    has no connection to anything.
    """
    notes: list[str] = []
    files = _files(log, notes)
    with _reading(files) as sources:
        verdict = replay(sources, require_seal=require_seal, strict=strict, until=until)
    if until is not None and verdict.exit_code == 0 and verdict.last < until:
        notes.append(f"the log ends before record {until}")
    if output == "json":
        _json({"files": files, **_verdict_json(verdict)})
        return verdict.exit_code
    for note in notes:
        click.echo(views.clean(note))
    click.echo(_IN_WORDS[verdict.kind])
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
@_output
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
        with _reading(_files(log, notes)) as sources:
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
        _json(views.record_json(entry))
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
@_output
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
    with _reading(_files(log, notes)) as sources:
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
        _json({"sentence": lines[-1], "lines": lines[:-2], "records": records, "exit_code": case.verdict.exit_code})
    else:
        for line in [*lines[:-1], *views.wrap(lines[-1])]:
            click.echo(line)
        if case.verdict.exit_code:
            click.echo(f"But: {_IN_WORDS[case.verdict.kind]} See haltcore replay.", err=True)
    return case.verdict.exit_code


def _not_explained(verdict: Verdict, output: str) -> int:
    if output == "json":
        _json(_verdict_json(verdict))
    for line in report(verdict).splitlines():
        click.echo(views.clean(line), err=True)
    return verdict.exit_code
