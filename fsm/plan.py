"""Plans: what one process asks another to do, signed, with an end, and what the other makes of a delivery. Pure.

A plan travels on a stream that may deliver it late, twice, to two consumers, or long after it was meant; and whoever can write to the store
can put one there. So a plan says itself all that is needed to judge it:

* Its *id* is the SHA-256 of its content, so the same plan published twice is known as the same one, and a plan with another quantity is
  another plan.
* It is *signed*: HMAC-SHA256 over its whole text, under a key that is named. To change keys: give every consumer the new key behind the
  old one, then give publishers the new one, then take the old one away when the last plan under it has expired. A key belongs to
  one account; under a shared one, a plan for a test account could be replayed on another.
* It *expires*. A guard that says "was executed" lives only so long, and an unacknowledged entry has no age limit: only its own expiry
  keeps an old plan from being executed after its guard is gone. ``dedupe_ttl_ms`` makes the guard outlive that.

The text is canonical (``codec.py``): one plan has one text, and a text that is spelled otherwise is malformed. Checked in this order:

================== ================================================================================================
code               the text ...
================== ================================================================================================
malformed          is not one of a plan, or not spelled as one, or says what no plan can say
unknown_key        names a key that is not among those of the policy
bad_signature      was not signed under that key: it was altered, or forged. Compared in constant time
wrong_plan_id      has an id that is not that of its content, or the stream names it otherwise
unknown_source     comes from a source that may not publish here
from_the_future    was made later than now, by more than clocks may differ
expired            is too old
================== ================================================================================================

What is done with a delivery: whatever was found is final, so such an entry is *buried*: taken off the stream and put with the dead letters,
with the code. All but one: what is from the future for this consumer may be of now for one whose clock is right, and will be of
now for this one, so it is *left*, and people are told to see to the clocks. A plan that has been delivered more often than
``max_deliveries`` is a dead letter too, since something about it keeps its consumers from finishing; one that is still from the
future then, by that code. All else is executed, behind the guard of the plan, and what came of it decides:

====================== =============== ============== ==================================================================
status                 guard           acknowledged   meaning
====================== =============== ============== ==================================================================
EXECUTED               DONE            yes            it was done
DROPPED_DUPLICATE      DONE            yes            it had been done, or refused for good, before: ``dedupe_hit``
REJECTED_GUARDRAIL     DONE            yes            it may not be done, and is not tried again
RETRYABLE_RATE_LIMIT   REJECTED        no             it certainly did not happen; later
IN_DOUBT               IN_DOUBT        no             nobody knows; not executed again before somebody has asked
DEAD_LETTERED          as it is        buried         people have to look at it
LEFT                   as it is        no             it was not begun, or is somebody else's, or from the future; later
====================== =============== ============== ==================================================================

A plan's fields, the statuses and the word ``dedupe_hit`` are seen from outside; they stay as they are.
"""

import hashlib
import hmac
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import attrs
from attrs import frozen

from ..effects import GuardState, OrdType, Qty, Side
from .codec import CodecError, Coder
from .guard import guard_key
from .limit_faults import is_name, is_whole, shown
from .limits import MAX_NUMBER

#: The type of the side effect "this plan is handled", for its guard.
PLAN: Final = "plan"
#: A longer text is no plan's; it is not parsed. The longest words of a plan, in characters.
MAX_BODY: Final = 16_384
MAX_WORDS: Final = 256
#: The least length of a key, in bytes: that of the hash (RFC 2104, section 3).
MIN_SECRET: Final = 32
#: No guard lives longer: what is beyond 285,000 years is beyond what a store can add to its clock.
MAX_TTL_MS: Final = 2**53
#: What is signed begins with this, so that a signature under the same key means nothing elsewhere.
_DOMAIN: Final = b"haltcore plan 1\0"


