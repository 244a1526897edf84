"""``haltcore what-if``: the log of a session, decided again under other limits, side by side with what was decided.

What is compared, and what is assumed where the log cannot know, stands in ``fsm/counterfactual.py``. Nothing is written, nothing is sent.
"""

import textwrap
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import attrs
import click

from ..effects import Notional, ValueRefused, notional_text, to_text
from ..fsm.comparison import SENT, Comparison, Course, FreezeBegun, Peak, Ruling, Standing
from ..fsm.config import Config, ConfigRefused
from ..fsm.core import in_words
from ..fsm.counterfactual import counterfactual
from ..fsm.exposure import UNPRICED
from ..fsm.limits import FIGURES, NO_LIMITS, LimitRule, written
from ..fsm.verdict import Verdict, report
from . import views
from .arguments import figures
from .cli_common import log_files, output_option, print_json, reading, verdict_json
from .program import Unable
from .settings import with_limits_of

#: Decimals of exposure and result.
_DIGITS: Final = 24
#: How many differences the text shows.
_SHOWN: Final = 10
#: One and the other, in words.
_SIDES: Final = ("as recorded", "what if")
#: Codes of replaces that had nothing to replace.
_MOOT: Final = ("unknown_order", "not_working", "cancel_pending", "replace_pending")
_ASSUMED: Final = (
    "Assumed: market, bot and operators do the same in both. What both ask of the venue, the log answers.",
    "What only the changed run cancels is cancelled at once; what only it has open never fills.",
)
_Fields = dict[str, Any]


@click.command(name="what-if", short_help="Decide a log again under other limits, side by side.")
@click.argument("log", nargs=-1, required=True, type=click.Path())
@click.option("--limits", "file", type=click.Path(), help="A TOML file: its [limits] and [triggers] are what is to be different.")
@click.option("--set", "pairs", multiple=True, metavar="FIGURE=VALUE", help="One figure; may be repeated. `none` takes it away.")
@click.option("--symbol", default="", help="Where --set applies: the rule for this symbol.")
@click.option("--strategy", default="", help="Where --set applies: the rule for this strategy.")
@output_option
def what_if(log: tuple[str, ...], file: str | None, pairs: tuple[str, ...], symbol: str, strategy: str, output: str) -> int:
    """Decide a log again under other limits: which orders would have been denied, when it would have frozen, what would have been held.

    LOG is a file; the segments that follow it are read too. Or give all segments, in order. The log is verified and decided again on the
    way; if this core decides otherwise than it says, that is told instead, with the exit code of replay. Both --limits and --set change
    the configuration that stands in the log; what neither names stays as it was. FILE may be a whole file of settings: what stands in it
    besides [limits] and [triggers] (session, symbols, strategies and the other keys at the top, [venue], [sweep], [store], [instrument]) is
    ignored.

    Try it: haltcore what-if demo.jsonl --set edge_freeze_threshold_bps=15
    """
    if file is None and not pairs:
        raise click.UsageError("say what is to be different: --limits FILE, or --set figure=value such as --set max_order_value=500")
    if (symbol or strategy) and not pairs:
        raise click.UsageError("--symbol and --strategy say where --set applies; a file says it by its sections")
    change = _Change(file, _named(pairs), symbol, strategy)
    notes: list[str] = []
    files = log_files(log, notes)
    try:
        with reading(files) as sources:
            found = counterfactual(sources, change)
    except ConfigRefused as refused:
        raise Unable("\n".join(map(views.clean, str(refused).splitlines()))) from None
    verdict = found.verdict
    if verdict.exit_code:
        return _not_compared(verdict, output)
    if not change.seen:
        raise Unable("the session has not begun in this log, so there is nothing to decide under other limits")
    if output == "json":
        print_json(_as_json(files, found, change))
        return 0
    for line in (*notes, *_lines(files, found, change)):
        click.echo(views.clean(line))
    return 0


def _named(pairs: tuple[str, ...]) -> dict[str, str | None]:
    named: dict[str, str | None] = {}
    for pair in pairs:
        name, equal, value = (part.strip() for part in pair.partition("="))
        if not name or not equal or not value:
            raise click.UsageError(f"--set {pair!r}: write figure=value, such as max_order_value=500, or max_order_value=none")
        if name in named:
            raise click.UsageError(f"--set {name}: given twice")
        named[name] = None if value == "none" else value
    try:
        figures(NO_LIMITS, named or {"max_order_value": None})
    except ValueRefused as refused:
        raise click.UsageError(f"--set {refused}") from None
    return named


