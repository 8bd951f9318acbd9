"""What a server does on a signal: SIGTERM and SIGINT drain it, SIGHUP has it read its files again.

SIGHUP ends a process that does not handle it, and systemd takes that end for a wanted one: the unit
would stay down. From a terminal it means that the terminal was closed, and drains as well.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from edvit_tf.device.rpc.jsonlog import log


def while_starting() -> None:
    """Until `told_to_stop`: what drains later ends the process at once, with code 0."""
    signal.signal(signal.SIGTERM, _end)
    if _hang_up_matters():
        # no line in the log from here: a handler may interrupt the writing of another
        signal.signal(signal.SIGHUP, _end if os.isatty(0) else _ignore)


def told_to_stop(read_again: Callable[[], None] = lambda: None) -> asyncio.Event:
    """Set by SIGTERM and SIGINT, and by SIGHUP where a terminal was closed; any other SIGHUP calls
    `read_again`.
    """

    def hang_up() -> None:
        log("hangup", reason="SIGHUP: what can be read again while this server runs is")
        read_again()

    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)

    if _hang_up_matters():
        # judged now: afterwards the terminal is gone
        loop.add_signal_handler(signal.SIGHUP, told.set if os.isatty(0) else hang_up)

    return told


def _hang_up_matters() -> bool:
    """False under nohup, which has SIGHUP ignored."""
    return signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN


def _end(*_) -> NoReturn:
    sys.exit(0)


def _ignore(*_) -> None:
    pass
