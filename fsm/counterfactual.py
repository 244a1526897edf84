"""Counterfactual replay: the same inputs under another configuration. Which orders would have been denied, when would it have frozen?

Two cores go through one log. The *recorded* one is its replay, verified and compared with what the log says. The *other* one begins with
a changed configuration and is told the same. As long as both decide alike the log answers the other run too, with the ids of its effects
put in place of the recorded ones; so under an unchanged configuration both runs are the same to the last field. Where they part, the log
cannot know what the world would have done. What is assumed then:

1. *Same inputs.* Time, market data, health and every command, of bot and operators alike, come as recorded: nobody reacts to what the
   other run does. An unfreeze of a freeze that never came is refused. A change of limits changes the figures that it changed in the
   log, and puts them in place of what was supposed there (``Comparison.superseded`` says which and when); an override does so while it
   lasts.
2. *Like request, like answer.* A request or question that both runs make in the same record is answered by the log. The recorded run's
   own are none of the other's. What the venue says of an order that both have sent counts for both, whoever had asked; of an order that
   the other run has never sent it counts for nothing.
3. *An ideal world answers the rest* (``ideal.py``): at once, and nothing fills. So once the other run has frozen a scope, what is open in
   it is cancelled at that instant, and what the log reports of these orders afterwards is left out.
4. *What only the other run has open never fills*: orders that were denied in the log, or stopped by a freeze on their way; orders that
   the recorded run's freeze cancelled; the part by which a replace that only one run made differs. They count as open until the other
   run cancels them. From the first of them on the comparison is an estimate; ``Comparison.supposed`` counts them.

An order that both have, under different terms since one replaced it and the other did not, takes the fills of the log up to its own
quantity. The other run's timers run out when they are due, unless the log has the firing of the same timer. What happens between two
records of the log gets record numbers far above the log's, so that no id is given twice; in a
:class:`~haltcore.fsm.comparison.Comparison` it belongs to the record that comes next.
"""

from collections.abc import Iterable

from ..effects import Effect
from .comparison import Comparison, CourseTaken, Hypothesis, Ruling, Series, decisions, ruling, rulings_differ
from .core import Core
from .events import Event
from .hearing import Change
from .other_run import OtherRun
from .replay import Source, replay
from .step import step


def counterfactual(sources: Iterable[Source], change: Change) -> Comparison:
    """Replay a log, and beside it a run that begins with ``change(configuration)``.

    ``change`` gets the configuration of each start and restart in the log. It may change limits, rules, triggers and times, but neither
    session nor symbols nor strategies: that raises ValueError, and whatever ``change`` raises is passed on. A log that is broken, or that
    this core decides otherwise, raises nothing: the verdict says so.
    """
    pair = _Pair(change)
    verdict = replay(sources, step=pair.step, check=None, check_state=None)
    if pair.failure is not None:
        raise pair.failure
    supposed = pair.other.supposed
    return Comparison(
        verdict, pair.recorded.course(), pair.course.course(), tuple(pair.rulings), pair.series.points(), pair.first, pair.first_ns,
        len(supposed), min(supposed.values(), default=0), pair.hypothesis.superseded(), pair.other.core,
    )  # fmt: skip


class _Pair:
    """Both runs, and what is seen of them."""

    def __init__(self, change: Change) -> None:
        self.other = OtherRun(change)
        self.recorded, self.course, self.series = CourseTaken(), CourseTaken(), Series()
        self.hypothesis = Hypothesis()
        self.rulings: list[Ruling] = []
        self.first = self.first_ns = 0
        self.failure: Exception | None = None

    def step(self, before: Core, event: Event) -> tuple[Core, tuple[Effect, ...]]:
        """The recorded run's step, for the replay. What the other run raises is no finding about the log, so it is kept for later."""
        after, effects = step(before, event)
        if self.failure is None:
            try:
                self._both(before, event, after, effects)
            except Exception as error:
                self.failure = error
        return after, effects

    def _both(self, before: Core, event: Event, after: Core, effects: tuple[Effect, ...]) -> None:
        steps, record = self.other.follow(before, event, after, effects), after.seq
        self.recorded.see(record, after, effects)
        for core, decided in steps.all:
            self.course.see(record, core, decided)
        self.series.see(record, after.now_ns, after, self.other.core)
        self.hypothesis.see(record, after, self.other.core)
        if not self.first and decisions(effects) != [decision for _, decided in steps.all for decision in decisions(decided)]:
            self.first, self.first_ns = record, after.now_ns
        found = rulings_differ(record, event, ruling(event, effects), ruling(event, steps.own), (after, self.other.core))
        if found is not None:
            self.rulings.append(found)
