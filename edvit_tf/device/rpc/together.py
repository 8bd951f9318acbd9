"""One request of a stream for several models of a server: the input travels once, and each model
answers by itself, when it is done.

The message names one model as ever, and the others in its parameter `also`. A server that takes
such requests says so in its models' metadata; none is sent elsewhere.
"""

from collections.abc import Sequence
from typing import Any

from edvit_tf.device.model.manifest_checks import MAX_SUB_MODELS
from edvit_tf.device.rpc import messages, tensors

# Property of a model's metadata: "1" where a request may name several models of the server.
TOGETHER = "together"
ALSO = "also"  # parameter of a request: names of further models, with commas between
# Not by what the server has: with a new devices.toml a relay may have fewer sub-models than it is
# asked for, and is to refuse those alone.
MOST_MODELS = MAX_SUB_MODELS
MOST_CHARACTERS = 14_000  # of these names: a parameter has 16 KiB (`message_counts.py`)


class OneOf:
    """A request for several models, as one of them sees it: all of the message, and its own name.

    `shared` is for what a server makes of the input once, for all of them.
    """

    def __init__(self, message: Any, model_name: str, shared: dict[str, Any]) -> None:
        self.model_name = model_name
        self.shared = shared
        self._message = message

    def __getattr__(self, name: str) -> Any:
        return getattr(self._message, name)


def each_of(request: Any) -> list[Any]:
    """The requests that a message of a stream is, one a model. Raises WireError for more than
    MOST_MODELS.
    """
    if isinstance(request, messages.Garbage) or ALSO not in request.parameters:
        return [request]

    also = request.parameters[ALSO].string_param
    names = list(dict.fromkeys([request.model_name, *also.split(",", MOST_MODELS)]))
    if len(names) > MOST_MODELS:
        raise messages.wrong(
            f"parameter '{ALSO}'", f"{also[:64]!r}", f"{MOST_MODELS} models at most"
        )

    shared: dict[str, Any] = {}
    return [OneOf(request, name, shared) for name in names]


def ask_also(request: Any, also: Sequence[str]) -> None:
    """Has a request ask further models."""
    tensors.set_parameters(request, {ALSO: ",".join(also)})