class Status(StrEnum):
    """What came of a delivery; see the table."""

    EXECUTED = "EXECUTED"
    DROPPED_DUPLICATE = "DROPPED_DUPLICATE"
    REJECTED_GUARDRAIL = "REJECTED_GUARDRAIL"
    RETRYABLE_RATE_LIMIT = "RETRYABLE_RATE_LIMIT"
    IN_DOUBT = "IN_DOUBT"
    DEAD_LETTERED = "DEAD_LETTERED"
    LEFT = "LEFT"


@frozen
class Ending:
    """What an executed plan's guard is told, and whether its entry is done with."""

    guard: GuardState
    acknowledged: bool


#: By what executing a plan can come to; the other statuses are not the executor's to give.
ENDINGS: Final[Mapping[Status, Ending]] = MappingProxyType(
    {
        Status.EXECUTED: Ending(GuardState.DONE, True),
        Status.DROPPED_DUPLICATE: Ending(GuardState.DONE, True),
        Status.REJECTED_GUARDRAIL: Ending(GuardState.DONE, True),
        Status.RETRYABLE_RATE_LIMIT: Ending(GuardState.REJECTED, False),
        Status.IN_DOUBT: Ending(GuardState.IN_DOUBT, False),
    }
)


class PlanRefused(ValueError):
    """A plan, key or policy that cannot be. Names every fault."""


@frozen
class Plan:
    """What is to be done.

    ``decision`` says what kind of thing, ``reason`` why, ``source`` who decided it; ``cause`` is a fingerprint of what it answers
    to (of a drift, say), by which the same cause cools down. ``qty`` is above 0. Times are UTC milliseconds; the plan is good from
    ``created_ms`` until before ``expires_ms``. Raises PlanRefused.
    """

    decision: str
    symbol: str
    side: Side
    qty: Qty
    type: OrdType
    reduce_only: bool
    reason: str
    source: str
    cause: str
    created_ms: int
    expires_ms: int

    def __attrs_post_init__(self) -> None:
        faults = plan_faults(self)
        if faults:
            raise PlanRefused("no such plan: " + "; ".join(faults))


@frozen
class SignedPlan:
    """A plan with its id, the key it was signed under, and the signature, in lower-case hexadecimal."""

    id: str
    plan: Plan
    key: str
    signature: str


@frozen
class Key:
    """A key for signatures: its public name, and at least 32 bytes that nobody can guess. Raises PlanRefused, whose words repeat neither:
    where the two were swapped, the one that is named would be the secret."""

    id: str
    secret: bytes = attrs.field(repr=False)

    def __attrs_post_init__(self) -> None:
        order = "Key(id, secret), the name first"
        if not is_name(self.id):
            raise PlanRefused(f"id: what is given ({_size(self.id)}) is no name of a key; give 1 to 64 printable characters; {order}")
        if not isinstance(self.secret, bytes):
            raise PlanRefused(f"secret: what is given ({_size(self.secret)}) is no bytes; give {MIN_SECRET} random bytes or more; {order}")
        if len(self.secret) < MIN_SECRET:
            raise PlanRefused(f"secret: what is given ({_size(self.secret)}) is too short; give {MIN_SECRET} random bytes or more; {order}")


def _size(value: object) -> str:
    """What a value is, and nothing of what it says."""
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, (str, bytes)) else type(value).__name__


