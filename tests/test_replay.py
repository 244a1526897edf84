"""Replay. Goal: the same core on the same log says "same"; anything else is named by the right word, with the right record.

Method: a session of the real core is written as a log, in one segment and in several; it is replayed by the core itself, by cores with
one planted difference each, and after each kind of damage.
"""

from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from haltcore.effects import Effect, Metric, SetTimer, Trigger
from haltcore.fsm.chain import LogBroken
from haltcore.fsm.codec import CONFIG, EVENTS, STATE
from haltcore.fsm.core import EMPTY, Core, FreezeRecord
from haltcore.fsm.digest import digest
from haltcore.fsm.events import Event, Freeze, MarkPrice, Started
from haltcore.fsm.record import CHECKPOINT_EVERY, NO_HASH, header_line, record_line
from haltcore.fsm.replay import Source, Step, entries, replay
from haltcore.fsm.step import step
from haltcore.fsm.verdict import Change, Kind, Verdict

from tests.helpers import Recorded, Steps, log


def lived() -> Steps:
    """A session with fills, a replace, a cancel, enough marks for a checkpoint, and a freeze."""
    session = Recorded()
    session.mark(100)
    first = session.working()
    session.fill(first, 4)
    session.replace(first, 12, 101)
    second = session.working(amount=3)
    session.fill(second, 3)
    session.cancel(first)
    for number in range(CHECKPOINT_EVERY):
        session.mark(100 + number % 7)
    session.working(amount=2)
    session.freeze()
    return session.steps


STEPS = lived()
CONFIG_TEXT = CONFIG.encode(STEPS[0][0].config) if isinstance(STEPS[0][0], Started) else b""


def run(sources: list[Source], core_step: Step = step, **options: Any) -> Verdict:
    return replay(sources, step=core_step, **options)


def test_the_same_core_gives_the_same() -> None:
    verdict = replay(log(STEPS), require_seal=True)
    assert (verdict.kind, verdict.exit_code, verdict.records, verdict.last) == (Kind.SAME, 0, len(STEPS), len(STEPS))
    assert verdict.sealed
    assert verdict.core == STEPS[-1][2]
    assert verdict.digest == digest(STEPS[-1][2])
    assert verdict.notes == ()


def test_replaying_twice_gives_the_same_verdict() -> None:
    assert run(log(STEPS)) == run(log(STEPS))


def test_segments_together_and_each_by_itself() -> None:
    sources = log(STEPS, (5, 40, 41))
    assert run(sources, require_seal=True).kind is Kind.SAME
    alone = [run([source]) for source in sources]
    assert [verdict.kind for verdict in alone] == [Kind.SAME] * 4
    assert [verdict.sealed for verdict in alone] == [False, False, False, True]
    assert sum(verdict.records for verdict in alone) == len(STEPS)
    assert alone[-1].core == STEPS[-1][2]
    assert "begins with segment 2" in alone[1].notes[0]


def test_segments_that_do_not_meet() -> None:
    one, two, three = log(STEPS, (5, 40))
    for sources in ([one, three], [two, one], [one, one], [three, two]):
        verdict = run(sources)
        assert (verdict.kind, verdict.exit_code) == (Kind.BROKEN, 2)
    unsealed = log(STEPS[:5], seal=False)[0]
    assert "not sealed" in run([unsealed, two]).problem
    assert run([one, two]).kind is Kind.SAME
    assert "goes on in a segment that was not given" in run([one, two], require_seal=True).problem


def test_a_segment_that_starts_from_another_state_diverges() -> None:
    event, effects, core = STEPS[4]
    other = attrs.evolve(core, now_ns=core.now_ns + 1)
    (one, _) = log([*STEPS[:4], (event, effects, other), STEPS[5]], (5,))
    prev = list(one.chunks)[-1][-67:-3].decode()
    header, _ = header_line(
        prev, version="0.1.0", config=CONFIG_TEXT, segment=2, first=6, snapshot=STATE.encode(core), digest=digest(core)
    )
    verdict = run([one, Source("mm1.2", [header])], planted(5, lambda _core, given: (other, given)), check=None, check_state=None)
    assert verdict.kind is Kind.DIVERGED
    assert verdict.divergence is not None
    assert verdict.divergence.n == 5
    assert verdict.divergence.changes == (Change("now_ns", str(core.now_ns), str(other.now_ns)),)


def test_a_seal_is_asked_for() -> None:
    open_log = log(STEPS, seal=False)
    assert run(open_log).kind is Kind.SAME
    assert not run(open_log).sealed
    verdict = run(open_log, require_seal=True)
    assert (verdict.kind, verdict.exit_code) == (Kind.BROKEN, 2)
    assert "no seal" in verdict.problem


