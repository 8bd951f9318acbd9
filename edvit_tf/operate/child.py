"""A module as `python -m` runs it, in a process that ends with whoever started it:

    python -m edvit_tf.operate.child MODULE ARGUMENT...

Whoever starts it holds the other end of its standard input. That end closes with him, however he
ends, and this process is killed then: nobody is left to stop it.
"""

import ctypes
import os
import runpy
import signal
import sys
import threading

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Runs the module that is named, as its own command line would."""
    _end_with_the_parent()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _end_with_the_parent() -> None:
    threading.Thread(target=_watch, name="parent", daemon=True).start()

    # The kernel does it too, on Linux: a model that holds Python's lock would stop the thread.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _watch() -> None:
    """The thread: nothing is ever written to this pipe, so a read ends when it is closed."""
    os.read(0, 1)
    # what SIGKILL would say, where there is one
    os._exit(128 + 9)


if __name__ == "__main__":
    main()
