"""Servers of ours as processes of this machine: started, heard, started again after an end, and
stopped together.

A server that ends is started again at its old address, later each time. One that would meet the
same again, by its exit code, or that ended too often, ends all.
"""

import collections
import contextlib
import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edvit_tf.device.errors import permanent
from edvit_tf.errors import EXIT_CODES, ServerEnded

BACKOFF_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0)  # before each start after an end
STEADY_SECONDS = 60.0  # whoever ran for so long has its ends forgotten
DRAIN_SECONDS = 15.0  # more than a server takes to answer what it was asked
_LOOK_SECONDS = 0.1
_LAST_LINES = 12  # of a log, that are told when a server ended
_MOST_LETTERS = 300  # of a line on the terminal; the file has it whole

Told = queue.SimpleQueue  # (server, line) of each line of a log; None: somebody wants an end


@dataclass
class Server:
    """A server, and the process that it is now."""

    name: str
    # its module and arguments, listening at an address
    command: Callable[[str], list[str]]
    log_file: Path
    address: str = "127.0.0.1:0"  # a port of the kernel's choice, then that one again
    process: subprocess.Popen | None = None
    serving: dict | None = None  # its log line that says so
    due: float | None = None  # time.monotonic() of its next start
    began: float = 0.0
    ends: int = 0
    last: collections.deque = field(default_factory=lambda: collections.deque(maxlen=_LAST_LINES))
    reader: threading.Thread | None = None


def start(server: Server, told: Told) -> None:
    """Starts the server's process. Not to be called in a thread: the process would end with it."""
    command = [sys.executable, "-m", "edvit_tf.operate.child", *server.command(server.address)]
    server.process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # Ctrl-C of a terminal is for us, who stop them in their order
        start_new_session=True,
    )
    server.began = time.monotonic()
    server.due = None
    server.serving = None
    server.last.clear()
    server.reader = threading.Thread(target=_read, args=(server, server.process, told), daemon=True)
    server.reader.start()


def attend(
    servers: Sequence[Server],
    told: Told,
    tell: Callable[[str], None],
    until: Callable[[], bool],
    heard: Callable[[Server, dict], None] = lambda server, event: None,
    backoff: Sequence[float] = BACKOFF_SECONDS,
) -> bool:
    """Keeps servers running and tells what they log, until `until()`; False: somebody wants an end.

    `heard` gets each line of a log that is an event. Raises ServerEnded for a server that ended for
    good.
    """
    while not until():
        for server in servers:
            _look_after(server, told, tell, backoff)

        try:
            item = told.get(timeout=_LOOK_SECONDS)
        except queue.Empty:
            continue
        if item is None:
            return False
        _hear(*item, tell, heard)
    return True


def stop(servers: Sequence[Server]) -> None:
    """Ends each, one after the other, with what it was asked before; kills what does not end."""
    try:
        for server in servers:
            if server.process is not None:
                server.process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.process.wait(DRAIN_SECONDS)
    finally:
        running = [server for server in servers if server.process is not None]
        for server in running:
            server.process.kill()
        for server in running:
            server.process.wait()
            # its last lines come into the file
            server.reader.join(1.0)
            server.process.stdin.close()


@contextlib.contextmanager
def signals_told(told: Told) -> Iterator[None]:
    """Within the block SIGINT, SIGTERM and the end of a terminal put None into `told`; a second one
    of them raises KeyboardInterrupt.
    """
    count = 0

    def put(*_) -> None:
        nonlocal count
        count += 1
        if count > 1:
            raise KeyboardInterrupt
        told.put(None)

    # SIGHUP is not on every system, and nohup has it ignored
    numbers = [signal.SIGINT, signal.SIGTERM]
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:
        numbers.append(hang_up)

    before = {number: signal.signal(number, put) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _read(server: Server, process: subprocess.Popen, told: Told) -> None:
    """The thread of a process: its lines, into the file and to us."""
    for line in process.stdout:
        # a full disk must not stop the server, which would wait for a reader
        with contextlib.suppress(OSError), open(server.log_file, "ab") as file:
            file.write(line)
        text = line.decode("utf-8", "replace").rstrip()
        server.last.append(text)
        told.put((server, text))
    process.stdout.close()


def _look_after(server: Server, told: Told, tell: Callable, backoff: Sequence[float]) -> None:
    now = time.monotonic()
    if server.due is not None:
        if now >= server.due:
            start(server, told)
        return
    if server.process is None or server.process.poll() is None:
        return

    code = server.process.returncode
    server.reader.join(1.0)
    server.process.stdin.close()
    if now - server.began > STEADY_SECONDS:
        server.ends = 0
    server.ends += 1

    if code in permanent(EXIT_CODES) or server.ends > len(backoff):
        raise ServerEnded(server.name, code, _why(server, code))
    wait = backoff[server.ends - 1]
    tell(
        f"{server.name} ended with {_shown(code)}; it is started again in {wait:g} s "
        f"({server.ends} of {len(backoff)})"
    )
    server.due = now + wait


def _why(server: Server, code: int) -> str:
    """What is known of an end for good."""
    lines = "".join(f"\n  {line}" for line in server.last)
    ended = f"its log ends with{lines}\n" if lines else ""
    if code in permanent(EXIT_CODES):
        advice = "It would meet the same again: mend that, then start anew."
    else:
        advice = f"It was started {server.ends} times."
    return f"{ended}{advice} All of its log: {server.log_file}"


def _shown(code: int) -> str:
    """An exit code, or the name of the signal that ended a process."""
    try:
        return signal.Signals(-code).name if code < 0 else str(code)
    except ValueError:
        return str(code)


def _hear(server: Server, text: str, tell: Callable, heard: Callable) -> None:
    """A line of a log: told, and where it says that the server serves, kept."""
    event = _event(text)
    tell(f"{server.name} | {text if event is None else _readable(event)}")
    if event is None:
        return

    if event.get("event") == "serving":
        server.serving = event
        server.address = str(event["address"])
    heard(server, event)


def _event(text: str) -> dict[str, Any] | None:
    """The line as `jsonlog` wrote it; None for one of a library."""
    try:
        event = json.loads(text)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def _readable(event: dict[str, Any]) -> str:
    """A line of a log for people: the event, then its fields; when it was is in the file."""
    words = [str(event.get("event", ""))]
    if event.get("level") not in (None, "info"):
        words.insert(0, f"{event['level']}:")
    for name, value in event.items():
        if name not in ("event", "level", "time"):
            words.append(f"{name}={value}")
    line = " ".join(words)
    return line if len(line) <= _MOST_LETTERS else f"{line[:_MOST_LETTERS]} ..."
