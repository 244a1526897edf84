"""What the bot's own code says of a plan, made into something that can be told.

That code executes a plan, or finds out what came of one. It may raise, return what says nothing, or not be a coroutine at all, and by then
the plan may have been executed: so each of these is a :class:`Result` in doubt with words that say what to mend, and none of them
is an error that loses the plan. What it says goes to the store, to logs and to people; an exception of a venue's client carries the
request with its signature, so words are redacted, and there is no traceback.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from attrs import frozen

from ..fsm.failure_words import redact
from ..fsm.plan import ENDINGS, SignedPlan, Status


@frozen
class Result:
    """What came of executing a plan: one of the statuses in ``fsm.plan.ENDINGS``, and words for people. Of the words 500 characters
    are kept, without what looks like a secret."""

    status: Status
    text: str = ""


Execute = Callable[[SignedPlan], Awaitable[Result]]


async def called(work: Execute, signed: SignedPlan) -> object:
    """What it returns, also if it is no coroutine function. Raises what it raises."""
    answer: Any = work(signed)
    return await answer if inspect.isawaitable(answer) else answer


def result_of(answer: object) -> Result:
    """An answer as a result that can be told; in doubt where it says nothing."""
    if not isinstance(answer, Result):
        kind = "None" if answer is None else f"a {type(answer).__name__}"
        text = f"the bot's code returned {kind}, which says nothing of what came of it; return Result(Status.EXECUTED, words) or such"
        return Result(Status.IN_DOUBT, text)
    status = next((status for status in ENDINGS if status == answer.status), None)
    if status is None:
        says = f"the bot's code said {redact(answer.status)}, which is not its to say; give one of {', '.join(ENDINGS)}"
        return Result(Status.IN_DOUBT, f"{says}; {redact(answer.text)}")
    return Result(status, redact(answer.text))


def failed(error: BaseException) -> Result:
    """What came of it where it raised: nobody knows."""
    return Result(Status.IN_DOUBT, redact(f"{type(error).__name__}: {redact(error)}"))
