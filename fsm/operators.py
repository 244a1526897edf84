"""What operators change at run time, and the reference data of the market.

Every command names who and why, and what it changed is told in an alert, so that operators and auditors see it beside what followed.
What widens what may be traded is a warning; what narrows it is information.

=============== ================== ======================================================== =======================================
command         alert              changes                                                  refused as, besides ``who_and_why``
=============== ================== ======================================================== =======================================
ChangeLimits    limits_changed     the rule with the same conditions                        invalid_limits, unknown_rule, no_change,
                                                                                            too_many_rules, two_persons
OverrideLimits  override_active,   figures that hold instead for a while; with two persons  invalid_limits, invalid_duration,
                override_pending   pending first                                            too_many_overrides
VerifyOverride  override_active    a pending override gets force                            unknown_override, no_change,
                                                                                            same_person
EndOverride     override_ended     an override is over before its time                      unknown_override
(its timer)     override_expired   an override is over
Restrict        restricted,        the restricted list                                      unknown_symbol, no_change
                unrestricted
Reenable        reenabled          the execution throttle is taken off                      unknown_strategy, not_throttled
OperatorRefused operator_refused   nothing
=============== ================== ======================================================== =======================================

An override counts from the request on, so one that is verified late is shorter, and its expiry needs no timer: the moment alone
decides whether it has force. The timer only clears it away and says so.

Rules and overrides may change a rate while its bucket is in use: then as many tokens are taken from the bucket as were before. The end
of an override is such a change, and it too is none of the timer's: the first step at or after the moment goes on from there (``lapse``).

Where two persons are demanded, ``ChangeLimits`` may only tighten, since it holds at once: what allows more is an override, and waits.
"""

import attrs

from ..effects import Notional, Purpose, Severity
from .bucket import FULL, Bucket, rerated
from .core import ACCOUNT, Day, Desk, strategy_scope
from .events import (
    ChangeLimits,
    EndOverride,
    InstrumentDefined,
    OperatorRefused,
    OverrideLimits,
    Reenable,
    Restrict,
    VerifyOverride,
    VolatilityBand,
)
from .exposure import FLAT, gain_value, with_contract
from .instrument import instrument_faults
from .limit_faults import is_name, is_whole, rule_faults, says_nothing, shown
from .limits import (
    FIGURES,
    MAX_MS,
    MAX_OVERRIDES,
    MAX_RULES,
    MS_PER_DAY,
    NO_LIMITS,
    LimitRule,
    Limits,
    Override,
    Rate,
    in_force,
    loosens,
    overriding,
    own_or_default,
    replaces,
    says,
    sources,
    written,
)
from .thresholds import rate, thresholds_of
from .turn import NS_PER_MS, Turn, message_rate

# --- limits ----------------------------------------------------------------------------------------------------------


def change_limits(turn: Turn, event: ChangeLimits) -> None:
    """Put other figures in place of a rule's, add the rule, or take it away; the account's own is then without limits."""
    rule, rules = event.rule, turn.desk.rules
    faults = rule_faults(rule, "rule", turn.desk.index, turn.desk.owners)
    if not named(turn, event.by, event.why):
        return
    if faults:
        turn.reject("invalid_limits", "; ".join(faults))
        return
    at = next((i for i, other in enumerate(rules) if other.conditions == rule.conditions), len(rules))
    old = rules[at].limits if at < len(rules) else NO_LIMITS
    gone = at > 0 and says_nothing(rule.limits)
    after = (*rules[:at], *(() if gone else (rule,)), *rules[at + 1 :])
    if old == rule.limits and at < len(rules):
        turn.reject("no_change", f"{rule.label}: the figures are these already")
    elif old == rule.limits:
        turn.reject("unknown_rule", f"{rule.label}: there is no such rule to take away")
    elif at == MAX_RULES:
        turn.reject("too_many_rules", f"there are {MAX_RULES}, and every order looks at all of them; take one away first")
    elif turn.desk.config.two_persons and (wider := _wider(rules, after, rule)):
        text = f"{', '.join(wider)} would allow more, and one person alone can not decide that; ask for an override, or tighten"
        turn.reject("two_persons", f"{rule.label}: {text}")
    else:
        _put_limits(turn, after, turn.desk.overrides)
        text = f"{rule.label}: {_difference(old, rule.limits)}; by {event.by}: {event.why}"
        turn.alert(Severity.WARNING, "limits_changed", text, 0, rule.symbol)


