"""The words of the control: what each takes, and what it does to the session.

================= ================================= ==================================================================
word              becomes                           takes, besides ``command`` and ``token``
================= ================================= ==================================================================
freeze            ``Freeze``                        scope, who, reason, wait
unfreeze          ``Unfreeze``                      scope, who, why, force
reduce-only       ``SetReduceOnly``                 scope, who, why, on
status            nothing                           nothing
limits            nothing                           nothing
limits-set        ``ChangeLimits``                  figures, symbol, strategy, band, from_minute, to_minute, who, why
limits-override   ``OverrideLimits``                figures, for_ms, symbol, strategy, who, why
limits-verify     ``VerifyOverride``                override, who
limits-end        ``EndOverride``                   override, who, why
restrict          ``Restrict``                      symbol, on, who, why
reenable          ``Reenable``                      strategy, who, why
breaker           ``OverrideBreaker``               to, for_ms, job, who, why
================= ================================= ==================================================================

A scope is one of symbol, strategy and venue (true), or none of them for the account. Figures are by name, each a text, a number or null,
which takes it away. Amounts come and go as texts: they are exact.
"""

from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

import attrs
import msgspec

from ..effects import to_text
from ..fsm.core import JOB, in_words
from ..fsm.exposure import UNPRICED
from ..fsm.limits import FIGURES, NO_LIMITS, LimitRule, Limits, Override, written
from ..fsm.record import FORMAT, RULES
from .answers import CommandRejected, HaltcoreError
from .arguments import scope as to_scope

if TYPE_CHECKING:
    from .operations import Operations

#: Stands for the value of what has no price yet.
UNKNOWN_VALUE: Final = "no price"
Fields = dict[str, Any]


