"""Whatever a deed returns, it has happened; whatever a query returns but its three words, nothing is repeated; no argument guards
something else than is meant; and no secret in the words of an exception is seen again.

Method: values that no type allows, as a bot without a type checker gives them; exceptions as a venue's client raises them, with the
signed request in their words and in those of their causes.
"""

import asyncio

import pytest
from haltcore.adapters.memory_state import MemoryState
from haltcore.adapters.side_effects import Absent, Done, Found, NotExecuted, Once, SideEffect, SideEffectGuard, Unknown
from haltcore.effects import GuardState, ValueRefused
from haltcore.fsm.guard import guard_key

from tests.runner_rig import simulated
from tests.side_effect_world import ENTITY, EXPIRED_S, Clock, Mortal, StruckStore, Venue, World, guard_of, row_of, spare

LEDGER = SideEffect.LEDGER_WRITE
KEY = "c0ffee5ec2e7"
SIGNED = f"https://api.venue.test/v3/order?symbol=X&timestamp=1&signature={KEY}"


class Unwritable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("value", "kept"),
    [(None, ""), ("", ""), (12, "12"), ({"id": 7}, "{'id': 7}"), ("bad \ud800", "bad ?"), (Unwritable(), "<Unwritable>")],
)
@simulated
async def test_a_deed_that_returned_anything_has_happened(value: object, kept: str) -> None:
    world, times = World(), []

    async def deed() -> object:
        times.append(1)
        return value

    for executed in (True, False, False):
        assert await world.guard.once(LEDGER, ENTITY, deed) == Once(executed, kept)  # type: ignore[arg-type]
    assert await world.guard.settle_untold() == 0
    row = await row_of(world.state, guard_key(LEDGER, ENTITY))
    assert (len(times), row.state, row.result) == (1, GuardState.DONE, kept)


@pytest.mark.parametrize("found", [True, False, None, "entry 12", 12, Done, Absent, Unknown, ("entry 12",)])
@simulated
async def test_what_is_no_answer_of_a_query_lets_nothing_be_repeated(found: object) -> None:
    world = World()
    await Mortal(world.state, world.venue, "after sent").live()

    async def query() -> object:
        return found

    with pytest.raises(NotExecuted):
        await world.once()
    await asyncio.sleep(EXPIRED_S)
    for asked in (query, lambda: found):
        with pytest.raises(ValueRefused, match=r"nothing was repeated; return Done.* Absent.* Unknown") as caught:
            await world.once(query=asked)
        assert repr(found)[:80] in str(caught.value)
    assert world.venue.orders == []
    assert await world.row() is GuardState.SENT
    assert (await world.once(query=world.venue.query())).executed


@simulated
async def test_what_a_query_found_is_kept_as_text() -> None:
    world = World()
    await Mortal(world.state, world.venue, "after sent").live()

    async def query() -> Found:
        return Done(4711)  # type: ignore[arg-type]

    assert await world.once(query=query) == Once(False, "4711")
    assert await world.row() is GuardState.DONE
    assert await world.once() == Once(False, "4711")


@simulated
async def test_a_store_that_cannot_be_told_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    world = World()

    async def broken(operation: str, applied: bool) -> None:
        if operation == "settle done" and not applied:
            raise ArithmeticError

    world.store.strike = broken
    await world.once()
    for number in range(20):
        await world.guard.once(LEDGER, f"{number}", world.venue.place, scopes=("",))
    assert await world.guard.settle_untold() == 21
    assert sum("could not be told" in record.message for record in caplog.records) == 21
    world.store.strike = spare
    assert await world.guard.settle_untold() == 0


@pytest.mark.parametrize(
    ("named", "field"),
    [
        ({"kind": ""}, "kind"), ({"kind": None}, "kind"), ({"entity": ""}, "entity"), ({"entity": " "}, "entity"),
        ({"entity": 4711}, "entity"),
        ({"params": "BUY"}, "params"), ({"params": (1,)}, "params"), ({"scopes": "BTCUSDT"}, "scopes"), ({"deed": "x"}, "deed"),
        ({"query": Absent()}, "query"), ({"certain": True}, "certain"),
    ],
)  # fmt: skip
@simulated
async def test_arguments_that_would_guard_something_else_are_refused_by_name(named: dict[str, object], field: str) -> None:
    world = World()
    with pytest.raises(ValueRefused, match=f"^{field}: .*; |^{field}: .*give one such as"):
        await world.guard.once(**{"kind": LEDGER, "entity": ENTITY, "deed": world.venue.place, **named})  # type: ignore[arg-type]
    assert world.venue.orders == []
    assert world.state.look(guard_key(LEDGER, ENTITY)) is None


