"""The cool-down: how a freeze may end without a person, and when it may not.

Only where it is configured, per class of reasons, and only for classes that may pass by themselves. It is cautious at every turn:

* It begins when the scope is *proven* empty, and lasts ``wait_ms``, doubled with every freeze of the class in the scope, up to ``cap_ms``.
* Everything that froze the scope has to be of the one class, and seen by the core itself. A trigger of another class, a word of a
  person or a part of the bot, a peer's freeze, a peer that stands behind ours in the store: each makes it a person's turn, for good. So
  does a freeze that found the scope in reduce-only: there a person is at work already.
* When the time is over, what would keep a person from unfreezing keeps the core too, and so does a cause that is still there, as far as
  the core can see: a feed that is away, a breaker that is open, an edge whose last reading is still too low. Then the same wait begins
  again.
* After ``repeats`` freezes of the class, each within ``memory_ms`` of the end of the one before, it is a person's turn, and an alert
  says so.

So somebody has to go on telling the edge while the scope is frozen; a reading that is never renewed keeps it frozen.
"""

import attrs

from ..effects import Mode, Purpose, Severity
from .config import CoolDown, FreezeClass
from .core import ACCOUNT, Control, Repeats, in_words, scope_symbol, scope_text
from .degraded import Deed, forbidden
from .thresholds import edge_is_low, feed_is_stale
from .triggers import CLASS_OF
from .turn import NS_PER_MS, Turn

#: Doubled more often than that, any wait is above any cap.
_MAX_DOUBLINGS = 40


def count(turn: Turn, scope: int) -> None:
    """A freeze of its own accord has begun: whether it may end by itself, by how often there was one."""
    control = turn.desk.controls[scope]
    policy = _policy(turn, control)
    if policy is None:
        return
    key = scope, policy.kind.value
    last = turn.desk.repeats.get(key)
    number = last.count + 1 if last is not None and turn.now_ns - last.last_ns < policy.memory_ms * NS_PER_MS else 1
    turn.desk = attrs.evolve(turn.desk, repeats=turn.desk.repeats.set(key, Repeats(number, turn.now_ns)))
    if number <= policy.repeats:
        _put(turn, scope, attrs.evolve(control, transient=True))
        return
    whose = in_words(scope_text(turn.desk, scope))
    text = f"{whose} was frozen {number} times by reasons of {policy.kind.value}; it stays until a person lifts it"
    turn.alert(Severity.CRITICAL, "freeze_escalated", text, 0, scope_symbol(turn.desk, scope))


def ended(turn: Turn, scope: int) -> None:
    """The freeze is over; memory counts from here."""
    key = scope, CLASS_OF[turn.desk.controls[scope].trigger].value
    last = turn.desk.repeats.get(key)
    if last is not None:
        turn.desk = attrs.evolve(turn.desk, repeats=turn.desk.repeats.set(key, Repeats(last.count, turn.now_ns)))


def start(turn: Turn, scope: int) -> None:
    """The wait begins, if the scope is proven empty and its freeze may end by itself."""
    control = turn.desk.controls[scope]
    policy = _policy(turn, control)
    if policy is None or not control.transient or control.mode is not Mode.FROZEN:
        return
    timer = turn.timer(wait_ms(turn, scope, policy) * NS_PER_MS, Purpose.COOL_DOWN, timer_key(scope))
    _put(turn, scope, attrs.evolve(control, cool_down=timer))


def why(turn: Turn, scope: int) -> str:
    """The reason to be given for the lift. Only for a scope whose wait has run."""
    policy = _policy(turn, turn.desk.controls[scope])
    return f"cool-down of {wait_ms(turn, scope, policy)} ms is over" if policy is not None else ""


def wait_ms(turn: Turn, scope: int, policy: CoolDown) -> int:
    """How long the scope has to wait this time."""
    last = turn.desk.repeats.get((scope, policy.kind.value))
    doublings = min(last.count - 1, _MAX_DOUBLINGS) if last is not None else 0
    return min(policy.wait_ms << doublings, policy.cap_ms)


def hindered(turn: Turn, scope: int) -> bool:
    """Whether something still speaks against lifting the freeze."""
    desk, control = turn.desk, turn.desk.controls[scope]
    if _policy(turn, control) is None or not control.transient or control.mode is not Mode.FROZEN or control.unfreeze is not None:
        return True
    if desk.stopping or not desk.link.up or (desk.config.store.configured and forbidden(Deed.UNFREEZE, desk.store.health)):
        return True
    if CLASS_OF[control.trigger] is FreezeClass.EDGE:
        return edge_is_low(desk, turn.flow, turn.now_ns, scope)
    return feed_is_stale(desk, turn.flow, turn.now_ns, scope) or (scope == ACCOUNT and len(desk.breakers) > 0)


def timer_key(scope: int) -> int:
    """A scope's key as that of a timer, which is never below 0."""
    return 2 * scope if scope >= 0 else -2 * scope - 1


def timer_scope(key: int) -> int:
    """The scope's key again."""
    return -(key + 1) // 2 if key % 2 else key // 2


def _policy(turn: Turn, control: Control) -> CoolDown | None:
    kind = CLASS_OF[control.trigger]
    return next((policy for policy in turn.desk.config.triggers.cool_downs if policy.kind is kind), None)


def _put(turn: Turn, scope: int, control: Control) -> None:
    turn.desk = attrs.evolve(turn.desk, controls=turn.desk.controls.set(scope, control))
