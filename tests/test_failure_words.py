"""What is read out of a failure's words: waits within bounds, codes, and no secrets left.

Method: examples in each documented form, dates against Python's own calendar, and properties: no text makes it raise, no wait is negative
or beyond three days, no secret that is written in a usual form survives.
"""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from haltcore.fsm.failure_words import (
    MAX_WAIT_MS,
    READ_CHARS,
    TEXT_CHARS,
    as_text,
    codes_in,
    message_in,
    redact,
    retry_after_ms,
    says_banned,
    status_in,
)
from hypothesis import given, settings
from hypothesis import strategies as st

NOW = 1_769_384_000_000


def wait(text: str = "", now_ms: int = NOW, limited: bool = True, **headers: str) -> int:
    return retry_after_ms(text, {name.replace("_", "-"): value for name, value in headers.items()}, now_ms, limited)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("30", 30_000), (" 30 ", 30_000), ("1.5", 1_500), ("0.0009", 0), ("0", 0), ("-5", 0), ("", 0), ("soon", 0), ("nan", 0), ("inf", 0),
        ("1e9", 0), ("٣", 0), ("99999999999999", MAX_WAIT_MS), ("9" * 5_000, 0), ("259201", MAX_WAIT_MS),
        ("Sun, 25 Jan 2026 23:34:00 GMT", 1_000 * 40), ("Sun, 25 Jan 2026 23:33:00 GMT", 0), ("Sun, 25 Xxx 2026 23:34:00 GMT", 0),
        ("Sun, 25 Jan 9999 23:34:00 GMT", MAX_WAIT_MS),
    ],
)  # fmt: skip
def test_retry_after(value: str, expected: int) -> None:
    assert wait(Retry_After=value) == wait(RETRY_AFTER=value, limited=False) == expected


@given(st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)))
def test_http_dates_are_those_of_the_calendar(moment: datetime) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    at_ms = int(moment.timestamp()) * 1_000
    assert wait(now_ms=at_ms - 7_000, Retry_After=format_datetime(moment, usegmt=True)) == 7_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("IP banned until 1769384278629. Please", 278_629),
        ("IP(1.2.3.4) banned until 1769384278629", 278_629),
        ("banned until 1769384278", 278_000),
        ("banned until 1", 0),
        ("banned until 1769380000000", 0),
        ("banned until 9999999999999", MAX_WAIT_MS),
        ("banned until 99999999999999999999999", MAX_WAIT_MS),
        ("banned until " + "9" * 5_000, MAX_WAIT_MS),
        ("EService:Throttled: 1769384003", 3_000),
        ("nothing of the sort 1769384278629", 0),
    ],
)
def test_moments_in_sentences(text: str, expected: int) -> None:
    assert wait(text) == expected
    assert wait(text, now_ms=0) == 0
    assert says_banned(text) is ("until 17" in text or "until 99" in text)


def test_resets_and_the_longest_of_several() -> None:
    assert wait(X_RateLimit_Reset="1769384002") == 2_000
    assert wait(X_Bapi_Limit_Reset_Timestamp="1769384002500") == 2_500
    assert wait(X_Bapi_Limit_Reset_Timestamp="1769384002500", limited=False) == 0
    assert wait("banned until 1769384009000", Retry_After="3", X_RateLimit_Reset="1769384002") == 9_000


