"""What the core knows of the store: whether it answers, what it is, and whether it is fit to coordinate.

Every answer of the store passes through :func:`heard`, whatever it is about, and from them follows its *health*. What that permits is never
decided here but looked up in ``degraded.py``. Any answer can break the health. What mends it depends on what was asked, for a store that is
full, or has lost its replicas, answers every question and takes no word:

=================== ================================================== =================================================================
asked               an answer mends the health                         a failure
=================== ================================================== =================================================================
a write: lease,     yes                                                where claims are asked for, it is counted, if the health was good:
latch, guard                                                           the k-th in a row spoils the next 2^(k-1) - 1 polls, at most 15
a poll of the latch yes, unless a refused write has spoiled it         breaks the health
check, breaker      no: the next poll is due soon                      breaks the health
=================== ================================================== =================================================================

So a store that can be read and not written is tried again more and more seldom, by what is to be written, and where claims are asked
for, no answer but a poll's leads to further questions. Whoever has much to tell asks :func:`writable` first. Three changes are acted upon:

=================================== ================================================================================================
change                              what is done
=================================== ================================================================================================
it fails, or answers again          people are told: ``store_lost`` with the code of the cause, once for every code, and ``store_back`` once
                                    when a write is taken, or ``ENOUGH_POLLS`` in a row have found it healthy, with no failure in between
it answers again after a failure    its fitness is checked anew by the poll that finds it so. Without claims the latch is read, and its
                                    fitness checked, at once: a freeze may have been said meanwhile, and no claim would find that out
its epoch is another                it is another store than before, or has lost what it knew: its fitness is checked anew
=================================== ================================================================================================

So what people were told of outlasts the health: a poll mends a store that can be read and not written, the next write breaks it, and so on
for as long as the store is full. Of that they hear once.

A store that has not been asked yet counts as healthy, but its latch as unread (``known``), and its fitness as not found.
"""

from enum import StrEnum
from typing import Final

import attrs

from ..effects import CheckStore, ReadFreeze, Severity
from .config import StoreCheck
from .core import Desk
from .degraded import Deed, conduct
from .events import StoreChecked, StoreHealth
from .turn import Turn

#: Up to how many refused writes in a row are counted.
MOST_REFUSED: Final = 5
#: How many polls in a row, without a failure in between, let people hear that the store is back when nothing is written to it.
ENOUGH_POLLS: Final = 10
#: What does not pass by itself, where a store says it from the beginning: somebody has to change the URL, or a right.
_BY_ITSELF_NEVER: Final = ("store_auth", "store_forbidden", "store_readonly")


def begin(turn: Turn) -> None:
    """A process begins: what is frozen, and whether the store is fit?"""
    read_latch(turn)
    check(turn)


class Asked(StrEnum):
    """What an answer is about; see the essay's first table."""

    WRITE = "write"
    POLL = "poll"
    READ = "read"


def heard(turn: Turn, health: StoreHealth, code: str = "", asked: Asked = Asked.WRITE) -> None:
    """The store has answered, or has not, with this code for the cause; to be called first for every answer of it."""
    store = turn.desk.store
    if health is not StoreHealth.OK:
        _failing(turn, health, code, asked)
        return
    if asked is Asked.READ:
        return
    if store.health is not StoreHealth.OK:
        _answering(turn, asked)
    elif asked is Asked.WRITE and store.refused:
        turn.desk = attrs.evolve(turn.desk, store=attrs.evolve(store, refused=0))
    elif asked is Asked.POLL and not store.checked and store.check is None:
        check(turn)
    if turn.desk.store.told and writable(turn.desk):
        _reassure(turn, asked)


def writable(desk: Desk) -> bool:
    """Whether it is worth telling the store something now: it answers, and has not just refused to be written."""
    return desk.store.health is StoreHealth.OK


def _answering(turn: Turn, asked: Asked) -> None:
    """It answers after a failure."""
    store = turn.desk.store
    if asked is Asked.POLL and store.spoiled:
        turn.desk = attrs.evolve(turn.desk, store=attrs.evolve(store, spoiled=store.spoiled - 1))
        return
    refused = store.refused if asked is Asked.POLL else 0
    mended = attrs.evolve(store, health=StoreHealth.OK, code="", since_ns=0, refused=refused, spoiled=0)
    turn.desk = attrs.evolve(turn.desk, store=mended)
    claims = turn.desk.config.store.guard
    if store.read is None and not claims:
        read_latch(turn)
    if store.check is None and (asked is Asked.POLL or not claims):
        check(turn)


