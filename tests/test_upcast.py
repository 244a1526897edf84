"""Upcasters. Goal: an old line becomes a current one step by step, and a chain with a fault never gets into a program.

Method: private chains, good and bad; the chain of the package itself is checked by importing it.
"""

import pytest
from haltcore.fsm.record import FORMAT, UPCASTERS
from haltcore.fsm.upcast import STEPS, ChainRefused, Step, Upcasters, chain_faults


def add(name: str, number: int) -> Step:
    return Step(number, number + 1, lambda line: {**line, name: number})


def test_a_line_passes_every_step_once_and_in_order() -> None:
    chain = Upcasters([add("b", 2), add("a", 1), add("c", 3)], 4)
    assert chain.oldest == 1
    assert list(chain.upcast({"n": 1}, 1)) == ["n", "a", "b", "c"]
    assert chain.upcast({"n": 1}, 3) == {"n": 1, "c": 3}
    assert chain.upcast({"n": 1}, 4) == {"n": 1}


@pytest.mark.parametrize(
    ("steps", "fault"),
    [
        ([add("a", 1), add("b", 1), add("c", 2)], "format 1 has 2 steps"),
        ([add("a", 1)], "format 2 has no step"),
        ([add("a", 0), add("c", 2)], "format 1 has no step"),
        ([Step(1, 3, dict), add("b", 2)], "from format 1 leads to 3, not to 2"),
        ([add("a", 1), Step(2, 1, dict)], "from format 2 leads to 1, not to 3"),
        ([add("a", 1), add("b", 2), add("c", 3)], "format 3 has a step but is not older"),
    ],
)
def test_a_chain_with_a_fault_is_refused(steps: list[Step], fault: str) -> None:
    with pytest.raises(ChainRefused, match=fault):
        Upcasters(steps, 3)


def test_the_chain_of_the_package_ends_at_the_current_format() -> None:
    assert chain_faults(STEPS, FORMAT) == []
    assert UPCASTERS.current == FORMAT
