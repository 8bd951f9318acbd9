"""Servers without descriptors and without memory: they refuse, or end with a code, and answer as
before afterwards.

Real limits (prlimit) on real processes.
"""

import contextlib
import os
import resource
import signal
import socket
import time
from pathlib import Path

import grpc
import numpy as np
import pytest

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.subprocess_run import run_model
from edvit_tf.device.rpc import tensors, tls
from edvit_tf.operate import certs
from tests.support.aggregator_process import aggregator, fused, infer, wait_ready
from tests.support.commands import run_python
from tests.support.fleet_process import healthy, missing_of, places
from tests.support.machine_clock import machine_seconds
from tests.support.ports import free_port
from tests.support.worker_process import Worker, ask, wait_for, worker

PICTURE = np.full((1, 16, 16, 1), 77, np.uint8)
BUSY = 0.3  # seconds that a busy machine may add


def test_without_descriptors_it_goes_on_with_those_it_knows(tiny_bundle, tmp_path):
    """Strangers take every descriptor that is left; the connection that stands answers, others do
    again later.
    """
    expected, _ = run_model(tiny_bundle / "submodel-00.tflite", {"image": PICTURE})
    request = tensors.infer_request("submodel-00", {"image": PICTURE})
    arguments = ("--insecure", "--submodel", "0", "--metrics", "127.0.0.1:0")
    with worker(tiny_bundle, tmp_path, *arguments) as one, one.channel() as channel:
        ask(channel, request)
        limit = one.open_files() + 5
        resource.prlimit(one.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
        with contextlib.ExitStack() as strangers:
            for address, count in ((one.address, 20), (one.serving["metrics"], 4)):
                host, port = address.split(":")
                for _ in range(count):
                    strangers.enter_context(socket.create_connection((host, int(port)), 5))
                wait_for(lambda: one.open_files() >= limit)
            used = processor_seconds(one)
            for _ in range(20):
                np.testing.assert_array_equal(
                    tensors.arrays(ask(channel, request))["features"], expected["features"]
                )
            time.sleep(1.5)
            assert (
                processor_seconds(one) - used < 0.75
            )  # it does not try for a descriptor in a loop
        with one.channel() as fresh:

            def answered():
                with contextlib.suppress(grpc.RpcError):
                    return ask(fresh, request, timeout=10)

            wait_for(answered, 60)
        assert one.stop(signal.SIGTERM) == 0


def clients_until_refused(one: Worker, own: tls.Identity, strangers: contextlib.ExitStack) -> int:
    """Lets clients connect, and stay, until one is not served; returns how many were."""
    for count in range(50):
        channel = strangers.enter_context(
            grpc.secure_channel(
                one.address,
                tls.channel_credentials(own),
                options=[("grpc.use_local_subchannel_pool", 1)],
            )
        )  # a connection of its own
        try:
            infer(channel, PICTURE, timeout=6)
        except grpc.RpcError as error:
            assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            return count
    raise AssertionError("the limit does not hold")


def test_an_aggregator_without_descriptors_goes_on_and_loses_nothing(tiny_bundle, tmp_path):
    """Clients that it knows are answered, a device that goes is flagged; when clients leave it is
    whole by itself.
    """
    certs.init(tmp_path / "ca")
    hosts = {"worker": ["127.0.0.1"], "aggregator": ["127.0.0.1"], "client": []}
    ids = {
        role: certs.issue(tmp_path / "ca", role, "me", names, 10, tmp_path / role)
        for role, names in hosts.items()
    }
    own, wanted = (
        tls.identity(ids["client"]),
        {lost: fused(tiny_bundle, PICTURE, lost) for lost in ((), (1,))},
    )
    with contextlib.ExitStack() as stack:
        devices = stack.enter_context(
            places(tiny_bundle, tmp_path, [[0], [1]], "--identity", str(ids["worker"]))
        )
        one = stack.enter_context(
            aggregator(
                tiny_bundle,
                tmp_path,
                [device.address for device in devices],
                "--identity",
                str(ids["aggregator"]),
                "--min-submodels",
                "1",
                "--metrics",
                "127.0.0.1:0",
            )
        )
        channel = stack.enter_context(one.channel(own))
        wait_ready(channel)
        wait_for(lambda: healthy(one, 2))

        def asked(lost: tuple[int, ...]) -> bool:
            """Whether the known client's answer misses just these sub-models; it is right for what
            it says.
            """
            outputs, said, _ = infer(channel, PICTURE)
            missing = tuple(sorted(missing_of(said)))
            np.testing.assert_array_equal(outputs["probabilities"], wanted[missing])
            return missing == lost

        assert asked(())
        files = one.open_files()
        resource.prlimit(one.process.pid, resource.RLIMIT_NOFILE, (files + 6, files + 6))
        with contextlib.ExitStack() as strangers:
            assert 3 <= clients_until_refused(one, own, strangers) <= 6
            host, port = one.serving["metrics"].split(":")
            for _ in range(4):
                strangers.enter_context(socket.create_connection((host, int(port)), 5))
            wait_for(lambda: one.open_files() >= files + 6)
            used = processor_seconds(one)
            assert all(asked(()) for _ in range(20))
            devices[1].end(signal.SIGKILL)
            wait_for(lambda: asked((1,)))
            devices[1].start()
            end = time.monotonic() + 2
            while time.monotonic() < end:
                asked(
                    (1,)
                )  # it can make no connection to the device, perhaps; what it answers is right
                time.sleep(0.02)
            assert one.process.poll() is None and processor_seconds(one) - used < 3  # no loop
        wait_for(lambda: asked(()), 60)
        wait_for(lambda: healthy(one, 2), 60)
        with grpc.secure_channel(one.address, tls.channel_credentials(own)) as fresh:
            np.testing.assert_array_equal(infer(fresh, PICTURE)[0]["probabilities"], wanted[()])
        wait_for(lambda: one.open_files() <= files + 2, 60)
        assert all(
            event["reason"].isprintable() for event in one.events("device")
        )  # gRPC's words have rubbish behind
        # of the HTTP port's want of descriptors a line now and then, and each is JSON
        lines = one.log_file.read_text("utf-8").splitlines()
        told = [line for line in lines if "out of system resource" in line]
        assert 1 <= len(told) <= 3 and all(line.startswith("{") for line in told)
        assert one.stop(signal.SIGTERM) == 0


def processor_seconds(one) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{one.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def started(server: str, bundle: Path, prelude: str = ""):
    """What became of a server that is started after `prelude`: the finished process."""
    main, arguments = {
        "worker": ("edvit_tf.device.__main__", [str(bundle)]),
        "aggregator": (
            "edvit_tf.cli.main",
            ["serve", str(bundle), "--devices", f"127.0.0.1:{free_port()}"],
        ),
    }[server]
    arguments += ["--listen", "127.0.0.1:0", "--insecure"]
    return run_python(
        "-c",
        f"{prelude}\nfrom {main} import main\nraise SystemExit(main({arguments!r}))",
        timeout=120,
    )


USED = """import resource
from edvit_tf.device.model import memory
used = memory._field('/proc/self/status', {!r})
"""


@pytest.mark.parametrize("server", ["worker", "aggregator"])
@pytest.mark.parametrize(
    "prelude, code, words",
    [
        (
            USED.format("VmData:")
            + "resource.setrlimit(resource.RLIMIT_DATA, (used + (90 << 20),) * 2)",
            12,
            "a server takes 128 MiB beside its models",
        ),
        (
            USED.format("VmSize:")
            + "resource.setrlimit(resource.RLIMIT_AS, (used + (500 << 20),) * 2)",
            12,
            "a server takes 768 MiB beside its models",
        ),
        (
            "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))",
            22,
            "may open 20 files",
        ),
        (
            "from edvit_tf.aggregate import fusion\n"
            "from edvit_tf.device.worker import loaded_models\n"
            "fusion.load = loaded_models.load = lambda *_, **__: bytearray(1 << 50)",
            12,
            "no more memory for this process",
        ),
        (
            "from edvit_tf.device.rpc import lifecycle\n"
            'def watch(*_): raise RuntimeError("can\'t start new thread")\nlifecycle.watch = watch',
            12,
            "too little memory",
        ),
    ],
    ids=["data", "address space", "descriptors", "no memory", "no thread"],
)
def test_a_server_without_room_refuses_to_start_with_a_code(
    tiny_bundle, server, prelude, code, words
):
    done = started(server, tiny_bundle, prelude)
    assert done.returncode == code and words in done.stderr, done.stderr
    assert '"serving"' not in done.stderr and "Traceback" not in done.stderr


def test_a_model_without_room_is_refused_before_it_is_loaded(tiny_bundle):
    """A limit that leaves room for the server, and not for two models more."""
    done = started(
        "worker",
        tiny_bundle,
        "from edvit_tf.device.rpc import process_limits\n"
        "from edvit_tf.device.worker import loaded_models, server\n"
        "process_limits.SERVER_BYTES.clear()\n"
        + USED.format("VmData:")
        + "resource.setrlimit(resource.RLIMIT_DATA, (used + (32 << 20),) * 2)",
    )
    assert done.returncode == 12 and "MiB are available. Stop other programs" in done.stderr, (
        done.stderr
    )


def test_memory_taken_from_a_running_worker_costs_requests_and_not_their_truth(
    tiny_bundle, tmp_path
):
    """With no byte more to be had it answers, refuses or ends; the aggregator flags what is
    missing.
    """
    expected, _ = run_model(tiny_bundle / "submodel-00.tflite", {"image": PICTURE})
    with contextlib.ExitStack() as stack:
        devices = stack.enter_context(places(tiny_bundle, tmp_path, [[0], [1]]))
        one = stack.enter_context(
            aggregator(
                tiny_bundle,
                tmp_path,
                [d.address for d in devices],
                "--deadline-ms",
                "3000",
                "--min-submodels",
                "1",
            )
        )
        channel = stack.enter_context(one.channel())
        wait_ready(channel)
        process = devices[0].worker.process
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (1 << 20, 1 << 20))
        large = np.zeros((1, 16, 16, 1), np.uint8)
        for _ in range(30):
            started = machine_seconds()
            said = infer(channel, large)[1]
            assert machine_seconds() - started < 3.3 + BUSY
            assert said["degraded"] == (said["missing"] != "")
        with devices[0].worker.channel() as direct, contextlib.suppress(grpc.RpcError):
            got = tensors.arrays(
                ask(direct, tensors.infer_request("submodel-00", {"image": PICTURE}), timeout=30)
            )
            np.testing.assert_array_equal(got["features"], expected["features"])
        assert process.poll() is None or process.returncode != 0
        assert open_bundle(tiny_bundle).digest == one.serving["bundle_digest"]


def test_memory_taken_from_a_running_aggregator_ends_it_or_not_and_nothing_is_lost(
    tiny_bundle, tmp_path
):
    """Answers are right or there is none; its devices go on, and answer for the next aggregator at
    once.
    """
    wanted = fused(tiny_bundle, PICTURE)
    with contextlib.ExitStack() as stack:
        devices = stack.enter_context(places(tiny_bundle, tmp_path, [[0], [1]]))
        addresses = [device.address for device in devices]
        one = stack.enter_context(
            aggregator(tiny_bundle, tmp_path, addresses, "--deadline-ms", "1000")
        )
        channel = stack.enter_context(one.channel())
        wait_ready(channel)
        resource.prlimit(one.process.pid, resource.RLIMIT_DATA, (1 << 20, 1 << 20))
        for value in (
            [PICTURE] * 20 + [b"x" * 6_000_000] * 3 + [PICTURE] * 5
        ):  # the large ones take more than is left
            started = machine_seconds()
            with contextlib.suppress(grpc.RpcError):
                outputs, said, _ = infer(channel, value)
                assert not said["degraded"]
                np.testing.assert_array_equal(outputs["probabilities"], wanted)
            assert machine_seconds() - started < 1.1 + BUSY
        assert one.process.poll() is None or one.process.returncode != 0
        second = stack.enter_context(aggregator(tiny_bundle, tmp_path, addresses))
        with second.channel() as channel:
            wait_ready(channel)
            np.testing.assert_array_equal(infer(channel, PICTURE)[0]["probabilities"], wanted)
        assert all(device.worker.process.poll() is None for device in devices)
