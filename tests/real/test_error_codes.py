"""Every documented code of eight venues has a class, and none contradicts what the documents say of the outcome.

Method: the error-code data (codes, the class that ccxt raises, the outcome by documented wording) lie outside the repository and are read
in place. Each row is given to the classifier as an answer to a place. What must never happen is a final "no" where the documents say that
nobody knows, or that one should try again.
"""

import json
import re
from typing import Any

import pytest
from haltcore.fsm.events import OutcomeKind, Verb
from haltcore.fsm.failure_classes import FailureClass as F
from haltcore.fsm.failure_exceptions import EXCEPTIONS
from haltcore.fsm.failure_tables import CODES
from haltcore.fsm.failures import TABLE, Failure, classify, classify_exception, known

from tests.real.data import data_folder

FILE = data_folder() / "error_codes.json"
HERE = FILE.is_file()
pytestmark = pytest.mark.skipif(
    not HERE, reason="ERROR CODES NOT CHECKED: error_codes.json is not here; set HALTCORE_DATA to the folder that holds it"
)
DATA: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8")) if HERE else {"venues": {}}
VENUES = {name: rows for name, rows in DATA["venues"].items() if isinstance(rows, dict)}
ROWS = [(venue, code, row) for venue, rows in VENUES.items() for code, row in rows.items()]


def answer(venue: str, key: str, verb: Verb | None = Verb.PLACE) -> Failure:
    """A key of the data as an answer: a code, or ``HTTP 503 -1008 "words"``."""
    http = re.fullmatch(r'HTTP (\dXX|\d{3})(?: (-\d+))?(?: "(.*)"| (\w+))?', key)
    if http is None:
        return classify(venue, verb, code=key)
    status = int(http[1].replace("XX", "02") if http[1] != "4XX" else "400")
    return classify(venue, verb, status=status, code=http[2], text=http[3] or http[4] or "")


def test_there_are_the_venues_and_codes_that_this_was_written_for() -> None:
    assert set(VENUES) == set(CODES)
    assert len(ROWS) >= 1_527


def test_every_code_is_in_the_tables() -> None:
    assert [(venue, code) for venue, code, _ in ROWS if not code.startswith("HTTP") and not known(venue, code)] == []


def test_what_is_documented_as_unknown_is_in_doubt_and_what_is_to_be_tried_again_is_not_refused() -> None:
    wrong = []
    for venue, code, row in ROWS:
        kind = answer(venue, code).kind
        allowed = {
            "unknown-outcome": (OutcomeKind.IN_DOUBT,),
            "yes": (OutcomeKind.IN_DOUBT, OutcomeKind.UNAVAILABLE),
        }.get(str(row["outcome"]), tuple(OutcomeKind))
        if kind not in allowed or kind is OutcomeKind.ACKNOWLEDGED:
            wrong.append((venue, code, row, kind))
    assert wrong == []
    assert [row["outcome"] for *_, row in ROWS].count("unknown-outcome") == 7


def test_what_is_not_to_be_tried_again_is_not_retryable() -> None:
    found = {(venue, code): answer(venue, code).retryable for venue, code, row in ROWS if row["outcome"] == "no"}
    assert found == {("kraken_spot", "EGeneral:Temporary lockout"): False}


def test_no_money_no_permission_and_bad_requests_are_final_where_ccxt_says_so() -> None:
    """The other direction: a class that doubts everything would pass the tests above."""
    final = ("InsufficientFunds", "AuthenticationError", "PermissionDenied", "BadSymbol", "AccountSuspended", "BadRequest", "InvalidOrder")
    doubted = [
        (venue, code, row["ccxt"]) for venue, code, row in ROWS
        if row["ccxt"] in final and not row["outcome"] and answer(venue, code).kind is not OutcomeKind.REFUSED
    ]
    rows = [row for *_, row in ROWS if row["ccxt"] in final and not row["outcome"]]
    # Duplicate ids, time-outs and the like that ccxt has under these names: each is in its table on purpose.
    assert len(doubted) <= 45 < 600 < len(rows)
    ours = {answer(venue, code).failure_class for venue, code, _ in doubted}
    assert ours <= {
        F.DUPLICATE_ID, F.UNKNOWN_OUTCOME, F.TEMPORARY_ERROR, F.NOT_FOUND, F.NOT_CANCELLABLE, F.TIMEOUT, F.BAN, F.MAINTENANCE, F.RATE_LIMIT,
        F.NETWORK, F.UNKNOWN,
    }
    assert [(venue, code) for venue, code, _ in doubted if answer(venue, code).failure_class is F.UNKNOWN] == [("binance_spot", "-2010")]


def test_the_venues_own_hazards() -> None:
    listed = {(row["exchange"], row["code"]) for row in DATA["unknown_outcome"]}
    assert len(listed) == 5
    for venue, code in listed:
        assert answer(venue, code).kind is OutcomeKind.IN_DOUBT
        # ccxt's classes for it, definite ones among them, change nothing.
        for verb in (Verb.PLACE, Verb.REPLACE, Verb.CANCEL):
            assert answer(venue, code, verb).kind is OutcomeKind.IN_DOUBT


def test_every_sentence_of_binances_shared_codes_is_understood() -> None:
    rows = DATA["venues"]["binance_spot_messages_for_-1010_-2010_-2011_-2038"]
    classes = {row["message"]: classify("binance_spot", Verb.PLACE, code=-1010, text=row["message"]).failure_class for row in rows}
    assert [message for message, found in classes.items() if found is F.UNKNOWN] == []
    doubted = [message for message, found in classes.items() if TABLE[found].place is OutcomeKind.IN_DOUBT]
    assert doubted == ["Unknown order sent.", "Duplicate order sent.", "Order was not canceled due to cancel restrictions."]


def test_every_exception_of_ccxt_is_understood_by_its_name() -> None:
    made: dict[str, type[BaseException]] = {"Exception": Exception}
    for name, parents in DATA["ccxt_hierarchy"].items():
        made[name] = type(name, (made[parents[0]],), {})
    classes = {name: classify_exception(made[name]("words"), "none", Verb.PLACE).failure_class for name in DATA["ccxt_hierarchy"]}
    assert set(EXCEPTIONS) <= set(classes)
    assert {name for name, found in classes.items() if found is F.UNKNOWN} == {
        "BaseError", "ExchangeError", "InvalidOrder", "OperationRejected", "UnsubscribeError",
    }
    assert {name for name, found in classes.items() if found is F.UNKNOWN_OUTCOME} == {
        "OperationFailed", "RequestTimeout", "ExchangeNotAvailable", "BadResponse", "NullResponse",
    }
    # Children without a row of their own are their parents'.
    assert classes["AccountNotEnabled"] is F.RESTRICTED
    assert classes["ChecksumError"] is F.TIMEOUT
