"""What is traded: the grid that orders have to fit, and what one contract is worth.

Instruments are told by event (``InstrumentDefined``), so that a log explains itself and a venue may change a tick while orders are open:
the grid is checked when an order is asked for, and orders that are open already stay as they are. What cannot change once a symbol was
traded is the contract (multiplier and kind): the sums of the book are in its units.

Two kinds of contract, as futures venues have them:

========= ============================== =========================================== ==========================
kind      one contract is                value of a quantity                         result of buying q at p
========= ============================== =========================================== ==========================
linear    ``multiplier`` units of base   quantity x price x multiplier               q x (mark - p) x multiplier
inverse   ``multiplier`` of quote money  quantity x multiplier, whatever the price   q x (mark / p - 1) x multiplier
========= ============================== =========================================== ==========================

A symbol that nobody has defined has no grid, and is linear with multiplier 1, which is right for spot and for contracts of one unit.
"""

from attrs import frozen

from ..effects import Notional, Price, Qty, Usd, to_text
from ..effects.values import SCALE
from .limit_faults import MAX_AMOUNT, amount_text, flag_faults, is_whole, shown


@frozen
class Contract:
    """What one contract is worth."""

    multiplier: Qty
    inverse: bool


#: One unit of base currency.
UNIT = Contract(Qty(SCALE), False)
#: The price at which inverse contracts count: they are worth their multiplier at any.
ONE = Price(SCALE)


@frozen
class Instrument:
    """The venue's terms. 0 in a field of the grid is no such term.

    ``tick``: prices are multiples of it. ``lot``: quantities are multiples of it. ``min_notional`` is the least value of an order in quote
    currency; reduce-only orders are exempt (Binance futures, error -4164).
    """

    tick: Price = Price(0)
    lot: Qty = Qty(0)
    min_qty: Qty = Qty(0)
    max_qty: Qty = Qty(0)
    min_notional: Usd = Usd(0)
    multiplier: Qty = Qty(SCALE)
    inverse: bool = False

    @property
    def contract(self) -> Contract:
        """The part that cannot change once the symbol was traded."""
        return Contract(self.multiplier, self.inverse)


FREE = Instrument()


def cost_of(inverse: bool, qty: int, price: int) -> Notional:
    """What a quantity costs at a price, in contracts' own money at 10^-24: quantity x price, or quantity / price, rounded down, if inverse.

    0 at no price: venues report an average of 0 where nothing was traded.
    """
    if not inverse:
        return Notional(qty * price)
    return Notional(qty * SCALE * SCALE // price if price > 0 else 0)


def instrument_faults(instrument: Instrument) -> list[str]:
    """Every fault of a definition, each as ``field: what is wrong; what to give``."""
    faults = []
    for name in ("tick", "lot", "min_qty", "max_qty", "min_notional", "multiplier"):
        value: object = getattr(instrument, name)
        least, words = (1, "above 0") if name == "multiplier" else (0, "of 0 or more")
        if not is_whole(value):
            faults.append(f"{name}: {shown(value)} is a {type(value).__name__}; give an exact number {words}")
        elif not least <= value <= MAX_AMOUNT:
            faults.append(f"{name}: {amount_text(value)} is out of range; give a number {words}, up to 10^15")
    faults += [f"inverse: {text}" for text in flag_faults(instrument.inverse)]
    if faults:
        return faults
    low, high, lot = instrument.min_qty, instrument.max_qty, instrument.lot
    if high and high < low:
        faults.append(f"max_qty: {to_text(high)} is below min_qty, {to_text(low)}; give 0 if there is no such term")
    elif high and lot and high // lot * lot < max(low, 1):
        faults.append(f"max_qty: no multiple of the lot, {to_text(lot)}, lies between min_qty and {to_text(high)}; no order would fit")
    return faults
