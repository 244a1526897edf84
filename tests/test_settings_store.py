"""Where the store is. Goal: no password stands in a file or in a message, and the environment's reaches the URL that is connected to.

Method: URLs of every form, right and wrong; environments with and without what they name.
"""

import pytest
from haltcore.adapters.redis_url import read_url
from haltcore.adapters.settings import SettingsRefused, parse
from haltcore.adapters.settings_store import NoStoreUrl, account, found_here, resolved, store_url
from haltcore.adapters.settings_values import Wrong

RIGHT = [
    "", "redis://127.0.0.1", "redis://127.0.0.1:6379/0", "redis://:${PW}@h/0", "rediss://bot:${PW}@h:6380/1", "redis://bot@h", "unix:///run/r.sock",
    "unix://:${PW}@/run/r.sock?db=1", "redis+sentinel://:${PW}@a:26379,b:26379/mymaster", "redis://${HOST}:6379",
    "redis+sentinel://a,b/m?sentinel_password=${A}&wait_replicas=1", "redis+cluster://a:1,b:2", "redis://h:${PORT}/${DB}",
]  # fmt: skip
SECRET = [
    "redis://:s3cret@h/0", "redis://bot:s3cret@h/0", "redis://bot:s3/cr@et@h", "redis://:s3cret${PW}@h", "redis://h?password=s3cret",
    "redis://h?db=0&sentinel_password=s3cret", "s3cret", "s3cret@h:6379", "redis://:$s3cret@h", "redis://:${s3cret@h", "redis://:s3 cret@h",
    "redis+sentinel://a/m?sentinel_%70assword=s3cret", "redis+sentinel://a/m?sentinel_pass%77ord=${PW}s3cret",
    "redis://h?PASSWORD=s3cret", "redis://:${3cret}@h", "http://h", "redis://h:x", "redis://h1,h2",
]  # fmt: skip


@pytest.mark.parametrize("url", RIGHT)
def test_a_url_without_a_password_is_taken_as_it_is(url: str) -> None:
    assert store_url(url) == url


@pytest.mark.parametrize("url", SECRET)
def test_one_with_a_password_or_of_another_form_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(Wrong) as wrong:
        store_url(url)
    assert "cret" not in str(wrong.value).replace("secret", "")
    with pytest.raises(SettingsRefused) as refusal:
        parse(f'symbols = ["A"]\n[store]\nconfigured = true\naccount = "a"\nurl = "{url}"\n')
    (fault,) = refusal.value.faults
    assert (fault.key, fault.line) == ("store.url", 5)
    assert "cret" not in fault.text.replace("secret", "")
    assert "${NAME}" in fault.text


def test_no_text_is_no_url() -> None:
    with pytest.raises(Wrong, match="5 is no text"):
        store_url(5)


def test_variables_are_replaced_and_encoded() -> None:
    environ = {"PW": "p@ss/w:rd#?%", "HOST": "10.0.0.5", "OTHER": "x"}
    assert resolved("redis://:${PW}@${HOST}:6379/0", environ) == "redis://:p%40ss%2Fw%3Ard%23%3F%25@10.0.0.5:6379/0"
    assert resolved("redis://h", {}) == "redis://h"
    assert resolved("redis://:${PW}@h", {"PW": "${OTHER}", "OTHER": "x"}) == "redis://:%24%7BOTHER%7D@h"


def test_a_password_that_is_no_utf_8_is_passed_on_byte_by_byte() -> None:
    password = b"a\xffb".decode("utf-8", "surrogateescape")  # as the environment gives it
    url = resolved("redis://:${PW}@h", {"PW": password})
    assert url == "redis://:a%FFb@h"
    assert read_url(url).password.encode("utf-8", "surrogateescape") == b"a\xffb"


def test_the_url_of_the_environment_holds_instead() -> None:
    environ = {"HALTCORE_STORE_URL": "redis://:raw@h2"}
    assert resolved("redis://:${PW}@h", environ) == resolved("", environ) == "redis://:raw@h2"
    assert resolved("redis://h", {"HALTCORE_STORE_URL": ""}) == "redis://h"


def test_what_is_missing_is_named() -> None:
    with pytest.raises(NoStoreUrl, match="environment variable PW is not set, and the URL of the store names it"):
        resolved("redis://:${PW}@h", {})
    with pytest.raises(NoStoreUrl, match="where is the store"):
        resolved("", {})


@pytest.mark.parametrize("name", ["", "main", "binance:sub-1", "A.b_c", "x" * 64])
def test_names_of_accounts(name: str) -> None:
    assert account(name) == name


@pytest.mark.parametrize("name", ["a b", "{a}", "a/b", "é", "x" * 65, "a\n", "a*"])
def test_what_could_not_stand_in_a_key_is_no_account(name: str) -> None:
    with pytest.raises(Wrong, match="no name of an account"):
        account(name)


def test_where_a_program_would_connect_with_this_environment() -> None:
    assert found_here("redis://:${PW}@h", {"PW": "s3cret"}) == ("redis://:${PW}@h", "")
    assert found_here("redis://h", {"HALTCORE_STORE_URL": "redis://u:s3cret@h2/1"}) == ("redis://h2:6379/1", "")
    shown, problem = found_here("redis://:${PW}@h", {})
    assert (shown, "PW is not set" in problem) == ("redis://:${PW}@h", True)
    assert "where is the store" in found_here("", {})[1]
    shown, problem = found_here("redis://h", {"HALTCORE_STORE_URL": "redis://:${PW}@h2", "PW": "s3cret"})
    assert problem.startswith("HALTCORE_STORE_URL: there is a ${NAME} in the URL that nothing has replaced")
    assert "s3cret" not in shown + problem
