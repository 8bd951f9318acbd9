"""What a source gives: one frame, window or file, and what is called a source."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

Value = np.ndarray | bytes  # an input (1, H, W, C), or an encoded file


@dataclass(frozen=True)
class Item:
    """One frame, window or file.

    `values()` makes what the hub is asked for, once it is this one's turn: most frames of a fast
    camera are never asked for. Several values are windows of one recording: the mean counts. What a
    value is, source and fleet agree on: a `Value`, or one for each sub-model.
    """

    name: str  # "frame 12", "3.500 s", "door.jpg"
    values: Callable[[], Sequence[Any]]
    fields: dict[str, Any] = field(default_factory=dict)  # of its answer, for programs


class Source(Protocol):
    """Gives items until it ends, or is told to stop."""

    unit: str  # of what it gives, "frames"
    # Nothing is lost at the source: it waits for the fleet, and asks again where that was away.
    keeps: bool

    @property
    def lost(self) -> int:
        """Times that its device dropped something before we had it."""

    def run(
        self, give: Callable[[Item], bool], stop: threading.Event, say: Callable[[str], None]
    ) -> None:
        """Calls `give` for each item until that is False; `say` takes a line for people.

        Raises EdvitError where there is no such source, or nothing more can come from it.
        """


class Fleet(Protocol):
    """Answers items; threads may ask at the same time."""

    def ask(self, values: Sequence[Any], say: Callable[[str], None]) -> dict[str, Any]:
        """ "label", "probability", "probabilities", "labels", "windows" and "parameters".

        Raises RequestFailed.
        """

    def is_ready(self) -> bool:
        """Whether it would answer what its devices can answer."""

    def close(self) -> None:
        """Ends the connections; whoever waits for an answer gets RequestFailed."""