class _Change:
    """What is asked for, as a function of the log's configuration. ``seen``: the first configuration of the log, and what became of it."""

    def __init__(self, file: str | None, named: dict[str, str | None], symbol: str, strategy: str) -> None:
        self.seen: tuple[Config, Config] | None = None
        self._file, self._named, self._symbol, self._strategy = file, named, symbol, strategy

    def __call__(self, config: Config) -> Config:
        new = with_limits_of(config, self._file) if self._file is not None else config
        new = self._with_named(new) if self._named else new
        self.seen = self.seen or (config, new)
        return new

    def _with_named(self, config: Config) -> Config:
        if not self._symbol and not self._strategy:
            return attrs.evolve(config, limits=figures(config.limits, self._named))
        for option, name, known in (("symbol", self._symbol, config.symbols), ("strategy", self._strategy, config.strategies)):
            if name and name not in known:
                kind = "symbols" if option == "symbol" else "strategies"
                raise ConfigRefused(f"--{option}: {name!r} is not among the {kind} of the log; it has {', '.join(known) or 'none'}")
        rules = {rule.conditions: rule for rule in config.rules}
        empty = LimitRule(NO_LIMITS, symbol=self._symbol, strategy=self._strategy)
        old = rules.get(empty.conditions, empty)
        rules[empty.conditions] = attrs.evolve(old, limits=figures(old.limits, self._named))
        return attrs.evolve(config, rules=tuple(rules.values()))

    def told(self) -> list[tuple[str, str, str, str]]:
        """What differs: rule or place, figure, as in the log, changed."""
        old, new = self.seen or (None, None)
        if old is None or new is None:
            return []
        rules = [{rule.conditions: rule for rule in (LimitRule(config.limits), *config.rules)} for config in (old, new)]
        told = []
        for conditions in dict.fromkeys((*rules[0], *rules[1])):
            one, two = (side.get(conditions) for side in rules)
            label = (one or two or LimitRule(NO_LIMITS)).label
            for figure in FIGURES:
                was, now = (written(figure.name, getattr(rule.limits if rule else NO_LIMITS, figure.name)) for rule in (one, two))
                told += [(label, figure.name, was, now)] if was != now else []
        for field in attrs.fields(type(old.triggers)):
            was, now = (_trigger(field.name, getattr(config.triggers, field.name)) for config in (old, new))
            told += [("triggers", field.name, was, now)] if was != now else []
        return told


def _trigger(name: str, value: Any) -> str:
    if name == "cool_downs":
        return ", ".join(f"{cool.kind} {cool.wait_ms} ms" for cool in value) or "none"
    return str(value) if name == "clock_jump_ms" and value is not None else written(name, value)


def _not_compared(verdict: Verdict, output: str) -> int:
    if output == "json":
        print_json(verdict_json(verdict))
    for line in report(verdict).splitlines():
        click.echo(views.clean(line), err=True)
    return verdict.exit_code


# --- JSON -------------------------------------------------------------------------------------------------------------


def _as_json(files: list[str], found: Comparison, change: _Change) -> _Fields:
    told = [{"rule": rule, "figure": figure, "recorded": was, "other": now} for rule, figure, was, now in change.told()]
    series = [
        {"record": p.record, "utc": views.utc(p.at_ns), "recorded": _standing(p.recorded), "other": _standing(p.other)}
        for p in found.series
    ]
    rulings = [
        {
            "record": r.record, "utc": views.utc(r.at_ns), "order": r.order, "client_id": r.client_id, "symbol": r.symbol, "side": r.side,
            "qty": to_text(r.qty), "price": _price(r.price), "stop_price": _price(r.stop_price), "replace": r.replace,
            "recorded": r.recorded, "other": r.other,
        }
        for r in found.rulings
    ]  # fmt: skip
    return {
        "files": files, "changed": told, "first": found.first, "recorded": _course(found.recorded), "other": _course(found.other),
        "rulings": rulings, "series": series, "supposed": found.supposed, "supposed_from": found.supposed_from,
        "superseded": [
            {"record": s.record, "utc": views.utc(s.at_ns), "rule": s.rule, "figure": s.figure, "value": s.value} for s in found.superseded
        ],
        "meaning": list(_meaning(found)), "assumed": " ".join(_ASSUMED), "verdict": verdict_json(found.verdict), "exit_code": 0,
    }  # fmt: skip


