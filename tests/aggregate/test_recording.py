"""What is noted of a request, until another thread makes spans of it."""

import pytest

from edvit_tf.aggregate.recording import CANCELLED, Recording
from edvit_tf.device.rpc.traceparent import Trace


def test_nothing_changes_once_a_request_is_over():
    """Calls that are cancelled end in the loop when they come to it, maybe behind the request."""
    recording = Recording(object(), Trace("1" * 32, "2" * 16, True))
    taken = []
    with pytest.raises(ZeroDivisionError), recording.whole(taken.append):
        done = recording.call("submodel-00", "a", 1)
        done.ends(outcome="answered")
        late = recording.call("submodel-01", "b", 1)
        raise ZeroDivisionError

    assert taken == [recording] and recording.failed == "ZeroDivisionError"
    noted = late.ended, dict(late.said)
    late.ends(outcome="b deadline", more=1)
    assert (late.ended, late.said) == noted
    assert done.said["outcome"] == "answered" and late.said["outcome"] == CANCELLED
    assert done.ended <= late.ended <= recording.ended
