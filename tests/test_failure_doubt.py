"""No answer that may stand for an order that lives is read as a definite "no".

Method: all of the kind, not examples. Each venue, each status from 500 to 599 and each verb that changes something is asked for, bare,
with pages and with answers that would be definite elsewhere; what is definite all the same is ``failure_tables.OUTRIGHT`` and nothing
else. Exceptions have the texts that ccxt 4.5.90 gave them when a server on loopback answered so, and websockets 17 when it closed. Anything
of any type is given where a text, a code, a status is expected, and must come back in doubt, soon, and without an error.
"""

import time
from collections.abc import Mapping
from typing import Any

import pytest
from haltcore.fsm.events import OutcomeKind, Verb
from haltcore.fsm.failure_classes import FailureClass as F
from haltcore.fsm.failure_exceptions import CLOSED
from haltcore.fsm.failure_tables import ALIASES, CODES, OUTRIGHT
from haltcore.fsm.failures import TABLE, classify, classify_exception
from hypothesis import given, settings
from hypothesis import strategies as st

REFUSED, UNAVAILABLE, IN_DOUBT = OutcomeKind.REFUSED, OutcomeKind.UNAVAILABLE, OutcomeKind.IN_DOUBT
VENUES = [*CODES, *ALIASES, "of which nothing is known"]
CHANGES = (Verb.PLACE, Verb.REPLACE)
PAGE = (
    "<html><head><title>{0} Bad Gateway</title></head><body>Error code: 10001 1009 notFound Bad Request Access Denied overloaded -2010 "
    'Service Unavailable. EOrder:Insufficient funds {{"code":51008}} insufficientFunds Account is restricted banned until 1969384278629'
)


def words_of(venue: str) -> list[str]:
    """An answer of every kind that the venue has, and a few that it has not."""
    codes = CODES.get(ALIASES.get(venue, venue), {})
    one_of_each = {group: code for code, group in codes.items()}.values()
    shapes = ('{"code":"%s"}', '{"retCode":"%s"}', '{"code":"1","data":[{"sCode":"%s"}]}', '{"error":["%s"]}', "%s", "error code: %s")
    messages = [one.said for one in OUTRIGHT if not one.said.startswith("-")]
    return ["", "words", *messages, *(shape % code for code in one_of_each for shape in shapes)]


@pytest.mark.parametrize("venue", VENUES)
def test_a_5xx_is_in_doubt_but_for_those_that_are_listed(venue: str) -> None:
    definite = set()
    words = words_of(venue)
    for status in range(500, 600):
        for text in [*words, PAGE.format(status)] if status in (500, 502, 503, 504, 511, 520, 599) else [*words[:2], PAGE.format(status)]:
            for verb in CHANGES:
                failure = classify(venue, verb, status=status, text=text, now_ms=1)
                if failure.kind is not IN_DOUBT:
                    definite.add((status, text, failure.failure_class))
                assert not failure.retryable or failure.kind is UNAVAILABLE
    name = ALIASES.get(venue, venue)
    said = {(one.status, one.said, one.failure_class) for one in OUTRIGHT if one.venue == name}
    # The code of one in this list comes bare, as a field and as an order's own.
    assert {(status, text, found) for status, text, found in definite if "-1008" not in text} == {one for one in said if one[1] != "-1008"}
    assert {(status, found) for status, text, found in definite if "-1008" in text} <= {(503, F.BUSY)}


@pytest.mark.parametrize("venue", CODES)
def test_no_code_makes_a_5xx_definite(venue: str) -> None:
    definite = {
        (status, code) for code in CODES[venue] for status in (500, 502, 503, 504, 520) for verb in CHANGES
        if classify(venue, verb, code=code, status=status).kind is not IN_DOUBT
    }
    assert definite == ({(503, "-1008")} if venue == "binance_usdm" else set())