def _course(course: Course) -> _Fields:
    freezes = [
        {"record": f.record, "utc": views.utc(f.at_ns), "scope": f.scope, "trigger": f.trigger, "reason": f.reason} for f in course.freezes
    ]
    return {
        "sent": course.sent, "denied": dict(course.denied), "freezes": freezes, "end": _standing(course.end),
        "highest_exposure": {"value": _exact(course.highest_exposure.value), "record": course.highest_exposure.record},
        "lowest_gain": {"value": _exact(course.lowest_gain.value), "record": course.lowest_gain.record},
        "most_open": {"value": course.most_open.value, "record": course.most_open.record},
    }  # fmt: skip


def _standing(standing: Standing) -> _Fields:
    return {"exposure": _exact(standing.exposure), "gain": _exact(standing.gain), "open_orders": standing.open_orders}


def _price(value: int | None) -> str | None:
    return to_text(value) if value is not None else None


def _exact(value: int) -> str | None:
    """Exactly; None for what has no bound, since nobody has told a price."""
    return notional_text(Notional(value)) if value < UNPRICED else None


# --- text -------------------------------------------------------------------------------------------------------------


def _lines(files: list[str], found: Comparison, change: _Change) -> Iterator[str]:
    told = change.told()
    changes = [f"{figure} {now} instead of {was} ({rule})" for rule, figure, was, now in told]
    yield f"WHAT IF  {changes[0] if changes else 'nothing were different: the log has these figures already'}"
    yield from (f"         {text}" for text in changes[1:])
    verdict = found.verdict
    torn = f", torn tail of {verdict.torn} bytes cut off" if verdict.torn else ""
    yield f"         {files[0]}: {verdict.records:,} records, to {views.utc(verdict.core.now_ns)}{torn}"
    yield ""
    yield from _table(found.recorded, found.other)
    yield ""
    yield from _freezes(found)
    yield from _orders(found.rulings)
    for sentence in _meaning(found):
        yield from views.wrap(sentence)
    yield from _ASSUMED