@frozen
class PlanPolicy:
    """Whose plans are taken, and how often. Raises PlanRefused.

    ``keys`` are all keys that count; ``sources`` all sources. ``skew_ms``: by how much two clocks may differ. ``dedupe_ms``: how
    long a plan's guard lives at least.
    """

    keys: tuple[Key, ...]
    sources: tuple[str, ...]
    max_deliveries: int = 5
    skew_ms: int = 5_000
    dedupe_ms: int = 86_400_000

    def __attrs_post_init__(self) -> None:
        faults = []
        keys: object = self.keys
        if not isinstance(keys, (tuple, list)) or not all(isinstance(key, Key) for key in keys):
            faults.append("keys: give a tuple of Key(id, secret), such as keys=(key,)")
        else:
            names = [key.id for key in keys]
            if not names or len(dict.fromkeys(names)) != len(names):
                faults.append(f"keys: {names} have to be one or more, each with a name of its own")
        # A text is a list of letters, too, and each part of it would be a source.
        sources: object = self.sources
        if not isinstance(sources, (tuple, list)) or not sources or not all(is_name(source) for source in sources):
            faults.append(f"sources: {shown(sources)}; name those who may publish, such as sources=(\"reconcile\",)")
        for name, least in (("max_deliveries", 1), ("skew_ms", 0), ("dedupe_ms", 1)):
            if not is_whole(getattr(self, name)) or getattr(self, name) < least:
                faults.append(f"{name}: {shown(getattr(self, name))}; give a whole number of at least {least}")
        if faults:
            raise PlanRefused("no such policy: " + "; ".join(faults))


@frozen
class Refusal:
    """Why a text is not taken for a plan: a code of the table, and words for people."""

    code: str
    text: str


class Action(StrEnum):
    """What is done with a delivery."""

    EXECUTE = "execute"
    LEAVE = "leave"
    BURY = "bury"
    DEAD_LETTER = "dead_letter"


@frozen
class Decision:
    """What is done, and why if it is not executed. ``signed`` is the plan, unless nothing in the text can be trusted; that of an untimely
    plan can."""

    action: Action
    signed: SignedPlan | None
    code: str = ""
    text: str = ""


_CONTENT: Final[Coder[Plan]] = Coder(Plan)
_BODY: Final[Coder[SignedPlan]] = Coder(SignedPlan)


# --- making ---------------------------------------------------------------------------------------------------------


def plan_id(plan: Plan) -> str:
    """The id of a plan: SHA-256 of its canonical text, in hexadecimal."""
    return hashlib.sha256(_CONTENT.encode(plan)).hexdigest()


def sign(plan: Plan, key: Key) -> SignedPlan:
    """The plan, signed."""
    unsigned = SignedPlan(plan_id(plan), plan, key.id, "")
    return attrs.evolve(unsigned, signature=_mac(unsigned, key))


def to_body(signed: SignedPlan) -> str:
    """The canonical text that travels."""
    return _BODY.encode(signed).decode()


def _mac(signed: SignedPlan, key: Key) -> str:
    return hmac.new(key.secret, _DOMAIN + _BODY.encode(attrs.evolve(signed, signature="")), hashlib.sha256).hexdigest()


def plan_faults(plan: Plan) -> list[str]:
    """Everything that no plan can say."""
    faults = [
        f"{name}: {shown(getattr(plan, name))} is no name; give printable text of 1 to 64 characters"
        for name in ("decision", "symbol", "source") if not is_name(getattr(plan, name))
    ]  # fmt: skip
    faults += [
        f"{name}: {shown(getattr(plan, name))}; give printable text of at most {MAX_WORDS} characters"
        for name in ("reason", "cause") if not _is_text(getattr(plan, name))
    ]  # fmt: skip
    if type(plan.side) is not Side or type(plan.type) is not OrdType or type(plan.reduce_only) is not bool:
        found = ", ".join(shown(value) for value in (plan.side, plan.type, plan.reduce_only))
        faults.append(f"side, type, reduce_only: {found}; give a Side, an OrdType and a truth value")
    if not is_whole(plan.qty) or not 0 < plan.qty <= MAX_NUMBER:
        faults.append(f"qty: {shown(plan.qty)} is no quantity above 0")
    if not is_whole(plan.created_ms) or not is_whole(plan.expires_ms) or not 0 <= plan.created_ms < plan.expires_ms <= MAX_NUMBER:
        times = f"{shown(plan.created_ms)}, {shown(plan.expires_ms)}"
        faults.append(f"created_ms, expires_ms: {times}; give UTC milliseconds, the second above the first")
    return faults


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_WORDS and (value == "" or value.isprintable())


# --- judging --------------------------------------------------------------------------------------------------------