@pytest.mark.parametrize("one", OUTRIGHT)
def test_what_is_listed_is_definite_alone(one: Any) -> None:
    field = "code" if one.said.startswith("-") else "msg"
    text = f'{{"{field}":"{one.said}"}}' if field == "msg" else f'{{"code":{one.said},"msg":"words"}}'
    given = {"status": one.status, "text": text}
    assert len(one.source) > 20
    assert classify(one.venue, Verb.PLACE, **given).kind is UNAVAILABLE
    texts = [f"<html>{text}", text + "x" * 30_000, '{"code":-1007,"msg":"Unknown error, please check."}']
    if field == "msg":
        texts += [f"upstream: {one.said} timed out", text + text]
    if one.venue == "binance_usdm":
        texts += [text.replace("}", ',"data":{"code":-1007}}'), text + "Unknown error, please check"]
    for other in ({**given, "status": 502}, {**given, "status": 504}, *({**given, "text": words} for words in texts)):
        assert classify(one.venue, Verb.PLACE, **other).kind is IN_DOUBT, other


def named(*names: str) -> type[Exception]:
    """A class of exceptions with such names, the last the uppermost."""
    made: type[Exception] = Exception
    for name in reversed(names):
        made = type(name, (made,), {})
    return made


BASE = ("ExchangeError", "BaseError")
OFF = ("ExchangeNotAvailable", "OperationFailed", "BaseError")
URL = "http://127.0.0.1:1/order"


@pytest.mark.parametrize(
    ("venue", "names", "text", "place"),
    [
        ("binance", ("OperationFailed", "BaseError"), 'binance {"code": -1001, "msg": "Internal error; unable to process"}', IN_DOUBT),
        ("binance", BASE, 'binance {"code": -1008, "msg": "Server is currently overloaded with other requests."}', IN_DOUBT),
        ("binance", ("BadRequest", *BASE), 'binance {"code": -1016, "msg": "This service is no longer available."}', IN_DOUBT),
        ("binance", ("RequestTimeout", *OFF), 'binance {"code": -1007, "msg": "Timeout waiting for response from backend."}', IN_DOUBT),
        ("binance", ("InvalidOrder", *BASE), 'binance {"code": -2010, "msg": "Duplicate order sent."}', IN_DOUBT),
        ("binance", ("InvalidOrder", *BASE), 'binance {"code": -2010, "msg": "Some new sentence."}', IN_DOUBT),
        ("binance", ("InsufficientFunds", *BASE), "binance Account has insufficient balance for requested action.", REFUSED),
        ("binance", ("DDoSProtection", "BaseError"), 'binance 429 Too Many Requests {"code": -1003, "msg": "Too many"}', UNAVAILABLE),
        ("binance", ("DDoSProtection", "BaseError"), "binance 418 I'm a teapot <html>", UNAVAILABLE),
        (
            "binance", BASE,
            'binance {"code": -2022, "msg": "Order cancel-replace failed.", "data": {"newOrderResponse": {"code": -1007, "msg": "Time"}}}',
            IN_DOUBT,
        ),
        (
            "binance", ("InvalidOrder", *BASE),
            'binance order amount should be evenly divisible by lot size {"code": -1013, "msg": "Filter failure: LOT_SIZE"}', REFUSED,
        ),
        ("binanceusdm", OFF, f'binanceusdm POST {URL} 503 Service Unavailable {{"msg": "Service Unavailable."}}', UNAVAILABLE),
        ("binanceusdm", ("RequestTimeout", *OFF), f'binanceusdm POST {URL} 504 Gateway Time {{"msg": "Service Unavailable."}}', IN_DOUBT),
        ("binanceusdm", ("OperationFailed", "BaseError"), 'binanceusdm {"code": -1000, "msg": "Unknown error, please check"}', IN_DOUBT),
        ("bybit", BASE, 'bybit {"retCode": 10016, "retMsg": "Server error.", "result": {}, "retExtInfo": {}, "time": 1}', IN_DOUBT),
        ("bybit", BASE, 'bybit {"retCode":0,"result":{},"retExtInfo":{"list":[{"code":10001},{"code":10016}]}}', IN_DOUBT),
        ("bybit", OFF, f"bybit POST {URL} 502 Bad Gateway <html>Error code: 10001", IN_DOUBT),
        ("bybit", ("InsufficientFunds", *BASE), 'bybit {"retCode": 110007, "retMsg": "ab not enough for new order"}', REFUSED),
        ("okx", ("OnMaintenance", *OFF), 'okx {"code": "50001", "msg": "Service temporarily unavailable."}', IN_DOUBT),
        ("okx", ("BadRequest", *BASE), 'okx {"code": "1", "data": [{"sCode": "51000"}, {"sCode": "50004"}]}', IN_DOUBT),
        ("okx", BASE, 'okx {"code": "2", "data": [{"sCode": "0"}, {"sCode": "51008"}]}', IN_DOUBT),
        ("okx", OFF, "okx error code: 1009", IN_DOUBT),
        ("okx", ("InsufficientFunds", *BASE), 'okx {"code": "1", "data": [{"ordId": "", "sCode": "51008", "sMsg": "no"}]}', REFUSED),
        ("okx", ("ExchangeClosedByUser", *BASE), "okx closed by user", IN_DOUBT),
        ("okx", ("NetworkError", "BaseError"), "Connection closed by remote server, closing code 4006", IN_DOUBT),
        ("deribit", ("RequestTimeout", *OFF), f"deribit GET {URL} 504 Gateway Timeout <html>Error code: 10020", IN_DOUBT),
        ("deribit", ("InsufficientFunds", *BASE), 'deribit {"error": {"message": "not_enough_funds", "code": 10009}}', REFUSED),
        ("kraken", BASE, 'kraken {"error": ["EGeneral:Invalid arguments:price", "EService:Deadline elapsed"]}', IN_DOUBT),
        ("kraken", ("InvalidOrder", *BASE), 'kraken {"error": ["EGeneral:Invalid arguments:price", "EService:Timeout"]}', IN_DOUBT),
        ("kraken", BASE, 'kraken {"error": ["EService:Timeout"]}', IN_DOUBT),
        ("kraken", ("InsufficientFunds", *BASE), 'kraken {"error": ["EOrder:Insufficient funds"]}', REFUSED),
        ("krakenfutures", BASE, 'krakenfutures {"result": "error", "error": "Server Error", "detail": "contractNotFound"}', IN_DOUBT),
        ("krakenfutures", OFF, f"krakenfutures POST {URL}?id=notFound 502 Bad Gateway <html>Bad Request", IN_DOUBT),
        ("krakenfutures", ("BadRequest", *BASE), "krakenfutures <html>Bad Request notFound", IN_DOUBT),
        ("bitmex", OFF, f"bitmex POST {URL} 502 Bad Gateway Access Denied", IN_DOUBT),
    ],
)
def test_what_ccxt_raises(venue: str, names: tuple[str, ...], text: str, place: OutcomeKind) -> None:
    error = named(*names)(text)
    assert classify_exception(error, venue, Verb.PLACE).kind is place
    if place is IN_DOUBT:
        assert classify_exception(error, venue, Verb.REPLACE).kind is IN_DOUBT
    assert classify_exception(error, venue, None).kind is not IN_DOUBT


