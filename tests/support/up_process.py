"""A real `edvit up` for tests: its processes, and what it told."""

import json
import sys
from pathlib import Path

from tests.support.commands import ROOT
from tests.support.forked import DEVICE, Forked
from tests.support.worker_process import wait_for


class Up:
    """A running `edvit up`, and what it told."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        self.out, self.err = folder / "up.out", folder / "up.err"
        folder.mkdir()
        command = [sys.executable, "-m", "edvit_tf.cli", "up", str(bundle), "--json"]
        command += ["--logs", str(folder / "logs")]
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = Forked(command, modules=DEVICE, cwd=ROOT, stdout=out, stderr=err)

    def told(self) -> dict:
        """Its line of JSON, once it is up."""

        def line():
            assert self.process.poll() is None, self.err.read_text()
            text = self.out.read_text()
            return json.loads(text) if text.endswith("\n") else None

        return wait_for(line, 180)  # nine processes start at once, on busy cores

    def pids(self) -> list[int]:
        told = self.told()
        return [told["aggregator_pid"], *(worker["pid"] for worker in told["workers"])]
