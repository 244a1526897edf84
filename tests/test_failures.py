"""A failure's class says what became of the request, and no failure of a place is final unless the venue has said so.

Method: the codes that are met most, the documented traps and the faults that were measured against ccxt are pinned one by one; properties
hold for any code, status and text; the table in the module's essay is read and compared with the table in the code. The whole of the
documented codes is checked in ``tests/real/test_error_codes.py``.
"""

import asyncio
import re
import socket
from types import MappingProxyType

import pytest
from haltcore.fsm import failures as module
from haltcore.fsm.events import OutcomeKind, Verb
from haltcore.fsm.failure_classes import FailureClass as F
from haltcore.fsm.failure_exceptions import LOCAL
from haltcore.fsm.failure_tables import CODES, _numbers
from haltcore.fsm.failures import BAN_MS, TABLE, classify, classify_exception, kind_of, known
from hypothesis import given
from hypothesis import strategies as st

PLACE, CANCEL, REPLACE = Verb.PLACE, Verb.CANCEL, Verb.REPLACE
REFUSED, UNAVAILABLE, IN_DOUBT = OutcomeKind.REFUSED, OutcomeKind.UNAVAILABLE, OutcomeKind.IN_DOUBT

INTERNAL = "Internal error; unable to process your request. Please try again."


def test_the_table_of_the_essay_is_the_table_of_the_code() -> None:
    cell = r"\s+(unavailable|in_doubt|refused)"
    rows = re.findall(rf"^(\w+){cell * 4}\s+(yes|no)\s", module.__doc__ or "", re.MULTILINE)
    told = {name: (place, replace, cancel, question, passes == "yes") for name, place, replace, cancel, question, passes in rows}
    assert told == {
        name.value: (row.place.value, row.replace.value, row.cancel.value, row.question.value, row.passes) for name, row in TABLE.items()
    }
    assert list(TABLE) == list(F)


def test_a_question_changes_nothing_so_it_is_never_in_doubt() -> None:
    assert [name for name, row in TABLE.items() if row.question is IN_DOUBT] == []
    assert {kind_of(F.UNKNOWN, verb) for verb in Verb} == {IN_DOUBT}
    assert kind_of(F.NOT_FOUND, Verb.CANCEL_ALL) is kind_of(F.NOT_FOUND, Verb.CANCEL_BATCH) is REFUSED


@pytest.mark.parametrize("venue", ["binance_spot", "binance_usdm", "binance", "binanceusdm"])
@pytest.mark.parametrize(
    ("code", "found", "kind", "retryable"),
    [
        (-1003, F.RATE_LIMIT, UNAVAILABLE, True),
        (-1021, F.TIMEOUT, UNAVAILABLE, True),
        # Often retried. Its documented wording is "execution status unknown", so on a place only a question may follow.
        (-1006, F.TEMPORARY_ERROR, IN_DOUBT, False),
        # Its sentence decides. Without a known one it may be a duplicate, so the order may be live.
        (-2010, F.UNKNOWN, IN_DOUBT, False),
        (-2038, F.UNKNOWN, IN_DOUBT, False),
        (-1013, F.VALIDATION, REFUSED, False),
        (-1111, F.VALIDATION, REFUSED, False),
        (-1102, F.BAD_REQUEST, REFUSED, False),
    ],
)
def test_the_codes_that_are_met_most(venue: str, code: int, found: F, kind: OutcomeKind, retryable: bool) -> None:
    failure = classify(venue, PLACE, code=code)
    assert (failure.failure_class, failure.kind, failure.retryable) == (found, kind, retryable)
    # As the text of a client library's exception.
    told = classify_exception(Exception(f"BinanceAPIException: {code} WORDS"), venue, PLACE)
    assert (told.failure_class, told.kind, told.retryable, told.code) == (found, kind, retryable, str(code))
    # A question may be asked again after all that passes.
    assert classify(venue, None, code=code).retryable is (found in (F.RATE_LIMIT, F.TIMEOUT, F.TEMPORARY_ERROR, F.UNKNOWN))


