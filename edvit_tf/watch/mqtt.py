"""A message to a broker of MQTT, at least once (QoS 1)."""

import threading
import urllib.parse
from typing import Any

from edvit_tf.errors import ConfigError
from edvit_tf.watch.address import address_parts, shown_address
from edvit_tf.watch.outbox import NotTaken, Send, SendFailed

_SECONDS = 10.0  # for a connection, and for a message's receipt
_PORTS = {"mqtt": 1883, "mqtts": 8883}


def mqtt(url: str) -> Send:
    """Sends to mqtt[s]://[USER:PASSWORD@]HOST[:PORT]/TOPIC. Raises ConfigError."""
    host, port, topic, login, is_secret = _parts(url)
    try:
        from paho.mqtt import client as paho
    except ImportError as error:
        raise ConfigError("--mqtt needs paho-mqtt. Run: pip install 'edvit-tf[watch]'.") from error

    def send(message: bytes) -> None:
        # a connection a message: they are seldom, and no state outlives a broker's restart
        client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        if login is not None:
            client.username_pw_set(*login)
        if is_secret:
            client.tls_set()
        try:
            _published(client, host, port, topic, message)
        except (OSError, ValueError, RuntimeError) as error:
            raise SendFailed(f"{error}.") from error
        finally:
            client.disconnect()
            client.loop_stop()

    return send


def _published(client: Any, host: str, port: int, topic: str, message: bytes) -> None:
    """Raises SendFailed, OSError, ValueError, RuntimeError."""
    answered = threading.Event()
    reasons: list[Any] = []

    def on_connect(client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        reasons.append(reason)
        answered.set()

    client.on_connect = on_connect
    client.connect(host, port)
    client.loop_start()
    if not answered.wait(_SECONDS):
        raise SendFailed(f"{host}:{port} did not answer within {_SECONDS:g} s.")
    if reasons[0].is_failure:
        raise SendFailed(f"{host}:{port} refuses: {reasons[0]}.")
    receipt = client.publish(topic, message, qos=1)
    receipt.wait_for_publish(_SECONDS)
    if not receipt.is_published():
        raise NotTaken(f"{host}:{port} sent no receipt within {_SECONDS:g} s.")


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
