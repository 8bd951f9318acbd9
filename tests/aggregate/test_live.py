"""A stream of inputs goes on where one has no answer."""

import numpy as np
import pytest

from edvit_tf.aggregate.live import LiveStream
from edvit_tf.errors import RequestFailed


class _Client:
    """Answers as the list says: a status' name is a refusal."""

    def __init__(self, ends: list[str]) -> None:
        self._ends = iter(ends)

    def ask(self, value):
        end = next(self._ends)
        if end != "OK":
            raise RequestFailed(f"it answered {end}", end)
        return {"label": "yes"}


def _told(ends: list[str]) -> tuple[list, str]:
    """(what the stream gave, the words of its end)."""
    inputs = [({"file": f"{place} s"}, np.zeros(1)) for place in range(len(ends))]
    given = []
    try:
        for answer in LiveStream(_Client(ends)).answers(inputs):
            given.append(answer if isinstance(answer, str) else answer["file"])
    except RequestFailed as error:
        return given, f"{error.exit_code} {error}"

    return given, "0"


@pytest.mark.parametrize("status", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"])
def test_a_restart_is_told_once_and_the_stream_goes_on(status):
    assert _told(["OK", status, status, status, "OK", "OK"]) == (
        [
            "0 s",
            f"1 s has no answer, going on: it answered {status}",
            "4 s is answered again; 3 before it were not.",
            "4 s",
            "5 s",
        ],
        "0",
    )


def test_a_stream_whose_end_has_no_answer_says_so_at_the_end():
    given, end = _told(["OK", "UNAVAILABLE", "UNAVAILABLE"])
    assert given[0] == "0 s" and len(given) == 2
    assert end == "19 the last 2 of the stream had no answer: it answered UNAVAILABLE"


@pytest.mark.parametrize("status", ["INVALID_ARGUMENT", "UNAUTHENTICATED", ""])
def test_what_would_meet_every_input_ends_it_at_once(status):
    assert _told(["OK", status, "OK"]) == (["0 s"], f"19 it answered {status}")
