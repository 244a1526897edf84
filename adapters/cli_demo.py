"""``haltcore demo``: see it work."""

import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click
from click.core import ParameterSource

from . import demo as demos
from . import views
from .cli_common import IN_WORDS, output_option, print_json, verdict_json
from .disk import RealDisk
from .faults import PRESETS
from .program import INTERRUPTED, Unable
from .scenarios import SCENARIOS, Told, tell
from .settings_store import NoStoreUrl, filled_in

if TYPE_CHECKING:
    from .demo_shared import Shared

#: The scenario that is none of the short stories.
DAY = "day"
#: What the day's log is worth being asked: what if the bot had frozen itself sooner.
OTHER_LIMITS = "edge_freeze_threshold_bps=15"

class Screen:
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

    def say_now(self, line: str) -> None:
        """Print a line at once: for a story whose time is real."""
        self._lines.append(line)
        self.flush()

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


@click.command(short_help="See it work: trade, freeze, prove that nothing is open, replay.")
@click.option(
    "--scenario", type=click.Choice([DAY, *SCENARIOS]), default=DAY, show_default=True,
    help="A day of trading that ends in a freeze, or a short story about one thing.",
)  # fmt: skip
@click.option(
    "--seed", type=click.IntRange(0, demos.MAX_SEED), default=7, show_default=True,
    help="The same seed gives the same log, byte for byte.",
)  # fmt: skip
@click.option(
    "--faults", type=click.Choice(list(PRESETS)), default="mild", show_default=True,
    help="How ill the venue and the network behave. (day)",
)  # fmt: skip
@click.option(
    "--orders", type=click.IntRange(4, demos.MAX_ORDERS), default=40, show_default=True,
    help="About how many are open at the freeze. (day)",
)  # fmt: skip
@click.option("--journal", type=click.Path(), help="Where to write the log; by default haltcore-demo-SEED.jsonl here.")
@click.option("--quick", is_flag=True, help="10 simulated seconds of trading instead of 45. (day)")
@click.option(
    "--store", metavar="URL",
    help="Two processes on a shared Redis or Valkey, one of them killed in the middle of its sweep; such as redis://127.0.0.1:6379. "
    "${NAME} in it is that variable of the environment. In real time: a few seconds.",
)  # fmt: skip
@output_option
@click.pass_context
def demo(
    context: click.Context, scenario: str, seed: int, faults: str, orders: int, journal: str | None, quick: bool, store: str | None,
    output: str,
) -> int:  # fmt: skip
    """Trade on a paper venue, freeze, prove that nothing is open, replay the log.

    A small market maker quotes two symbols. Then its edge collapses and it freezes itself: nothing may be placed any more, everything
    is cancelled, and the sweep ends only with the proof that nothing is open. The venue loses requests, answers late and lies a little.

    The short stories: edge (three orders are open when the edge collapses), inventory (a limit says no to one order, and nothing is
    frozen), manual (a person freezes, and lifts it).

    The demo's clock is simulated: it begins on 2026-01-01, and a minute passes in seconds. With --store it is real.
    """
    if store is not None:
        return _shared(context, store, seed, journal, output)
    if scenario != DAY:
        for name in ("faults", "orders", "quick"):
            if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
                raise click.UsageError(f"--{name} is for the day; the story {scenario} goes as it goes")
    disk = RealDisk(threaded=False)
    stem = f"haltcore-demo-{seed}" if scenario == DAY else f"haltcore-demo-{scenario}-{seed}"
    path = journal if journal is not None else demos.free_name(stem, disk)
    if Path(path).is_dir():
        raise Unable(f"{path}: is a directory. Give the path of a file, such as demo.jsonl")
    screen = Screen(silent=output == "json")
    result: demos.Result | Told
    try:
        if scenario == DAY:
            plan = demos.Plan(seed, faults, orders, 10 if quick else 45)
            result = demos.play(plan, path, disk, screen.say, screen.on_jump)
        else:
            result = tell(scenario, seed, path, disk, screen.say, screen.on_jump)
        screen.flush()
    except demos.TimeLimit:
        raise Unable(f"no proof after {demos.PATIENCE_S // 3_600} simulated hours: a bug in haltcore. The log is {path}") from None
    except KeyboardInterrupt:
        click.echo(f"\nstopped by Ctrl-C; the log so far is {path}", err=True)
        return INTERRUPTED
    if output == "json":
        print_json(_as_json(result))
    else:
        for line in _ending(result):
            click.echo(views.clean(line))
    return result.exit_code


