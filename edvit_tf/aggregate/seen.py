"""What an aggregator has answered lately, for its page: noted by the loop that answers, read by
another thread.

Noting an answer appends one tuple to a queue that never grows beyond `MOST_NOTED`; everything else
is the reader's work, so that no page makes an answer wait.
"""

import collections
import itertools
import re
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from edvit_tf.device.rpc import messages, tensors

MOST_NOTED = 4096  # answers that nobody has read yet
# Parameter of a request: a small picture, or a waveform, that the client lets the page show.
PREVIEW = "preview"
MOST_PREVIEW = 12_000  # characters
# whole groups of four: a browser decodes nothing else
_BASE64 = "(?=.)(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_PREVIEW = re.compile(f"data:image/(png|jpeg|webp);base64,{_BASE64}|wave:{_BASE64}")


class Answer(NamedTuple):
    """One answer."""

    number: int  # since the start
    at: float  # Unix time
    label: int  # its class
    probabilities: np.ndarray  # (classes,)
    total_ms: float
    missing: Mapping[str, str]  # sub-models without an answer, and why
    devices: Mapping[
        str, tuple[str, float]
    ]  # by sub-model: its device, milliseconds there and back
    preview: str
    labels: Sequence[str]  # of the bundle that answered: another may be served by now


class Seen:
    """The answers that are not read yet. `note` is for one thread, `take` for another."""

    def __init__(self) -> None:
        self._noted: collections.deque[Answer] = collections.deque(maxlen=MOST_NOTED)
        self._numbers = itertools.count(1)

    def note(
        self,
        probabilities: np.ndarray,
        total_ms: float,
        missing: Mapping[str, str],
        devices: Mapping[str, tuple[str, float]],
        preview: str,
        labels: Sequence[str],
    ) -> None:
        """`probabilities` (1, classes)."""
        one = probabilities[0]
        self._noted.append(
            Answer(
                next(self._numbers),
                time.time(),
                int(one.argmax()),
                one,
                total_ms,
                missing,
                devices,
                preview,
                labels,
            )
        )

    def take(self) -> list[Answer]:
        """All that were noted since the last time."""
        taken = []
        while self._noted:
            taken.append(self._noted.popleft())
        return taken


def preview_of(request) -> str:
    """What a request lets the page show of its input; "" for nothing. Raises WireError."""
    if PREVIEW not in request.parameters:  # reading a map's entry would make one
        return ""
    given = tensors.parameters(request).get(PREVIEW)
    if not isinstance(given, str) or len(given) > MOST_PREVIEW or not _PREVIEW.fullmatch(given):
        raise messages.wrong(
            f"parameter '{PREVIEW}'",
            f"{str(given)[:40]!r} of {len(str(given))} characters",
            f"at most {MOST_PREVIEW} of data:image/jpeg;base64,... (or png, webp), or wave:BASE64",
        )
    return given
