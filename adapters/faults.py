"""What goes wrong between a bot and its venue, drawn from a seed, so that a bad day can be had again.

A :class:`FaultPlan` says how often, in per mille, each fault befalls a request or an execution report that it can befall. At most
one fault is drawn for each. *Applied* is what the venue did and the asker cannot see:

==========================  =================  ========  =============================================================
fault                       befalls            applied   what the asker sees
==========================  =================  ========  =============================================================
RATE_LIMIT                  any request        no        429 with Retry-After
BAN                         any request        no        418; the same for every request until the ban is over
ERROR_APPLIED               any request        **yes**   500
ERROR_NOT_APPLIED           any request        no        500
UNKNOWN_ERROR               any request        **yes**   503 "Unknown error"
SERVICE_UNAVAILABLE         any request        no        503 "Service Unavailable."
REQUEST_LOST                any request        no        nothing, until the time-out
REPLY_LOST                  any request        **yes**   nothing, until the time-out
REPLY_LATE                  any request        **yes**   the time-out, later the reply
SLOW_REQUEST                any request        late      an answer or the time-out, whichever comes first
CROSSING_FILL               cancels            after     the order has filled, in part or whole, when the cancel arrives
CANCEL_ALL_SUBSET           cancel-all         in part   success; at most ``cancel_all_limit`` orders are gone, random ones
CANCEL_ALL_MISSES_STOPS     conditional        no        success
                            cancel-all
STALE_SNAPSHOT              open-order lists   --        the list as of up to ``STALEST_MS`` before the request arrived
REPORT_DUPLICATED           reports            --        the report twice
REPORT_DELAYED              reports            --        the report after later ones
REPORT_LOST                 reports            --        nothing: the stream looks healthy
==========================  =================  ========  =============================================================

The codes follow Binance's futures interface, where a 503 means two different things told apart by its text alone; the fates of
cancel-all follow Bybit, where it takes at most 500 orders picked at random, and venues on which it leaves stop orders alone.

A script names faults for single requests ("the first place", "the third fill") and goes before the draws. ``quiet_after_ms`` ends all
faults after that time: then the bot has to get well again.
"""

import random
from collections import Counter
from enum import StrEnum

from attrs import frozen

from ..effects import Cancel, CancelAll, CancelBatch, Effect, FetchOpenOrders
from ..fsm.events import Event


class Fault(StrEnum):
    """One way of going wrong. The module's table says what each means; NONE is for scripts: this request goes well."""

    NONE = "none"
    RATE_LIMIT = "rate_limit"
    BAN = "ban"
    ERROR_APPLIED = "error_applied"
    ERROR_NOT_APPLIED = "error_not_applied"
    UNKNOWN_ERROR = "unknown_error"
    SERVICE_UNAVAILABLE = "service_unavailable"
    REQUEST_LOST = "request_lost"
    REPLY_LOST = "reply_lost"
    REPLY_LATE = "reply_late"
    SLOW_REQUEST = "slow_request"
    CROSSING_FILL = "crossing_fill"
    CANCEL_ALL_SUBSET = "cancel_all_subset"
    CANCEL_ALL_MISSES_STOPS = "cancel_all_misses_stops"
    STALE_SNAPSHOT = "stale_snapshot"
    REPORT_DUPLICATED = "report_duplicated"
    REPORT_DELAYED = "report_delayed"
    REPORT_LOST = "report_lost"


#: A list of open orders is never older than this: venues' read replicas lag by fractions of a second.
STALEST_MS = 300
REPORT_FAULTS = (Fault.REPORT_DUPLICATED, Fault.REPORT_DELAYED, Fault.REPORT_LOST)
_CANCELS = (Cancel, CancelBatch, CancelAll)

#: From and to, in milliseconds: Retry-After, the length of a ban, how much later than the time-out a late reply comes, how old a stale
#: list is, how late a report. SLOW_REQUEST has its bounds from the venue.
_SPANS_MS = {
    Fault.RATE_LIMIT: (50, 300),
    Fault.BAN: (500, 2_000),
    Fault.REPLY_LATE: (1, 1_500),
    Fault.STALE_SNAPSHOT: (1, STALEST_MS),
    Fault.REPORT_DELAYED: (5, 500),
}

_MILD = (
    (Fault.RATE_LIMIT, 5),
    (Fault.ERROR_APPLIED, 2),
    (Fault.SERVICE_UNAVAILABLE, 5),
    (Fault.REQUEST_LOST, 3),
    (Fault.REPLY_LOST, 5),
    (Fault.REPLY_LATE, 5),
    (Fault.SLOW_REQUEST, 10),
    (Fault.CROSSING_FILL, 10),
    (Fault.STALE_SNAPSHOT, 20),
    (Fault.REPORT_DUPLICATED, 20),
    (Fault.REPORT_DELAYED, 20),
    (Fault.REPORT_LOST, 5),
)
_HARSH = (
    (Fault.RATE_LIMIT, 30),
    (Fault.BAN, 5),
    (Fault.ERROR_APPLIED, 25),
    (Fault.ERROR_NOT_APPLIED, 25),
    (Fault.UNKNOWN_ERROR, 25),
    (Fault.SERVICE_UNAVAILABLE, 30),
    (Fault.REQUEST_LOST, 30),
    (Fault.REPLY_LOST, 30),
    (Fault.REPLY_LATE, 30),
    (Fault.SLOW_REQUEST, 30),
    (Fault.CROSSING_FILL, 100),
    (Fault.CANCEL_ALL_SUBSET, 200),
    (Fault.CANCEL_ALL_MISSES_STOPS, 150),
    (Fault.STALE_SNAPSHOT, 150),
    (Fault.REPORT_DUPLICATED, 100),
    (Fault.REPORT_DELAYED, 150),
    (Fault.REPORT_LOST, 80),
)
PRESETS = {"none": (), "mild": _MILD, "harsh": _HARSH}