# --- words of exceptions ------------------------------------------------------------------------------------------------


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError(SIGNED)


def raise_signed(*_: object) -> str:
    try:
        raise OSError(SIGNED)
    except OSError as cause:
        raise RuntimeError(f"POST {SIGNED}") from cause


async def raise_later() -> str:
    return raise_signed()


@simulated
async def test_no_secret_in_an_exception_gets_into_logs_rows_or_reasons(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    with pytest.raises(RuntimeError):
        await world.guard.once(LEDGER, ENTITY, raise_later, certain=raise_signed)  # type: ignore[arg-type]
    refused = await world.refused(LEDGER, query=raise_later)

    class Signing:
        __str__ = raise_signed

    async def unwritable() -> object:
        return Signing()

    async def returned() -> object:
        return RuntimeError(SIGNED)

    for number, deed in enumerate((unwritable, returned)):
        await world.guard.once(LEDGER, f"{number}", deed)  # type: ignore[arg-type]

    async def broken(operation: str, _applied: bool) -> None:
        if operation == "settle done":
            raise_signed()

    world.store.strike = broken
    await world.guard.once(LEDGER, "untold", world.venue.place)
    with pytest.raises(Unspeakable):
        await world.guard.once(LEDGER, "unspeakable", unspeakable, certain=raise_signed)  # type: ignore[arg-type]
    for place in (caplog.text, str(refused), repr(world.state.remembered())):
        assert KEY not in place
    for words in ("could not be asked", "could not be judged", "cannot be written", "could not be told", "test_side_effects_words.py"):
        assert words in caplog.text
    assert "signature=***" in caplog.text
    assert "Unspeakable: it has no words" in caplog.text


async def unspeakable() -> str:
    raise Unspeakable


# --- what proves that nothing happened --------------------------------------------------------------------------------------


@simulated
async def test_only_true_proves_that_nothing_happened() -> None:
    world = World()
    for number, judge in enumerate((lambda _: 1, lambda _: "yes", lambda _: [0])):
        with pytest.raises(RuntimeError):
            await world.guard.once(LEDGER, f"{number}", raise_later, certain=judge)  # type: ignore[arg-type]
        assert (await row_of(world.state, guard_key(LEDGER, f"{number}"))).state is GuardState.IN_DOUBT


# --- times and owners -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["valid_ms", "deed_ms", "ttl_ms"])
@pytest.mark.parametrize("value", [900 * 1e3, 0, -1, True, "5", None, 10**15])
def test_times_are_whole_milliseconds_or_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueRefused, match=f"^{name}: .* is no whole number of milliseconds; give 1 to"):
        SideEffectGuard(StruckStore(MemoryState(Clock())), Clock(), "bot", **{name: value})  # type: ignore[arg-type]


@simulated
async def test_a_process_and_its_fork_are_two_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork has its parent's nonce, and counts on from the same claim."""
    state, venue = MemoryState(Clock()), Venue()
    parent, child = (guard_of(StruckStore(state), "bot", nonce="n") for _ in range(2))  # type: ignore[arg-type]

    async def fork(operation: str, applied: bool) -> None:
        if operation == "claim" and applied:
            monkeypatch.setattr("os.getpid", lambda: 2)
            with pytest.raises(NotExecuted, match="guard_held"):
                await child.once(LEDGER, ENTITY, venue.place)
            monkeypatch.setattr("os.getpid", lambda: 1)

    monkeypatch.setattr("os.getpid", lambda: 1)
    parent._store.strike = fork  # type: ignore[attr-defined]
    assert await parent.once(LEDGER, ENTITY, venue.place) == Once(True, "order 1")
    assert venue.orders == ["c1"]
