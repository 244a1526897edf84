"""What a spectator is told of a sweep is what happened, and the counts are those of the log.

Method: a core is driven by hand through a freeze with each kind of answer; the lines are compared whole. A second freeze is told as the
first was, and the numbers stay those of the first.
"""

from haltcore.adapters.spectator import Spectator
from haltcore.effects import CancelAll, Effect, FetchOpenOrders, usd
from haltcore.fsm.events import Event
from haltcore.fsm.limits import Limits

from tests.helpers import BTC, BUY, ETH, Session

EMPTY_LISTS = ["list of open orders from the venue: 0", "list of stop orders from the venue: 0"]


class Watched(Session):
    """A session that a spectator watches."""

    def __init__(self, **fields: object) -> None:
        self.lines: list[str] = []
        self.seen = Spectator(self.lines.append)
        super().__init__(**fields)  # type: ignore[arg-type]

    def feed(self, event: Event) -> tuple[Effect, ...]:
        effects = super().feed(event)
        self.seen.observe(event, self.core, effects)
        return effects


def test_a_sweep_line_by_line() -> None:
    s = Watched(symbols=(BTC,))
    key = s.working()
    assert s.lines == []
    s.freeze()
    frozen_at = s.core.seq
    assert s.lines == ["   +     0 ms  sent: 2 cancel-alls"]
    cancels = s.got(CancelAll)
    s.wait(25)
    s.cancelled(key)
    for cancel in cancels:
        s.outcome(cancel)
    regular, conditional = s.got(FetchOpenOrders)
    s.list_failed(conditional)
    assert s.lines[-1] == "   +    25 ms  list of stop orders: no answer (timeout); it is asked for again"
    s.lists(regular)
    s.prove_empty()
    assert s.lines[-1].endswith("two empty lists running and every order accounted for: proven")
    assert {line.split("ms  ")[1] for line in s.lines[2:-1]} >= set(EMPTY_LISTS)
    assert (s.seen.frozen_at, s.seen.open_then) == (frozen_at, (key,))
    told = len(s.lines)
    s.unfreeze()
    s.submit(symbol=BTC)
    s.cancel(s.core.seq)
    assert len(s.lines) == told
    s.freeze()
    assert len(s.lines) > told
    assert s.seen.frozen_at == frozen_at


def test_counts() -> None:
    s = Watched(symbols=(BTC, ETH), limits=Limits(max_inventory_usd=usd(1_000)))
    s.ask(BUY, 20, 100)
    first = s.core.seq
    s.ask(BUY, 30, 100)
    s.freeze()
    s.ask(BUY, 1, 100)
    assert dict(s.seen.denied) == {"max_inventory_usd": 2, "sweeping": 1}
    assert s.seen.denied_at == first


def test_requests_of_unknown_fate_are_counted() -> None:
    s = Watched(symbols=(BTC,))
    s.working()
    assert s.seen.in_doubt == 0
    s.unknown()
    assert s.seen.in_doubt == 1
    assert s.lines == []