@pytest.mark.parametrize("name", [*CLOSED, "ConnectionClosedSomehow"])
@pytest.mark.parametrize("code", [1000, 1006, 1009, 4001, 4002, 4003, 4004, 4005, 4006, 4007, 4008, 4088, 10001, 51008])
def test_a_websockets_close_code_is_no_venues_code(name: str, code: int) -> None:
    error = named(name)(f"received {code} (private use) code: 51008; then sent {code} (private use)")
    error.code = code  # type: ignore[attr-defined]
    for venue in VENUES:
        for verb in Verb:
            failure = classify_exception(error, venue, verb)
            assert (failure.failure_class, failure.kind) == (F.NETWORK, IN_DOUBT)


@pytest.mark.parametrize("code", [1009, *range(4001, 4009), 4088])
def test_nor_is_it_where_it_is_given_as_one(code: int) -> None:
    assert classify("okx", Verb.PLACE, code=code).kind is IN_DOUBT


@pytest.mark.parametrize("status", [None, 200, 400, 403])
@pytest.mark.parametrize("text", ["error code: 51008", "code=51008", '<html>{"code":51008}', "<!doctype html> (code=51008)"])
def test_words_about_a_code_refuse_nothing(status: int | None, text: str) -> None:
    assert classify("okx", Verb.PLACE, status=status, text=text).kind is IN_DOUBT
    assert classify("okx", Verb.PLACE, status=status, text='{"code":51008}').kind is REFUSED


