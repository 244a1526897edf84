"""URLs of stores: each form is read as it is meant, each wrong one is refused with what to give, and no password is ever shown.

Method: a table of forms with what they come to; a table of wrong ones with words of the refusal, each with a password in it as well, which
must not come back.
"""

from urllib.parse import quote

import pytest
from haltcore.adapters.redis_url import Kind, StoreUrl, UrlRefused, read_url
from hypothesis import given
from hypothesis import strategies as st

SECRET = "hunter2"


def what(url: StoreUrl) -> tuple[object, ...]:
    return url.kind, url.nodes, url.path, url.master, url.db, url.tls, url.wait_replicas, url.username, url.password, dict(url.options)


S, N, C = Kind.SINGLE, Kind.SENTINEL, Kind.CLUSTER


@pytest.mark.parametrize(
    ("url", "read", "shown"),
    [
        ("redis://h", (S, (("h", 6379),), "", "", 0, False, 0, "", "", {}), "redis://h:6379"),
        ("redis://h:1/3", (S, (("h", 1),), "", "", 3, False, 0, "", "", {}), "redis://h:1/3"),
        ("redis://:pw@h", (S, (("h", 6379),), "", "", 0, False, 0, "", "pw", {}), "redis://h:6379"),
        ("redis://u%40:p%2Fw%3A@h", (S, (("h", 6379),), "", "", 0, False, 0, "u@", "p/w:", {}), "redis://h:6379"),
        ("redis://[::1]:7/0", (S, (("::1", 7),), "", "", 0, False, 0, "", "", {}), "redis://::1:7"),
        (
            "rediss://h?ssl_ca_certs=/ca.pem&ssl_check_hostname=false",
            (S, (("h", 6379),), "", "", 0, True, 0, "", "", {"ssl_ca_certs": "/ca.pem", "ssl_check_hostname": "false"}),
            "rediss://h:6379",
        ),
        ("unix:///run/r.sock?db=2", (S, (), "/run/r.sock", "", 2, False, 0, "", "", {}), "unix:///run/r.sock"),
        ("unix://u:pw@/run/r.sock", (S, (), "/run/r.sock", "", 0, False, 0, "u", "pw", {}), "unix:///run/r.sock"),
        (
            "redis+sentinel://u:pw@a,b:1/mymaster/4?sentinel_password=x&wait_replicas=1",
            (N, (("a", 26379), ("b", 1)), "", "mymaster", 4, False, 1, "u", "pw", {"sentinel_password": "x"}),
            "redis+sentinel://a:26379,b:1/mymaster/4",
        ),
        ("rediss+cluster://a,b:1", (C, (("a", 6379), ("b", 1)), "", "", 0, True, 0, "", "", {}), "rediss+cluster://a:6379,b:1"),
    ],
)
def test_a_url_is_read_as_it_is_meant(url: str, read: tuple[object, ...], shown: str) -> None:
    assert what(read_url(url)) == read
    assert str(read_url(url)) == shown


WRONG = [
    ("http://{}h", "this is no URL of a store"),
    ("h:6379{}", "this is no URL of a store"),
    ("redis://{}", "host 1 of the URL is no host:port"),
    ("redis://{}h:99999", "host 1 of the URL has a port that is no number from 1 to 65535; write host:6379"),
    ("redis://{}h:1739x", "host 1 of the URL has a port that is no number from 1 to 65535; write host:6379"),
    ("redis://{}${{PW}}@h", "there is a ${NAME} in the URL that nothing has replaced"),
    ("redis://{}a,b", "the URL names 2 hosts"),
    ("redis://{}h/x", "the database, behind the last /, of the URL is no number"),
    ("redis://{}h/0?colour=red", "option 1 behind the ? of the URL is unknown; there are db,"),
    ("redis://{}h?db=1", "option db is for unix://"),
    ("redis://{}h?wait_replicas=all", "wait_replicas of the URL is no number"),
    ("redis://{}h?ssl_ca_certs=x", "begin the URL with rediss"),
    ("redis://{}h?sentinel_password=x", "is for redis+sentinel://"),
    ("rediss://{}h?ssl_check_hostname=maybe", "true or false"),
    ("unix://{}run/r.sock", "the URL names no socket"),
    ("redis+sentinel://{}a,b", "the URL names no master"),
    ("redis+cluster://{}a/1", "a cluster has only 0"),
]


@pytest.mark.parametrize(("form", "words"), WRONG)
def test_a_wrong_url_is_refused_in_words_without_the_password(form: str, words: str) -> None:
    for user in ("", f":{SECRET}@", f"{SECRET}:{SECRET}@", f":{SECRET}/{SECRET}@"):
        with pytest.raises(UrlRefused) as refused:
            read_url(form.format(user))
        assert words in str(refused.value)
        assert SECRET not in str(refused.value)


def test_advice_about_a_password_is_given_where_there_may_be_one() -> None:
    for url, advised in (("redis://127.0.0.1:1739x", True), (f"redis://:{SECRET}@127.0.0.1:1739x", False), (f"redis://u:{SECRET}", True)):
        with pytest.raises(UrlRefused) as refused:
            read_url(url)
        assert ("a password before an @: redis://:PASSWORD@host" in str(refused.value)) is advised
        assert "percent-encode" not in str(refused.value)
        assert SECRET not in str(refused.value)


def test_a_password_with_letters_of_urls_that_were_not_encoded_is_read_whole_or_refused_without_being_shown() -> None:
    for password in (f"{SECRET}/x", f"x/{SECRET}", f"{SECRET}@x", f"x:{SECRET}"):
        assert read_url(f"redis://:{password}@h").password == password
    for password in (f"{SECRET}?x", f"x?{SECRET}"):
        with pytest.raises(UrlRefused) as refused:
            read_url(f"redis://:{password}@h")
        assert SECRET not in str(refused.value)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_url_shows_its_password(text: str) -> None:
    url = read_url(f"redis://{quote(text, safe='')}{SECRET}:{quote(text, safe='')}{SECRET}@host/1?wait_replicas=2")
    assert url.username == url.password == text + SECRET
    assert SECRET not in str(url) + repr(url)


def test_the_rest_of_a_password_with_an_ampersand_is_not_repeated_as_an_option() -> None:
    for url in (f"redis+sentinel://h/m?sentinel_password=abc&{SECRET}", f"redis://h?wait_replicas=1&{SECRET}=x"):
        with pytest.raises(UrlRefused, match=r"option 2 behind the \? of the URL is unknown") as refused:
            read_url(url)
        assert SECRET not in str(refused.value)


def test_what_others_say_is_shown_without_users_and_passwords() -> None:
    url = read_url("redis+sentinel://ann:p%2Fw1@h/m?sentinel_username=joe&sentinel_password=s%26t")
    said = "AUTH ann p/w1 p%2Fw1; AUTH joe s&t s%26t; joey sits in annex"
    assert url.hidden(said) == "AUTH [hidden] [hidden] [hidden]; AUTH [hidden] [hidden] [hidden]; joey sits in annex"
    assert read_url("redis://h").hidden(said) == said


def test_a_password_of_any_bytes_is_read() -> None:
    url = read_url("redis+sentinel://:a%FFb@h/m?sentinel_password=c%FEd")
    secrets = (url.password, url.options["sentinel_password"])
    assert [secret.encode("utf-8", "surrogateescape") for secret in secrets] == [b"a\xffb", b"c\xfed"]
    assert url.hidden(f"{url.password} {secrets[1]} a%FFb") == "[hidden] [hidden] [hidden]"
