"""Who may see the pages and ask over HTTP, and as whom.

    a client's certificate (HTTPS)    as the name that it says
    the login token                   as the client "(token)"
    neither, on loopback addresses    as the machine's users: with --insecure they may ask, else
                                      they may look, and asking takes a certificate or the token

Beyond loopback nobody is let in without one of the first two. /metrics, /healthz and /v2/health
tell nothing of inputs and answers, and are open to whoever reaches the port, as they have been.

A page of another site in the same browser can send requests here, too, even from a name that
resolves to this address. So without a login the Host must be an address or "localhost", and an
Origin must be the page's own.
"""

import hmac
import ipaddress
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from edvit_tf.errors import ConfigError

COOKIE = "edvit_login"
TOKEN_NAMES = ["edvit://client/(token)"]  # as whom the token asks
_LEAST_CHARACTERS = 16
_MOST_LOGINS = 256


@dataclass(frozen=True)
class Refusal:
    """Why somebody is not let in."""

    status: int
    text: str


@dataclass
class Access:
    """The rules of one port."""

    is_loopback: bool
    token: str | None = None
    _logins: dict[str, None] = field(default_factory=dict)  # cookies, the oldest first

    def peer_names(
        self, names: list[str], headers: Mapping[str, str], cookies: Mapping[str, str]
    ) -> list[str] | Refusal:
        """The names of who asks, as a certificate has them; [] for a user of this machine.

        `names` are those of the certificate that was shown, `headers` have keys in lower case.
        """
        foreign = self.why_foreign(headers)
        if foreign is not None:
            return foreign
        if names:
            return names
        if self._has_token(headers) or cookies.get(COOKIE) in self._logins:
            return TOKEN_NAMES
        if self.is_loopback and self.token is None:
            return self._local(headers)
        if self.token is None:
            return Refusal(
                403,
                "this port is reached from other machines, so it shows no more than /metrics and "
                "/healthz. Start the aggregator with --login-token FILE or --https, or --metrics "
                "127.0.0.1:PORT.",
            )
        return Refusal(
            401,
            "no login: got neither the token nor a client's certificate. Log in at /login, or send "
            "'Authorization: Bearer TOKEN'.",
        )

    def login(self, token: str) -> str | None:
        """The cookie of a new login; None for a wrong token."""
        if self.token is None or not _same(token, self.token):
            return None
        cookie = secrets.token_urlsafe(24)
        self._logins[cookie] = None
        while len(self._logins) > _MOST_LOGINS:
            del self._logins[next(iter(self._logins))]
        return cookie

    def _has_token(self, headers: Mapping[str, str]) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and self.token is not None and _same(given, self.token)

    def why_foreign(self, headers: Mapping[str, str]) -> Refusal | None:
        """The refusal of what a page of another site sends."""
        origin = headers.get("origin")
        if origin is None or _host_of(origin) == headers.get("host", "").lower():
            return None
        return Refusal(
            403, f"Origin: got {origin[:64]!r}, a page of another site; expected none, or ours."
        )

    def _local(self, headers: Mapping[str, str]) -> list[str] | Refusal:
        host = headers.get("host", "")
        if _is_address(host):
            return []
        return Refusal(
            403,
            f"Host: got {host[:64]!r}; expected an address or localhost. A name may be another "
            "site's; to use one, start the aggregator with --login-token FILE.",
        )


def _host_of(origin: str) -> str | None:
    """The host and port of an Origin, as a Host header has them; None where it is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _is_address(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), token.encode())


def read_token(path: Path) -> str:
    """The token in a file, its first line. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8").splitlines()
        mode = stat.S_IMODE(path.stat().st_mode)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--login-token {path} cannot be read ({error}). Make one: (umask 077; openssl rand "
            f"-hex 16 > {path})."
        ) from error

    if mode & 0o007:
        raise ConfigError(
            f"--login-token {path} has mode {mode:04o}; everybody can read it. Run: chmod 600 "
            f"{path}."
        )
    token = text[0].strip() if text else ""
    if len(token) < _LEAST_CHARACTERS or not token.isascii() or not token.isprintable():
        raise ConfigError(
            f"--login-token {path}: got {len(token)} characters; expected {_LEAST_CHARACTERS} or "
            f"more of ASCII in its first line. Make one: openssl rand -hex 16 > {path}."
        )
    return token
