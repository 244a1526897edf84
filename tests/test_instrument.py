"""Instruments: what a definition may say, what a contract costs, and that a wrong definition is told whole.

Method: every field is broken alone and all together; the arithmetic of both kinds of contract is checked against rational numbers.
"""

from fractions import Fraction
from typing import Any

import attrs
import pytest
from haltcore.effects import Price, Qty, price, qty, usd
from haltcore.effects.values import SCALE
from haltcore.fsm.instrument import FREE, UNIT, Contract, Instrument, cost_of, instrument_faults
from hypothesis import given
from hypothesis import strategies as st

GOOD = Instrument(price("0.1"), qty("0.001"), qty("0.001"), qty(1_000), usd(5), qty("0.01"), True)


def test_what_nobody_has_defined_is_spot() -> None:
    assert instrument_faults(FREE) == []
    assert FREE.contract == UNIT == Contract(qty(1), False)
    assert GOOD.contract == Contract(qty("0.01"), True)


@pytest.mark.parametrize("name", ["tick", "lot", "min_qty", "max_qty", "min_notional"])
def test_the_grid_has_no_negative_terms(name: str) -> None:
    assert instrument_faults(attrs.evolve(GOOD, **{name: 0})) == []
    assert instrument_faults(attrs.evolve(GOOD, **{name: -1})) == [
        f"{name}: -0.000000000001 is out of range; give a number of 0 or more, up to 10^15"
    ]


FIELDS = [field.name for field in attrs.fields(Instrument)]


@pytest.mark.parametrize("value", [None, 0.5, "0.5", (), 10**5000], ids=["none", "float", "text", "tuple", "huge"])
def test_every_fault_is_told(value: Any) -> None:
    faults = instrument_faults(Instrument(**dict.fromkeys(FIELDS, value)))
    assert [fault.partition(": ")[0] for fault in faults] == FIELDS
    assert all("; give " in fault for fault in faults)


def test_a_contract_is_worth_something() -> None:
    for worthless in (0, -1):
        (fault,) = instrument_faults(attrs.evolve(GOOD, multiplier=Qty(worthless)))
        assert fault.endswith("is out of range; give a number above 0, up to 10^15")
    assert instrument_faults(attrs.evolve(GOOD, multiplier=Qty(1))) == []
    assert instrument_faults(attrs.evolve(GOOD, inverse=1)) == ["inverse: 1 is neither True nor False; give one of them"]


@pytest.mark.parametrize(
    ("low", "high", "lot", "text"),
    [
        ("2", "1", "0", "max_qty: 1 is below min_qty, 2; give 0 if there is no such term"),
        ("2", "2", "0", ""),
        ("2", "0", "5", ""),
        ("0", "0.5", "1", "max_qty: no multiple of the lot, 1, lies between min_qty and 0.5; no order would fit"),
        ("1.5", "1.9", "1", "max_qty: no multiple of the lot, 1, lies between min_qty and 1.9; no order would fit"),
        ("1.5", "2", "1", ""),
    ],
)
def test_some_quantity_fits(low: str, high: str, lot: str, text: str) -> None:
    found = instrument_faults(attrs.evolve(FREE, min_qty=qty(low), max_qty=qty(high), lot=qty(lot)))
    assert found == ([text] if text else [])


AMOUNTS = st.integers(1, 10**24)


@given(AMOUNTS, AMOUNTS)
def test_what_a_quantity_costs(amount: int, at: int) -> None:
    assert cost_of(False, amount, at) == amount * at
    exact = Fraction(amount, at) * SCALE**2
    assert 0 <= exact - cost_of(True, amount, at) < 1
    assert cost_of(True, amount, 0) == cost_of(False, amount, 0) == 0


def test_by_hand() -> None:
    assert cost_of(False, qty(3), price(50)) == 150 * SCALE**2
    assert cost_of(True, qty(100), price(50_000)) == SCALE**2 // 500
    assert cost_of(True, qty(100), Price(-5)) == 0
