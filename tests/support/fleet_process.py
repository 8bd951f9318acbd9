"""Devices that come and go: places with a fixed address at which real workers are started, slowed,
stopped, killed.
"""

import concurrent.futures
import contextlib
import itertools
import json
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.subprocess_run import run_model
from tests.support.aggregator_process import relay
from tests.support.ports import free_port
from tests.support.worker_process import Worker, worker

_CONTROLLED = """
import pathlib, threading, time
from edvit_tf.device.model import runtime
run = runtime.Model.run

def controlled_run(self, **arrays):
    if threading.current_thread().name.startswith("submodel"):  # a request, not the warm-up
        file = pathlib.Path({file!r})
        if file.exists():
            time.sleep(float(file.read_text() or 0))
    return run(self, **arrays)

runtime.Model.run = controlled_run
"""  # a prelude: each inference takes so many seconds longer as the file says at that moment


class Place:
    """A device: an address, a bundle, what it hosts, and the worker that runs there now, if any."""

    def __init__(
        self,
        bundle: Path,
        folder: Path,
        sub_models: Sequence[int],
        *arguments: str,
        prelude: str = "",
        address: str | None = None,
    ) -> None:
        self.bundle, self.folder, self.prelude = bundle, folder, prelude
        self.address = address or f"127.0.0.1:{free_port()}"
        port = self.address.rpartition(":")[2]
        self.slow_file = folder / f"slow-{port}"
        self.lie_file = folder / f"lie-{port}"  # read by the prelude of `chaos_lies.py`
        hosted = [word for j in sub_models for word in ("--submodel", str(j))]
        self.arguments = [*(arguments or ("--insecure",)), *hosted, "--listen", self.address]
        self.worker: Worker | None = None
        self._held: contextlib.AbstractContextManager[Worker] | None = None

    def start(self) -> "Place":
        """Starts a worker and waits until it serves."""
        prelude = _CONTROLLED.format(file=str(self.slow_file)) + self.prelude
        self._held = worker(self.bundle, self.folder, *self.arguments, prelude=prelude)
        self.worker = self._held.__enter__()
        return self

    def slow(self, seconds: float) -> None:
        """From now on each inference takes so much longer."""
        new = self.slow_file.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self.slow_file)

    def send(self, number: int) -> None:
        self.worker.process.send_signal(number)

    def end(self, number: int = signal.SIGKILL, timeout: float = 60) -> int:
        """Ends the worker with a signal; returns its exit code."""
        code = self.worker.stop(number, timeout)
        self.close()
        return code

    def close(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            held.__exit__(None, None, None)


class Rack(Place):
    """A relay with a fixed address over the devices at these addresses."""

    def __init__(self, bundle: Path, folder: Path, below: Sequence[str], *arguments: str) -> None:
        super().__init__(bundle, folder, [])
        self.below = list(below)
        self.arguments = [*arguments, "--metrics", "127.0.0.1:0"]

    def start(self) -> "Rack":
        self._held = relay(
            self.bundle,
            self.folder,
            self.below,
            *self.arguments,
            listen=self.address,
            probe_seconds=None,
        )
        self.worker = self._held.__enter__()
        return self


@contextlib.contextmanager
def places(
    bundle: Path, folder: Path, hosted: Sequence[Sequence[int]], *arguments: str, prelude: str = ""
) -> Iterator[list[Place]]:
    """A place for each of `hosted`, all started, at the same time."""
    made = [Place(bundle, folder, sub_models, *arguments, prelude=prelude) for sub_models in hosted]
    try:
        with concurrent.futures.ThreadPoolExecutor(len(made)) as pool:
            list(pool.map(Place.start, made))
        yield made
    finally:
        for place in made:
            place.close()


def get(one: Worker, path: str) -> str:
    """What a server's metrics port answers, whatever the status."""
    try:
        with urllib.request.urlopen(f"http://{one.serving['metrics']}{path}", timeout=30) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()


def health(one: Worker) -> dict:
    """What /healthz says."""
    return json.loads(get(one, "/healthz"))


def states(one: Worker) -> list[tuple[str, str, str]]:
    """(address, state, breaker) of each device, by an aggregator's /healthz."""
    return [
        (device["address"], device["state"], device["breaker"]) for device in health(one)["devices"]
    ]


def metric(one: Worker, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    rows = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", get(one, "/metrics"), re.MULTILINE)
    return sum(float(value) for inner, value in rows if all(label in inner for label in wanted))


def healthy(one: Worker, count: int) -> bool:
    """Whether an aggregator says that so many devices are ready, and their breakers closed."""
    return [state[1:] for state in states(one)].count(("ready", "closed")) == count


def oracle(folder: Path, pictures: np.ndarray) -> dict[frozenset[int], np.ndarray]:
    """Probabilities (n, classes) of pictures (n, 1, H, W, C) for each set of missing sub-models,
    all but the full one.

    The files run in processes of their own, without the wire and without TensorFlow.
    """
    bundle = open_bundle(folder)
    name, widths, count = bundle.input.name, bundle.widths, len(bundle.widths)
    features = [
        run_model(bundle.path / entry.file, {name: entry.view.applied(pictures[:, 0])})[0][
            "features"
        ]
        for entry in bundle.sub_models
    ]
    sets = [
        frozenset(lost) for k in range(count) for lost in itertools.combinations(range(count), k)
    ]
    present = np.array(
        [[j not in lost for j in range(count)] for lost in sets], np.float32
    )  # (sets, N)
    rows = np.concatenate([np.concatenate(features, axis=1)] * len(sets))  # (sets * n, sum d_j)
    flags = present.repeat(len(pictures), axis=0)  # (sets * n, N)
    rows = rows * flags.repeat(widths, axis=1)
    answers = run_model(bundle.path / bundle.fusion.file, {"features": rows, "present": flags})[0]
    return dict(
        zip(sets, answers["probabilities"].reshape(len(sets), len(pictures), -1), strict=True)
    )


def missing_of(said: dict) -> frozenset[int]:
    """The indices of the sub-models that an answer says are missing."""
    return frozenset(
        int(name.removeprefix("submodel-")) for name in said["missing"].split(",") if name
    )
