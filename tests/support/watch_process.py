"""A real `edvit watch` for tests: its process, its events, its end."""

import contextlib
import json
import signal
import sys
from pathlib import Path

import numpy as np

from tests.support.commands import ROOT
from tests.support.forked import DEVICE, Forked
from tests.support.worker_process import wait_for

RNG = np.random.default_rng(5)
PATIENT = ("--timeout-ms", "30000")


def picture(path: Path, size: int = 16) -> Path:
    """A whole picture, which appears at once, as by a rename."""
    from PIL import Image

    new = path.with_name(f".{path.name}")
    Image.fromarray(RNG.integers(0, 256, (size, size), np.uint8)).save(new, "PNG")
    new.replace(path)
    return path


class Watching:
    """A running `edvit watch --json`."""

    def __init__(self, folder: Path, *arguments: str | Path, **options) -> None:
        self.out, self.err = folder / "watch.out", folder / "watch.err"
        command = [sys.executable, "-m", "edvit_tf.cli", "watch", *map(str, arguments), *PATIENT]
        command.append("--json")
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = Forked(
                command, modules=DEVICE, cwd=ROOT, **{"stdout": out, "stderr": err, **options}
            )

    def events(self, kind: str) -> list[dict]:
        lines = self.out.read_text().splitlines(keepends=True)
        told = [json.loads(line) for line in lines if line.endswith("\n")]
        return [event for event in told if event["event"] == kind]

    def wait(self, kind: str, count: int) -> list[dict]:
        """The events of a kind once there are so many."""

        def enough():
            found = self.events(kind)
            assert len(found) >= count or self.process.poll() is None, self.err.read_text()
            return found if len(found) >= count else None

        return wait_for(enough, 60)

    def end(self, number: int = signal.SIGTERM) -> dict:
        """Its summary, once it has ended well by a signal."""
        self.process.send_signal(number)
        assert self.process.wait(60) == 0, self.err.read_text()
        return self.events("summary")[0]


@contextlib.contextmanager
def watching(folder: Path, *arguments: str | Path, **options):
    one = Watching(folder, *arguments, **options)
    try:
        one.wait("watching", 1)
        yield one
    finally:
        one.process.kill()
        one.process.wait()