def _reassure(turn: Turn, asked: Asked) -> None:
    """A store that people were told of is healthy: they hear of it when that has proved to last."""
    store = turn.desk.store
    answered = store.answered + 1
    if asked is Asked.POLL and answered < ENOUGH_POLLS:
        turn.desk = attrs.evolve(turn.desk, store=attrs.evolve(store, answered=answered))
        return
    turn.desk = attrs.evolve(turn.desk, store=attrs.evolve(store, told=(), answered=0))
    turn.alert(Severity.INFO, "store_back", f"the coordination store answers again, after {', '.join(store.told)}")


def _failing(turn: Turn, health: StoreHealth, code: str, asked: Asked) -> None:
    """It fails. People are told when the cause is known for the first time, unless they have heard of this one and not yet that it is over.
    Logs of format 2 and before never have a cause, so nothing is said in them, as it was."""
    store = turn.desk.store
    since_ns = turn.now_ns if store.health is StoreHealth.OK else store.since_ns
    failing = attrs.evolve(store, health=health, code=code or store.code, since_ns=since_ns, answered=0)
    if asked is Asked.WRITE and store.health is StoreHealth.OK and turn.desk.config.store.guard:
        refused = min(store.refused + 1, MOST_REFUSED)
        failing = attrs.evolve(failing, refused=refused, spoiled=2 ** (refused - 1) - 1)
    new = bool(code) and not store.code and code not in store.told
    turn.desk = attrs.evolve(turn.desk, store=attrs.evolve(failing, told=(*store.told, code)) if new else failing)
    if not new:
        return
    hopeless = not store.known and code in _BY_ITSELF_NEVER
    what = "has not answered yet" if not store.known else "does not answer"
    text = f"the coordination store {what} ({code}); nothing is placed until it does. haltcore check-store says what to do"
    turn.alert(Severity.CRITICAL if hopeless else Severity.WARNING, "store_lost", text)


def seen_epoch(turn: Turn, epoch: int) -> bool:
    """Take note of the store's epoch; whether it is another than before. 0 is not said."""
    store = turn.desk.store
    if epoch in (0, store.epoch):
        return False
    turn.desk = attrs.evolve(turn.desk, store=attrs.evolve(store, epoch=epoch))
    if not store.epoch:
        return False
    check(turn)
    return True


def read_latch(turn: Turn) -> None:
    """Ask the store what is frozen, if there is a store."""
    if turn.desk.config.store.configured:
        effect = turn.emit(ReadFreeze)
        turn.desk = attrs.evolve(turn.desk, store=attrs.evolve(turn.desk.store, read=effect, timer=None))


# --- fitness --------------------------------------------------------------------------------------------------------------


def check(turn: Turn) -> None:
    """Ask whether the store is fit, where somebody wants to know. What was found before holds no longer."""
    policy = turn.desk.config.store
    if policy.configured and policy.check is not StoreCheck.OFF:
        effect = turn.emit(CheckStore)
        turn.desk = attrs.evolve(turn.desk, store=attrs.evolve(turn.desk.store, check=effect, checked=False))


def on_checked(turn: Turn, event: StoreChecked) -> None:
    """Whether it is fit. People are told what is wrong, once as long as it is the same. One that does not answer is asked again when it
    does."""
    heard(turn, event.health, event.code, Asked.READ)
    before = turn.desk.store
    if before.check != event.effect:
        return
    if event.health is not StoreHealth.OK:
        turn.desk = attrs.evolve(turn.desk, store=attrs.evolve(before, check=None))
        return
    turn.desk = attrs.evolve(turn.desk, store=attrs.evolve(before, check=None, checked=True, faults=event.faults, notes=event.notes))
    if event.faults and event.faults != before.faults:
        turn.alert(Severity.CRITICAL, "store_unfit", "; ".join(event.faults))
    if event.notes and event.notes != before.notes:
        turn.alert(Severity.INFO, "store_notes", "; ".join(event.notes))


def unfit(desk: Desk) -> str:
    """Why nothing is placed over a store that has not been found fit, where that is demanded; else ""."""
    policy, store = desk.config.store, desk.store
    if not policy.configured or policy.check is not StoreCheck.STRICT or (store.checked and not store.faults):
        return ""
    if not store.checked:
        return "the store's fitness is not known yet" + cause(desk)
    return "the store is not fit to coordinate: " + "; ".join(store.faults)


def cause(desk: Desk) -> str:
    """Why the store does not answer, in brackets, if it does not and has said why."""
    return f" ({desk.store.code})" if desk.store.code else ""


# --- a store that fails ---------------------------------------------------------------------------------------------------


def degraded(turn: Turn, deed: Deed, health: StoreHealth | None = None) -> None:
    """Count a deed that was done otherwise than the store's word would have it. ``health``, where it is not that of the last answer."""
    health = turn.desk.store.health if health is None else health
    if turn.desk.config.store.configured and health is not StoreHealth.OK:
        turn.metric("mm_coordination_degraded_total", 1, f"{deed.value},{conduct(deed, health).value}")
