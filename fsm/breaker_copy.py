"""One process's copy of a breaker that several processes share, and how what they write comes together.

The store keeps the state as a text with a version, and takes a new one only from a writer who has seen the last (compare and set). A
process decides by its copy at once, and shares afterwards. What it did itself and has not seen in the store is its *unshared* events. So
there is one rule for every answer of the store, whether it is a reading, a conflict or the confirmation of what was put:

    the store's state is taken over, and the unshared events are applied to it again; those that change nothing are in it already

That is safe because every event knows whether it was applied before: a failure by its token and time, a permit by its token and generation,
an opening and a word by their moment. An answer that was lost is therefore no special case. An opening is an event of its own, so that
it is not lost with failures that are out of the window by the time they can be told; of others' results and of a person's word, the later
holds (``breaker.py``).

*A store that has forgotten.* Generations never fall in what writers put one after the other. A state with an elder generation than we have
seen there has lost something, and so has a store that has none: then it is the store that is put right, and the copy stays. Only what is
shut, or a later word of a person, is taken from such a store. So neither losing the store nor losing what was in it closes an open breaker.

*A word that has run out.* Who is there at its end puts that into the store, and so does who hears the word only afterwards: so nobody takes
it for one that holds.

Unshared events are bounded: a word takes the place of all before it, an opening of all but that word, and of the rest the last count.
"""

from typing import TypeAlias

import attrs
from attrs import frozen

from ..effects import BreakerMode
from .breaker import (
    SHUT,
    Ask,
    Breaker,
    BreakerEvent,
    Dropped,
    Failed,
    Forced,
    Looked,
    Note,
    Notes,
    Opened,
    Succeeded,
    by_now,
    holds,
    step,
)
from .breaker_text import from_text, to_text
from .config import BreakerPolicy

#: What can change a state besides time.
Deed: TypeAlias = Ask | Succeeded | Failed | Dropped | Opened | Forced


@frozen
class Copy:
    """``state`` is the breaker as it is here, ``known`` as it was last seen in the store, whose version then was ``version``. ``behind``:
    the store has lost what it knew, or shows a person's word that has run out, and is to be put right."""

    state: Breaker
    known: Breaker | None = None
    version: int = 0
    unshared: tuple[Deed, ...] = ()
    behind: bool = False


def apply(copy: Copy, event: BreakerEvent, policy: BreakerPolicy, now_ns: int, shared: bool) -> tuple[Copy, Notes]:
    """One step here. ``shared``: there is a store, so what changes has to be told to it."""
    before, passed = by_now(copy.state, policy, now_ns)
    after, notes = step(before, event, policy, now_ns)
    if after is copy.state:
        return copy, notes
    unshared = copy.unshared
    if shared and after is not before and not isinstance(event, Looked):
        unshared = _remembered(unshared, event, after, notes, policy)
    notes = passed + notes
    behind = copy.behind or (shared and Note.LAPSED in notes)
    return attrs.evolve(copy, state=after, unshared=unshared, behind=behind), notes


def to_put(copy: Copy) -> str:
    """What the store has to be told, over the version that is known; "" if nothing."""
    return to_text(copy.state) if copy.unshared or copy.behind else ""


def heard(copy: Copy, version: int, text: str, policy: BreakerPolicy, now_ns: int) -> Copy:
    """The store has this state; 0 and empty is none, and the known version without a text is the known one. Raises BreakerTextRefused for a
    text that is no state."""
    if not text and version and version == copy.version:
        return copy
    if not text:
        return attrs.evolve(copy, version=version, behind=copy.known is not None)
    stored = from_text(text)
    if _has_lost(copy, stored):
        return attrs.evolve(copy, version=version, behind=True)
    state, passed = by_now(stored, policy, now_ns)
    unshared: list[Deed] = []
    for event in copy.unshared:
        before = state
        state, _ = step(before, event, policy, now_ns)
        if state is not before:
            unshared.append(event)
    return Copy(by_now(state, policy, now_ns)[0], stored, version, tuple(unshared), Note.LAPSED in passed)


def overtaken(before: Copy, after: Copy) -> tuple[Forced, ...]:
    """The words of ``before`` that do not hold in ``after``, since something later was heard."""
    return tuple(deed for deed in before.unshared if isinstance(deed, Forced) and deed.at_ns != after.state.said_ns)


def unheard(state: Breaker) -> tuple[Deed, ...]:
    """What a state comes to of which the store has never heard."""
    if state.mode in (BreakerMode.FORCED_OPEN, BreakerMode.FORCED_CLOSED):
        return (Forced(state.said_ns, state.mode, state.until_ns, state.by, state.why),)
    return () if state.mode is BreakerMode.CLOSED else (Opened(state.opened_ns or state.since_ns, state.why),)


def _has_lost(copy: Copy, stored: Breaker) -> bool:
    known = copy.known
    if known is None or stored.mode in SHUT or stored.said_ns > max(copy.state.said_ns, copy.state.opened_ns):
        return False
    return stored.generation < known.generation or (stored.generation == known.generation and stored.mode is not known.mode)


def _remembered(unshared: tuple[Deed, ...], event: Deed, after: Breaker, notes: Notes, policy: BreakerPolicy) -> tuple[Deed, ...]:
    """The unshared events with one more."""
    if isinstance(event, Forced):
        return (event,)
    words = tuple(deed for deed in unshared if isinstance(deed, Forced))
    if Note.OPENED in notes:
        return (*words, Opened(after.opened_ns, after.why))
    openings = tuple(deed for deed in unshared if isinstance(deed, Opened))
    rest = tuple(deed for deed in unshared if not isinstance(deed, (Forced, Opened)))
    if isinstance(event, Ask):
        event = Ask(event.token, event.at_ns, after.generation)
    elif isinstance(event, Dropped):
        # The store may have heard of the permit all the same, where its answer was lost.
        rest = tuple(deed for deed in rest if not (isinstance(deed, Ask) and deed.token == event.token))
    return (*words, *openings, *(*rest, event)[-policy.failures - 2 * policy.probes :])


def has_permit(copy: Copy, token: str, generation: int) -> bool:
    """Whether a probe that was let through here is one of the few of all processes."""
    return copy.state.generation == generation and holds(copy.state, token)
