"""A gap in who carries what out shows at start-up. Method: performers that serve chosen classes; every class is left out once."""

from collections.abc import Sequence

import pytest
from haltcore.effects.performer import EFFECT_CLASSES, EffectUnserved, route
from haltcore.effects.vocabulary import Denied, Effect, Part, Place, Risk
from haltcore.fsm.events import Event

PERFORMED = [kind for kind in EFFECT_CLASSES if kind.part is not Part.ANSWER]


class Serves:
    """Serves what it is told, and does nothing."""

    def __init__(self, *kinds: type[Effect]) -> None:
        self.serves: Sequence[type[Effect]] = kinds

    async def perform(self, effect: Effect) -> Sequence[Event]:
        raise AssertionError(effect)


class Second(Serves):
    """Another one, so that messages can name two."""


def test_each_class_finds_its_performer() -> None:
    parts = {part: Serves(*(kind for kind in PERFORMED if kind.part is part)) for part in Part}
    table = route(parts.values())
    assert {kind: table[kind] for kind in PERFORMED} == {kind: parts[kind.part] for kind in PERFORMED}
    assert len(table) == len(PERFORMED)


@pytest.mark.parametrize("missing", PERFORMED, ids=lambda kind: kind.__name__)
def test_a_gap_is_named(missing: type[Effect]) -> None:
    with pytest.raises(EffectUnserved, match=rf"nobody serves {missing.__name__}\. Give each effect exactly one performer\.$"):
        route([Serves(*(kind for kind in PERFORMED if kind is not missing))])


def test_all_gaps_are_named_at_once() -> None:
    with pytest.raises(EffectUnserved) as refusal:
        route([])
    assert all(kind.__name__ in str(refusal.value) for kind in PERFORMED)


def test_a_double_is_named_with_both_performers() -> None:
    with pytest.raises(EffectUnserved, match="served twice: Place by Serves and Second"):
        route([Serves(*PERFORMED), Second(Place)])


def test_gaps_and_doubles_are_told_together() -> None:
    with pytest.raises(EffectUnserved, match=r"nobody serves Replace.*; served twice: Place by Serves and Serves"):
        route([Serves(Place, Place)])


def test_answers_need_no_performer_but_may_have_one() -> None:
    assert Denied not in route([Serves(*PERFORMED)])
    assert Denied in route([Serves(*PERFORMED, Denied)])


def test_the_table_cannot_be_changed() -> None:
    table = route([Serves(*PERFORMED)])
    with pytest.raises(TypeError):
        table[Place] = Serves()  # type: ignore[index]


def test_every_effect_says_its_part_its_risk_and_its_id() -> None:
    for kind in EFFECT_CLASSES:
        assert isinstance(kind.part, Part)
        assert isinstance(kind.risk, Risk)
        assert kind.__attrs_attrs__[0].name == "id"
        assert kind.__doc__
    adding = [kind.__name__ for kind in EFFECT_CLASSES if kind.risk is Risk.ADDS_RISK]
    assert adding == ["Place", "Replace", "ClearFreeze", "ClaimGuard"]