def test_a_ban_of_the_seeds_is_not_retried() -> None:
    ban = classify("binance", PLACE, status=418)
    assert (ban.failure_class, ban.kind, ban.retryable, ban.retry_after_ms) == (F.BAN, UNAVAILABLE, False, BAN_MS)
    text = '{"code":-1003,"msg":"Way too much request weight used; IP banned until 1769384278629. Please use WebSocket Streams."}'
    until = classify("binance", PLACE, status=429, text=text, now_ms=1769384278629 - 61_000)
    assert (until.failure_class, until.retry_after_ms) == (F.BAN, 61_000)


@pytest.mark.parametrize(
    ("venue", "verb", "given", "found", "kind"),
    [
        # Whatever it says: on Binance's spot market a 5xx is unknown.
        ("binance", PLACE, {"status": 503, "text": "Service Unavailable."}, F.UNKNOWN_OUTCOME, IN_DOUBT),
        ("binance", PLACE, {"status": 503, "code": -1003}, F.UNKNOWN_OUTCOME, IN_DOUBT),
        ("binance", PLACE, {"status": 500, "code": -2010}, F.UNKNOWN_OUTCOME, IN_DOUBT),
        ("binance", REPLACE, {"status": 502}, F.UNKNOWN_OUTCOME, IN_DOUBT),
        ("binance", CANCEL, {"status": 504}, F.UNKNOWN_OUTCOME, IN_DOUBT),
        ("binance", None, {"status": 503, "code": -1003}, F.RATE_LIMIT, UNAVAILABLE),
        ("binance", PLACE, {"status": 500, "code": -1006}, F.TEMPORARY_ERROR, IN_DOUBT),
        # Its futures tell two kinds of 503 apart by their text.
        ("binanceusdm", PLACE, {"status": 503, "text": '{"msg":"Unknown error, please check your request"}'}, F.UNKNOWN_OUTCOME, IN_DOUBT),
        ("binanceusdm", PLACE, {"status": 503, "text": '{"msg":"Service Unavailable."}'}, F.BUSY, UNAVAILABLE),
        ("binanceusdm", PLACE, {"status": 503, "text": INTERNAL}, F.BUSY, UNAVAILABLE),
        ("binanceusdm", PLACE, {"status": 503, "code": -1008}, F.BUSY, UNAVAILABLE),
        ("binanceusdm", PLACE, {"status": 503, "code": -1000}, F.TEMPORARY_ERROR, IN_DOUBT),
        ("binanceusdm", PLACE, {"status": 503, "text": "<h1>503 Service Unavailable</h1>"}, F.UNKNOWN_OUTCOME, IN_DOUBT),
        ("binanceusdm", PLACE, {"status": 408, "code": -1007}, F.UNKNOWN_OUTCOME, IN_DOUBT),
        ("binanceusdm", PLACE, {"status": 400, "code": -5028}, F.TIMEOUT, UNAVAILABLE),
        ("binanceusdm", PLACE, {"status": 400, "code": -4116}, F.DUPLICATE_ID, IN_DOUBT),
        ("binanceusdm", PLACE, {"status": 400, "code": -5022}, F.WOULD_CROSS, REFUSED),
        # The same numbers, other meanings.
        ("binanceusdm", PLACE, {"status": 400, "code": -2021}, F.WOULD_CROSS, REFUSED),
        ("binanceusdm", PLACE, {"status": 400, "code": -2022}, F.REJECTED, REFUSED),
        ("binance", REPLACE, {"status": 409, "code": -2021}, F.PARTIAL, IN_DOUBT),
        ("binance", REPLACE, {"status": 400, "code": -2022}, F.REJECTED, REFUSED),
        ("binance", REPLACE, {"status": 409}, F.PARTIAL, IN_DOUBT),
        # -2011 and its sentences.
        ("binance", CANCEL, {"code": -2011, "text": "Unknown order sent."}, F.NOT_FOUND, REFUSED),
        ("binance", CANCEL, {"code": -2011, "text": "Order was not canceled due to cancel restrictions."}, F.NOT_CANCELLABLE, REFUSED),
        ("binance", CANCEL, {"code": -2011, "text": "This account may not place or cancel orders."}, F.RESTRICTED, REFUSED),
        ("binance", CANCEL, {"code": -2011, "text": "Cancel order is invalid. Check origClOrdId and orderId."}, F.BAD_REQUEST, REFUSED),
        ("binance", CANCEL, {"code": -2011}, F.NOT_CANCELLABLE, REFUSED),
        ("binance", PLACE, {"code": -2010, "text": "Duplicate order sent."}, F.DUPLICATE_ID, IN_DOUBT),
        ("binance", PLACE, {"code": -2010, "text": "Order would immediately match and take."}, F.WOULD_CROSS, REFUSED),
        ("binance", PLACE, {"code": -2010, "text": "Market is closed."}, F.REJECTED, REFUSED),
        ("binance", PLACE, {"code": -2010, "text": "duplicate order sent."}, F.DUPLICATE_ID, IN_DOUBT),
        ("binance", PLACE, {"code": -2010, "text": "ACCOUNT HAS INSUFFICIENT BALANCE"}, F.INSUFFICIENT_BALANCE, REFUSED),
        ("binance", PLACE, {"code": -2010, "text": "Market is closed. Duplicate order sent."}, F.DUPLICATE_ID, IN_DOUBT),
        ("binance", PLACE, {"status": 403, "text": "<html>"}, F.BAN, UNAVAILABLE),
        # What ccxt raises as a definite error, and is none.
        ("okx", PLACE, {"code": 50004}, F.UNKNOWN_OUTCOME, IN_DOUBT),
        ("okx", PLACE, {"code": "51149"}, F.UNKNOWN_OUTCOME, IN_DOUBT),
        ("okx", PLACE, {"code": "51016"}, F.DUPLICATE_ID, IN_DOUBT),
        ("okx", PLACE, {"text": '{"code":"1","data":[{"ordId":"","sCode":"51008","sMsg":"no"}]}'}, F.INSUFFICIENT_BALANCE, REFUSED),
        ("okx", PLACE, {"text": '{"code":"2","data":[]}'}, F.PARTIAL, IN_DOUBT),
        ("okx", CANCEL, {"code": 51400}, F.NOT_FOUND, REFUSED),
        ("okx", CANCEL, {"code": 51402}, F.NOT_CANCELLABLE, REFUSED),
        ("okx", PLACE, {"code": 50001}, F.TEMPORARY_ERROR, IN_DOUBT),
        ("bybit", PLACE, {"code": 10000}, F.UNKNOWN_OUTCOME, IN_DOUBT),
        ("bybit", PLACE, {"code": 10016}, F.UNKNOWN_OUTCOME, IN_DOUBT),
        ("bybit", PLACE, {"code": 170146}, F.UNKNOWN_OUTCOME, IN_DOUBT),
        ("bybit", PLACE, {"code": 170035}, F.UNKNOWN_OUTCOME, IN_DOUBT),
        ("bybit", PLACE, {"code": 0}, F.UNKNOWN_OUTCOME, IN_DOUBT),
        ("bybit", PLACE, {"code": 10006}, F.RATE_LIMIT, UNAVAILABLE),
        ("bybit", PLACE, {"code": 110072}, F.DUPLICATE_ID, IN_DOUBT),
        ("bybit", PLACE, {"code": "WS 10019"}, F.MAINTENANCE, UNAVAILABLE),
        ("bybit", CANCEL, {"code": 110001}, F.NOT_FOUND, REFUSED),
        ("bybit", PLACE, {"status": 200, "text": '{"retCode":110007,"retMsg":"ab not enough"}'}, F.INSUFFICIENT_BALANCE, REFUSED),
        ("kraken", PLACE, {"text": "['EOrder:Insufficient funds']"}, F.INSUFFICIENT_BALANCE, REFUSED),
        ("kraken", PLACE, {"code": "EGeneral:Internal error:12"}, F.TEMPORARY_ERROR, IN_DOUBT),
        ("kraken", PLACE, {"code": "EGeneral:Invalid arguments:price"}, F.VALIDATION, REFUSED),
        ("kraken", PLACE, {"text": "kraken EGeneral:Invalid arguments:price is odd"}, F.VALIDATION, REFUSED),
        ("kraken", PLACE, {"code": "EGeneral:Something new"}, F.UNKNOWN, IN_DOUBT),
        ("krakenfutures", PLACE, {"code": "marketUnavailable"}, F.REJECTED, REFUSED),
        ("bitmex", PLACE, {"status": 503, "text": "The system is currently overloaded. Please try again later."}, F.BUSY, UNAVAILABLE),
        ("bitmex", PLACE, {"status": 503, "text": "upstream"}, F.UNKNOWN_OUTCOME, IN_DOUBT),
        ("deribit", PLACE, {"text": '{"error":{"code":11054,"message":"post_only_reject"}}'}, F.WOULD_CROSS, REFUSED),
        ("deribit", PLACE, {"code": 10040}, F.BUSY, UNAVAILABLE),
        # An answer of success that is none: measured with ccxt, the order was live.
        ("binance", PLACE, {"status": 200, "text": '{"orderId": 12'}, F.UNKNOWN_OUTCOME, IN_DOUBT),
        ("nobody", PLACE, {"status": 401}, F.AUTH, REFUSED),
        ("nobody", PLACE, {"status": 404}, F.BAD_REQUEST, REFUSED),
        ("nobody", PLACE, {"status": 408}, F.UNKNOWN_OUTCOME, IN_DOUBT),
        ("nobody", PLACE, {"status": 302}, F.UNKNOWN, IN_DOUBT),
        ("nobody", PLACE, {}, F.UNKNOWN, IN_DOUBT),
        ("nobody", PLACE, {"code": -1003}, F.UNKNOWN, IN_DOUBT),
    ],
)
def test_the_traps(venue: str, verb: Verb | None, given: dict[str, object], found: F, kind: OutcomeKind) -> None:
    failure = classify(venue, verb, **given)  # type: ignore[arg-type]
    assert (failure.failure_class, failure.kind) == (found, kind)