@given(st.text(), st.dictionaries(st.sampled_from(["Retry-After", "X-RateLimit-Reset", "x"]), st.text()), st.integers(-1, 2**70))
def test_any_words_give_a_bounded_wait(text: str, headers: dict[str, str], now_ms: int) -> None:
    assert 0 <= retry_after_ms(text, headers, now_ms, True) <= MAX_WAIT_MS
    assert 0 <= retry_after_ms(f"banned until {text}", headers, now_ms, True) <= MAX_WAIT_MS
    codes_in(text)
    status_in(text)


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("BinanceAPIException: -1003 TOO_MANY_REQUESTS", "-1003"),
        ("APIError(code=-1021): Timestamp", "-1021"),
        ('binance {"code":-2010,"msg":"x"}', "-2010"),
        ('{"code": "50004"}', "50004"),
        ("{'code': '50004'}", "50004"),
        ('{"retCode":10006,"retMsg":""}', "10006"),
        ('{"code":"1","data":[{"sCode":"51000"},{"sCode":"51008"}]}', "51000 51008"),
        ('{"code":"2","data":[{"sCode":"0"},{"sCode":"51008"}]}', "0 51008 2"),
        ('{"code":"0","data":[{"sCode":"0"}]}', ""),
        ('{"code":-2022,"data":{"cancelResponse":{"code":-2011},"newOrderResponse":{"code":-1007}}}', "-2022 -2011 -1007"),
        ('{\\"code\\":-1013}', "-1013"),
        ('{\\\\\\"code\\\\\\":-1013}', "-1013"),
        ("2026-01-25 and 12-1003 and v-1003 and -10034 and --1003 and x=-1003", ""),
        ('{"barcode":123}', ""),
        ("POST https://x/y?code=51008&price=-2010 500 words", ""),
        ("no code", ""),
    ],
)
def test_codes_in_texts(text: str, codes: str) -> None:
    assert [said.code for said in codes_in(text)] == codes.split()
    assert all(said.firm for said in codes_in(text))


@pytest.mark.parametrize("text", ["Cloudflare error code: 1009", "code=1009", '<html>{"code":1009}', "<!DOCTYPE x> (code=1009)"])
def test_words_about_a_code_are_not_firm(text: str) -> None:
    assert [(said.code, said.firm) for said in codes_in(text)] == [("1009", False)]


def test_each_code_has_its_own_words() -> None:
    text = '[{"code":-2010,"msg":"one"},{"code":-2010,"msg":"two"}]'
    assert ["one" in said.words for said in codes_in(text)] == [True, False]
    assert ["two" in said.words for said in codes_in(text)] == [False, True]
    assert codes_in('{"msg":"before","code":-2010}')[0].words.startswith('{"msg":"before')


def test_the_one_message() -> None:
    assert message_in('x 503 y {"code":1, "msg": "Words."}') == "Words."
    assert message_in(" Words. ") == "Words."
    assert message_in('{"msg":"a","message":"b"}') == message_in("<html>Words.") == ""


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (None, ""), (b"a\xff", "a\ufffd"), (bytearray(b"ab"), "ab"), ("\ud800", "?"), (12, "12"), ({"code": -1}, "{'code': -1}"),
        (ValueError(b"words"), "words"), (KeyError("x"), "'x'"),
    ],
)  # fmt: skip
def test_anything_is_a_text(given: object, text: str) -> None:
    assert as_text(given) == text


def test_what_is_too_large_is_not_read() -> None:
    for huge in ("x" * 10**7, b"x" * 10**7, [0] * 10**6, 10**5_000, ValueError("x" * 10**7), ValueError(b"x" * 10**7)):
        assert len(as_text(huge)) == READ_CHARS + 1
        assert len(redact(huge)) <= TEXT_CHARS


def test_statuses_in_texts() -> None:
    assert status_in("binance POST https://x/y?a=1 503 Service Unavailable {}") == 503
    assert status_in("binance POST https://x/y?a=1 7503 ") is None
    assert status_in("503 Service Unavailable") is None
    assert status_in("binance 418 I'm a teapot <html>") == 418
    assert status_in("binance 503 words") is None
    assert status_in(f"POST https://x?batch={'a' * 9_000} 503 words") == 503


@pytest.mark.parametrize(
    "text",
    [
        "https://x/y?symbol=A&signature={}&timestamp=1", "apiKey={}", '{{"apiKey":"{}"}}', "{{'secret': '{}'}}", "X-MBX-APIKEY: {}",
        "('OK-ACCESS-SIGN', '{}')", "OK-ACCESS-PASSPHRASE={}", "&sign={}&", '{{\\"apiKey\\":\\"{}\\"}}', "Authorization: Bearer {}",
        "redis://user:{}@host:1/0", "listenKey={} ", "api_secret = {}", "token={}", "{{'X-BAPI-API-KEY': b'{}'}}", "api-signature: {}",
    ],
)  # fmt: skip
def test_secrets_do_not_survive(text: str) -> None:
    secret = "Zx9-_q.7+/k"
    clean = redact(f"before {text.format(secret)} after")
    assert secret not in clean
    assert "***" in clean
    assert clean.startswith("before ")


