"""Who carries effects out, and the check that everybody is there.

A performer serves a set of effect classes. :func:`route` maps every class of the vocabulary to its one performer and raises
when a class has none or two: the gap shows at start-up, not at the freeze. Answers are not performed; they go back to
whoever sent the command, so they need no performer.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol, TypeVar, get_args

from .vocabulary import Effect, Part

Event_co = TypeVar("Event_co", covariant=True)

EFFECT_CLASSES: tuple[type[Effect], ...] = get_args(Effect)


class EffectUnserved(ValueError):
    """The performers do not cover the vocabulary, or two of them claim the same effect."""


class Performer(Protocol[Event_co]):
    """Carries out effects of the classes it serves.

    ``perform`` returns what came of it, in the order in which it became known; for an effect of the venue or the store
    the last event is its outcome. It may raise: the caller turns that into an outcome. It never retries an effect that
    adds risk: whether to try again is decided by the core.
    """

    @property
    def serves(self) -> Sequence[type[Effect]]:
        """The effect classes that this performer carries out."""
        ...

    async def perform(self, effect: Effect) -> Sequence[Event_co]:
        """Carry one effect out and report."""
        ...


def route(performers: Iterable[Performer[Event_co]]) -> Mapping[type[Effect], Performer[Event_co]]:
    """Every performed effect class with its performer. Raises :class:`EffectUnserved` that names all gaps and doubles."""
    table: dict[type[Effect], Performer[Event_co]] = {}
    doubles: list[str] = []
    for performer in performers:
        for kind in performer.serves:
            if kind in table:
                doubles.append(f"{kind.__name__} by {type(table[kind]).__name__} and {type(performer).__name__}")
            table[kind] = performer
    gaps = [kind.__name__ for kind in EFFECT_CLASSES if kind.part is not Part.ANSWER and kind not in table]
    if gaps or doubles:
        parts = ([f"nobody serves {', '.join(gaps)}"] if gaps else []) + ([f"served twice: {'; '.join(doubles)}"] if doubles else [])
        raise EffectUnserved(f"the performers do not fit the vocabulary: {'; '.join(parts)}. Give each effect exactly one performer.")
    return MappingProxyType(table)