def verify(body: str, named: str, now_ms: int, policy: PlanPolicy) -> SignedPlan | Refusal:
    """The plan that a text is, if everything about it is right; else the first thing that is not. It came under the id ``named``."""
    signed = authentic(body, named, policy)
    return (_untimely(signed, now_ms, policy) or signed) if isinstance(signed, SignedPlan) else signed


def authentic(body: str, named: str, policy: PlanPolicy) -> SignedPlan | Refusal:
    """The plan that a text is, if one of ours has written it, whenever that was."""
    signed = _read(body)
    if signed is None:
        return Refusal("malformed", f"{shown(body)} is not the text of a plan")
    key = next((key for key in policy.keys if key.id == signed.key), None)
    if key is None:
        return Refusal("unknown_key", f"it names the key {shown(signed.key)}, which is not among those that count here")
    if not hmac.compare_digest(_mac(signed, key).encode(), signed.signature.encode("utf-8", "surrogatepass")):
        return Refusal("bad_signature", f"it was not signed under the key {signed.key!r}: it was altered or forged")
    if plan_id(signed.plan) != signed.id or signed.id != named:
        return Refusal("wrong_plan_id", f"it came as {shown(named)} and calls itself {signed.id}; its content is {plan_id(signed.plan)}")
    if signed.plan.source not in policy.sources:
        return Refusal("unknown_source", f"{signed.plan.source!r} may not publish here")
    return signed


def _read(body: str) -> SignedPlan | None:
    """What a text says, if it is the canonical text of something."""
    if len(body) > MAX_BODY:
        return None
    try:
        text = body.encode()
        signed = _BODY.decode(text)
        return signed if _BODY.encode(signed) == text else None
    except (CodecError, UnicodeEncodeError):
        return None


def _untimely(signed: SignedPlan, now_ms: int, policy: PlanPolicy) -> Refusal | None:
    plan = signed.plan
    if plan.created_ms > now_ms + policy.skew_ms:
        return Refusal("from_the_future", f"it was made {plan.created_ms - now_ms} ms from now; see to the clocks")
    if plan.expires_ms <= now_ms:
        return Refusal("expired", f"it expired {now_ms - plan.expires_ms} ms ago")
    return None


#: Every code with which an entry can be buried.
CODES: Final = (
    "malformed", "unknown_key", "bad_signature", "wrong_plan_id", "unknown_source", "from_the_future", "expired", "deliveries",
)  # fmt: skip


def decide(named: str, body: str, deliveries: int, now_ms: int, policy: PlanPolicy) -> Decision:
    """What is done with a delivery of an entry: the id and body under which it came, and how often it was delivered, this time included."""
    signed = authentic(body, named, policy)
    if isinstance(signed, Refusal):
        return Decision(Action.BURY, None, signed.code, signed.text)
    untimely = _untimely(signed, now_ms, policy)
    if untimely is not None and untimely.code != "from_the_future":
        return Decision(Action.BURY, signed, untimely.code, untimely.text)
    if deliveries > policy.max_deliveries:
        words = f"it was delivered {deliveries} times, and {policy.max_deliveries} have to be enough"
        if untimely is not None:
            return Decision(Action.DEAD_LETTER, signed, untimely.code, f"{untimely.text}; {words}")
        return Decision(Action.DEAD_LETTER, signed, "deliveries", words)
    if untimely is not None:
        return Decision(Action.LEAVE, signed, untimely.code, untimely.text)
    return Decision(Action.EXECUTE, signed)


def dedupe_ttl_ms(plan: Plan, now_ms: int, policy: PlanPolicy) -> int:
    """How long the plan's guard has to live: beyond the moment from which every consumer finds the plan expired; at most MAX_TTL_MS."""
    return min(max(policy.dedupe_ms, plan.expires_ms - now_ms + 2 * policy.skew_ms), MAX_TTL_MS)


def plan_key(signed: SignedPlan) -> str:
    """The key of the plan's guard."""
    return guard_key(PLAN, signed.id)