def test_a_torn_end_is_reported() -> None:
    (source,) = log(STEPS, seal=False)
    lines = list(source.chunks)
    verdict = run([Source("mm1", [*lines[:-1], lines[-1][:-30]])])
    assert (verdict.kind, verdict.torn, verdict.last) == (Kind.SAME, len(lines[-1]) - 30, len(STEPS) - 1)
    assert "not written to its end" in run([Source("mm1", [lines[0][:50]])]).problem
    assert run([*log(STEPS[:5], (5,))[:1], Source("mm1.2", [b'{"haltcore"'])]).torn == 11


def test_damage_is_broken_and_never_diverged() -> None:
    (source,) = log(STEPS[:8])
    text = b"".join(source.chunks)
    for at in range(0, len(text), 37):
        changed = text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :]
        verdict = run([Source("mm1", [changed])], require_seal=True)
        assert (verdict.kind, verdict.exit_code) == (Kind.BROKEN, 2)
        assert verdict.problem.startswith("mm1, line ")


def planted(at: int, change: Any) -> Step:
    """The real core with one difference: at this record its result goes through ``change``."""

    def other(core: Core, event: Event) -> tuple[Core, tuple[Effect, ...]]:
        after, effects = step(core, event)
        result: tuple[Core, tuple[Effect, ...]] = change(after, effects) if after.seq == at else (after, effects)
        return result

    return other


def without_decision(core: Core, effects: tuple[Effect, ...]) -> tuple[Core, tuple[Effect, ...]]:
    """The first effect that is no metric is left out."""
    gone = next(effect for effect in effects if not isinstance(effect, Metric))
    return core, tuple(effect for effect in effects if effect is not gone)


FREEZE = len(STEPS)


def test_other_effects_are_a_divergence_with_all_that_is_needed() -> None:
    effects = STEPS[FREEZE - 1][1]
    assert len(effects) > 2
    verdict = run(log(STEPS), planted(FREEZE, without_decision))
    assert (verdict.kind, verdict.exit_code) == (Kind.DIVERGED, 3)
    found = verdict.divergence
    assert found is not None
    assert found.n == FREEZE
    assert found.at_ns == STEPS[-1][0].at_ns
    assert '"class":"Freeze"' in found.event
    assert len(found.recorded) == len(effects)
    assert len(found.only_recorded) == 1
    assert found.only_replayed == ()
    assert [passed.n for passed in found.before] == [FREEZE - 3, FREEZE - 2, FREEZE - 1]
    assert found.again == f"haltcore replay mm1.1 --until {FREEZE}"


def test_a_changed_field_is_named_by_its_path() -> None:
    at, index, timer = next(
        (core.seq, index, effect) for _, effects, core in STEPS for index, effect in enumerate(effects) if isinstance(effect, SetTimer)
    )

    def change(core: Core, given: tuple[Effect, ...]) -> tuple[Core, tuple[Effect, ...]]:
        later = attrs.evolve(timer, due_ns=timer.due_ns + 1)
        return core, tuple(later if effect == timer else effect for effect in given)

    found = run(log(STEPS), planted(at, change)).divergence
    assert found is not None
    assert found.n == at
    assert found.changes == (Change(f"effects[{index}].due_ns", str(timer.due_ns), str(timer.due_ns + 1)),)
    assert found.only_recorded == found.only_replayed == ()


def test_effects_in_another_order_are_a_divergence() -> None:
    found = run(log(STEPS), planted(FREEZE, lambda core, given: (core, given[::-1]))).divergence
    assert found is not None
    assert (found.changes, found.only_recorded, found.only_replayed) == ((), (), ())
    assert "another order" in found.what


def test_other_state_behind_equal_effects_shows_at_the_next_checkpoint() -> None:
    def change(core: Core, given: tuple[Effect, ...]) -> tuple[Core, tuple[Effect, ...]]:
        assert core.desk is not None
        note = FreezeRecord(1, 1, "", Trigger.MANUAL, "never happened", "nobody")
        return attrs.evolve(core, desk=attrs.evolve(core.desk, freezes=(note,))), given

    for at, shown, place in ((4, CHECKPOINT_EVERY, "at the checkpoint"), (CHECKPOINT_EVERY + 2, FREEZE, "at the seal")):
        verdict = run(log(STEPS), planted(at, change), check=None, check_state=None)
        found = verdict.divergence
        assert found is not None
        assert (verdict.kind, found.n, found.changes[0].path) == (Kind.DIVERGED, shown, "digest")
        assert f"{place}; it was the same after record {0 if at == 4 else CHECKPOINT_EVERY}" in found.what


def metric(core: Core, effects: tuple[Effect, ...], value: int = 1) -> tuple[Core, tuple[Effect, ...]]:
    return core, (*effects, Metric((core.seq, len(effects)), "mm_test_total", value, ""))


