"""What the HTTP port of an aggregator says of its fleet: the state behind its live page, or
/healthz where a login would be needed for more.
"""

import http.client
import json
import ssl
from dataclasses import dataclass
from typing import Any

from edvit_tf.aggregate.http.feed import SILENT_SECONDS, alerts
from edvit_tf.device.errors import AddressError
from edvit_tf.device.rpc import tls
from edvit_tf.device.rpc.ports import bracketed, split_address
from edvit_tf.errors import ConfigError, RequestFailed
from edvit_tf.operate.hub_form import is_health, is_state
from edvit_tf.operate.status_text import cut, shown

_WORDS = 300  # characters of another side's words that are shown
_MOST_BYTES = 8 << 20  # of a page: a fleet of a thousand devices has half a MiB
_NOTHING_LATELY = {"answered": 0, "degraded": 0, "refused": 0}


@dataclass(frozen=True)
class Hub:
    """Where an aggregator's HTTP port is, and how it is asked."""

    address: str  # HOST:PORT
    own: tls.Identity | None = None  # HTTPS, as this client; None: plain HTTP
    token: str | None = None  # of --login-token
    seconds: float = 5.0


def fleet_status(hub: Hub) -> dict[str, Any]:
    """{"hub", "serving", "submodels": {name: available}, "devices": [...], "certificate": of the
    hub or null, "alerts": [...], "bundle", "minutes", "less": why the last two are null, or null}.

    Raises RequestFailed if no aggregator answers there, ConfigError for a wrong address.
    """
    host, port = _checked(hub.address)
    status, said = _get(hub, host, port, "/live/state")
    if status == 200:
        if not is_state(said):
            raise _no_hub(hub)
        return _told(hub, said["fleet"], said["about"], said.get("minutes"), None)

    # who may not look at inputs and answers may see this
    less = "it has no live page"
    if status in (401, 403):
        less = _words(said.strip() if isinstance(said, str) else f"HTTP {status}")
    status, said = _get(hub, host, port, "/healthz")
    if status not in (200, 503) or not is_health(said):
        raise _no_hub(hub)
    fleet = {
        "serving": said["status"] == "SERVING",
        "submodels": said["submodels"],
        "devices": [_as_in_feed(device) for device in said["devices"]],
        "certificate": said.get("certificate"),
    }
    fleet["alerts"] = alerts(fleet, _NOTHING_LATELY)
    return _told(hub, fleet, None, None, less)


def _no_hub(hub: Hub) -> RequestFailed:
    return RequestFailed(
        f"{hub.address} is no HTTP port of an aggregator. Give the address of its --metrics; a "
        "worker has a page of its own."
    )


def _words(text: str) -> str:
    """What another side said, fit for a terminal: anybody may have that port."""
    return cut(shown(text[:_WORDS]), _WORDS)


def _told(hub: Hub, fleet: dict, about: dict | None, minutes: dict | None, less: str | None):
    return {
        "hub": hub.address,
        "certificate": None,  # of a hub of an earlier version
        **fleet,
        "bundle": None if about is None else {key: about[key] for key in ("bundle", "digest")},
        "minutes": minutes,
        "less": less,
    }


def _as_in_feed(device: dict) -> dict:
    silent = (device.get("silent_seconds") or 0.0) >= SILENT_SECONDS
    state = "silent" if silent and device["state"] == "ready" else device["state"]
    return {**device, "state": state, "last_ms": None}


def _checked(address: str) -> tuple[str, int]:
    try:
        host, port = split_address(address)
    except AddressError as error:
        raise ConfigError(f"HUB: {error}") from error
    if not host or not port or "/" in host:
        raise ConfigError(
            f"HUB is {address!r}; it must be HOST:PORT of the aggregator's --metrics, without "
            "http://. Write for instance hub.local:9000."
        )
    return host, port


def _get(hub: Hub, host: str, port: int, path: str) -> tuple[int, Any]:
    """The status and the page, as JSON where it is some. Raises RequestFailed."""
    headers = {"Host": bracketed(host, port)}
    if hub.token is not None:
        headers["Authorization"] = f"Bearer {hub.token}"
    connection = _connection(hub, host, port)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read(_MOST_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise RequestFailed(_why(hub, error)) from error
    finally:
        connection.close()

    text = body.decode("utf-8", "replace")
    if "json" not in answer.headers.get("content-type", ""):
        return answer.status, text
    try:
        return answer.status, json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestFailed(f"{hub.address}{path} is no JSON ({_words(str(error))}).") from error


def _connection(hub: Hub, host: str, port: int) -> http.client.HTTPConnection:
    if hub.own is None:
        return http.client.HTTPConnection(host, port, timeout=hub.seconds)
    context = tls.client_context(hub.own)
    context.set_alpn_protocols(["http/1.1"])
    return http.client.HTTPSConnection(host, port, timeout=hub.seconds, context=context)


def _why(hub: Hub, error: Exception) -> str:
    """Why a request had no answer, with what to do."""
    reason = _words(str(error) or type(error).__name__)
    if hub.own is None and isinstance(error, http.client.HTTPException | ConnectionResetError):
        return (
            f"{hub.address} does not speak HTTP ({reason}). Give the address of the aggregator's "
            "--metrics; where it has --https, give --identity FOLDER in the place of --insecure."
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"{hub.address} shows a certificate that is refused ({_words(error.verify_message)}). "
            "Give the identity of its fleet, and the name or address that is in it."
        )
    if isinstance(error, ssl.SSLError):
        return (
            f"{hub.address} does not speak TLS ({error.reason}). Without --https on the aggregator "
            "its HTTP port takes --insecure."
        )
    return (
        f"no aggregator answers at {hub.address} ({reason}). Start it with --metrics HOST:PORT, "
        "reachable from here."
    )
