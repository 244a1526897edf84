"""The pure core: values in, values out. ``step(core, event) -> (core, effects)`` is all of it."""

from ..effects import OrdType, Side, TimeInForce, Trigger, bps, notional_text, price, qty, to_text, usd
from .commands import explain
from .config import (
    BreakerPolicy,
    Config,
    ConfigRefused,
    CoolDown,
    ForeignPolicy,
    FreezeClass,
    StoreCheck,
    StorePolicy,
    SweepPolicy,
    Triggers,
    VenueTraits,
)
from .core import EMPTY, Core
from .events import CancelOrder, EdgeUpdate, Event, Freeze, MarkPrice, ReplaceOrder, SetReduceOnly, SubmitOrder, Unfreeze
from .freeze import may_send
from .instrument import Instrument
from .invariants import INVARIANTS, broken, broken_state
from .limits import LimitRule, Limits, Override, Rate
from .order import Order, OrdStatus
from .outcomes import failed, owes_outcome
from .queries import Change, Figure, Holding, Utilization, WhatIf, freeze_history, positions, utilization, what_if
from .step import start, step

__all__ = [
    "EMPTY",
    "INVARIANTS",
    "BreakerPolicy",
    "CancelOrder",
    "Change",
    "Config",
    "ConfigRefused",
    "CoolDown",
    "Core",
    "EdgeUpdate",
    "Event",
    "Figure",
    "ForeignPolicy",
    "Freeze",
    "FreezeClass",
    "Holding",
    "Instrument",
    "LimitRule",
    "Limits",
    "MarkPrice",
    "OrdStatus",
    "OrdType",
    "Order",
    "Override",
    "Rate",
    "ReplaceOrder",
    "SetReduceOnly",
    "Side",
    "StoreCheck",
    "StorePolicy",
    "SubmitOrder",
    "SweepPolicy",
    "TimeInForce",
    "Trigger",
    "Triggers",
    "Unfreeze",
    "Utilization",
    "VenueTraits",
    "WhatIf",
    "bps",
    "broken",
    "broken_state",
    "explain",
    "failed",
    "freeze_history",
    "may_send",
    "notional_text",
    "owes_outcome",
    "positions",
    "price",
    "qty",
    "start",
    "step",
    "to_text",
    "usd",
    "utilization",
    "what_if",
]
