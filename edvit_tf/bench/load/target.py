"""Whom a load is sent to, and what: an aggregator over a few connections, and inputs that it has
answered once.
"""

from collections.abc import Sequence
from types import TracebackType

import grpc
import numpy as np

from edvit_tf.aggregate.channel import OPTIONS
from edvit_tf.aggregate.client import Client
from edvit_tf.aggregate.service import MODEL
from edvit_tf.bench.load.drive import DEGRADED, OK
from edvit_tf.device.model.text import TextSpec
from edvit_tf.device.rpc import messages, tensors, tls
from edvit_tf.errors import ConfigError, RequestFailed

MOST_INPUT_BYTES = 256 << 20  # of all files, which are held
_MADE_TEXT = b"a text of a few words, made to measure how long an answer takes"
_MADE_VALUES = 255  # a picture's, and as ids of words such as every vocabulary has


def made_input(client: Client, seed: int) -> np.ndarray | bytes:
    """An input such as the aggregator's model takes, drawn."""
    if client.input.name == TextSpec.name:
        return _MADE_TEXT
    dtype = tensors.DTYPES[client.input.datatype]
    drawn = np.random.default_rng(seed).integers(0, _MADE_VALUES, tuple(client.input.shape))
    return drawn.astype(dtype)


def requests(client: Client, inputs: Sequence[np.ndarray | bytes]) -> list[bytes]:
    """The requests of these inputs, serialised, each of which was answered once. Raises
    RequestFailed where one is not: refusals would be measured in the place of answers.
    """
    size = sum(len(one) if isinstance(one, bytes) else one.nbytes for one in inputs)
    if size > MOST_INPUT_BYTES:
        raise ConfigError(
            f"the inputs have {size >> 20} MiB; they are held, {MOST_INPUT_BYTES >> 20} MiB at "
            "most. Give fewer files."
        )

    found = []
    for place, value in enumerate(inputs):
        try:
            client.ask(value)
        except RequestFailed as error:
            which = f"input {place} of {len(inputs)}"
            raise RequestFailed(f"{which} has no answer: {error}", error.status) from error
        found.append(tensors.infer_request(MODEL, {client.input.name: value}).SerializeToString())
    return found


class Target:
    """An aggregator, over `connections` of them in turn. Belongs to one event loop."""

    def __init__(
        self, server: str, own: tls.Identity | None, connections: int, bodies: Sequence[bytes]
    ) -> None:
        self._bodies = bodies
        # channels to one address would share a connection otherwise
        options = [*OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
        if own is None:
            made = [grpc.aio.insecure_channel(server, options) for _ in range(connections)]
        else:
            credentials = tls.channel_credentials(own)
            made = [
                grpc.aio.secure_channel(server, credentials, options) for _ in range(connections)
            ]
        self._channels = made
        self._calls = [messages.stub(channel, "ModelInfer") for channel in made]

    async def __aenter__(self) -> "Target":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for channel in self._channels:
            await channel.close()

    async def send(self, place: int, seconds: float) -> str:
        """OK, DEGRADED, or the name of the code of a request that has no answer in time."""
        body = self._bodies[place % len(self._bodies)]
        call = self._calls[place % len(self._calls)]
        try:
            answer = await call(body, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            return error.code().name

        if isinstance(answer, messages.Garbage):
            return "NO_ANSWER_OF_OURS"
        # reading a map's entry would make one
        if "degraded" in answer.parameters and answer.parameters["degraded"].bool_param:
            return DEGRADED
        return OK
