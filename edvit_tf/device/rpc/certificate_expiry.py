"""When this machine's certificate ends, for those who must issue the next one in time: log,
metrics, /healthz, --check.

The one counts that is presented: a server takes a new file within seconds (`reload.py`).
"""

import asyncio
import datetime
import time

from edvit_tf.device.rpc import tls
from edvit_tf.device.rpc.jsonlog import log

WARN_DAYS = 30
_DAY_SECONDS = 86_400.0
_REMIND_SECONDS = _DAY_SECONDS
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