def test_secrets_in_quotes_may_have_blanks_and_be_cut_off() -> None:
    assert redact('"passphrase": "two words", "x": 1') == '"passphrase": ***, "x": 1'
    assert "two" not in redact('"passphrase": "two words')
    assert "abc" not in redact("x" * 7_990 + "signature=abcdef") + redact("x" * 480 + " apikey=abc")


def test_plain_words_stay() -> None:
    text = "Signature for this request is not valid. Invalid token, no sign of it: account 12, price=5"
    assert redact(text) == text
    assert len(redact("x" * 10**6)) == TEXT_CHARS


#: What stands before and after a value, and which characters the value may have there, beside letters.
TOKEN, LINE, IN_QUOTES, URL = "-_.~+/%=,;:!$*()[]{}@#^|<>?", " -_.+/%=,;:!$*@#&()", " -_.+/%=,;:!$*@#&()[]{}'", "-_.+/%=,;:!$*@#&"
SHAPES = (
    ("https://x/y?a=1&signature=", "&b=2 503", TOKEN), ("listenKey=", " ", TOKEN), ("sig=", " x", TOKEN), ('"sig":"', '"', IN_QUOTES),
    ('{"sig": "", "sign": "', '"}', IN_QUOTES), ("passphrase=", "\nnext", LINE), ("password: ", "", LINE), ("secret=", "", LINE),
    ("secretKey=", "", LINE), ("private_key: ", "\n", LINE), ('"privateKey":"', '"', IN_QUOTES), ("Authorization: ", "\n", LINE),
    ("Cookie: ", "\n", LINE), ('password="a\\"', '"', IN_QUOTES), ('{\\"secret\\":\\"', '\\"}', IN_QUOTES), ('passwd="', "", IN_QUOTES),
    ("token=['A', '", "']", IN_QUOTES), ("{'secret': ('A', '", "',)}", IN_QUOTES), ("{'token': {'a': {'b': '", "'}}}", IN_QUOTES),
    ("sent Bearer ", " there", TOKEN), ("Basic ", "", TOKEN), ("Bearer%20", "", TOKEN), ("signature%3D", "%26b%3D2", TOKEN),
    ("%22secret%22%3A%22", "%22", TOKEN), ("redis://:", "@host:1/0", URL), ("redis://user:a@b/", "@host", URL),
    ("{'X-BAPI-API-KEY': b'", "'}", "-_.+/"), ("('OK-ACCESS-SIGN', '", "')", "-_.+/="), ("Authent: ", "", TOKEN),
    ("signature%253D", " ", TOKEN), ("mnemonic: ", "\n", LINE), ("seed phrase = ", "", LINE), ("pwd=", "", LINE),
    ("credentials: ", "", LINE), ("api_key => ", "", TOKEN), ("-----BEGIN PRIVATE KEY-----\n", "\n-----END PRIVATE KEY-----", " \n+/="),
)  # fmt: skip
LETTERS = "abXY09"
CASES = st.sampled_from(SHAPES).flatmap(lambda shape: st.tuples(st.just(shape), st.text(LETTERS + shape[2], max_size=25)))


@settings(max_examples=600)
@given(CASES, st.text(LETTERS + " {}\n", max_size=10), st.integers(0, 30))
def test_no_secret_survives_in_any_shape(case: tuple[tuple[str, str, str], str], before: str, more: int) -> None:
    """Two marks are hidden in the secret, one at its beginning and one at its end, so that no part of it may remain."""
    (start, end, _), inner = case
    clean = redact(f"{before} {start}MARK1{inner}MARK2{end} after")
    assert "MARK" not in clean
    assert clean.startswith(before + " ")
    assert "MARK" not in redact(f"{'x ' * 3_985}{'x' * more} {start}MARK1{inner}MARK2{end} after")


@pytest.mark.parametrize("end", range(1, 60))
def test_no_part_of_a_password_survives_the_cut(end: int) -> None:
    long = f"signature={'a' * (8_000 - end - 11)} redis://user:MARK{'b' * 100}@host"
    assert "MARK" not in redact(long)