@given(
    st.sampled_from([*CODES, "nobody"]), st.sampled_from([Verb.PLACE, Verb.REPLACE]), st.integers(-99_999_999, 99_999_999),
    st.one_of(st.none(), st.integers(100, 599)), st.text(max_size=40),
)
def test_a_code_that_nobody_knows_is_in_doubt(venue: str, verb: Verb, code: int, status: int | None, text: str) -> None:
    failure = classify(venue, verb, code=code, status=status, text=text)
    if not known(venue, str(code)) and status not in (418, 429):
        assert failure.kind is IN_DOUBT
        assert not failure.retryable


@given(st.sampled_from([*CODES, ""]), st.one_of(st.none(), st.sampled_from(Verb)), st.text(), st.integers(-1, 999), st.text())
def test_no_answer_makes_it_raise(venue: str, verb: Verb | None, code: str, status: int, text: str) -> None:
    failure = classify(venue, verb, code=code, status=status, text=text, headers={"Retry-After": text}, now_ms=1)
    assert failure.kind is not OutcomeKind.ACKNOWLEDGED
    assert failure.retry_after_ms >= 0
    assert failure.retryable <= failure.passes


@pytest.mark.parametrize(
    ("error", "found", "kind"),
    [
        (ConnectionRefusedError(111, "refused"), F.NOT_SENT, UNAVAILABLE),
        (socket.gaierror(-2, "unknown host"), F.NOT_SENT, UNAVAILABLE),
        (ConnectionResetError(104, "reset"), F.NETWORK, IN_DOUBT),
        (BrokenPipeError(), F.NETWORK, IN_DOUBT),
        (OSError(113, "no route"), F.NETWORK, IN_DOUBT),
        (TimeoutError(), F.UNKNOWN_OUTCOME, IN_DOUBT),
        (asyncio.CancelledError(), F.UNKNOWN_OUTCOME, IN_DOUBT),
        (asyncio.IncompleteReadError(b"", 3), F.NETWORK, IN_DOUBT),
        (ValueError("a bug"), F.UNKNOWN, IN_DOUBT),
        (KeyError(), F.UNKNOWN, IN_DOUBT),
    ],
)
def test_what_python_raises(error: BaseException, found: F, kind: OutcomeKind) -> None:
    failure = classify_exception(error, "binance", PLACE)
    assert (failure.failure_class, failure.kind) == (found, kind)
    assert classify_exception(error, "binance", None).kind is UNAVAILABLE