def test_other_telemetry_is_called_so() -> None:
    verdict = run(log(STEPS), planted(FREEZE, metric))
    assert (verdict.kind, verdict.exit_code) == (Kind.OTHER_TELEMETRY, 0)
    assert f"in 1 records, first in record {FREEZE}" in verdict.notes[0]
    assert run(log(STEPS), planted(FREEZE, metric), strict=True).exit_code == 3
    assert run(log(STEPS), planted(FREEZE, lambda core, given: metric(*without_decision(core, given)))).kind is Kind.DIVERGED


def test_a_broken_invariant_is_unsafe() -> None:
    def check(before: Core, event: Event, after: Core, effects: Sequence[Effect]) -> tuple[str, ...]:
        return ("SAFE-1", "SAFE-2") if isinstance(event, Freeze) and before.seq + 1 == after.seq and effects else ()

    verdict = run(log(STEPS), check=check)
    assert (verdict.kind, verdict.exit_code) == (Kind.UNSAFE, 4)
    assert verdict.unsafe is not None
    assert (verdict.unsafe.n, verdict.unsafe.invariants) == (FREEZE, ("SAFE-1", "SAFE-2"))
    late = run(log(STEPS, (5, 40, 100)), check_state=lambda core: ("SAFE-5",) if core.seq >= 20 else ())
    assert late.unsafe is not None
    assert (late.unsafe.n, late.unsafe.invariants) == (40, ("SAFE-5",))
    end = run(log(STEPS[:5]), check_state=lambda _core: ("SAFE-5",))
    assert end.unsafe is not None
    assert end.unsafe.n == 5


def test_a_core_that_raises_is_unsafe() -> None:
    def raises(core: Core, event: Event) -> tuple[Core, tuple[Effect, ...]]:
        if isinstance(event, MarkPrice):
            raise KeyError("oops")
        return step(core, event)

    verdict = run(log(STEPS), raises)
    assert verdict.exit_code == 4
    assert verdict.unsafe is not None
    assert "KeyError: 'oops'" in verdict.unsafe.invariants[0]


def test_until_stops_with_the_state_there() -> None:
    for n in (1, 7, len(STEPS)):
        verdict = run(log(STEPS, (5,)), until=n)
        assert (verdict.kind, verdict.last) == (Kind.SAME, n)
        assert verdict.core == STEPS[n - 1][2]
        assert not verdict.sealed or n == len(STEPS)


def forged(event: bytes, effects: bytes) -> list[Source]:
    """A log of one record whose chain is right."""
    header, prev = header_line(
        NO_HASH, version="0.1.0", config=CONFIG_TEXT, segment=1, first=1, snapshot=None, digest=digest(EMPTY)
    )
    return [Source("mm1", [header, record_line(prev, 1, event, effects, "")[0]])]


@pytest.mark.parametrize(
    ("event", "effects", "word"),
    [
        (b'{"class":"Nothing"}', b"[]", "Nothing"),
        (b'{"class":"CancelOrder","at_ns":1,"order":true}', b"[]", "CancelOrder"),
        (b'{"class":"CancelOrder","order":1,"at_ns":1}', b"[]", "spelled"),
        (b'{"class":"CancelOrder","at_ns":1,"at_ns":1,"order":1}', b"[]", "spelled"),
        (b'{"class":"CancelOrder","at_ns":1,"order":1}', b"{}", "array"),
        (b'{"class":"CancelOrder","at_ns":1,"order":1}', b'[{"class":"No"}]', "No"),
        (EVENTS.encode(STEPS[0][0]).replace(b'"seed":0', b'"seed":1'), b"[]", "another configuration"),
    ],
)
def test_a_record_that_makes_no_sense_is_broken(event: bytes, effects: bytes, word: str) -> None:
    verdict = run(forged(event, effects))
    assert verdict.kind is Kind.BROKEN
    assert word in verdict.problem
    assert "mm1, line 2" in verdict.problem


def test_a_snapshot_that_is_not_its_digest_is_broken() -> None:
    core = STEPS[4][2]
    for state, first in ((attrs.evolve(core, now_ns=core.now_ns + 1), 6), (core, 7)):
        header, _ = header_line(
            "a" * 64, version="0.1.0", config=CONFIG_TEXT, segment=2, first=first, snapshot=STATE.encode(state), digest=digest(core)
        )
        verdict = run([Source("mm1.2", [header])])
        assert verdict.kind is Kind.BROKEN
        assert "snapshot is not the state" in verdict.problem


def test_entries_of_a_log() -> None:
    found = list(entries(log(STEPS, (5,))))
    assert [(entry.n, entry.event, entry.effects) for entry in found] == [(core.seq, event, effects) for event, effects, core in STEPS]
    assert [entry.n for entry in found if entry.digest] == [CHECKPOINT_EVERY]
    with pytest.raises(LogBroken):
        list(entries([Source("mm1", [b"junk\n"])]))


def test_no_segment_is_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match="at least one segment"):
        run([])
