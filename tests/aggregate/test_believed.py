"""What an aggregator believes of a device, and a relay of who asks it: by their certificates."""

from types import SimpleNamespace

import numpy as np
import pytest

from edvit_tf.aggregate.probe import Probe
from edvit_tf.aggregate.relay_service import RelayService
from edvit_tf.device.rpc import messages, tensors
from edvit_tf.device.rpc.below import said
from edvit_tf.device.rpc.callers import CLIENT, Caller

IMAGE = np.zeros((1, 2), np.uint8)


@pytest.mark.parametrize("role, believed", [("worker", False), ("relay", True), (None, True)])
def test_a_worker_that_calls_itself_a_relay_is_a_worker(role, believed):
    """A relay is not blamed for what its devices answer; in plaintext there are no roles."""
    probe = Probe(None, "d", None, None, {}, None, lambda: None, lambda below: None)
    probe.role = role
    assert probe._noted("a", {"bundle_digest": "d", **said({"pi-0": "01"})}, ()) is None
    assert (probe.below is not None) == believed


@pytest.mark.parametrize(
    "role, named, hasty, expected",
    [
        ("client", True, False, True),
        ("client", True, True, True),
        ("client", False, False, True),
        ("aggregator", True, False, False),
        ("aggregator", True, True, True),
        ("relay", True, False, False),
        ("aggregator", False, False, True),
    ],
)
def test_a_client_s_short_deadline_is_its_own_whatever_it_says(role, named, hasty, expected):
    """By its time alone: else it could have devices left alone by deadlines that nobody can meet.
    Those who ask for others say it.
    """
    parameters = {CLIENT: "client/bob 7"} if named else {}
    if hasty:
        parameters[messages.HASTY] = True
    request = tensors.infer_request("a", {"image": IMAGE}, parameters=parameters)

    fanout = SimpleNamespace(is_hasty=lambda until: True, new_id=lambda: (0, "0"))
    spec = SimpleNamespace(why_not=lambda value: None)
    model_input = SimpleNamespace(name="image", shape=(1, 2), dtype=IMAGE.dtype, spec=spec)
    service = SimpleNamespace(fanout=fanout, model_input=model_input)
    caller = Caller(role, f"{role}/one", "1")
    assert RelayService._passed(service, request, caller, 0.0).hasty == expected