def test_a_refused_connection_is_no_proof_for_a_replace() -> None:
    assert classify_exception(ConnectionRefusedError(), "binance", REPLACE).kind is IN_DOUBT
    assert classify_exception(ConnectionRefusedError(), "binance", CANCEL).kind is UNAVAILABLE


class BaseError(Exception):
    """Named as ccxt's."""


class NetworkError(BaseError):
    """Named as ccxt's."""


class ExchangeNotAvailable(NetworkError):
    """Named as ccxt's."""


class RateLimitExceeded(NetworkError):
    """Named as ccxt's."""


class DuplicateOrderId(BaseError):
    """Named as ccxt's."""


class WithAttributes(Exception):
    """As client libraries of venues raise it."""

    code: object = -1021
    status_code = 400
    response = type("Response", (), {"headers": {"Retry-After": "3"}})()


class Nasty(Exception):
    """Every look at it raises."""

    @property
    def code(self) -> int:
        raise RuntimeError

    def __str__(self) -> str:
        raise RuntimeError


URL = "https://api.binance.com/api/v3/order?symbol=BTCUSDT&timestamp=1&signature=0123456789abcdef"


@pytest.mark.parametrize(
    ("error", "venue", "found"),
    [
        (ExchangeNotAvailable(f"binance POST {URL} 500 Internal Server Error "), "binance", F.UNKNOWN_OUTCOME),
        (ExchangeNotAvailable(f"binance POST {URL} 429 Too Many Requests "), "binance", F.RATE_LIMIT),
        (ExchangeNotAvailable('binanceusdm {"code":-1021,"msg":"Timestamp for this request"}'), "binanceusdm", F.TIMEOUT),
        (ExchangeNotAvailable("binance POST"), "binance", F.UNKNOWN_OUTCOME),
        (NetworkError("words"), "binance", F.NETWORK),
        (RateLimitExceeded("throttled by the client"), "binance", F.RATE_LIMIT),
        # A code that is given and not known decides against the class.
        (RateLimitExceeded('bybit {"retCode":999999}'), "bybit", F.UNKNOWN),
        (DuplicateOrderId("words"), "binance", F.DUPLICATE_ID),
        (Exception("APIError(code=-1003): Too many requests"), "binance", F.RATE_LIMIT),
        (WithAttributes("words"), "binance", F.TIMEOUT),
        (Nasty(), "binance", F.UNKNOWN),
    ],
)
def test_what_client_libraries_raise(error: BaseException, venue: str, found: F) -> None:
    failure = classify_exception(error, venue, PLACE)
    assert failure.failure_class is found
    assert "0123456789abcdef" not in failure.text


