"""Small pieces of work, as an engine calls them: of files, of words, of errors and of deaths."""

import os
import signal
import sys
import time
from pathlib import Path

from edvit_tf.cluster.piece import blas_threads
from edvit_tf.errors import FlavourError, TrainingError
from edvit_tf.progress import tell, warn

HERE = __name__


def join(read: Path, write: Path, *, names: list[str]) -> dict:
    """Joins files of the folder into one."""
    (write / "joined").write_bytes(b"".join((read / name).read_bytes() for name in names))
    return {"read": str(read), "threads": os.environ["TF_NUM_INTRAOP_THREADS"]}


def count_threads(read: Path, write: Path) -> dict:
    """Of linear algebra, while a piece is at work."""
    return {"blas": blas_threads()}


def speak(read: Path, write: Path) -> dict:
    tell("told", "epoch", title="a", epoch=1, epochs=1, loss=float("nan"), accuracy=1.0, seconds=1)
    warn("odd")
    print("printed")
    print("muttered", file=sys.stderr)
    return {}


def go_astray(read: Path, write: Path) -> dict:
    raise TrainingError(f"the loss is no number, in {read}")


def lose_a_flavour(read: Path, write: Path) -> dict:
    raise FlavourError("int8", "It does not run.")


def have_a_fault(read: Path, write: Path) -> dict:
    raise ZeroDivisionError("a fault of ours")


def die_once(read: Path, write: Path) -> dict:
    """Is killed where it is begun first, and says the second time by which process it is done."""
    mark = read / "died"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {}


def die(read: Path, write: Path) -> dict:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def wait_for(read: Path, write: Path, *, until: str) -> dict:
    """Goes on until a file is there; leaves one that says who waits."""
    (read / f"waiting-{until}").write_text(str(os.getpid()))
    while not (read / until).exists():
        time.sleep(0.01)
    return {"process": os.getpid()}
