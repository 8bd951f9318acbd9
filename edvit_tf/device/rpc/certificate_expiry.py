"""When this machine's certificate ends, for those who must issue the next one in time: log,
metrics, /healthz, --check, and the aggregator, which tells of its devices' too.

The one counts that is presented: a server takes a new file within seconds (`reload.py`).
"""

import asyncio
import datetime
import time
from collections.abc import Mapping
from typing import Any

from edvit_tf.device.rpc import tls
from edvit_tf.device.rpc.jsonlog import log

WARN_DAYS = 30
PROPERTY = "certificate_ends"  # of a worker's models: Unix time
_DAY_SECONDS = 86_400.0
_REMIND_SECONDS = _DAY_SECONDS
_LATEST = 32_503_680_000.0  # the year 3000: what a device may say of itself
_DIGITS = 16
_ADVICE = "issue it again (edvit certs issue), copy it here"


def state(ends: float | None) -> dict | None:
    """{"ends": UTC in ISO 8601, "days_left": to one decimal, below 0 when it is over, "expiring":
    bool}, or None.
    """
    if ends is None:
        return None
    days = (ends - time.time()) / _DAY_SECONDS
    return {
        "ends": datetime.datetime.fromtimestamp(ends, datetime.UTC).isoformat(),
        "days_left": round(days, 1),
        "expiring": days < WARN_DAYS,
    }


def said(ends: float | None) -> dict[str, str]:
    """The property that tells an aggregator of it; none in plaintext."""
    return {} if ends is None else {PROPERTY: f"{ends:.0f}"}


def heard(properties: Mapping[str, str]) -> float | None:
    """The Unix time that properties tell of; None for what is none: a device may send anything."""
    try:
        ends = float(properties.get(PROPERTY, "")[:_DIGITS])
    except ValueError:
        return None
    return ends if 0.0 < ends < _LATEST else None


def words(certificate: Mapping[str, Any] | None, whose: str) -> list[str]:
    """What somebody should know of a `state` of a certificate, if there is anything."""
    if certificate is None or not certificate["expiring"]:
        return []
    days = certificate["days_left"]
    when = f"ended {-days:.1f} days ago" if days < 0 else f"ends in {days:.1f} days"
    return [f"The certificate of {whose} {when}: edvit certs issue."]


async def remind(own: tls.Identity | None, ends: float | None) -> None:
    """Logs at once what is wrong with the certificate, and then once a day if few days are left, or
    none.

    At once also that this machine's clock and its certificate do not agree: the clock may be what
    is wrong. Never ends.
    """
    reason = None if own is None else tls.doubts(own)
    if own is not None and reason is not None:
        log(
            "certificate",
            "error",
            file=str(own.cert),
            reason=reason,
            advice=f"set this machine's clock (timedatectl), or {_ADVICE}",
        )
    else:
        _log_days(own, ends)

    while True:
        await asyncio.sleep(_REMIND_SECONDS)
        _log_days(own, ends)


def _log_days(own: tls.Identity | None, ends: float | None) -> None:
    """Nothing where there is no certificate, or time enough."""
    now = state(ends)
    if own is None or ends is None or now is None or not now["expiring"]:
        return
    over = ends <= time.time()
    log(
        "certificate",
        "error" if over else "warning",
        file=str(own.cert),
        ends=now["ends"],
        days_left=now["days_left"],
        advice=_ADVICE,
        reason=(
            "certificate has expired" if over else f"certificate ends in less than {WARN_DAYS} days"
        ),
    )
