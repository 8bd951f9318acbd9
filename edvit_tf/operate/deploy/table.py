"""The table of `edvit deploy`: a row for each machine, a column for each step."""

import sys
import threading
import time
from collections.abc import Sequence
from typing import TextIO

from edvit_tf.operate.deploy.steps import STEPS

RUNNING, DONE, SAME, FAILED, LEFT, NONE = "...", "done", "same", "FAILED", "left", "-"
_WIDTH = 9
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"


class Table:
    """What each machine has done. Its methods may be called by several threads."""

    def __init__(self, names: Sequence[str], stream: TextIO | None = None) -> None:
        self.cells: dict[str, dict[str, str]] = {name: {} for name in names}
        self.seconds: dict[str, float] = {}  # of each step of each machine, together
        self._stream = sys.stderr if stream is None else stream
        self._redraws = self._stream.isatty()
        self._drawn = 0
        self._started: dict[str, float] = {}
        self._lock = threading.Lock()

    def begin(self, name: str, step: str) -> None:
        with self._lock:
            self._started[name] = time.monotonic()
            self.cells[name][step] = RUNNING
            self._draw()

    def end(self, name: str, step: str, cell: str) -> None:
        with self._lock:
            seconds = time.monotonic() - self._started.pop(name, time.monotonic())
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
            self.cells[name][step] = cell
            if self._redraws:
                self._draw()
            elif cell not in (SAME, NONE):
                print(f"{name}: {step} {cell} ({seconds:.1f} s)", file=self._stream, flush=True)

    def text(self) -> str:
        """The table as it is now."""
        width = max(len("machine"), *map(len, self.cells)) + 2
        lines = ["machine".ljust(width) + "".join(step.ljust(_WIDTH) for step in STEPS)]
        for name, cells in self.cells.items():
            row = "".join(cells.get(step, NONE).ljust(_WIDTH) for step in STEPS)
            lines.append(name.ljust(width) + row)
        return "\n".join(line.rstrip() for line in lines)

    def _draw(self) -> None:
        if not self._redraws:
            return
        lines = self.text().splitlines()
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        drawn = "".join(f"\x1b[2K{line}\n" for line in lines)
        # a row that wraps would take two lines of a narrow terminal, and the next redraw miss one
        self._stream.write(f"{_NO_WRAP}{up}{drawn}{_WRAP}")
        self._stream.flush()
        self._drawn = len(lines)
