"""Who is let in at the HTTP port, and as whom."""

import pytest

from edvit_tf.aggregate.http.access import COOKIE, TOKEN_NAMES, Access, Refusal, read_token
from edvit_tf.errors import ConfigError

TOKEN = "0123456789abcdef-token"
CLIENT = ["edvit://client/alice"]
LOCAL = {"host": "127.0.0.1:9001"}


def names(access: Access, certificate=(), cookies=None, **headers):
    return access.peer_names(list(certificate), {**LOCAL, **headers}, cookies or {})


def status(found) -> int:
    assert isinstance(found, Refusal), found
    return found.status


def test_on_loopback_a_user_of_this_machine_is_let_in_without_a_name():
    assert names(Access(True)) == []
    assert names(Access(True), host="localhost:9001") == []
    assert names(Access(True), host="[::1]:9001") == []


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9001", "", "127.0.0.1.evil.example"]
)
def test_a_name_that_another_site_resolves_to_loopback_is_refused(host):
    found = names(Access(True), host=host)
    assert status(found) == 403 and "Host: got" in found.text


def test_a_page_of_another_site_is_refused_whatever_it_brings():
    access = Access(True, TOKEN)
    cookie = {COOKIE: access.login(TOKEN)}
    for certificate in ((), CLIENT):
        found = names(access, certificate, cookie, origin="http://evil.example")
        assert status(found) == 403 and "Origin" in found.text
    assert names(access, (), cookie, origin="http://127.0.0.1:9001") == TOKEN_NAMES
    # a page in a sandbox, or a file
    assert status(names(access, CLIENT, origin="null")) == 403


def test_beyond_loopback_nobody_is_let_in_without_a_login():
    found = names(Access(False), host="192.0.2.7:9001")
    assert status(found) == 403 and "--login-token" in found.text
    assert names(Access(False), CLIENT, host="hub.local:9001") == CLIENT


def test_the_token_opens_and_nothing_like_it_does():
    for access in (Access(False, TOKEN), Access(True, TOKEN)):
        assert status(names(access)) == 401
        assert names(access, authorization=f"Bearer {TOKEN}") == TOKEN_NAMES
        for wrong in (f"Basic {TOKEN}", f"Bearer {TOKEN[:-1]}", "Bearer", "Bearer \xff"):
            assert status(names(access, authorization=wrong)) == 401
        assert access.login(TOKEN + "x") is None
        assert names(access, (), {COOKIE: access.login(TOKEN)}) == TOKEN_NAMES
        assert status(names(access, (), {COOKIE: "guessed"})) == 401


def test_logins_are_few_and_the_oldest_goes():
    access = Access(False, TOKEN)
    first = access.login(TOKEN)
    for _ in range(256):
        last = access.login(TOKEN)
    assert status(names(access, (), {COOKIE: first})) == 401
    assert names(access, (), {COOKIE: last}) == TOKEN_NAMES


def test_a_token_is_a_long_line_in_a_file_of_ones_own(tmp_path):
    file = tmp_path / "token"
    with pytest.raises(ConfigError, match="cannot be read"):
        read_token(file)
    for text, mode, words in (
        (TOKEN, 0o644, "mode 0644"),
        ("short\n", 0o600, "got 5 characters"),
        ("", 0o600, "got 0 characters"),
        ("é" * 20, 0o600, "of ASCII"),
    ):
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)
        with pytest.raises(ConfigError, match=words):
            read_token(file)
    file.write_text(f"{TOKEN}\nmore\n")
    assert read_token(file) == TOKEN
