"""The log of a server: one JSON object a line on standard error, so that journald, jq and log
collectors can read it.

Lines that start otherwise come from the TFLite runtime or from gRPC's core, which write there as
well.

While a server serves, a thread of its own writes (`written_aside`). Standard error may stand still:
a pipe that nobody reads, a terminal that is held. Then lines are dropped and counted, and everybody
is answered as before.
"""

import collections
import contextlib
import datetime
import json
import logging
import os
import select
import sys
import threading
import time
import traceback
from collections.abc import Iterator

from edvit_tf.device.strict_json import finite_json

_QUIET_SECONDS = 10.0
# The collector may log while a line is made: of a Future whose error nobody saw, by asyncio.
_lock = threading.RLock()
_last: dict[str, float] = {}
_held: dict[str, int] = {}

_MOST_WAITING_BYTES = 256 << 10  # of lines that are not written yet: some thousand
_END_SECONDS = 1.0  # for what is left at the end
_STACK_BYTES = 256 << 10  # of the thread that writes


def log(event: str, level: str = "info", **fields) -> None:
    """Writes {"time": UTC, "level", "event", ...fields}."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    told = {"time": now, "level": level, "event": event, **finite_json(fields)}
    line = json.dumps(told, default=str)
    writer = _writer
    if writer is not None:
        writer.put(line)
        return

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


def dropped_lines() -> int:
    """How many lines of this process were not written, because standard error stood still."""
    return 0 if _writer is None else _writer.dropped


def flush(seconds: float = _END_SECONDS) -> None:
    """Waits for the lines so far to be written, for so long at most."""
    if _writer is not None:
        _writer.flush(seconds)


@contextlib.contextmanager
def written_aside() -> Iterator[None]:
    """Within the block a thread writes the lines, and Python's own log (of asyncio, of gRPC) goes
    where ours goes. What is left at the end is written for a second at most. A block within
    another one adds nothing.
    """
    global _writer
    descriptor = _descriptor()
    if _writer is not None or descriptor is None:
        yield
        return

    _writer = _Writer(descriptor)
    others = _Others()
    logging.getLogger().addHandler(others)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(others)
        _writer.flush(_END_SECONDS)
        _writer = None


def _descriptor() -> int | None:
    """That of standard error; None where there is none, or one that a test put there."""
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return None


class _Writer:
    """The lines that wait, and the thread that writes them."""

    def __init__(self, descriptor: int) -> None:
        self.dropped = 0
        self._told = 0  # of those that were dropped
        self._descriptor = descriptor
        self._lines: collections.deque[bytes] = collections.deque()
        self._waiting_bytes = 0  # with those of the line that is being written
        self._changed = threading.Condition()
        # of 256 KiB, not 8 MiB, which count where a limit leaves little for the models
        usual = threading.stack_size(_STACK_BYTES)
        try:
            # a daemon, because one that stands still must not hold exit
            threading.Thread(target=self._write, name="log", daemon=True).start()
        finally:
            threading.stack_size(usual)

    def put(self, line: str) -> None:
        data = line.encode() + b"\n"
        with self._changed:
            if self._waiting_bytes + len(data) > _MOST_WAITING_BYTES:
                self.dropped += 1
                return

            # said where they are missing
            if self.dropped > self._told:
                self._append(_dropped_line(self.dropped - self._told))
                self._told = self.dropped
            self._append(data)
            self._changed.notify_all()

    def _append(self, data: bytes) -> None:
        size = len(data)  # first, so that nothing comes between reading the sum and setting it
        self._lines.append(data)
        self._waiting_bytes += size

    def flush(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting_bytes, seconds)

    def _write(self) -> None:
        """The thread."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                data = self._lines.popleft()

            # a full disk or a reader that has gone must not stop the answers
            with contextlib.suppress(OSError):
                _write_all(self._descriptor, data)
            size = len(data)
            with self._changed:
                self._waiting_bytes -= size
                self._changed.notify_all()


def _write_all(descriptor: int, data: bytes) -> None:
    """Writes to the end, however long that takes. Not by `sys.stderr`: its lock would be held."""
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:  # it is set not to block, by whoever shares it
            select.select([], [descriptor], [])


def _dropped_line(count: int) -> bytes:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    said = {"time": now, "level": "warning", "event": "dropped", "lines": count}
    reason = "standard error stood still; look at who reads it"
    return json.dumps({**said, "reason": reason}).encode() + b"\n"


class _Others(logging.Handler):
    """Python's own log, which would write to standard error itself, and wait for it."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += "\n" + "".join(traceback.format_exception(record.exc_info[1]))
        log_seldom("library", f"{record.name} {record.levelname}", name=record.name, detail=text)


_writer: _Writer | None = None
