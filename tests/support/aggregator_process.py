"""A real aggregator for tests: `edvit serve` in a process, its log, its end."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import grpc
import numpy as np

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.subprocess_run import run_model
from edvit_tf.device.rpc import messages, tensors
from tests.support.machine_clock import Standstill
from tests.support.worker_process import Worker, server, wait_for, worker

T = TypeVar("T")

PATIENT_MS = "20000"
PATIENT_PROBE_SECONDS = 4.0


def fused(folder: Path, x: np.ndarray, missing: tuple[int, ...] = ()) -> np.ndarray:
    """Probabilities (n, classes) of inputs (n, H, W, C) without the wire: each file in a process of
    its own.
    """
    bundle = open_bundle(folder)
    name, features, present = (
        bundle.input.name,
        [],
        np.ones((len(x), len(bundle.widths)), np.float32),
    )
    for j, (entry, width) in enumerate(zip(bundle.sub_models, bundle.widths, strict=True)):
        features.append(
            np.zeros((len(x), width), np.float32)
            if j in missing
            else outputs(bundle.path / entry.file, {name: entry.view.applied(x)})["features"]
        )
    present[:, list(missing)] = 0
    inputs = {"features": np.concatenate(features, axis=1), "present": present}
    return outputs(bundle.path / bundle.fusion.file, inputs)["probabilities"]


def outputs(file: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As `run_model`; what was asked once by these tests is kept."""
    key = (
        file.read_bytes(),
        *((name, x.dtype.str, x.shape, x.tobytes()) for name, x in inputs.items()),
    )
    if key not in _known:
        _known[key] = run_model(file, inputs)[0]

    return _known[key]


_known: dict[tuple, dict[str, np.ndarray]] = {}


@contextlib.contextmanager
def aggregator(
    bundle: Path,
    folder: Path,
    devices: list[str],
    *arguments: str,
    prelude: str = "",
    probe_seconds: float | None = PATIENT_PROBE_SECONDS,
    **environment: str,
) -> Iterator[Worker]:
    """An aggregator over these addresses, on a port of the kernel's choice; `arguments` default to
    --insecure, and to a deadline that a busy machine keeps: the product's own is a second. So is
    that of a probe, and a single one that is late finds a device down: it has `probe_seconds` here,
    None for the product's own.

    `prelude` is Python that runs in the process before its main.
    """
    asked = ["serve", str(bundle), "--devices", ",".join(devices)]
    with _asking(
        asked, folder, *arguments, prelude=prelude, probe_seconds=probe_seconds, **environment
    ) as one:
        yield one


@contextlib.contextmanager
def relay(
    bundle: Path,
    folder: Path,
    devices: list[str],
    *arguments: str,
    listen: str = "127.0.0.1:0",
    prelude: str = "",
    probe_seconds: float | None = PATIENT_PROBE_SECONDS,
) -> Iterator[Worker]:
    """The same of a relay."""
    asked = ["relay", str(bundle), "--devices", ",".join(devices)]
    with _asking(
        asked, folder, *arguments, listen=listen, prelude=prelude, probe_seconds=probe_seconds
    ) as one:
        yield one


@contextlib.contextmanager
def _asking(
    asked: list[str],
    folder: Path,
    *arguments: str,
    listen: str = "127.0.0.1:0",
    prelude: str = "",
    probe_seconds: float | None,
    **environment: str,
) -> Iterator[Worker]:
    """A server that asks devices, by `asked`, the first words of its command."""
    arguments = arguments if "--identity" in arguments else ("--insecure", *arguments)
    if "--deadline-ms" not in arguments:
        arguments = (*arguments, "--deadline-ms", PATIENT_MS)
    if probe_seconds is not None:
        patient = f"from edvit_tf.aggregate import probe; probe.TIMEOUT_SECONDS = {probe_seconds}"
        prelude = f"{patient}\n{prelude}"
    main = ["-m", "edvit_tf.cli"]
    if prelude:
        main = [
            "-c",
            f"{prelude}\nimport sys\nfrom edvit_tf.cli.main import main\nraise "
            "SystemExit(main(sys.argv[1:]))",
        ]
    command = [
        sys.executable,
        *main,
        *asked,
        "--listen",
        listen,
        *map(str, arguments),
    ]
    with server(command, folder, **environment) as one:
        yield one


def infer(
    channel: grpc.Channel,
    value,
    timeout: float = 30,
    model: str = "edvit",
    name: str = "image",
    request_id="",
):
    """(outputs, parameters, id) of a ModelInfer."""
    response = messages.stub(channel, "ModelInfer")(
        tensors.infer_request(model, {name: value}, request_id=request_id), timeout=timeout
    )
    return tensors.arrays(response), tensors.parameters(response), response.id


def lost_by_the_machine(error: grpc.RpcError, still: Standstill) -> bool:
    """Whether a request has no answer since the machine stood still at its deadline: the
    aggregator, which would have answered without a silent device, finds itself too late, or all
    devices.
    """
    late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    late = late or " deadline" in (error.details() or "")
    return late and still.seconds() > 0


def in_time(ask: Callable[[], T]) -> T:
    """What `ask()` returns, which is a request; again where the machine stood still at the
    deadline.
    """
    for _ in range(10):
        still = Standstill()
        try:
            return ask()
        except grpc.RpcError as error:
            if not lost_by_the_machine(error, still):
                raise
    raise AssertionError("the machine stood still at each of ten deadlines")


def ready(channel: grpc.Channel) -> bool:
    try:
        return messages.stub(channel, "ServerReady")(
            messages.new("ServerReadyRequest"), timeout=2
        ).ready
    except grpc.RpcError:
        return False


def wait_ready(channel: grpc.Channel, timeout: float = 30) -> None:
    wait_for(lambda: ready(channel), timeout)


def device_states(one: Worker) -> dict[str, str]:
    """The last state that an aggregator has told of each device: on a busy machine a first probe
    may come too late.
    """
    return {event["device"]: event["state"] for event in one.events("device")}


def all_ready(one: Worker, count: int) -> bool:
    """Whether an aggregator has found so many devices, and all of them ready."""
    return list(device_states(one).values()) == ["ready"] * count


@contextlib.contextmanager
def with_one_device(bundle: Path, folder: Path) -> Iterator[tuple[Worker, Worker]]:
    """(aggregator, its only worker), ready."""
    with (
        worker(bundle, folder) as device,
        aggregator(bundle, folder, [device.address]) as hub,
        hub.channel() as channel,
    ):
        wait_ready(channel)
        yield hub, device