class Word(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What every request may have."""

    command: str
    token: str = ""


class Scoped(Word, kw_only=True):
    """A scope: at most one of these, or the account."""

    symbol: str = ""
    strategy: str = ""
    venue: bool = False

    @property
    def scope(self) -> str:
        """As the core calls it."""
        return to_scope(self.symbol, self.strategy, self.venue)

    @property
    def named(self) -> Fields:
        """As the runner's methods take it."""
        return {"symbol": self.symbol, "strategy": self.strategy, "venue": self.venue}


class FreezeWord(Scoped, kw_only=True):
    """Freeze; with ``wait``, answer when the sweep reports."""

    who: str = ""
    reason: str = "asked for by an operator"
    wait: bool = False


class UnfreezeWord(Scoped, kw_only=True):
    """Lift a freeze."""

    who: str = ""
    why: str = ""
    force: bool = False


class ReduceOnlyWord(Scoped, kw_only=True):
    """Only orders that reduce, or no longer only those."""

    who: str = ""
    why: str = ""
    on: bool = True


class StatusWord(Word, kw_only=True):
    """How it stands."""


class LimitsWord(Word, kw_only=True):
    """The limits and how much of them is used."""


class SetLimitsWord(Word, kw_only=True):
    """Change figures of one rule; null takes one away."""

    figures: dict[str, str | int | bool | None]
    symbol: str = ""
    strategy: str = ""
    band: str = ""
    from_minute: int = 0
    to_minute: int = 0
    who: str = ""
    why: str = ""


class OverrideWord(Word, kw_only=True):
    """Figures that hold instead for a while."""

    figures: dict[str, str | int | bool | None]
    for_ms: int
    symbol: str = ""
    strategy: str = ""
    who: str = ""
    why: str = ""


class VerifyWord(Word, kw_only=True):
    """A second person agrees to an override."""

    override: int
    who: str = ""


class EndWord(Word, kw_only=True):
    """An override ends."""

    override: int
    who: str = ""
    why: str = ""


class RestrictWord(Word, kw_only=True):
    """The restricted list."""

    symbol: str
    who: str = ""
    why: str = ""
    on: bool = True


class ReenableWord(Word, kw_only=True):
    """The execution throttle is taken off."""

    strategy: str = ""
    who: str = ""
    why: str = ""


class BreakerWord(Word, kw_only=True):
    """A circuit breaker is forced, or begins anew."""

    to: str
    for_ms: int = 0
    job: str = JOB
    who: str = ""
    why: str = ""


# --- what each does ---------------------------------------------------------------------------------------------------


async def _freeze(runner: "Operations", word: FreezeWord, by: str) -> Fields:
    return await frozen_by(runner, word, await runner.begin_freeze(word.reason, by, **word.named))


async def frozen_by(runner: "Operations", word: FreezeWord, record: int) -> Fields:
    """What comes of a freeze that this record holds."""
    answer = {"record": record, "mode": runner.mode(word.scope)}
    if not word.wait:
        return {**answer, "text": "frozen" if runner.proven(**word.named) else "frozen; the proof that nothing is open is under way"}
    try:
        proof = await runner.proof(**word.named)
    except HaltcoreError as error:
        return {**answer, "ok": False, "code": error.code, "text": f"it was frozen; then: {error.reason}"}
    text = "frozen, and proven empty" if proof.verified else f"frozen, and not proven empty yet: {proof.remaining} order(s) may be open"
    return {**answer, "mode": runner.mode(word.scope), "proof": attrs.asdict(proof), "text": text}


async def _unfreeze(runner: "Operations", word: UnfreezeWord, by: str) -> Fields:
    try:
        record = await runner.unfreeze(by, word.why, force=word.force, **word.named)
    except CommandRejected as error:
        if not error.frozen:
            raise
        text = f"{in_words(word.scope)} is {runner.mode(word.scope).value}"
        return {"ok": False, "code": error.code, "text": text, "record": error.record, "frozen": error.frozen}
    followers = "; other processes of the account that follow it have to be lifted too" if runner.config.store.configured else ""
    return {"record": record, "mode": runner.mode(word.scope), "text": "lifted" + followers}


async def _reduce_only(runner: "Operations", word: ReduceOnlyWord, by: str) -> Fields:
    record = await runner.reduce_only(word.on, by, word.why, **word.named)
    text = ("only reducing orders" if word.on else "all orders again") + _here(runner)
    return {"record": record, "mode": runner.mode(word.scope), "text": text}


async def _status(runner: "Operations", word: StatusWord, by: str) -> Fields:  # noqa: ARG001 - every act has the same shape
    status = runner.status()
    told = {**attrs.asdict(status), "overrides": [_override_told(o) for o in status.overrides]}
    return {"status": told, "utilization": await _used(runner), "versions": VERSIONS}


async def _limits(runner: "Operations", word: LimitsWord, by: str) -> Fields:  # noqa: ARG001 - as above
    return {"limits": _limits_told(runner), "utilization": await _used(runner)}


async def _set_limits(runner: "Operations", word: SetLimitsWord, by: str) -> Fields:
    record = await runner.change_limits(
        word.figures, by, word.why, symbol=word.symbol, strategy=word.strategy, band=word.band, from_minute=word.from_minute,
        to_minute=word.to_minute,
    )  # fmt: skip
    if record is None:
        return {"text": "no change: the figures are these already", "limits": _limits_told(runner)}
    label = LimitRule(NO_LIMITS, word.symbol, word.strategy, word.band, word.from_minute, word.to_minute).label
    text = "changed" + _here(runner) + await _beyond(runner, label, word.figures)
    return {"record": record, "text": text, "limits": _limits_told(runner)}


async def _override(runner: "Operations", word: OverrideWord, by: str) -> Fields:
    record = await runner.override_limits(word.figures, word.for_ms, by, word.why, symbol=word.symbol, strategy=word.strategy)
    override = next((o for o in runner.limits().overrides if o.id == record), None)
    text = f"override {record} holds" + _here(runner)
    if override is not None and not override.verified_by:
        text = f"override {record} waits for a second person to verify it{_here(runner)}"
    elif override is not None:
        text += await _beyond(runner, override.label, word.figures)
    return {"record": record, "text": text, "limits": _limits_told(runner)}


async def _verify(runner: "Operations", word: VerifyWord, by: str) -> Fields:
    return {"record": await runner.verify_override(word.override, by), "text": f"override {word.override} holds{_here(runner)}"}


async def _end(runner: "Operations", word: EndWord, by: str) -> Fields:
    return {"record": await runner.end_override(word.override, by, word.why), "text": f"override {word.override} has ended{_here(runner)}"}


async def _restrict(runner: "Operations", word: RestrictWord, by: str) -> Fields:
    record = await runner.restrict(word.symbol, word.on, by, word.why)
    return {"record": record, "text": f"{word.symbol} is {'restricted' if word.on else 'not restricted any more'}{_here(runner)}"}


async def _reenable(runner: "Operations", word: ReenableWord, by: str) -> Fields:
    return {"record": await runner.reenable(by, word.why, strategy=word.strategy), "text": "may trade again" + _here(runner)}


async def _breaker(runner: "Operations", word: BreakerWord, by: str) -> Fields:
    record = await runner.override_breaker(word.to, by, word.why, for_ms=word.for_ms, job=word.job)
    now = runner.status().breaker
    return {"record": record, "text": f"the breaker of {word.job} is {now.standing if now is not None else 'not there any more'}"}


#: Every word: what belongs to it, and what it does.
WORDS: Final[dict[str, tuple[type[Word], Callable[["Operations", Any, str], Awaitable[Fields]]]]] = {
    "freeze": (FreezeWord, _freeze),
    "unfreeze": (UnfreezeWord, _unfreeze),
    "reduce-only": (ReduceOnlyWord, _reduce_only),
    "status": (StatusWord, _status),
    "limits": (LimitsWord, _limits),
    "limits-set": (SetLimitsWord, _set_limits),
    "limits-override": (OverrideWord, _override),
    "limits-verify": (VerifyWord, _verify),
    "limits-end": (EndWord, _end),
    "restrict": (RestrictWord, _restrict),
    "reenable": (ReenableWord, _reenable),
    "breaker": (BreakerWord, _breaker),
}


def _here(runner: "Operations") -> str:
    """Limits and the modes below a freeze are each process's own. Where several share the account, a person has to be told."""
    return " in this process; others of the account have their own" if runner.config.store.configured else ""


async def _beyond(runner: "Operations", source: str, figures: Fields) -> str:
    """What is already more than these figures allow."""
    told = [f"{u.figure} ({in_words(u.subject)}) {u}" for u in await runner.exceeded(source, figures)]
    return f"; already exceeded: {'; '.join(told)}" if told else ""


def _limits_told(runner: "Operations") -> Fields:
    now = runner.limits()
    return {
        "rules": [
            {"applies": rule.label, "symbol": rule.symbol, "strategy": rule.strategy, "band": rule.band, "from_minute": rule.from_minute,
             "to_minute": rule.to_minute, "figures": figures_told(rule.limits)}
            for rule in now.rules
        ],
        "overrides": [_override_told(o) for o in now.overrides],
        "restricted": now.restricted,
        "throttled": now.throttled,
    }  # fmt: skip


def _override_told(override: Override) -> Fields:
    return {**attrs.asdict(override, filter=lambda a, _: a.name != "timer"), "limits": figures_told(override.limits)}


async def _used(runner: "Operations") -> list[Fields]:
    """How much of each limit is used."""
    return [
        {
            "subject": u.subject, "figure": u.figure, "source": u.source,
            "value": to_text(u.value, u.digits) if u.value < UNPRICED else UNKNOWN_VALUE, "bound": to_text(u.bound, u.digits),
            "percent": to_text(u.percent),
        }
        for u in await runner.utilization_aside()
    ]  # fmt: skip


def figures_told(limits: Limits) -> dict[str, str]:
    """The figures that are set, as a person writes them."""
    values = {figure.name: getattr(limits, figure.name) for figure in FIGURES}
    return {name: written(name, value) for name, value in values.items() if value != getattr(NO_LIMITS, name)}


def _version() -> str:
    try:
        return version("haltcore")
    except PackageNotFoundError:
        return "unknown"


VERSIONS: Final = {"haltcore": _version(), "format": FORMAT, "rules": RULES}
