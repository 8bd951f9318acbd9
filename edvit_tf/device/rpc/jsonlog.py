"""The log of a server: one JSON object a line on standard error, so that journald, jq and log
collectors can read it.

Lines that start otherwise come from the TFLite runtime or from gRPC's core, which write there as
well.
"""

import contextlib
import datetime
import json
import sys
import threading
import time

_QUIET_SECONDS = 10.0
_lock = threading.Lock()
_last: dict[str, float] = {}
_held: dict[str, int] = {}


def log(event: str, level: str = "info", **fields) -> None:
    """Writes {"time": UTC, "level", "event", ...fields}."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    line = json.dumps({"time": now, "level": level, "event": event, **fields}, default=str)
    # a full disk or a reader that has gone must not stop the answers
    with _lock, contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def log_seldom(event: str, key: str, **fields) -> None:
    """As `log`, at level warning, but one line in 10 s for a key; `suppressed` counts those that
    were left out.

    A peer that sends nonsense must not be able to fill the card: metrics count every request.
    """
    now = time.monotonic()
    with _lock:
        if now - _last.get(key, -_QUIET_SECONDS) < _QUIET_SECONDS:
            _held[key] = _held.get(key, 0) + 1
            return

        _last[key] = now
        suppressed = _held.pop(key, 0)

    log(event, "warning", suppressed=suppressed, **fields)
