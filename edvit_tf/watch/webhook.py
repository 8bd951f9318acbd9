"""A message as a POST of JSON."""

import base64
import http.client
import urllib.error
import urllib.parse
import urllib.request

from edvit_tf.errors import ConfigError
from edvit_tf.watch.outbox import Send, SendFailed, SendRefused
from edvit_tf.watch.video import without_password

_SECONDS = 10.0
_LATER = (408, 425, 429)  # of the client's mistakes those that time mends


def webhook(url: str) -> Send:
    """Sends to an address, http:// or https://, with a login in it or not. Raises ConfigError."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"--webhook is {without_password(url)!r}; it must be http://HOST/PATH or "
            "https://HOST/PATH."
        )
    headers = {"Content-Type": "application/json"}
    login, at, host = parts.netloc.rpartition("@")
    if at:
        words = urllib.parse.unquote(login).encode()
        headers["Authorization"] = f"Basic {base64.b64encode(words).decode()}"
    target = urllib.parse.urlunsplit(parts._replace(netloc=host))

    def send(message: bytes) -> None:
        request = urllib.request.Request(target, message, headers)
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
                answer.read()
        except urllib.error.HTTPError as error:
            with error:
                words = f"it answered {error.code} {error.reason}."
            if error.code < 500 and error.code not in _LATER:
                raise SendRefused(words) from error
            raise SendFailed(words) from error
        except (OSError, http.client.HTTPException) as error:
            raise SendFailed(f"{error}.") from error

    return send
