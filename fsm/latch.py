"""The freeze latch: what any process of the account has frozen is frozen for all of them.

The latch lies in the store, one row per scope, and every process reads it again and again; a freeze never travels by a message alone. The
store may forget it. So each process keeps up what it has said itself, from its journal, for as long as the scope is frozen here:

================================= =========================================== =====================================================
the store shows                   we have said freeze ourselves               we only followed another's freeze
================================= =========================================== =====================================================
a row that is also ours           nothing to do                               nothing to do
a row of others alone             publish: they may lift it by themselves     nothing to do: it is theirs to keep up
no row, the store's epoch as      publish: it never arrived, or a person      nothing to do: a person has lifted it there, and has
before                            lifted it elsewhere by force                to come here too
no row, another epoch than        publish: the store has forgotten            publish: the store has forgotten, and whoever said it
before                                                                        first may be gone
================================= =========================================== =====================================================

What is published and does not arrive is published with the next reading. Whether a row is *also ours* the store says by its authors, the
sessions, which survive restarts. Logs of old formats do not have them; there equal words, or a joint row, have to do.

A row is the set of its authors' words: it stands as long as one of them does. Nothing here lifts a freeze: that takes a person
(``freeze.py``), who withdraws a session's own word by a compare-and-set on the row's epoch, where it was said. What was asked
before that was answered, and arrives after it, may show the row still, and is not believed about that scope. Their numbers are not
compared: a server whose clock was ahead may give one twice. And an answer under another epoch of the store withdraws nothing: there the row
is gone because it was forgotten.

A row that this version cannot read, or whose trigger it does not know, is a peer's freeze like any other, and people are told: in a scope
that is not configured here, too, since it may be more than a name to whoever has set it.
"""

import attrs

from ..effects import EffectId, Mode, PublishFreeze, Purpose, Severity, Trigger
from . import breakers, guards
from .core import Control, frozen_scopes, in_words, scope_key, scope_text
from .events import LatchAnswer, LatchKind, LatchRow, StoreHealth
from .freeze import follow, keep, on_cleared, put_control
from .store_view import Asked, heard, read_latch, seen_epoch, writable
from .turn import NS_PER_MS, Turn

_HEALTH = {LatchKind.UNAVAILABLE: StoreHealth.UNAVAILABLE, LatchKind.IN_DOUBT: StoreHealth.IN_DOUBT}
_FROZEN = (Mode.FREEZING, Mode.FROZEN)
Word = tuple[Trigger, str, str]


def on_answer(turn: Turn, event: LatchAnswer) -> None:
    """The latch as the store has it, whatever was asked."""
    health = _HEALTH.get(event.kind, StoreHealth.OK)
    ok, polled = health is StoreHealth.OK, turn.desk.store.read == event.effect
    heard(turn, health, event.code, Asked.POLL if polled else Asked.WRITE)
    rows = _note(turn, event, polled) if ok else ()
    was_clear = not polled and on_cleared(turn, event)
    if ok and not was_clear:
        _follow(turn, rows, polled)
    if polled and writable(turn.desk):
        guards.retell(turn)
        breakers.poll(turn)
    if polled:
        timer = turn.timer(turn.desk.config.store.latch_poll_ms * NS_PER_MS, Purpose.LATCH)
        turn.desk = attrs.evolve(turn.desk, store=attrs.evolve(turn.desk.store, read=None, timer=timer))


def on_timer(turn: Turn, effect: EffectId) -> None:
    """Time to read it again."""
    if turn.desk.store.timer == effect:
        read_latch(turn)


def _note(turn: Turn, event: LatchAnswer, polled: bool) -> tuple[LatchRow, ...]:
    """Remember the rows, and give those that can be believed. In another epoch of the store we owe it every freeze until it shows it, also
    those that we only follow, and every intention that happened."""
    lost = seen_epoch(turn, event.epoch)
    store = turn.desk.store
    # What was asked before we saw a row cleared may show it still. A store that does not say its own epoch wrote a log of format 2.
    rows = tuple(row for row in event.rows if not event.epoch or event.effect[0] >= store.cleared.get(row.scope, 0))
    latch = rows if event.scope is None else (*(row for row in store.latch if row.scope != event.scope), *rows)
    turn.desk = attrs.evolve(turn.desk, store=attrs.evolve(store, known=store.known or polled, latch=latch))
    if event.scope is None:
        _unreadable(turn, rows)
    if not lost:
        return rows
    guards.vouch(turn)
    for scope in frozen_scopes(turn.desk):
        put_control(turn, scope, attrs.evolve(turn.desk.controls[scope], published=False))
    if turn.desk.store.read is None:
        read_latch(turn)
    return rows


def _unreadable(turn: Turn, rows: tuple[LatchRow, ...]) -> None:
    """People are told of rows that this version cannot read, once as long as there are no others."""
    store = turn.desk.store
    scopes = tuple(row.scope for row in rows if not row.readable)
    new = [scope for scope in scopes if scope not in dict.fromkeys(store.unreadable)]
    if scopes != store.unreadable:
        turn.desk = attrs.evolve(turn.desk, store=attrs.evolve(store, unreadable=scopes))
    if new:
        what = f"the latch's row of {in_words(new[0])[:100]}" + (f", and {len(new) - 1} more" if new[1:] else "")
        remedy = "each counts as frozen. Let all processes of the account run one version; unfreezing with force clears a row"
        turn.alert(Severity.CRITICAL, "latch_unreadable", f"this version cannot read {what}: {remedy}")


def _follow(turn: Turn, rows: tuple[LatchRow, ...], polled: bool) -> None:
    """What a peer has frozen is frozen here; what the store should show and does not is published."""
    new: list[tuple[int, LatchRow]] = []
    for row in rows:
        scope = scope_key(turn.desk, row.scope)
        if scope is None:
            continue
        control = turn.desk.controls.get(scope)
        if control is not None and control.mode in _FROZEN:
            _seen(turn, scope, row)
        else:
            new.append((scope, row))
    follow(turn, new)
    latched = {row.scope: row for row in rows}
    for scope in frozen_scopes(turn.desk) if polled else ():
        control, text = turn.desk.controls[scope], scope_text(turn.desk, scope)
        word, row_there = _word(control), latched.get(text)
        if word is not None and control.unfreeze is None and not (row_there is not None and _ours(row_there, word)):
            turn.emit(PublishFreeze, text, *word)


def _word(control: Control) -> Word | None:
    """What we have to say of a frozen scope: our own word, or, where the store has forgotten it, that of the peer whom we follow."""
    if control.own is None and control.trigger is Trigger.PEER and not control.published:
        return control.trigger, control.reason, control.by
    return control.own


def _ours(row: LatchRow, word: Word) -> bool:
    """Whether we are among those who have set the row."""
    return row.mine if row.mine is not None else row.joint or word == _words(row)


def _seen(turn: Turn, scope: int, row: LatchRow) -> None:
    """The store shows a scope that is frozen here too. If another stands behind it, ours does not end without a person."""
    control = turn.desk.controls[scope]
    if not control.published and (row.mine is not False or control.own is None):
        put_control(turn, scope, attrs.evolve(control, published=True))
    if control.transient and not _alone(row, control):
        keep(turn, scope)


def _alone(row: LatchRow, control: Control) -> bool:
    """Whether nobody but us stands behind the row."""
    if row.joint:
        return False
    return row.mine if row.mine is not None else _words(row) == (control.trigger, control.reason, control.by)


def _words(row: LatchRow) -> Word:
    return row.trigger, row.reason, row.by