def _table(recorded: Course, other: Course) -> Iterator[str]:
    one, two = dict(recorded.denied), dict(other.denied)
    rows: list[tuple[str, str, str]] = [("", *_SIDES)]
    rows.append(("orders and replaces sent", f"{recorded.sent:,}", f"{other.sent:,}"))
    rows.append(("denied", f"{sum(one.values()):,}", f"{sum(two.values()):,}"))
    rows += [(f"  {code}", f"{one.get(code, 0):,}", f"{two.get(code, 0):,}") for code in sorted(dict.fromkeys((*one, *two)))]
    rows.append(("freezes", f"{len(recorded.freezes):,}", f"{len(other.freezes):,}"))
    rows.append(("highest exposure", _peak(recorded.highest_exposure), _peak(other.highest_exposure)))
    rows.append(("exposure at the end", _money(recorded.end.exposure), _money(other.end.exposure)))
    rows.append(("lowest result", _peak(recorded.lowest_gain), _peak(other.lowest_gain)))
    rows.append(("result at the end", _money(recorded.end.gain), _money(other.end.gain)))
    rows.append(("most orders open", f"{recorded.most_open.value:,}", f"{other.most_open.value:,}"))
    rows.append(("orders open at the end", f"{recorded.end.open_orders:,}", f"{other.end.open_orders:,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for name, was, now in rows:
        yield f"  {name:{widths[0]}}  {was:>{widths[1]}}  {now:>{widths[2]}}".rstrip()


def _peak(peak: Peak) -> str:
    return _money(peak.value)


def _money(value: int) -> str:
    """To the cent, cut off; the exact figure is in the JSON."""
    if value >= UNPRICED:
        return "no bound"
    whole, cents = divmod(abs(value) // 10 ** (_DIGITS - 2), 100)
    return f"{'-' if value < 0 and (whole or cents) else ''}{whole:,}.{cents:02}"


def _freezes(found: Comparison) -> Iterator[str]:
    if not found.recorded.freezes and not found.other.freezes:
        return
    yield "FREEZES"
    for side, course in zip(_SIDES, (found.recorded, found.other), strict=True):
        if not course.freezes:
            yield f"  {side:11}  none"
        for freeze in course.freezes[:_SHOWN]:
            head = f"  {side:11}  record {freeze.record:<7,} {views.utc(freeze.at_ns, day=False)}  "
            text = f"{in_words(freeze.scope)}: {freeze.reason}"
            yield from textwrap.wrap(text, views.WIDTH, initial_indent=head, subsequent_indent=" " * len(head))
        if len(course.freezes) > _SHOWN:
            yield f"  {side:11}  and {len(course.freezes) - _SHOWN:,} more; -o json has them all"
    yield ""


def _orders(rulings: tuple[Ruling, ...]) -> Iterator[str]:
    if not rulings:
        return
    many = "1 order is" if len(rulings) == 1 else f"{len(rulings):,} orders and replaces are"
    first = f"; the first {_SHOWN}:" if len(rulings) > _SHOWN else ":"
    yield f"ORDERS   {many} ruled on differently{first}"
    rows = [("record", "time", "order", "", *_SIDES)]
    for r in rulings[:_SHOWN]:
        at = "".join(f" {word} {to_text(value)}" for word, value in (("at", r.price), ("stop", r.stop_price)) if value is not None)
        what = f"{'replace to' if r.replace else r.side.value} {to_text(r.qty)} {r.symbol}{at}"
        rows.append((f"{r.record:,}", views.utc(r.at_ns, day=False), r.client_id, what, r.recorded, r.other))
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    for record, time, order, what, was, now in rows:
        line = f"  {record:>{widths[0]}}  {time:{widths[1]}}  {order:{widths[2]}}  {what:{widths[3]}}  {was:{widths[4]}}  {now}"
        yield line.rstrip()
    if len(rulings) > _SHOWN:
        yield f"  and {len(rulings) - _SHOWN:,} more; -o json has them all"
    yield ""


def _meaning(found: Comparison) -> Iterator[str]:
    """What it comes to, in sentences."""
    for s in found.superseded:
        yield f"From record {s.record:,} the log's change of {s.figure} ({s.rule}: {s.value}) holds instead."
    if not found.first:
        yield "Nothing differs: every order is ruled on alike, and the same freezes come at the same time."
        return
    yield f"The runs part in record {found.first:,} ({views.utc(found.first_ns, day=False)})."
    yield from _meaning_of_freezes(found.recorded.freezes, found.other.freezes)
    gone_out = [r for r in found.rulings if r.recorded == SENT]
    denied = Counter(r.other for r in gone_out if r.other not in _MOOT)
    if denied:
        yield f"{_many(denied.total()).capitalize()} that went out would have been denied: {_codes(denied)}."
    moot = len(gone_out) - denied.total()
    if moot:
        yield f"{moot:,} replace{'' if moot == 1 else 's'} that went out would have had no open order to replace."
    allowed = Counter(r.recorded for r in found.rulings if r.other == SENT)
    if allowed:
        yield f"Denied in the log, {_many(allowed.total())} would have gone out: {_codes(allowed)}."
    if found.supposed:
        many = "there is one order" if found.supposed == 1 else f"there are {found.supposed:,} orders"
        yield f"From record {found.supposed_from:,} on this is an estimate: {many} of which the log cannot say what would have filled."


def _meaning_of_freezes(recorded: tuple[FreezeBegun, ...], other: tuple[FreezeBegun, ...]) -> Iterator[str]:
    if not other:
        if recorded:
            yield "It would not have frozen."
        return
    first = other[0]
    if not recorded:
        yield f"It would have frozen, in record {first.record:,}: {first.reason}."
    elif (first.at_ns, first.record) != (recorded[0].at_ns, recorded[0].record):
        apart = abs(first.at_ns - recorded[0].at_ns) // 1_000_000
        word = "earlier" if (first.at_ns, first.record) < (recorded[0].at_ns, recorded[0].record) else "later"
        why = f", for another reason: {first.reason}" if first.trigger is not recorded[0].trigger else ""
        yield f"It would have frozen {apart / 1_000:,.3f} s {word}, in record {first.record:,} instead of {recorded[0].record:,}{why}."


def _many(count: int) -> str:
    return "one order or replace" if count == 1 else f"{count:,} orders and replaces"


def _codes(counted: Counter[str]) -> str:
    return ", ".join(f"{count:,} {code}" for code, count in sorted(counted.items()))