def _wider(before: tuple[LimitRule, ...], after: tuple[LimitRule, ...], rule: LimitRule) -> list[str]:
    """The figures that allow more than before where this rule's conditions are met."""
    names = [figure.name for figure in FIGURES]
    return [name for name in names if loosens(name, own_or_default(before, rule, name), own_or_default(after, rule, name))]


def _difference(old: Limits, new: Limits) -> str:
    names = [figure.name for figure in FIGURES if getattr(old, figure.name) != getattr(new, figure.name)]
    return ", ".join(f"{name} {written(name, getattr(old, name))} -> {written(name, getattr(new, name))}" for name in names)


def _put_limits(turn: Turn, rules: tuple[LimitRule, ...], overrides: tuple[Override, ...]) -> None:
    before = turn.desk
    thresholds = before.thresholds if rules is before.rules else thresholds_of(rules, before.index, before.owners)
    turn.desk = attrs.evolve(before, rules=rules, overrides=overrides, thresholds=thresholds)
    rerate(turn, before, turn.now_ns, turn.now_ns)


def lapse(turn: Turn) -> None:
    """Overrides whose moment has come since the step before are over, whenever their timers come."""
    ends = (o.until_ns for o in turn.desk.overrides if o.verified_by and turn.was_ns < o.until_ns <= turn.now_ns)
    for end in sorted(dict.fromkeys(ends)):
        rerate(turn, turn.desk, end - 1, end)


def rerate(turn: Turn, before: Desk, then_ns: int, now: int) -> None:
    """The buckets go on under the rates that hold at ``now``, instead of those that held at ``then_ns`` by the old desk."""
    flow, desk = turn.flow, turn.desk

    def moved(bucket: Bucket, was: Rate | None, new: Rate | None) -> Bucket:
        return bucket if was is None or new is None or was == new else rerated(bucket, now, was, new)

    messages = moved(flow.messages, message_rate(before, then_ns), message_rate(desk, now))
    rejects = moved(flow.rejects, before.config.triggers.reject_storm, desk.config.triggers.reject_storm)
    executions = flow.executions
    for owner in sorted(executions):
        scope = strategy_scope(owner) if owner else ACCOUNT
        was, now_rate = rate(before, then_ns, scope, "execution_rate"), rate(desk, now, scope, "execution_rate")
        executions = executions.set(owner, moved(executions[owner], was, now_rate))
    turn.flow = attrs.evolve(flow, messages=messages, rejects=rejects, executions=executions)


# --- overrides -------------------------------------------------------------------------------------------------------


