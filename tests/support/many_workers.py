"""Many workers in one process, for what an aggregator of many costs: real servers, with models that
answer at once.

    python -m tests.support.many_workers BUNDLE IDENTITY INDEX [INDEX ...]

Prints the workers' addresses as JSON, and then for each line that it reads the bytes that came over
their streams since the start.
"""

import asyncio
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.model.tune import Choice
from edvit_tf.device.rpc import tls
from edvit_tf.device.rpc.ports import open_port
from edvit_tf.device.rpc.process_limits import prepare_server
from edvit_tf.device.rpc.request_input import message_limit
from edvit_tf.device.worker.loaded_models import LoadedModel
from edvit_tf.device.worker.service import WorkerService


class AtOnce:
    """A model that gives the same features whatever it is asked."""

    runtime = "none"

    def __init__(self, width: int) -> None:
        self._features = np.linspace(-1, 1, width, dtype=np.float32).reshape(1, width)

    def run(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        return {"features": self._features}


def service(bundle, index: int, own) -> WorkerService:
    """A worker of one sub-model."""
    entry, width = bundle.entry(index), bundle.widths[index]
    loaded = LoadedModel(
        index,
        entry.name,
        Choice("float32", entry.file, 1),
        SimpleNamespace(run=AtOnce(width).run, runtime=AtOnce.runtime),
        {"features": (1, width)},
        1e-4,
        0.0,
        entry.view,
    )
    return WorkerService(
        bundle, bundle_input(bundle), [loaded], deadline_seconds=10.0, stuck_seconds=60.0, own=own
    )


async def serve(bundle_path: Path, identity: Path, indices: list[int]) -> None:
    bundle, own = open_bundle(bundle_path), tls.identity(identity)
    services, addresses = [], []
    for index in indices:
        one = service(bundle, index, own)
        limit = message_limit(one.model_input)
        credentials = tls.Presented(own).credentials()  # of one server alone
        server, port = open_port(one, "127.0.0.1:0", credentials, limit)
        await server.start()
        services.append((one, server))
        addresses.append(f"127.0.0.1:{port}")

    print(json.dumps(addresses), flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(sum(one.stream_bytes for one, _ in services), flush=True)


def main(argv: list[str]) -> None:
    prepare_server()
    bundle, identity, *indices = argv
    asyncio.run(serve(Path(bundle), Path(identity), [int(index) for index in indices]))


if __name__ == "__main__":
    main(sys.argv[1:])
