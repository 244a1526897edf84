"""The pure core: values in, values out. ``step(core, event) -> (core, effects)`` is all of it."""

from ..effects import OrdType, Side, TimeInForce, Trigger, bps, price, qty, usd
from .commands import explain
from .config import Config, ConfigRefused, ForeignPolicy, Limits, StorePolicy, SweepPolicy, VenueTraits
from .core import EMPTY, Core
from .events import CancelOrder, EdgeUpdate, Event, Freeze, MarkPrice, ReplaceOrder, SetReduceOnly, SubmitOrder, Unfreeze
from .freeze import may_send
from .invariants import INVARIANTS, broken, broken_state
from .order import Order, OrdStatus
from .outcomes import failed, owes_outcome
from .step import start, step

__all__ = [
    "EMPTY",
    "INVARIANTS",
    "CancelOrder",
    "Config",
    "ConfigRefused",
    "Core",
    "EdgeUpdate",
    "Event",
    "ForeignPolicy",
    "Freeze",
    "Limits",
    "MarkPrice",
    "OrdStatus",
    "OrdType",
    "Order",
    "ReplaceOrder",
    "SetReduceOnly",
    "Side",
    "StorePolicy",
    "SubmitOrder",
    "SweepPolicy",
    "TimeInForce",
    "Trigger",
    "Unfreeze",
    "VenueTraits",
    "bps",
    "broken",
    "broken_state",
    "explain",
    "failed",
    "may_send",
    "owes_outcome",
    "price",
    "qty",
    "start",
    "step",
    "usd",
]
