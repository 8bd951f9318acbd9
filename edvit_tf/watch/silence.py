"""Nothing but zeros for seconds is no quiet room."""

from collections.abc import Callable

import numpy as np

_SECONDS = 5.0


class Silence:
    """Windows of nothing but zeros, in a row: said once, and once when it is over."""

    def __init__(self, name: str, hop_seconds: float) -> None:
        self._name = name
        self._enough = max(1, round(_SECONDS / hop_seconds))
        self._windows = 0

    def heard(self, samples: np.ndarray, say: Callable[[str], None]) -> None:
        """The next window (n,)."""
        if not samples.any():
            self._windows += 1
            if self._windows == self._enough:
                say(f"{self._name} gives nothing but zeros: is it muted? Going on.")
            return
        if self._windows >= self._enough:
            say(f"{self._name} gives sound again.")
        self._windows = 0
