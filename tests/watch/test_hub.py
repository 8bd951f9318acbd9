"""A hub that is given another bundle while several ask it."""

import json

import numpy as np
import pytest

from edvit_tf.aggregate.client import BundleChanged
from edvit_tf.device.model.image import ImageSpec
from edvit_tf.device.rpc import messages
from edvit_tf.errors import ConfigError, RequestFailed
from edvit_tf.watch import hub as module
from edvit_tf.watch.hub import Hub

SPEC = ImageSpec(8, 8, 3)


class _Server:
    """A hub whose bundle can be changed: what it says of it."""

    def __init__(self) -> None:
        self.serve(SPEC, ["cat", "dog"])
        self.before_answer = lambda: None
        self.clients: list[_Client] = []
        self.takes = object  # what an input has to be

    def serve(self, spec, labels) -> None:
        self.said = {
            messages.INPUT_SPEC: json.dumps(spec.to_dict()),
            messages.LABELS: json.dumps(labels),
        }

    def client(self, *_):
        self.clients.append(_Client(self))
        return self.clients[-1]


class _Client:
    """As the real one: of another bundle it says so, and once it is closed it may not be asked."""

    def __init__(self, server) -> None:
        self._server, self.properties = server, server.said
        self.bundle_digest = f"{len(server.clients):064d}"
        if server.clients and server.clients[-1].properties is server.said:
            self.bundle_digest = server.clients[-1].bundle_digest
        self.is_closed = False

    def ask(self, value) -> dict:
        if self.is_closed:
            raise ValueError("Cannot invoke RPC on closed channel!")
        if not isinstance(value, self._server.takes):
            raise RequestFailed("a shape that it does not take", status="INVALID_ARGUMENT")
        if self._server.said is not self.properties:
            raise BundleChanged("another bundle")
        self._server.before_answer()
        shares = np.array([0.25, 0.75])
        return {"probabilities": shares, "parameters": {"missing": "", "degraded": False}}

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def server(monkeypatch) -> _Server:
    made = _Server()
    monkeypatch.setattr(module, "Client", made.client)
    return made


def test_one_that_met_the_new_bundle_leaves_the_connection_to_the_others(server):
    hub = Hub("h:1", None, 1.0)
    words = []

    def meanwhile() -> None:  # between the two windows of one recording
        server.before_answer = lambda: None
        server.serve(SPEC, ["eel", "fox"])
        assert hub.ask([b"other"], words.append)["label"] == "fox"

    server.before_answer = meanwhile
    answer = hub.ask([b"first", b"second"], words.append)
    assert (answer["label"], answer["windows"]) == ("fox", 2)
    assert len(words) == 1 and "serves the bundle" in words[0]


def test_a_bundle_that_the_stream_does_not_suit_ends_it(server):
    hub = Hub("h:1", None, 1.0)
    hub.need(["dog"])
    with pytest.raises(ConfigError, match="--on names 'cow'; h:1 tells apart cat, dog"):
        hub.need(["cow"])
    server.serve(ImageSpec(8, 8, 1), ["cat", "dog"])
    with pytest.raises(RequestFailed, match="takes other pictures than the one before"):
        hub.ask([b"x"], print)
    server.serve(SPEC, ["eel", "fox"])
    with pytest.raises(ConfigError, match="--on names 'dog'"):
        hub.ask([b"x"], print)


def test_of_many_bundles_one_connection_is_open(server):
    hub = Hub("h:1", None, 1.0)
    for number in range(5):
        server.serve(SPEC, [f"cat {number}", f"dog {number}"])
        assert hub.ask([b"x"], lambda words: None)["label"] == f"dog {number}"
    assert [client.is_closed for client in server.clients] == [True] * 5 + [False]
    hub.close()
    assert server.clients[-1].is_closed


def test_an_array_that_the_new_bundle_does_not_take_says_that_it_is_new(server):
    hub = Hub("h:1", None, 1.0)
    server.takes = bytes
    # of the same bundle it is what it is, and the same connection goes on
    with pytest.raises(RequestFailed, match="a shape that it does not take"):
        hub.ask([1], print)
    assert [client.is_closed for client in server.clients] == [False, True]
    server.serve(ImageSpec(16, 16, 3), ["cat", "dog"])
    with pytest.raises(RequestFailed, match="another bundle now, which takes other .* Begin again"):
        hub.ask([1], print)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {messages.INPUT_SPEC: "{}", messages.LABELS: "[]"},
        {messages.INPUT_SPEC: json.dumps(SPEC.to_dict()), messages.LABELS: "[1]"},
        {messages.INPUT_SPEC: json.dumps(SPEC.to_dict()), messages.LABELS: "[" * 100_000},
    ],
)
def test_a_hub_that_does_not_say_what_it_takes_is_one_error(server, said):
    server.said = said
    with pytest.raises(RequestFailed, match="h:1 (does not say|says of its models)"):
        Hub("h:1", None, 1.0)