def override_limits(turn: Turn, event: OverrideLimits) -> None:
    """Figures that hold instead for a while."""
    desk, meant = turn.desk, LimitRule(event.limits, event.symbol, event.strategy)
    faults = rule_faults(meant, "override", desk.index, desk.owners)
    if not faults and says_nothing(event.limits):
        faults.append("override.limits: there is no figure in it; give one")
    if not named(turn, event.by, event.why):
        return
    if faults:
        turn.reject("invalid_limits", "; ".join(faults))
    elif is_whole(event.for_ms) and event.for_ms > MAX_MS:
        days = -(-event.for_ms // MS_PER_DAY)
        turn.reject("invalid_duration", f"for_ms: {shown(days)} days are too long for an override; give at most {MAX_MS // MS_PER_DAY}")
    elif not is_whole(event.for_ms) or event.for_ms <= 0:
        turn.reject("invalid_duration", f"for_ms: {shown(event.for_ms)} is no whole number of milliseconds; give 1 to {MAX_MS}")
    elif len(desk.overrides) >= MAX_OVERRIDES:
        turn.reject("too_many_overrides", f"there are {MAX_OVERRIDES}; end one, or change the limits")
    else:
        waits = desk.config.two_persons
        what, so_long = f"{meant.label}: ", f" for {event.for_ms} ms; by {event.by}: {event.why}"
        timer = turn.timer(event.for_ms * NS_PER_MS, Purpose.OVERRIDE, turn.n)
        override = Override(
            turn.n, event.limits, event.symbol, event.strategy, turn.now_ns + event.for_ms * NS_PER_MS, event.by, event.why,
            "" if waits else event.by, timer,
        )  # fmt: skip
        _put_limits(turn, desk.rules, (*desk.overrides, override))
        if waits:
            wanted = _difference(NO_LIMITS, event.limits)
            _tell(turn, Severity.INFO, "override_pending", override, f"needs a second person; {what}{wanted}{so_long}")
        else:
            _tell(turn, Severity.WARNING, "override_active", override, f"{what}{_instead(desk, turn.now_ns, override)}{so_long}")


def _instead(desk: Desk, now_ns: int, new: Override) -> str:
    """What held until now, and what the override puts in its place."""
    names = [figure.name for figure in FIGURES if says(new.limits, figure.name)]
    return ", ".join(f"{name} {_held(desk, now_ns, new, name)} -> {written(name, getattr(new.limits, name))}" for name in names)


def _held(desk: Desk, now_ns: int, new: Override, name: str) -> str:
    """The figures that held in the rules of the override's own subject, windows and bands of now included; of a symbol without a figure
    of its own the default. Other rules go on, so they are none of this."""
    rules = tuple(rule for rule in desk.rules if _holds_within(desk, now_ns, new, rule))
    others = tuple(o for o in overriding(desk.overrides, now_ns, new.symbol, new.strategy) if o.strategy == new.strategy)
    found = [source for source in sources(rules, others, name) if replaces(new, source, name)]
    return " and ".join(dict.fromkeys(written(name, getattr(source.limits, name)) for source in found)) or "none"


def _holds_within(desk: Desk, now_ns: int, new: Override, rule: LimitRule) -> bool:
    """Whether the rule holds now for what the override names, or for some symbol of it."""
    if rule.strategy != new.strategy:
        return False
    symbols = (new.symbol,) if new.symbol else desk.config.symbols if rule.band else ("",)
    bands = (desk.bands.get(desk.index.get(symbol, -1), "") for symbol in symbols)
    return any(in_force((rule,), now_ns, new.symbol, new.strategy, band) for band in dict.fromkeys(bands))


def verify_override(turn: Turn, event: VerifyOverride) -> None:
    """A second person agrees to an override, which has force from now on until it expires."""
    override = _find(turn, event.override)
    if not named(turn, event.by, "agrees"):
        return
    if override is None or turn.now_ns >= override.until_ns:
        turn.reject("unknown_override", f"no override has the number {shown(event.override)}, or it has expired")
    elif override.verified_by:
        turn.reject("no_change", f"override {override.id} has force already")
    elif _same_person(override.by, event.by):
        turn.reject("same_person", f"override {override.id} was asked for by {override.by}; another person has to agree")
    else:
        others = tuple(attrs.evolve(o, verified_by=event.by) if o is override else o for o in turn.desk.overrides)
        _put_limits(turn, turn.desk.rules, others)
        _tell(turn, Severity.WARNING, "override_active", override, f"verified by {event.by}; by {override.by}: {override.why}")


def end_override(turn: Turn, event: EndOverride) -> None:
    """An override ends early."""
    override = _find(turn, event.override)
    if not named(turn, event.by, event.why):
        return
    if override is None:
        turn.reject("unknown_override", f"no override has the number {shown(event.override)}")
        return
    _drop(turn, override)
    _tell(turn, Severity.INFO, "override_ended", override, f"ended by {event.by}: {event.why}")


def on_override_timer(turn: Turn, key: int) -> None:
    """An override has expired. A timer that comes early is set again."""
    override = _find(turn, key)
    if override is None:
        return
    if turn.now_ns < override.until_ns:
        _wait(turn, override)
        return
    _drop(turn, override)
    _tell(turn, Severity.INFO, "override_expired", override, f"of {override.by} is over")


def _find(turn: Turn, number: int) -> Override | None:
    return next((override for override in turn.desk.overrides if override.id == number), None)


def _drop(turn: Turn, override: Override) -> None:
    rest = tuple(other for other in turn.desk.overrides if other is not override)
    _put_limits(turn, turn.desk.rules, rest)


def _wait(turn: Turn, override: Override) -> None:
    timer = turn.timer(max(0, override.until_ns - turn.now_ns), Purpose.OVERRIDE, override.id)
    waiting = tuple(attrs.evolve(o, timer=timer) if o is override else o for o in turn.desk.overrides)
    turn.desk = attrs.evolve(turn.desk, overrides=waiting)


def _tell(turn: Turn, severity: Severity, code: str, override: Override, text: str) -> None:
    turn.alert(severity, code, f"override {override.id} {text}", 0, override.symbol)


# --- the restricted list, the throttle, refusals -----------------------------------------------------------------------


def restrict(turn: Turn, event: Restrict) -> None:
    """Put a symbol on the restricted list, or take it off."""
    sym = turn.desk.index.get(event.symbol, -1)
    if not named(turn, event.by, event.why):
        return
    if sym < 0:
        turn.reject("unknown_symbol", f"{event.symbol!r} is not configured")
    elif (sym in turn.desk.restricted) == event.on:
        turn.reject("no_change", f"{event.symbol} is {'' if event.on else 'not '}restricted already")
    else:
        listed = turn.desk.restricted
        turn.desk = attrs.evolve(turn.desk, restricted=listed.set(sym, turn.n) if event.on else listed.delete(sym))
        severity, code = (Severity.INFO, "restricted") if event.on else (Severity.WARNING, "unrestricted")
        turn.alert(severity, code, f"{event.symbol} is {code} by {event.by}: {event.why}", 0, event.symbol)


def reenable(turn: Turn, event: Reenable) -> None:
    """A person lets trade again what the execution throttle has switched off; its count begins anew."""
    owner = turn.desk.owners.get(event.strategy, -1) if event.strategy else ACCOUNT
    whose = f"strategy {event.strategy}" if event.strategy else "the account"
    if not named(turn, event.by, event.why):
        return
    if owner < 0:
        turn.reject("unknown_strategy", f"{event.strategy!r} is not configured; leave it empty for the account")
    elif owner not in turn.desk.throttled:
        turn.reject("not_throttled", f"{whose} is not switched off")
    else:
        turn.desk = attrs.evolve(turn.desk, throttled=turn.desk.throttled.delete(owner))
        turn.flow = attrs.evolve(turn.flow, executions=turn.flow.executions.set(owner, FULL))
        turn.alert(Severity.WARNING, "reenabled", f"{whose} may trade again, by {event.by}: {event.why}")


def refused(turn: Turn, event: OperatorRefused) -> None:
    """Somebody tried."""
    turn.alert(Severity.WARNING, "operator_refused", f"{event.command} of {event.by or 'nobody'}: {event.reason}")


def named(turn: Turn, by: str, why: str) -> bool:
    """Whether a command says by whom and why; if not, it is refused."""
    if isinstance(by, str) and isinstance(why, str) and by.strip() and why.strip():
        return True
    turn.reject("who_and_why", "an operator's command names who gives it and why")
    return False


def _same_person(one: str, other: str) -> bool:
    return _person(one) == _person(other)


def _person(by: str) -> str:
    """The name alone. A control socket adds whence somebody came, "ann (uid 1000)"; by another way it is the same person."""
    name, _, whence = by.strip().rpartition(" (")
    return (name if name and whence.endswith(")") else by).strip().casefold()


# --- reference data --------------------------------------------------------------------------------------------------


def define_instrument(turn: Turn, event: InstrumentDefined) -> None:
    """The venue's terms of a symbol. They hold for orders from now on; the contract is fixed once there was one.

    A new contract is rare, and takes time in proportion to all orders of the session, finished ones too.
    """
    sym = turn.desk.index.get(event.symbol, -1)
    if sym < 0:
        turn.reject("unknown_symbol", f"{event.symbol!r} is not configured")
        return
    faults = instrument_faults(event.instrument)
    if faults:
        turn.reject("invalid_instrument", f"{event.symbol}: " + "; ".join(faults))
        return
    book, contract = turn.books.get(sym, FLAT), event.instrument.contract
    if contract != book.contract:
        if any(order.spec.sym == sym for orders in (turn.orders, turn.closed) for order in orders.values()):
            turn.reject("instrument_in_use", f"{event.symbol} was traded with another contract, and its sums are in that")
            return
        # Without an order there is no strategy's book of it.
        fresh = with_contract(book, contract)
        turn.put_book(sym, fresh)
        _restate_days(turn, sym, gain_value(fresh) - gain_value(book))
    turn.desk = attrs.evolve(turn.desk, instruments=turn.desk.instruments.set(sym, event.instrument))


def _restate_days(turn: Turn, sym: int, moved: int) -> None:
    """A result that is only counted in other units is neither profit nor loss of the day."""
    for scope in (ACCOUNT, sym + 1) if moved else ():
        day = turn.flow.days.get(scope, Day(Notional(0), Notional(0)))
        restated = Day(Notional(day.base + moved), Notional(day.peak + moved))
        turn.flow = attrs.evolve(turn.flow, days=turn.flow.days.set(scope, restated))


def set_band(turn: Turn, event: VolatilityBand) -> None:
    """The market of a symbol, or of all, is in another band."""
    sym = turn.desk.index.get(event.symbol, -1)
    if event.symbol and sym < 0:
        turn.reject("unknown_symbol", f"{event.symbol!r} is not configured; leave it empty for all")
        return
    if event.band and not is_name(event.band):
        turn.reject("invalid_band", f"{shown(event.band)} is no printable text of at most 64 characters; leave it empty for no band")
        return
    bands = turn.desk.bands
    for s in (sym,) if event.symbol else range(len(turn.desk.config.symbols)):
        if event.band:
            bands = bands.set(s, event.band)
        elif s in bands:
            bands = bands.delete(s)
    turn.desk = attrs.evolve(turn.desk, bands=bands)


# --- restart ---------------------------------------------------------------------------------------------------------


def carried_over(old: Desk, fresh: Desk) -> Desk:
    """The desk of a new process, with what operators and the market have told the old one.

    Rules that were changed at run time stay if the configuration says the same of limits as before; else what is configured now holds.
    A symbol that is newly configured as restricted is. An override of one person waits for a second one, if now that is demanded.
    """
    before, after = old.config, fresh.config
    same = (before.limits, before.rules) == (after.limits, after.rules)
    rules = old.rules if same else fresh.rules
    restricted = old.restricted
    for symbol in after.restricted:
        if symbol not in before.restricted:
            restricted = restricted.set(fresh.index[symbol], 0)
    overrides = tuple(
        attrs.evolve(o, verified_by="") if after.two_persons and _same_person(o.by, o.verified_by) else o for o in old.overrides
    )
    return attrs.evolve(
        fresh, rules=rules, thresholds=thresholds_of(rules, fresh.index, fresh.owners), overrides=overrides, instruments=old.instruments,
        bands=old.bands, restricted=restricted, throttled=old.throttled,
    )  # fmt: skip


def rearm(turn: Turn) -> None:
    """Set the timers of all overrides anew: those of the old process are gone."""
    for override in turn.desk.overrides:
        _wait(turn, override)
