"""Devices that lie: what a worker says wrongly while a file of it names the lie, a fault of
`chaos.py`.

`prelude(file)` is Python that runs in a worker's process before its main, as those of `Place`.
"""

from pathlib import Path

LIES = (
    "invalid",  # INVALID_ARGUMENT to good tensors, as if it were the client's fault
    "times",  # compute_ms that is a word, NaN, below 0
    "huge",  # features of 3e38, finite and of the right shape
    "zeros",  # features and logits of 0
    "none",  # features that are NaN
    "bulk",  # an answer of 5 MB
    "claim",  # it hosts everything, it says, and answers zeros for what it does not have
)

_PRELUDE = """
import pathlib
import numpy as np
from edvit_tf.device.rpc import messages, tensors
from edvit_tf.device.worker.service import WorkerService

TIMES = ("fast", float("nan"), float("inf"), -1e300)
infer, index, metadata = (
    WorkerService.model_infer, WorkerService.repository_index, WorkerService.model_metadata
)
count = 0


def lie():
    file = pathlib.Path({file!r})
    return file.read_text().strip() if file.exists() else ""


def with_features(response, change):
    names = [output.name for output in response.outputs]
    for name in ("features", "logits"):
        if name in names:
            place = names.index(name)
            value = np.frombuffer(response.raw_output_contents[place], np.float32)
            response.raw_output_contents[place] = change(value).astype(np.float32).tobytes()
    return response


async def lying_infer(self, request, context):
    global count
    told = lie()
    if told == "invalid":
        raise messages.WireError("these tensors: got yours; expected better ones.")
    foreign = told == "claim" and request.model_name not in self.names
    if foreign:
        name, request.model_name = request.model_name, self.names[0]
    response = await infer(self, request, context)
    if told == "times":
        count += 1
        tensors.set_parameters(response, {{"compute_ms": TIMES[count % len(TIMES)]}})
    elif told == "huge":
        with_features(response, lambda value: np.full_like(value, 3e38))
    elif told == "none":
        with_features(response, lambda value: np.full_like(value, np.nan))
    elif told == "zeros" or foreign:
        with_features(response, np.zeros_like)
    elif told == "bulk":
        tensors.set_parameters(response, {{"note": "x" * 5_000_000}})
    if foreign:
        response.model_name = name
    return response


async def lying_index(self, request, context):
    response = await index(self, request, context)
    if lie() == "claim":
        for entry in self.bundle.sub_models:
            if entry.name not in self.names:
                response.models.add(name=entry.name, version="1", state="READY")
    return response


async def lying_metadata(self, request, context):
    name = request.name
    if lie() == "claim" and name not in self.names:
        request.name = self.names[0]
    response = await metadata(self, request, context)
    response.name = name
    return response


WorkerService.model_infer = lying_infer
WorkerService.repository_index = lying_index
WorkerService.model_metadata = lying_metadata
"""


def prelude(file: Path) -> str:
    """Of a worker that tells the lie which `file` names at that moment; none without the file."""
    return _PRELUDE.format(file=str(file))
