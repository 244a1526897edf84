"""What a bot gets back from the runner: an order, a proof, or an exception that says what is certain.

``executed`` on an exception is the one question a bot must be able to answer: False, certainly nothing was sent or applied;
None, it is not known, and the runner keeps asking under ``client_id``.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import frozen

from ..effects import BreakerMode, Mode, SweepMethod, SweepReport, SweepStatus, Trigger, to_text
from ..fsm.core import FreezeRecord
from ..fsm.limits import LimitRule, Override
from ..fsm.order import Order, OrdStatus

if TYPE_CHECKING:
    from .runner import Runner


class HaltcoreError(Exception):
    """The base of what haltcore raises at a bot. ``code`` is stable, ``reason`` is for people, ``executed`` is said in the module.

    Not of it are what the bot's own work raised, and ``ValueRefused``, a ValueError: an argument that says nothing, so nothing was begun.
    """

    executed: bool | None = False

    def __init__(self, code: str, reason: str, client_id: str = "") -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason
        self.client_id = client_id


class OrderDenied(HaltcoreError):
    """The gate, or an overloaded runner, said no. Nothing was sent. ``codes`` are all checks that failed, if the call asked to explain."""

    def __init__(self, code: str, reason: str, client_id: str = "", codes: tuple[str, ...] = ()) -> None:
        super().__init__(code, reason, client_id)
        self.codes = codes


class OrderRefused(HaltcoreError):
    """The venue refused the order or its replacement, or it was stopped before it left. ``code`` is the venue's, or our last check's."""


class OrderInDoubt(HaltcoreError):
    """The order may be live. The runner asks the venue under ``client_id`` until it knows; do not send it again."""

    executed = None


class CommandRejected(HaltcoreError):
    """The command does not fit the state; it changed nothing. ``record`` is the log's record of it, 0 if there is none. ``frozen``: of an
    unfreeze whose scope is not frozen, the scopes that are."""

    record: int = 0
    frozen: tuple[str, ...] = ()


class RunnerStopped(HaltcoreError):
    """The runner is not running. ``executed`` is None for a call that was waiting when it stopped: its request may have been applied."""


class StoppedUnproven(HaltcoreError):
    """The runner has stopped, and has not seen the book empty: orders may be open at the venue."""

    executed = None


@frozen
class Proof:
    """How a freeze's sweep stands. ``verified``: the venue's lists were empty and every order had ended by evidence."""

    verified: bool
    status: SweepStatus
    method: SweepMethod
    cancelled: int
    failed: int
    remaining: int
    unknown: int
    rounds: int
    duration_ms: int

    @classmethod
    def of(cls, report: SweepReport) -> "Proof":
        """The proof that a report is."""
        r = report
        verified = r.status is SweepStatus.SUCCESS
        return cls(
            verified, r.status, r.method, r.cancelled, r.failed, r.remaining, r.unknown, r.rounds, r.duration_ns // 1_000_000
        )


#: Frozen and proven before: nothing had to be done.
ALREADY_PROVEN = Proof(True, SweepStatus.SUCCESS, SweepMethod.NONE, 0, 0, 0, 0, 0, 0)


class OrderHandle:
    """An order of this runner. Its properties are read from the core at the time of asking."""

    def __init__(self, runner: "Runner", key: int, client_id: str) -> None:
        self._runner = runner
        self.key = key
        self.client_id = client_id

    def of(self, runner: "Runner") -> bool:
        """Whether it is this runner's handle."""
        return self._runner is runner

    @property
    def facts(self) -> Order:
        """All that is known of it."""
        order = self._runner.core.order(self.key)
        assert order is not None
        return order

    @property
    def status(self) -> OrdStatus:
        """FIX 39."""
        return self.facts.status

    @property
    def in_doubt(self) -> bool:
        """Whether it is not known that the order exists."""
        return self.facts.unknown

    @property
    def filled(self) -> str:
        """The filled quantity, as text."""
        return to_text(self.facts.cum_qty)

    def __repr__(self) -> str:
        o = self.facts
        return (
            f"<order {self.client_id} {o.spec.side.value} {to_text(o.qty)} {o.spec.symbol} {self.status.value} {self.filled} filled>"
        )


@frozen
class ScopeStatus:
    """A scope that is not active: since when, why, and by whom (empty: nobody was named).

    ``triggers``: of a frozen one, all that was recorded since it was frozen, the first being its cause. ``lifts_itself``: a cool-down ends
    the freeze, once it is proven and if its cause is gone; else it needs a person. ``lifts_in_s`` is how long that takes, None while it
    has not begun.
    """

    scope: str
    mode: Mode
    since_ns: int
    trigger: Trigger
    reason: str
    by: str
    triggers: tuple[FreezeRecord, ...] = ()
    lifts_itself: bool = False
    lifts_in_s: float | None = None


@frozen
class SweepProgress:
    """How far the proof of a freeze has come. ``phase``: what it is at. ``left``: orders that may be open, by the last round.

    It ends with ``empty_lists`` reaching ``lists_needed``.
    """

    since_ns: int
    phase: str
    rounds: int
    cancelled: int
    failed: int
    left: int
    empty_lists: int
    lists_needed: int


@frozen
class BreakerStatus:
    """The circuit breaker of a kind of job. ``standing`` says it in words. ``failures`` were counted within the window, ``probes`` are
    under way. ``until_ns``: when a forced mode ends, 0 if only by a word; ``by`` and ``why``: who forced it, else why it opened.
    ``untold``: the store has not heard of it all yet."""

    job: str
    mode: BreakerMode
    since_ns: int
    failures: int
    probes: int
    until_ns: int
    by: str
    why: str
    standing: str
    untold: bool


@frozen
class Status:
    """One screen about the runner. ``modes`` names every scope that is not active, the account as "".

    ``in_flight`` counts requests to place or replace without outcome, ``unknown`` orders of unknown fate; ``record`` is the last record's
    number; ``journal_failed`` says why nothing is written any more, ``journal_pending`` whether records are on their way to the disk.
    ``store`` is none, ok, unread, unfit (``store_faults``) or failing, since ``store_since_ns`` with ``store_code``. ``refused``: why
    no order of any kind would be let through now, by the gate's first reason; else empty. ``ready``: stock is taken; until then nothing is
    placed. ``overrides`` are those that hold and those that wait for a second person, ``bands`` the volatility bands by symbol.
    ``breaker`` is that of placing, if one is configured.
    """

    modes: Mapping[str, Mode]
    open_orders: int
    in_flight: int
    unknown: int
    record: int
    journal: str
    journal_failed: str
    journal_pending: bool
    session: str
    now_ns: int
    running: bool
    ready: bool
    stopping: bool
    link_up: bool
    store: str
    scopes: tuple[ScopeStatus, ...]
    sweep: SweepProgress | None
    overrides: tuple[Override, ...]
    bands: Mapping[str, str]
    breaker: BreakerStatus | None = None
    store_code: str = ""
    store_since_ns: int = 0
    store_faults: tuple[str, ...] = ()
    refused: str = ""


@frozen
class LimitsNow:
    """The limits as they stand: configured rules and what was changed since. ``overrides`` holds those, too, that wait for a second person.

    ``restricted``: symbols in which only reducing orders are allowed. ``throttled``: strategies (the account as "") that the execution
    throttle has switched off.
    """

    rules: tuple[LimitRule, ...]
    overrides: tuple[Override, ...]
    restricted: tuple[str, ...]
    throttled: tuple[str, ...]
