"""What somebody who watches a session is told: freezes and their sweeps, line by line, and counts of the rest.

A spectator is an observer of the runner (``observer=spectator.observe``). It sees every record and changes nothing.
"""

from collections import Counter
from collections.abc import Callable

from ..effects import Cancel, CancelAll, CancelBatch, Denied, Effect, Mode, ModeChanged, SetTimer
from ..fsm.core import Core
from ..fsm.events import Event, FetchFailed, OpenOrders, Outcome, OutcomeKind

Say = Callable[[str], None]
_WORDS = {CancelAll: "cancel-all", CancelBatch: "batch cancel", Cancel: "single cancel"}


class Spectator:
    """``denied`` counts denials by code, ``in_doubt`` requests whose fate was unknown. ``frozen_at`` is the record of the first freeze,
    ``open_then`` the orders that were open, or possibly open, at it; ``denied_at`` the record of the first denial."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self.denied: Counter[str] = Counter()
        self.in_doubt = 0
        self.frozen_at = self.denied_at = 0
        self.open_then: tuple[int, ...] = ()
        self._since_ns: int | None = None

    def observe(self, event: Event, after: Core, effects: tuple[Effect, ...]) -> None:
        """See one record."""
        if isinstance(event, Outcome) and event.kind is OutcomeKind.IN_DOUBT:
            self.in_doubt += 1
        for effect in effects:
            if isinstance(effect, Denied):
                self.denied[effect.code] += 1
                self.denied_at = self.denied_at or after.seq
            elif isinstance(effect, ModeChanged) and effect.mode is Mode.FREEZING and self._since_ns is None:
                self._since_ns = after.now_ns
                if not self.frozen_at:
                    self.frozen_at, self.open_then = after.seq, tuple(sorted(after.orders))
        if self._since_ns is not None:
            self._sweep(event, after, effects)

    def _sweep(self, event: Event, after: Core, effects: tuple[Effect, ...]) -> None:
        if isinstance(event, OpenOrders):
            book = "stop orders" if event.conditional else "open orders"
            if isinstance(event.result, FetchFailed):
                self._tell(after, f"list of {book}: no answer ({event.result.code}); it is asked for again")
            else:
                missing = len(after.orders) if not event.result.rows and any(isinstance(e, SetTimer) for e in effects) else 0
                rest = f"; {missing} of ours still unaccounted for" if missing else ""
                self._tell(after, f"list of {book} from the venue: {len(event.result.rows)}{rest}")
        sent = Counter(type(effect) for effect in effects if isinstance(effect, (CancelAll, CancelBatch, Cancel)))
        if sent:
            self._tell(after, "sent: " + ", ".join(f"{count} {_WORDS[kind]}" + "s" * (count > 1) for kind, count in sent.items()))
        for effect in effects:
            if isinstance(effect, ModeChanged) and effect.mode is Mode.FROZEN:
                self._tell(after, "two empty lists running and every order accounted for: proven")
                self._since_ns = None

    def _tell(self, after: Core, text: str) -> None:
        ms = (after.now_ns - (self._since_ns or 0)) // 1_000_000
        self._say(f"   +{ms:>6,} ms  {text}")
