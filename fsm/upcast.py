"""Old formats: how a line of format k becomes a line of format k + 1.

When the shape of a line changes, ``FORMAT`` in ``record.py`` grows by one and one step is added here: a pure function from the decoded
object of a line to that of the next format. Steps are chained, each is written once and never touched again. The chain is checked
when the module is imported, so a missing step shows at start-up and not in the one log that needed it.

A step sees every line of a log: header, records, seal. It changes what it knows and passes on what it does not: a line that was
never right is refused by the decoder, in its words. It leaves ``prev`` and ``hash`` alone; they prove the bytes of the old line and
are verified before. Two things are never upcast. Snapshots: the state of an old format is rebuilt by replaying from the first
segment. Digests: they are over encodings that no longer exist, so a log of an old format is compared by its effects alone.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from attrs import frozen

Line: TypeAlias = dict[str, Any]


@frozen
class Step:
    """Takes a line of format ``reads`` to format ``writes``, the next one."""

    reads: int
    writes: int
    change: Callable[[Line], Line]


class ChainRefused(ValueError):
    """The steps do not lead, one by one, from the oldest format to the current one. Names every fault."""


class Upcasters:
    """A checked chain of steps. ``oldest`` is the first format that can be read."""

    def __init__(self, steps: Sequence[Step], current: int) -> None:
        faults = chain_faults(steps, current)
        if faults:
            raise ChainRefused("the upcasters are no chain: " + "; ".join(faults))
        self._changes = {step.reads: step.change for step in steps}
        self.current = current
        self.oldest = min(self._changes, default=current)

    def upcast(self, line: Line, written: int) -> Line:
        """The line, written in that format, in the current one. ``written`` lies between ``oldest`` and ``current``."""
        for number in range(written, self.current):
            line = self._changes[number](line)
        return line


def chain_faults(steps: Sequence[Step], current: int) -> list[str]:
    """Every fault of a chain that has to end at ``current``."""
    leaps = [step for step in steps if step.writes != step.reads + 1]
    faults = [f"the step from format {step.reads} leads to {step.writes}, not to {step.reads + 1}" for step in leaps]
    reads = [step.reads for step in steps]
    faults += [f"format {number} has {reads.count(number)} steps" for number in dict.fromkeys(reads) if reads.count(number) > 1]
    faults += [f"format {number} has a step but is not older than the current format {current}" for number in reads if number >= current]
    faults += [f"format {number} has no step" for number in range(min(reads, default=current), current) if number not in reads]
    return faults


# --- from 1 to 2 ------------------------------------------------------------------------------------------------------
#
# A freeze has a scope, which may be more than a symbol; an order says on whose behalf it is; a denial may name all its codes;
# a configuration has limits by symbol, strategy, window and band, and more triggers. What format 1 could not say was not so.

#: Where ``symbol`` meant a scope.
_SCOPED: Final = ("Freeze", "Unfreeze", "SetReduceOnly", "PublishFreeze", "ClearFreeze", "ModeChanged")
#: What came behind the other fields of a class.
_NEW: Final[dict[str, Line]] = {
    "SubmitOrder": {"trader": "", "client": "", "explain": False},
    "ReplaceOrder": {"explain": False},
    "Freeze": {"metadata": []},
    "Denied": {"codes": []},
}
_NEW_FIGURES: Final[Line] = {
    "max_order_value": None, "max_order_qty": None, "price_collar_bps": None, "max_open_orders": None, "max_daily_loss": None,
    "max_drawdown": None, "feed_lost_ms": None, "message_rate": None, "execution_rate": None, "duplicate_window_ms": None,
    "prevent_self_match": False,
}  # fmt: skip
_NO_TRIGGERS: Final[Line] = {"reject_storm": None, "clock_jump_ms": None, "breaker_open": False, "cool_downs": []}
_NEW_CONFIG: Final[Line] = {
    "rules": [], "strategies": [], "restricted": [], "triggers": _NO_TRIGGERS, "two_persons": False, "attribution": False,
    "day_roll_minute": 0,
}  # fmt: skip


def _to_2(line: Line) -> Line:
    if "haltcore" in line:
        return {**line, "format": 2, "config": _config_2(line.get("config"))}
    if "event" not in line:
        return line
    event = line["event"]
    # A place stands in the record of its submit, and that one knows for whom it is.
    strategy = event.get("strategy", "") if isinstance(event, dict) else ""
    return {**line, "event": _object_2(event, ""), "effects": _each(line.get("effects"), lambda effect: _object_2(effect, strategy))}


def _object_2(found: Any, strategy: str) -> Any:
    """An event or effect."""
    if not isinstance(found, dict):
        return found
    kind = found.get("class")
    if kind == "Place":
        return _with_owner(found, strategy)
    if kind == "LatchAnswer":
        return {**found, "rows": _each(found.get("rows"), _row_2)}
    if kind in ("Started", "Restarted"):
        return {**found, "config": _config_2(found.get("config"))}
    return {**(_scoped(found) if kind in _SCOPED else found), **_NEW.get(str(kind), {})}


def _with_owner(place: Line, strategy: str) -> Line:
    """A place with its new fields where they belong: the text of an effect has its keys in one order."""
    owner = {"strategy": strategy, "trader": "", "client": ""}
    last: Line = {key: place[key] for key in ("epoch", "fence") if key in place}
    return {**{key: value for key, value in place.items() if key not in last}, **owner, **last}


def _row_2(found: Any) -> Any:
    return {**_scoped(found), "joint": False} if isinstance(found, dict) else found


def _scoped(found: Any) -> Any:
    return {"scope" if key == "symbol" else key: value for key, value in found.items()} if isinstance(found, dict) else found


def _config_2(config: Any) -> Any:
    if not isinstance(config, dict):
        return config
    limits = config.get("limits")
    return {**config, "limits": {**limits, **_NEW_FIGURES} if isinstance(limits, dict) else limits, **_NEW_CONFIG}


# --- from 2 to 3 ------------------------------------------------------------------------------------------------------
#
# A side effect can be claimed in the store before it is sent, and a place can be late; the store has an epoch and knows whose a
# latch row is; there is a breaker, and a check of the store. Logs of format 2 had none of it: their configuration says so.

#: What came behind the other fields of a class.
_NEW_3: Final[dict[str, Line]] = {
    "SubmitOrder": {"once": ""}, "Place": {"expires_ns": 0}, "Replace": {"expires_ns": 0}, "LeaseAnswer": {"code": ""},
    "ClearFreeze": {"force": False},
}  # fmt: skip
#: Nothing was claimed, nothing checked, and no lease was ever capped: the cap is the longest time that can be configured.
_NEW_STORE: Final[Line] = {
    "lease_cap_ms": 31_622_400_000, "guard": False, "claim_ms": 2_000, "guard_ttl_ms": 259_200_000, "check": "off",
}  # fmt: skip


def _to_3(line: Line) -> Line:
    if "haltcore" in line:
        return {**line, "format": 3, "config": _config_3(line.get("config"))}
    if "event" not in line:
        return line
    event = line["event"]
    # Whether a person said force stands in the record of the unfreeze, and the clearing of the latch says it now, too.
    force = isinstance(event, dict) and event.get("class") == "Unfreeze" and event.get("force") is True
    return {**line, "event": _object_3(event), "effects": _each(line.get("effects"), lambda effect: _effect_3(effect, force))}


def _effect_3(found: Any, force: bool) -> Any:
    new = _object_3(found)
    return {**new, "force": True} if force and isinstance(new, dict) and new.get("class") == "ClearFreeze" else new


def _object_3(found: Any) -> Any:
    """An event or effect."""
    if not isinstance(found, dict):
        return found
    kind = found.get("class")
    if kind == "LatchAnswer":
        return {**found, "rows": _each(found.get("rows"), _row_3), "epoch": 0, "code": "", "scope": None}
    if kind in ("Started", "Restarted"):
        return {**found, "config": _config_3(found.get("config"))}
    return {**found, **_NEW_3.get(str(kind), {})}


def _row_3(found: Any) -> Any:
    return {**found, "mine": None, "author": "", "readable": True} if isinstance(found, dict) else found


def _config_3(config: Any) -> Any:
    if not isinstance(config, dict):
        return config
    store = config.get("store")
    return {**config, "store": {**store, **_NEW_STORE} if isinstance(store, dict) else store, "breaker": None}


# --- both -------------------------------------------------------------------------------------------------------------


def _each(found: Any, change: Callable[[Any], Any]) -> Any:
    return [change(one) for one in found] if isinstance(found, list) else found


#: The steps there are.
STEPS: Final[tuple[Step, ...]] = (Step(1, 2, _to_2), Step(2, 3, _to_3))
