"""What a server does on a signal: SIGTERM and SIGINT drain it, SIGHUP does nothing.

SIGHUP ends a process that does not handle it, and systemd takes that end for a wanted one: the unit
would stay down. Yet people send it to servers for other reasons (rotated logs, new settings), so it
is written to the log and no more. From a terminal it means that the terminal was closed, and drains
as well.
"""

import asyncio
import os
import signal
import sys
from typing import NoReturn

from edvit_tf.device.rpc.jsonlog import log


def while_starting() -> None:
    """Until `told_to_stop`: what drains later ends the process at once, with code 0."""
    signal.signal(signal.SIGTERM, _end)
    if _hang_up_matters():
        # no line in the log from here: a handler may interrupt the writing of another
        signal.signal(signal.SIGHUP, _end if os.isatty(0) else _ignore)


def told_to_stop() -> asyncio.Event:
    """Set by SIGTERM and SIGINT, and by SIGHUP where a terminal was closed."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)

    if _hang_up_matters():
        # judged now: afterwards the terminal is gone
        loop.add_signal_handler(signal.SIGHUP, told.set if os.isatty(0) else _say_it_is_ignored)

    return told


def _hang_up_matters() -> bool:
    """False under nohup, which has SIGHUP ignored."""
    return signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN


def _end(*_) -> NoReturn:
    sys.exit(0)


def _ignore(*_) -> None:
    pass


def _say_it_is_ignored() -> None:
    log(
        "hangup",
        "warning",
        reason="SIGHUP is not for this server; it goes on as before",
        advice="restart it for a new certificate or a new bundle; SIGTERM ends it",
    )