def _shared(context: click.Context, store: str, seed: int, journal: str | None, output: str) -> int:
    """The story of two processes and a store. Only it needs what talks to one."""
    from . import demo_shared
    from .demo_maker import DemoFailed
    from .redis_url import UrlRefused

    for name in ("scenario", "faults", "orders", "quick"):
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"--{name} is for the demo without a store; this story goes as it goes")
    stem = journal.removesuffix(".jsonl") if journal is not None else f"haltcore-demo-shared-{seed}"
    disk = RealDisk(threaded=False)
    if journal is None:
        stem = demo_shared.free_stem(stem, disk)
    screen = Screen(silent=output == "json")
    try:
        result = demo_shared.play(filled_in(store, os.environ), seed, stem, disk, screen.say_now)
    except (UrlRefused, NoStoreUrl) as refused:
        raise click.UsageError(f"--store: {refused}") from None
    except DemoFailed as failed:
        raise Unable(str(failed)) from None
    except KeyboardInterrupt:
        click.echo(f"\nstopped by Ctrl-C; the logs so far are {', '.join(demo_shared.log_names(stem))}", err=True)
        return INTERRUPTED
    if output == "json":
        fields = attrs.asdict(attrs.evolve(result, logs=()))
        logs = [
            {"name": log.name, "files": log.files, "frozen_at": log.frozen_at, "verdict": verdict_json(log.verdict)} for log in result.logs
        ]
        print_json({**fields, "promises": dict(result.promises), "logs": logs, "exit_code": result.exit_code})
    else:
        for line in _shared_ending(result):
            click.echo(views.clean(line))
    return result.exit_code


def _shared_ending(result: "Shared") -> Iterator[str]:
    yield ""
    yield from _kept(result.promises)
    yield ""
    for log in result.logs:
        verdict = log.verdict
        yield f"REPLAY   {log.name}: {verdict.kind.upper()}: {verdict.records:,} records read again, every decision compared"
    yield ""
    yield f"The logs are {' and '.join(log.files[0] for log in result.logs)}. What to try next:"
    steps = [(f"why {shlex.quote(log.files[0])} --seq {log.frozen_at}", f"how {log.name} froze") for log in result.logs if log.frozen_at]
    steps += [(f"show {shlex.quote(log.files[0])} --from {log.frozen_at or 1} | less", "") for log in result.logs]
    width = max(len(command) for command, _ in steps) + 3
    for command, shows in steps:
        yield f"  haltcore {command:<{width}}{shows}".rstrip()
    if result.exit_code:
        yield f"exit {result.exit_code}"


def _kept(promises: Sequence[tuple[str, bool]]) -> Iterator[str]:
    broken = [text for text, kept in promises if not kept]
    yield f"KEPT     {len(promises) - len(broken)} of {len(promises)} promises of this story"
    yield from (f"NOT SO   {text}" for text in broken)


def _as_json(result: demos.Result | Told) -> dict[str, Any]:
    verdict = verdict_json(result.verdict) if result.verdict is not None else None
    fields = attrs.asdict(attrs.evolve(result, verdict=None))
    if isinstance(result, Told):
        fields["promises"] = dict(result.promises)
    return {**fields, "verdict": verdict, "exit_code": result.exit_code}


def _ending(result: demos.Result | Told) -> Iterator[str]:
    yield ""
    if isinstance(result, Told):
        yield from _kept(result.promises)
    else:
        yield from _proof(result)
    yield ""
    if result.problem:
        yield f"JOURNAL  {result.problem}"
        yield "         The bot froze itself for that, and cancelled without a log."
        return
    verdict = result.verdict
    assert verdict is not None
    yield f"REPLAY   {verdict.kind.upper()}: {verdict.records:,} records read again, every decision compared"
    yield f"         {IN_WORDS[verdict.kind]}"
    yield ""
    yield f"The log is {result.files[0]}. What to try next:"
    steps = list(_next_steps(result, shlex.quote(result.files[0])))
    width = max(len(command) for command, shows in steps if shows) + 3
    for command, shows in steps:
        yield f"  haltcore {command:<{width}}{shows}".rstrip()
    line = 100 if verdict.records > 100 else 10
    yield f"  sed '{line}s/1/2/' {shlex.quote(result.files[0])} > changed.jsonl; haltcore replay changed.jsonl"
    if result.exit_code:
        yield f"exit {result.exit_code}"


def _proof(result: demos.Result) -> Iterator[str]:
    proof = result.proof
    late = ", after it had reported that it was not done yet" if result.late else ""
    yield f"PROOF    {'VERIFIED' if proof.verified else proof.status.upper()} after {proof.duration_ms:,} ms{late}"
    fates = ", ".join(f"{count} {fate}" for fate, count in result.fates)
    yield f"         {sum(count for _, count in result.fates)} orders at the freeze: {fates}; rounds of cancels: {proof.rounds}"
    yield f"         orders open at the venue, by its own books: {result.open_at_venue}"
    denials = ", ".join(f"{count} {code}" for code, count in result.denials)
    yield f"GATE     {result.denied} orders denied on the way{': ' * bool(denials)}{denials}"


def _next_steps(result: demos.Result | Told, log: str) -> Iterator[tuple[str, str]]:
    """Commands, and what each shows."""
    if isinstance(result, demos.Result) and result.sample:
        yield f"why {log} --order {result.sample}", "an order, and who cancelled it"
    if result.frozen_at:
        yield f"why {log} --seq {result.frozen_at}", "the freeze"
    if result.denied_at:
        yield f"why {log} --seq {result.denied_at}", "a denied order, check by check"
    change = OTHER_LIMITS if isinstance(result, demos.Result) else SCENARIOS[result.scenario].other
    if change:
        yield f"what-if {log} --set {change}", "the same events under another limit"
    yield f"show {log} --from {result.frozen_at or 1} | less", ""
    yield f"replay {log}", ""
