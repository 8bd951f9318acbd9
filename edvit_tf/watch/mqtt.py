"""A message to a broker of MQTT, at least once (QoS 1)."""

import threading
import urllib.parse
from typing import Any

from edvit_tf.errors import ConfigError
from edvit_tf.watch.address import address_parts, shown_address
from edvit_tf.watch.outbox import NotTaken, SendFailed

_SECONDS = 10.0  # for a connection, and for a message's receipt
# Reasons that no wait mends: protocol, client id, user or password, rights.
_FOR_GOOD = (132, 133, 134, 135)
_PORTS = {"mqtt": 1883, "mqtts": 8883}


def mqtt(url: str) -> "Broker":
    """Sends to mqtt[s]://[USER:PASSWORD@]HOST[:PORT]/TOPIC. Raises ConfigError."""
    try:
        return Broker(url)
    except ImportError as error:
        raise ConfigError("--mqtt needs paho-mqtt. Run: pip install 'edvit-tf[watch]'.") from error


class Broker:
    """Where messages of one topic go. Raises ConfigError for what is no address, ImportError
    without paho-mqtt.
    """

    def __init__(self, url: str) -> None:
        self._host, self._port, self._topic, self._login, self._is_secret = _parts(url)
        self._shown = shown_address(url)
        self._has_let_us_in = False
        from paho.mqtt import client as paho

        self._paho: Any = paho

    def __call__(self, message: bytes) -> None:
        """Publishes it. Raises SendFailed, and ConfigError as `check`."""
        self._connected(message)

    def check(self) -> None:
        """Raises ConfigError where the broker will never let us in, SendFailed where it is away."""
        self._connected(None)

    def _connected(self, message: bytes | None) -> None:
        # a connection a message: they are seldom, and no state outlives a broker's restart
        client = self._paho.Client(self._paho.CallbackAPIVersion.VERSION2)
        if self._login is not None:
            client.username_pw_set(*self._login)
        if self._is_secret:
            client.tls_set()
        try:
            self._enter(client)
            if message is not None:
                self._publish(client, message)
        except (OSError, ValueError, RuntimeError) as error:
            raise SendFailed(f"{error}.") from error
        finally:
            client.disconnect()
            client.loop_stop()

    def _enter(self, client: Any) -> None:
        """Raises SendFailed, ConfigError, OSError, ValueError."""
        where = f"{self._host}:{self._port}"
        answered = threading.Event()
        reasons: list[Any] = []

        def on_connect(client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
            reasons.append(reason)
            answered.set()

        client.on_connect = on_connect
        client.connect(self._host, self._port)
        client.loop_start()
        if not answered.wait(_SECONDS):
            raise SendFailed(f"{where} did not answer within {_SECONDS:g} s.")
        reason = reasons[0]
        if not reason.is_failure:
            self._has_let_us_in = True
        elif reason.value not in _FOR_GOOD:
            raise SendFailed(f"{where} refuses: {reason}.")
        elif self._has_let_us_in:
            # one that restarts may not know its users yet
            raise NotTaken(f"{where} refuses: {reason}.")
        else:
            raise ConfigError(
                f"--mqtt is {self._shown!r}, and the broker refuses: {reason}. No wait mends that: "
                "give another USER:PASSWORD, or let the broker admit this one."
            )

    def _publish(self, client: Any, message: bytes) -> None:
        """Raises NotTaken, ValueError, RuntimeError."""
        receipt = client.publish(self._topic, message, qos=1)
        receipt.wait_for_publish(_SECONDS)
        if not receipt.is_published():
            raise NotTaken(f"{self._host}:{self._port} sent no receipt within {_SECONDS:g} s.")


def _parts(url: str) -> tuple[str, int, str, tuple[str, str | None] | None, bool]:
    """(host, port, topic, (user, password), whether by TLS). Raises ConfigError."""
    try:
        parts = address_parts(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:  # no host, or a port that is no number
        parts, port = urllib.parse.urlsplit(""), 0
    topic = urllib.parse.unquote(parts.path.removeprefix("/"))
    # these two begin other parts of an address; in a password they are %3F and %23
    is_plain = not (set(url) & set("?#") or set(topic) & set("+#"))
    if parts.scheme not in _PORTS or not parts.hostname or not topic or not is_plain:
        raise ConfigError(
            f"--mqtt is {shown_address(url)!r}; it must be mqtt://HOST/TOPIC or "
            "mqtts://USER:PASSWORD@HOST:PORT/TOPIC, the topic without + and #; what "
            "is no letter or digit of a password as %23."
        )
    login = None
    if parts.username is not None:
        password = None if parts.password is None else urllib.parse.unquote(parts.password)
        login = urllib.parse.unquote(parts.username), password
    return parts.hostname, port, topic, login, parts.scheme == "mqtts"
