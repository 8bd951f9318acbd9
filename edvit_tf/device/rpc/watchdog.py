"""What happens when a model never comes back: an invoke cannot be stopped from outside, so the
process ends.

Both runtimes let go of Python's global lock during an invoke, so a thread sees a stuck one, says so
and exits with DeviceExit.STUCK. Should something hold the lock itself, no Python runs: then
faulthandler's timer, a thread without Python that this one winds up again at each look, writes the
stacks and ends the process with code 1.

Looks are counted, not seconds, so that a process that was stopped and goes on (SIGSTOP, a frozen
control group) is not taken for stuck; the timer alone minds a stop of more than _TIMER times
`stuck_seconds`.
"""

import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection

from edvit_tf.device.errors import DeviceExit
from edvit_tf.device.rpc.executor import Executor
from edvit_tf.device.rpc.jsonlog import flush, log

_LOOKS = 4  # within `stuck_seconds`
_TIMER = 6


def watch(
    executors: Collection[Executor], stuck_seconds: float, on_stuck: Callable[[str, str], None]
) -> Callable[[], None]:
    """Starts the watch; returns what ends it. `on_stuck(name, stacks)` is called once, in the
    watching thread. `executors` may change meanwhile.
    """
    ended = threading.Event()

    def wind_up() -> None:
        faulthandler.dump_traceback_later(_TIMER * stuck_seconds, exit=True)

    def look() -> None:
        turns = {executor: executor.turns for executor in list(executors)}
        looks = dict.fromkeys(turns, 0)  # that found the same work running
        while not ended.wait(stuck_seconds / _LOOKS):
            wind_up()
            for executor in list(executors):
                now = executor.turns
                # odd: it is running; the same number as before: the same work
                same = now == turns.get(executor) and now % 2 == 1
                turns[executor] = now
                looks[executor] = looks.get(executor, 0) + 1 if same else 0
                if looks[executor] > _LOOKS:
                    on_stuck(executor.name, _stacks())
                    return

    def end() -> None:
        ended.set()
        faulthandler.cancel_dump_traceback_later()

    wind_up()  # now: the first request may come, and hang, before the first look
    threading.Thread(target=look, name="watchdog", daemon=True).start()

    return end


def leave(name: str, stacks: str, tell: Callable[[], None]) -> None:
    """Ends the process for a stuck model, from the watching thread; `tell` makes the health
    NOT_SERVING before.
    """
    tell()
    log("stuck", "critical", model=name, exit_code=DeviceExit.STUCK, stacks=stacks)
    time.sleep(0.5)  # for those who watch the health to hear of it
    flush()
    os._exit(DeviceExit.STUCK)


def _stacks() -> str:
    """What each thread is doing."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    texts = []
    for ident, frame in sys._current_frames().items():
        stack = "".join(traceback.format_stack(frame))
        texts.append(f"{names.get(ident, ident)}:\n{stack}")

    return "\n".join(texts)
