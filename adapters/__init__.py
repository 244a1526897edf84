"""The world outside: the runner that carries the core's effects out, and what it carries them out with.

What only some programs need (stores, guards, jobs, the remote venue) is imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..effects import ValueRefused
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

if TYPE_CHECKING:
    from .gateway import Gateway
    from .holds import CoolDowns, Holds
    from .jobs import JobBlocked, Jobs, RetryPolicy
    from .memory_state import MemoryState
    from .memory_store import MemoryStore
    from .plan_publisher import PlanPublisher
    from .plans import PlanConsumer
    from .redis_store import RedisStore
    from .remote_venue import RemoteVenue
    from .retry_metrics import RetryMetrics
    from .settings_file import SettingsRefused
    from .settings_store import NoStoreUrl
    from .shared_breaker import BreakerOpen, SharedBreaker
    from .side_effects import (
        Absent,
        Done,
        NotExecuted,
        NothingHappened,
        Once,
        SideEffect,
        SideEffectGuard,
        Unknown,
        order_entity_id,
    )
    from .venue_server import VenueServer

#: By name: the module that has it.
_LATER = {
    "Absent": "side_effects",
    "BreakerOpen": "shared_breaker",
    "CoolDowns": "holds",
    "Done": "side_effects",
    "Gateway": "gateway",
    "Holds": "holds",
    "JobBlocked": "jobs",
    "Jobs": "jobs",
    "MemoryState": "memory_state",
    "MemoryStore": "memory_store",
    "NoStoreUrl": "settings_store",
    "NotExecuted": "side_effects",
    "NothingHappened": "side_effects",
    "Once": "side_effects",
    "PlanConsumer": "plans",
    "PlanPublisher": "plan_publisher",
    "RedisStore": "redis_store",
    "RemoteVenue": "remote_venue",
    "RetryMetrics": "retry_metrics",
    "RetryPolicy": "jobs",
    "SettingsRefused": "settings_file",
    "SharedBreaker": "shared_breaker",
    "SideEffect": "side_effects",
    "SideEffectGuard": "side_effects",
    "Unknown": "side_effects",
    "VenueServer": "venue_server",
    "order_entity_id": "side_effects",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LATER[name]}", __name__), name)


__all__ = [
    "Absent",
    "BreakerOpen",
    "CommandRejected",
    "CoolDowns",
    "Done",
    "Gateway",
    "HaltcoreError",
    "Holds",
    "JobBlocked",
    "Jobs",
    "MemoryState",
    "MemoryStore",
    "NoStoreUrl",
    "NotExecuted",
    "NothingHappened",
    "Once",
    "OrderDenied",
    "OrderHandle",
    "OrderInDoubt",
    "OrderRefused",
    "PaperVenue",
    "PlanConsumer",
    "PlanPublisher",
    "Proof",
    "RedisStore",
    "RemoteVenue",
    "RetryMetrics",
    "RetryPolicy",
    "Runner",
    "RunnerStopped",
    "SettingsRefused",
    "SharedBreaker",
    "SideEffect",
    "SideEffectGuard",
    "StoppedUnproven",
    "Unknown",
    "ValueRefused",
    "VenueServer",
    "new_session",
    "order_entity_id",
]
