"""Whether traces are wanted, where spans go and how many may wait: --traces, and those of
OpenTelemetry's variables that its library leaves to the program.
"""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from edvit_tf.errors import ConfigError

_PATH = "/v1/traces"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_EXPORTERS = {"otlp", "otlp_proto_http"}


def checked_url(url: str) -> str:
    """Where spans are posted to, of a collector's address. Raises ConfigError."""
    # not shown: what stands there is a secret, as a rule
    if any(sign in url for sign in "@?#"):
        raise ConfigError(
            "--traces has a login, a query or a fragment, which every list of processes shows. "
            "Give the address alone, e.g. http://collector.local:4318, and the rest as the "
            "variable OTEL_EXPORTER_OTLP_HEADERS, e.g. 'authorization=Basic%20bWU6c2VjcmV0'."
        )
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
        is_address = is_address and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or not url.isprintable() or re.search(r"\s", url):
        raise ConfigError(
            f"--traces is {url!r}; it must be the address of a collector that speaks OTLP over "
            "HTTP, e.g. http://collector.local:4318."
        )
    return url if parts.path.rstrip("/") else f"{url.rstrip('/')}{_PATH}"


def names_a_collector(environment: Mapping[str, str]) -> bool:
    return any(environment.get(name) for name in _ENDPOINTS)


def why_not(environment: Mapping[str, str], is_option: bool) -> str | None:
    """Why there are no traces though a collector is named, by the variables alone or by an option,
    which says how spans are sent; None where nothing is against it.
    """
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return "OTEL_SDK_DISABLED is true"
    if is_option:
        return None

    exporters = environment.get("OTEL_TRACES_EXPORTER", "").strip()
    if exporters and _EXPORTERS.isdisjoint(word.strip() for word in exporters.split(",")):
        return f"OTEL_TRACES_EXPORTER is {exporters!r}"
    for name in _PROTOCOLS:
        protocol = environment.get(name, "").strip()
        if protocol:  # the first one counts
            why = f"{name} is {protocol!r}; spans are sent by {_PROTOCOL} alone"
            return None if protocol == _PROTOCOL else why
    return None


def sizes(environment: Mapping[str, str]) -> tuple[int, int]:
    """(spans that may wait, how many of them are sent at once). Raises ValueError."""
    most = _number(environment, "OTEL_BSP_MAX_QUEUE_SIZE", 2048)
    batch = _number(environment, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)
    # the library refuses a batch that never comes together
    return most, min(batch, most)


def _number(environment: Mapping[str, str], name: str, usual: int) -> int:
    text = environment.get(name, "").strip() or str(usual)
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:10]) < 10**9):
        raise ValueError(f"{name} is {text!r}; it must be a whole number from 1 on")
    return int(text)