def test_headers_come_from_the_exception_or_the_caller() -> None:
    assert classify_exception(WithAttributes(), "binance", PLACE).retry_after_ms == 3_000
    assert classify_exception(WithAttributes(), "binance", PLACE, headers={"retry-after": "4"}).retry_after_ms == 4_000


def test_an_http_librarys_code_that_is_its_status_is_not_the_venues() -> None:
    error = WithAttributes("words")
    error.code, error.status_code = 503, 503
    assert classify_exception(error, "binance", PLACE).failure_class is F.UNKNOWN_OUTCOME
    assert classify_exception(error, "bitmex", PLACE).failure_class is F.UNKNOWN_OUTCOME


def test_headers_of_limits_count_only_when_a_limit_was_hit() -> None:
    headers = {"X-Bapi-Limit-Reset-Timestamp": "1700000005000"}
    now = 1_700_000_000_000
    assert classify("bybit", PLACE, code=10006, headers=headers, now_ms=now).retry_after_ms == 5_000
    assert classify("bybit", PLACE, code=110007, headers=headers, now_ms=now).retry_after_ms == 0


def test_a_timeout_of_asyncio_is_pythons_own() -> None:
    async def wait() -> None:
        await asyncio.wait_for(asyncio.Event().wait(), 0)

    with pytest.raises(TimeoutError) as caught:
        asyncio.run(wait())
    assert classify_exception(caught.value, "okx", PLACE).failure_class is F.UNKNOWN_OUTCOME


def test_the_names_of_connecting_are_not_those_of_sending() -> None:
    assert [name for name, found in LOCAL.items() if found is F.NOT_SENT and ("Read" in name or "Write" in name or "Reset" in name)] == []


def test_a_code_in_two_groups_is_refused() -> None:
    with pytest.raises(ValueError, match="12 is both"):
        _numbers(MappingProxyType({F.AUTH: "10..13", F.BAN: "12"}))
    assert list(_numbers({F.AUTH: "-3..-1 WS_7"})) == ["-3", "-2", "-1", "WS 7"]
