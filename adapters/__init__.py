"""The world outside: the runner that carries the core's effects out, and what it carries them out with."""

from .answers import (
    CommandRejected,
    HaltcoreError,
    OrderDenied,
    OrderHandle,
    OrderInDoubt,
    OrderRefused,
    Proof,
    RunnerStopped,
    StoppedUnproven,
)
from .paper import PaperVenue
from .runner import Runner, new_session

__all__ = [
    "CommandRejected",
    "HaltcoreError",
    "OrderDenied",
    "OrderHandle",
    "OrderInDoubt",
    "OrderRefused",
    "PaperVenue",
    "Proof",
    "Runner",
    "RunnerStopped",
    "StoppedUnproven",
    "new_session",
]
