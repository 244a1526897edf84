"""What an error means for a request. Goal: a refusal is never taken for a doubt, nor a doubt for a refusal, whatever redis-py and server
there are.

Method: every word of the table in each way in which a redis-py class or a server's script words it, before and after bytes left and after a
part was applied; then what is in no table. What servers really answer is in ``test_redis_link.py``.
"""

import pytest
import redis.exceptions as wrong
from haltcore.adapters.redis_errors import REFUSALS, failure, word_of
from haltcore.adapters.redis_url import read_url
from haltcore.fsm.events import StoreHealth

CLASSES = {
    "READONLY": wrong.ReadOnlyError, "LOADING": wrong.BusyLoadingError, "MASTERDOWN": wrong.MasterDownError, "OOM": wrong.OutOfMemoryError,
    "NOPERM": wrong.NoPermissionError, "NOSCRIPT": wrong.NoScriptError, "CLUSTERDOWN": wrong.ClusterDownError,
    "TRYAGAIN": wrong.TryAgainError, "CROSSSLOT": wrong.ClusterCrossSlotError, "NOAUTH": wrong.AuthenticationError,
}  # fmt: skip


def ways(word: str) -> list[Exception]:
    """The word as redis-py tells it: cut off and told by the class, whole, and at the end of what a 6.2 says of a script."""
    script = "ERR Error running script (call to f_ab12): @user_script:12: "
    told: list[Exception] = [wrong.ResponseError(f"{word} some words"), wrong.ResponseError(f"{script}-{word} some words")]
    if word in ("MOVED", "ASK"):
        kind = {"MOVED": wrong.MovedError, "ASK": wrong.AskError}[word]
        return [*told, kind("3999 127.0.0.1:6381")]
    if word == "NOPASS":  # ours: servers have no word for it
        called = "AUTH <password> called without any password configured for the default user. Are you sure?"
        return [wrong.AuthenticationError(called), wrong.AuthenticationError("Client sent AUTH, but no password is set")]
    if word == "WRONGPASS":
        return [*told, wrong.AuthenticationError("invalid username-password pair or user is disabled.")]
    return [*told, CLASSES[word]("some words")] if word in CLASSES else told


@pytest.mark.parametrize("word", REFUSALS)
def test_a_refusal_is_certainly_not_applied_unless_a_part_was_before(word: str) -> None:
    for error in ways(word):
        assert word_of(error) == word
        if word == "NOPERM" and "script" in str(error):
            continue  # see below
        for sent in (False, True):
            failed = failure(error, sent, False, "redis://h:1")
            assert (failed.health, failed.code) == (StoreHealth.UNAVAILABLE, REFUSALS[word].code)
            assert REFUSALS[word].remedy in failed.text
        assert failure(error, True, True, "redis://h:1").health is StoreHealth.IN_DOUBT


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TimeoutError(), "store_timeout"),
        (wrong.TimeoutError("Timeout reading from socket"), "store_timeout"),
        (ConnectionResetError(104, "reset"), "store_lost"),
        (wrong.ConnectionError("Connection closed by server."), "store_lost"),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "y"), "store_unreadable"),
        (wrong.InvalidResponse("Protocol Error: b'HTTP/1.1 400'"), "store_protocol"),
        (wrong.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"), "store_error"),
        (wrong.ResponseError("ERR user_script:3: Script attempted to access nonexistent global variable 'x'"), "store_error"),
        (wrong.NoPermissionError("User default has no permissions to run the 'pexpire' command script: f_1"), "store_forbidden"),
        (wrong.ResponseError("The user executing the script can't run this command or subcommand script: a09e"), "store_forbidden"),
        (wrong.ResponseError("ERR ACL failure in script: User mm has no permissions to run the 'info' command"), "store_forbidden"),
    ],
)
def test_whatever_else_comes_after_a_byte_left_is_in_doubt(error: Exception, code: str) -> None:
    failed = failure(error, True, False, "redis://h:1")
    assert (failed.health, failed.code) == (StoreHealth.IN_DOUBT, code)
    assert failed.text.startswith("redis://h:1: ")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TimeoutError(), "store_timeout"),
        (ConnectionRefusedError(111, "refused"), "store_refused"),
        (wrong.ConnectionError("Error 111 connecting to h:1. Connection refused."), "store_refused"),
        (wrong.ConnectionError("max number of clients reached"), "store_refused"),
        (UnicodeEncodeError("utf-8", "x", 0, 1, "y"), "store_refused"),
        (wrong.ConnectionError("Error 1 connecting to h:1. [SSL: WRONG_VERSION_NUMBER] wrong version number."), "store_refused"),
        (wrong.InvalidResponse("Protocol Error: b'HTTP/1.1 400'"), "store_protocol"),
        (wrong.ResponseError("ERR unknown command"), "store_error"),
    ],
)
def test_whatever_comes_before_is_certainly_not_applied(error: Exception, code: str) -> None:
    failed = failure(error, False, False, "redis://h:1")
    assert (failed.health, failed.code) == (StoreHealth.UNAVAILABLE, code)


def test_a_time_out_before_a_byte_of_ours_asks_whether_there_is_tls_where_the_url_says_so() -> None:
    assert "begin the URL with redis" in failure(TimeoutError(), False, False, "rediss://h:1").text
    for sent, where in ((True, "rediss://h:1"), (False, "redis://h:1")):
        assert "TLS" not in failure(TimeoutError(), sent, False, where).text


def test_what_a_user_may_not_do_is_named() -> None:
    words = "this user has no permissions to run the 'eval' command"
    assert words in failure(wrong.NoPermissionError(words), True, False, "redis://h:1").text


SAID = "hunter2 and more, as joe"
HIDE = read_url("redis://joe:hunter2@h").hidden


@pytest.mark.parametrize("sent", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        wrong.ResponseError(f"ERR unknown command, with args beginning with: {SAID}"), wrong.ResponseError("hunter2 ERR joe"),
        wrong.ConnectionError(f"Error: {SAID}"), OSError(f"{SAID}"), wrong.NoPermissionError(f"no permissions for {SAID}"),
        wrong.InvalidResponse(f"Protocol Error: {SAID}"), ValueError(SAID), wrong.AuthenticationError(f"invalid: {SAID}"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_no_text_repeats_user_or_password(error: Exception, sent: bool) -> None:
    text = str(failure(error, sent, False, "redis://h:1", HIDE))
    assert "hunter2" not in text
    assert "joe" not in text


def test_of_an_error_while_connecting_only_a_word_of_servers_is_repeated() -> None:
    """Nothing but secrets was said by then, and how a server mangles what it repeats nobody knows."""
    assert failure(wrong.ResponseError("ERR no 2retnuh"), False, False, "w").text == "w: the server refuses the connection with ERR"
    assert failure(wrong.ResponseError("2retnuh no"), False, False, "w").text == "w: the server refuses the connection with an error"
    assert "no 2retnuh" in failure(wrong.ResponseError("ERR no 2retnuh"), True, False, "w").text


def test_tls_to_a_server_without_it_is_named() -> None:
    plain = failure(wrong.ConnectionError("Error 1. [SSL: WRONG_VERSION_NUMBER] wrong version number."), False, False, "rediss://h:1")
    other = failure(wrong.ConnectionError("Error 1. [SSL: CERTIFICATE_VERIFY_FAILED] self-signed."), False, False, "rediss://h:1")
    assert "If not, begin the URL with redis" in plain.text
    assert "If not, begin the URL with redis" in failure(TimeoutError(), False, False, "rediss://h:1").text
    assert "Does it speak TLS" not in other.text + failure(TimeoutError(), False, False, "redis://h:1").text
