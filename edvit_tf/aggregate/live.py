"""A stream of inputs that goes on where one has no answer: a device or the aggregator restarts
under a microphone, and the next window is answered again.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from edvit_tf.aggregate.client import Client
from edvit_tf.errors import RequestFailed

# The fleet is busy, or parts of it are away; other refusals would meet every input.
PASSING = (
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "INTERNAL",
    "UNKNOWN",
    "CANCELLED",
)


class LiveStream:
    """The answers to a stream of inputs, and what had none."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._missed = 0  # in a row, by now
        self._last: RequestFailed | None = None  # of these

    def answers(self, inputs: Iterable[tuple[dict[str, Any], np.ndarray]]) -> Iterator[dict | str]:
        """For each (fields, input) the fields with the answer beside them, or nothing; between
        them a line for people when inputs begin to have no answer, and when they have one again.

        Raises RequestFailed for what would meet every input, and at the end where the last input
        had no answer.
        """
        for fields, value in inputs:
            try:
                answer = self._client.ask(value)
            except RequestFailed as error:
                if error.status not in PASSING:
                    raise
                # once, and not for each input: a restart takes many
                if self._missed == 0:
                    yield f"{fields['file']} has no answer, going on: {error}"
                self._missed += 1
                self._last = error
                continue

            if self._missed:
                yield f"{fields['file']} is answered again; {self._missed} before it were not."
                self._missed = 0
            yield {**fields, **answer}

        if self._missed and self._last is not None:
            raise RequestFailed(
                f"the last {self._missed} of the stream had no answer: {self._last}",
                self._last.status,
            )
