"""What a server does on a signal: SIGTERM and SIGINT drain it, SIGHUP has it read its files again.

SIGHUP ends a process that does not handle it, and systemd takes that end for a wanted one: the unit
would stay down. Where it comes because the terminal was closed, it drains as well.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from edvit_tf.device.rpc.jsonlog import log

_early = False  # whether SIGHUP came while it started


def while_starting() -> None:
    """Until `told_to_stop`: what drains later ends the process at once, with code 0; what has files
    read again is remembered, for they may have been read already.
    """
    global _early
    _early = False
    closed = _closed_terminal()

    # no line in the log from here: a handler may interrupt the writing of another
    def hang_up(*_) -> None:
        global _early
        if closed():
            _end()
        _early = True

    signal.signal(signal.SIGTERM, _end)
    if _hang_up_matters():
        signal.signal(signal.SIGHUP, hang_up)


def told_to_stop(read_again: Callable[[], None] = lambda: None) -> asyncio.Event:
    """Set by SIGTERM and SIGINT, and by SIGHUP where the terminal was closed; any other SIGHUP, one
    that came early too, calls `read_again`.
    """
    global _early
    told = asyncio.Event()
    closed = _closed_terminal()

    def hang_up() -> None:
        if closed():
            told.set()
            return
        log("hangup", reason="SIGHUP: what can be read again while this server runs is")
        read_again()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)

    if _hang_up_matters():
        loop.add_signal_handler(signal.SIGHUP, hang_up)
    if _early:
        _early = False
        loop.call_soon(hang_up)

    return told


def _closed_terminal() -> Callable[[], bool]:
    """Says whether the terminal that there is now is gone: nothing is a terminal any more when it
    was hung up.
    """
    was_there = os.isatty(0)
    return lambda: was_there and not os.isatty(0)


def _hang_up_matters() -> bool:
    """False under nohup, which has SIGHUP ignored."""
    return signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN


def _end(*_) -> NoReturn:
    sys.exit(0)