class FaultPlanRefused(ValueError):
    """A plan that means nothing. The text says what to change."""


@frozen
class Scripted:
    """The fault of the ``nth`` request or report of class ``on``, counted from 1. ``ms`` overrides the drawn duration where above 0."""

    on: type[Effect] | type[Event]
    nth: int
    fault: Fault
    ms: int = 0


@frozen
class Drawn:
    """What befalls one request or report, and the duration that goes with it (0 where none does)."""

    fault: Fault
    ms: int


WELL = Drawn(Fault.NONE, 0)


@frozen
class FaultPlan:
    """How often what goes wrong: pairs of fault and per mille. ``quiet_after_ms`` counts from the first request; 0 is never."""

    rates: tuple[tuple[Fault, int], ...] = ()
    seed: int = 0
    script: tuple[Scripted, ...] = ()
    quiet_after_ms: int = 0
    cancel_all_limit: int = 2

    def __attrs_post_init__(self) -> None:
        kinds = [fault for fault, _ in self.rates]
        if len(dict.fromkeys(kinds)) != len(kinds):
            raise FaultPlanRefused("rates: a fault is named twice; give each one rate")
        for reports in (False, True):
            total = sum(rate for fault, rate in self.rates if (fault in REPORT_FAULTS) is reports)
            if total > 1_000 or any(rate < 0 for _, rate in self.rates):
                raise FaultPlanRefused("rates: each is 0 to 1000 per mille, those of requests and those of reports at most 1000 together")

    @classmethod
    def named(cls, name: str, seed: int, script: tuple[Scripted, ...] = (), quiet_after_ms: int = 0) -> "FaultPlan":
        """A preset: ``none``, ``mild`` (a normal bad day) or ``harsh`` (about a quarter of all requests)."""
        if name not in PRESETS:
            raise FaultPlanRefused(f"{name!r} is no fault plan; there are {', '.join(PRESETS)}")
        return cls(PRESETS[name], seed, script, quiet_after_ms)


class FaultSource:
    """The draws of a plan, one after the other. The same plan and the same questions in the same order give the same draws.

    ``befell`` counts what has befallen requests and reports so far.
    """

    def __init__(self, plan: FaultPlan) -> None:
        self._plan = plan
        self.befell: Counter[Fault] = Counter()
        # Texts seed by their hash function (SHA-512), not by Python's own hash, so they mean the same in every process.
        self._requests = random.Random(f"{plan.seed}/requests")
        self._reports = random.Random(f"{plan.seed}/reports")
        self._details = random.Random(f"{plan.seed}/details")
        self._seen: dict[type, int] = {}
        self._began_ns: int | None = None
        self._quiet = False

    def quiet(self) -> None:
        """From now on everything goes well, scripts included."""
        self._quiet = True

    def is_quiet(self, now_ns: int) -> bool:
        """Whether the faults are over."""
        after = self._plan.quiet_after_ms
        if after and self._began_ns is not None and now_ns - self._began_ns >= after * 1_000_000:
            self._quiet = True
        return self._quiet

    def for_request(self, effect: Effect, now_ns: int, slowest_ms: int) -> Drawn:
        """What befalls this request. One that is slow stays below ``slowest_ms``."""
        if self._began_ns is None:
            self._began_ns = now_ns
        drawn = self._draw(effect, self._requests, now_ns)
        if drawn.fault is Fault.SLOW_REQUEST and not drawn.ms:
            return Drawn(drawn.fault, self._details.randint(1, max(1, slowest_ms - 1)))
        return drawn

    def for_report(self, report: Event, now_ns: int) -> Drawn:
        """What befalls this execution report."""
        return self._draw(report, self._reports, now_ns)

    def part(self, whole: int) -> int:
        """A random part of it, from 1 to the whole."""
        return self._details.randint(1, whole)

    def spared(self, venue_ids: list[str]) -> list[str]:
        """Those that a cancel-all with a limit leaves open."""
        return self._details.sample(venue_ids, max(0, len(venue_ids) - self._plan.cancel_all_limit))

    def _draw(self, subject: Effect | Event, source: random.Random, now_ns: int) -> Drawn:
        kind = type(subject)
        nth = self._seen[kind] = self._seen.get(kind, 0) + 1
        if self.is_quiet(now_ns):
            return WELL
        for scripted in self._plan.script:
            if scripted.on is kind and scripted.nth == nth:
                return self._with_duration(scripted.fault, scripted.ms)
        point = source.randrange(1_000)
        for fault, rate in self._plan.rates:
            if not befalls(fault, subject):
                continue
            if point < rate:
                return self._with_duration(fault, 0)
            point -= rate
        return WELL

    def _with_duration(self, fault: Fault, ms: int) -> Drawn:
        if fault is not Fault.NONE:
            self.befell[fault] += 1
        if ms or fault not in _SPANS_MS:
            return Drawn(fault, ms)
        return Drawn(fault, self._details.randint(*_SPANS_MS[fault]))


def befalls(fault: Fault, subject: Effect | Event) -> bool:
    """Whether the fault can happen to this request or report."""
    if fault in REPORT_FAULTS:
        return isinstance(subject, Event)
    if fault is Fault.CROSSING_FILL:
        return isinstance(subject, _CANCELS)
    if fault is Fault.CANCEL_ALL_SUBSET:
        return isinstance(subject, CancelAll)
    if fault is Fault.CANCEL_ALL_MISSES_STOPS:
        return isinstance(subject, CancelAll) and subject.conditional
    if fault is Fault.STALE_SNAPSHOT:
        return isinstance(subject, FetchOpenOrders)
    return isinstance(subject, Effect)