class Hostile:
    """Whatever is asked of it but its class, it raises."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return Hostile
        raise RuntimeError(name)

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__
    __hash__ = None  # type: ignore[assignment]


class Unreadable(Mapping[str, str]):
    """A mapping that cannot be read."""

    def __getitem__(self, key: str) -> str:
        raise RuntimeError

    __iter__ = __len__ = __getitem__  # type: ignore[assignment]


def nested(levels: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(levels):
        made = [made]
    return made


ODD = [
    None, b"words", b"\xff" * 10, 0, -1, 1.5, float("nan"), float("inf"), True, [], {}, (), object(), Hostile(), Unreadable(),
    nested(50_000), 10**5_000, "x" * 5_000_000, b"x" * 5_000_000, "\ud800", "\0", [1] * 10**6, {"code": -1013}, ["X-RateLimit-Reset"],
    "3" * 5_000, {1: Hostile()},
]  # fmt: skip
odd = st.sampled_from(ODD)


@settings(max_examples=100, deadline=None)
@given(odd, odd, odd, odd, odd, odd, odd)
def test_nothing_makes_it_raise(venue: Any, verb: Any, code: Any, status: Any, text: Any, headers: Any, now_ms: Any) -> None:
    failure = classify(venue, verb, code=code, status=status, text=text, headers=headers, now_ms=now_ms)
    assert failure.kind is IN_DOUBT or verb is None
    assert len(failure.text) + len(failure.code) <= 1_000
    raised = classify_exception(ValueError(text), venue, verb, headers=headers, now_ms=now_ms)
    assert raised.kind is IN_DOUBT or verb is None


@pytest.mark.parametrize("where", ["venue", "verb", "code", "status", "text", "headers", "now_ms"])
@pytest.mark.parametrize("number", range(len(ODD)))
def test_one_odd_thing_makes_nothing_retryable(where: str, number: int) -> None:
    """The rest of the answer says "in doubt", which no odd thing beside it turns into a "no"."""
    given: dict[str, Any] = {"venue": "binance", "verb": Verb.PLACE, "code": -1007, "status": 504, "text": "words"}
    given[where] = ODD[number]
    failure = classify(given.pop("venue"), given.pop("verb"), **given)
    assert failure.kind is IN_DOUBT or (where == "verb" and ODD[number] is None)


def test_statuses_are_read_from_texts_and_numbers() -> None:
    for status in ("503", b"503", 503.0, "503 Service Unavailable"):
        assert classify("binance", Verb.PLACE, status=status, code=-1013).kind is IN_DOUBT  # type: ignore[arg-type]
    for status in ("400", True, "many", -7, 10**9, None):
        assert classify("binance", Verb.PLACE, status=status, code=-1013).kind is REFUSED  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "unit",
    [
        "x", " ", "code", '"code":', '"code":1,', "sCode", "banned until ", "POST https://", "://", "://a@", "secret", "secret=",
        'secret="',
        "secret='\\", 'token=\\"', "token ", "Bearer ", "<", "-1003 ", "E", "EOrder:", "EService:Unavailable", '"msg":"', '"msg":"\\',
        "sign\\\\\\", "api-key" + "-" * 30, "\n", "password  ", "%3D", "-----BEGIN", "notFound",
    ],
)
def test_long_texts_of_any_kind_take_no_time(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    began = time.process_time()
    for venue in ("binance", "okx", "kraken", "krakenfutures"):
        failure = classify(venue, Verb.PLACE, text=text, status=400, headers={"Retry-After": text, text: text})
        assert failure.kind is IN_DOUBT
    # Some 10 ms each; a search that goes over the text again for each of its letters takes seconds.
    assert time.process_time() - began < 2


@settings(max_examples=300)
@given(
    st.sampled_from([venue for venue in CODES if venue.startswith(("bin", "by", "okx", "de"))]), st.data(), st.sampled_from(CHANGES),
    st.one_of(st.none(), st.integers(200, 499).filter(lambda status: status not in (418, 429))),
)  # fmt: skip
def test_of_several_codes_the_most_doubtful_counts(venue: str, data: st.DataObject, verb: Verb, status: int | None) -> None:
    numbers = [code for code in CODES[venue] if code not in ("0", "1") and " " not in code]
    codes = data.draw(st.lists(st.sampled_from(numbers), min_size=1, max_size=4))
    text = "[" + ",".join(f'{{"code":"{code}","msg":"words"}}' for code in codes) + "]"
    doubts = [(TABLE[CODES[venue][code]].place if verb is Verb.PLACE else TABLE[CODES[venue][code]].replace) is IN_DOUBT for code in codes]
    assert (classify(venue, verb, text=text, status=status).kind is IN_DOUBT) is any(doubts)
