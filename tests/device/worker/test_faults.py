"""Real workers under overload, with models that hang or answer NaN, and with bundles that must not
be served.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import threading
import time

import grpc
import numpy as np
import pytest

from edvit_tf.device.rpc import messages, tensors
from edvit_tf.device.rpc.executor import Executor
from tests.support.commands import rewrite_manifest, run_python
from tests.support.damaged import listed, outside, swapped
from tests.support.fleet_process import get, metric
from tests.support.machine_clock import machine_seconds
from tests.support.worker_process import GATED, SLOW, ask, wait_for, worker

PICTURE = np.full((1, 16, 16, 1), 99, np.uint8)
REQUEST = tensors.infer_request("submodel-00", {"image": PICTURE})
STUCK = """
import re, threading, time
from edvit_tf.device.model import runtime
run = runtime.Model.run

def stuck_run(self, **arrays):
    if threading.current_thread().name.startswith("submodel"):
        {how}
    return run(self, **arrays)

runtime.Model.run = stuck_run
"""
HOLDS_THE_LOCK = (
    "re.match('(a+)+b', 'a' * 40)"  # hours within one call that never lets another thread run
)


def send(channel, timeout):
    return messages.stub(channel, "ModelInfer").future(REQUEST, timeout=timeout)


def test_the_queue_follows_the_deadline(tiny_bundle, tmp_path):
    """0.6 s of service and 2.2 s of deadline: three or so are answered, the others are refused at
    once. In one of a few rounds: in some of them the machine may stand still.
    """
    with (
        worker(tiny_bundle, tmp_path, prelude=SLOW.format(seconds=0.6)) as one,
        one.channel() as channel,
    ):
        rounds = []
        while [] not in rounds:
            assert len(rounds) < 10, rounds
            for _ in range(8):  # the estimate learns from each
                ask(channel, REQUEST)
            rounds.append(not_as_it_should_be([send(channel, 2.2) for _ in range(12)]))


def not_as_it_should_be(calls) -> list[str]:
    """Of calls that are sent to a queue which has time for three of them: what does not hold."""
    ended = []
    for call in calls:
        call.add_done_callback(ended.append)
    wait_for(lambda: len(ended) == len(calls))
    codes = [call.code().name for call in ended]
    refused = [call for call in ended if call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED]
    for call in refused:
        assert "queue of submodel-00: got" in call.details() and "ms left" in call.details()
    holds = {
        f"answered or refused, not {codes}": set(codes) == {"OK", "RESOURCE_EXHAUSTED"},
        f"2 to 4 answered, not {codes.count('OK')}": 2 <= codes.count("OK") <= 4,
        "refused before one service time is over": ended[: len(refused)] == refused,
    }
    return [words for words, so in holds.items() if not so]


def test_a_request_whose_time_is_over_is_late_and_not_too_much():
    """Whether others wait or not: nobody should send less, or to more devices, because an event
    loop overslept.
    """
    ran = []

    async def late(busy: bool):
        executor = Executor("model", lambda x: (time.sleep(0.2), ran.append(x)), 0.01)
        first = asyncio.ensure_future(executor.submit("first", 5)) if busy else None
        await asyncio.sleep(0.05)
        with pytest.raises(messages.WireError) as error:
            await executor.submit("late", -0.131)
        assert (
            error.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
            and "got 131 ms too late" in str(error.value)
        )
        if first is not None:
            await first
        executor.close()

    for busy in (False, True):
        asyncio.run(late(busy))
    assert ran == ["first"]


def test_a_request_without_a_deadline_gets_the_workers(tiny_bundle, tmp_path):
    arguments = ("--insecure", "--deadline-ms", "500")
    with (
        worker(tiny_bundle, tmp_path, *arguments, prelude=SLOW.format(seconds=4)) as one,
        one.channel() as channel,
    ):
        started = machine_seconds()
        with pytest.raises(grpc.RpcError) as error:
            ask(channel, REQUEST, timeout=None)
        assert (
            error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            and machine_seconds() - started < 2
        )
        assert "no end of submodel-00 within 500 ms" in error.value.details()


def test_a_request_that_was_given_up_is_not_run(tiny_bundle, tmp_path):
    arguments, gate = ("--insecure", "--metrics", "127.0.0.1:0"), tmp_path / "gate"
    gate.touch()
    with (
        worker(
            tiny_bundle, tmp_path, *arguments, prelude=GATED.format(seconds=0, file=str(gate))
        ) as one,
        one.channel() as channel,
    ):
        running, waiting = send(channel, 60), send(channel, 60)
        wait_for(lambda: 'edvit_queue_depth{model="submodel-00"} 1' in get(one, "/metrics"))
        waiting.cancel()
        gate.unlink()
        assert running.result(60).raw_output_contents
        ask(channel, REQUEST)
        # the first and the last; the cancelled one between them was not run
        assert metric(one, "edvit_compute_seconds_count", model="submodel-00") == 2


def test_an_idle_model_takes_a_request_whatever_the_estimate(tiny_bundle, tmp_path):
    """One slow moment must not make a worker refuse for ever."""
    prelude = SLOW.format(seconds=8).replace(
        "time.sleep(8)",
        "time.sleep(0 if self.__dict__.get('x') else 8); object.__setattr__(self, 'x', 1)",
    )
    with worker(tiny_bundle, tmp_path, prelude=prelude) as one, one.channel() as channel:
        ask(channel, REQUEST)
        # the estimate is 4 s then, and a fifth less after each
        for _ in range(4):
            ask(channel, REQUEST, timeout=1.6)


@pytest.mark.parametrize(
    "how, code, stderr",
    [
        ("time.sleep(1000)", 18, '"event": "stuck"'),
        (HOLDS_THE_LOCK, 1, "Timeout"),
    ],
)
def test_a_stuck_inference_ends_the_worker(tiny_bundle, tmp_path, how, code, stderr):
    """Whether it lets other threads run or not."""
    with (
        worker(
            tiny_bundle,
            tmp_path,
            "--insecure",
            "--stuck-seconds",
            "0.5",
            prelude=STUCK.format(how=how),
        ) as one,
        one.channel() as channel,
    ):
        seen = []
        watch = messages.stub(channel, "Watch")(messages.new("HealthCheckRequest"), timeout=60)

        def listen():
            with contextlib.suppress(grpc.RpcError):
                seen.extend(answer.status for answer in watch)

        listener = threading.Thread(target=listen)
        listener.start()
        wait_for(lambda: seen)
        with pytest.raises(grpc.RpcError) as error:
            ask(channel, REQUEST, timeout=30)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        assert one.process.wait(30) == code
        listener.join(10)
        text = one.log_file.read_text()
        assert stderr in text and "stuck_run" in text  # where it hangs
        assert seen[1:] == ([messages.NOT_SERVING] if code == 18 else [])


def test_a_process_that_was_stopped_goes_on(tiny_bundle, tmp_path):
    """SIGSTOP for longer than an inference may take, in the middle of one, is no stuck
    inference.
    """
    arguments = ("--insecure", "--stuck-seconds", "1")
    with (
        worker(tiny_bundle, tmp_path, *arguments, prelude=SLOW.format(seconds=0.6)) as one,
        one.channel() as channel,
    ):
        call = send(channel, 20)
        time.sleep(0.2)  # into the inference; that it has begun cannot be seen from outside
        one.process.send_signal(signal.SIGSTOP)
        time.sleep(2)
        one.process.send_signal(signal.SIGCONT)
        assert call.result(20).raw_output_contents
        assert ask(channel, REQUEST).raw_output_contents and one.process.poll() is None


def test_numbers_that_are_not_finite_never_leave(tiny_bundle, tmp_path):
    prelude = SLOW.format(seconds=0).replace(
        "return run(self, **arrays)",
        "out = run(self, **arrays)\n"
        "    if threading.current_thread().name.startswith('submodel'): out['features'][0, 3] = "
        "float('nan')\n"
        "    return out",
    )
    with worker(tiny_bundle, tmp_path, prelude=prelude) as one, one.channel() as channel:
        with pytest.raises(grpc.RpcError) as error:
            ask(channel, REQUEST)
        assert error.value.code() is grpc.StatusCode.INTERNAL
        assert "output 'features' of submodel-00: got NaN or Inf" in error.value.details()


def test_an_unforeseen_error_is_one_request_s(tiny_bundle, tmp_path):
    prelude = SLOW.format(seconds=0).replace(
        "time.sleep(0)", "raise LookupError('a fault of ours')"
    )
    with worker(tiny_bundle, tmp_path, prelude=prelude) as one, one.channel() as channel:
        for _ in range(2):
            with pytest.raises(grpc.RpcError) as error:
                ask(channel, REQUEST)
            assert error.value.code() is grpc.StatusCode.INTERNAL
            assert (
                "its log says how" in error.value.details()
                and "LookupError" not in error.value.details()
            )
        assert "a fault of ours" in one.events("failed")[0]["traceback"]


@pytest.fixture
def copy(tiny_bundle, tmp_path):
    return shutil.copytree(tiny_bundle, tmp_path / "copy")


def spoil(bundle, at=0.5):
    content = bytearray((bundle / "submodel-00.tflite").read_bytes())
    content[int(len(content) * at)] ^= 1
    (bundle / "submodel-00.tflite").write_bytes(content)


def truncate(bundle):
    content = (bundle / "submodel-00.tflite").read_bytes()
    (bundle / "submodel-00.tflite").write_bytes(content[: len(content) // 3])
    listed(bundle)


def foreign(bundle):
    shutil.copy(bundle / "fusion.tflite", bundle / "submodel-00.tflite")
    listed(bundle)


def not_tflite(bundle):
    (bundle / "submodel-00.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(5000))
    listed(bundle)


def zeroed_weights(bundle):
    content = bytearray((bundle / "submodel-00.tflite").read_bytes())
    content[20000:40000] = bytes(20000)
    (bundle / "submodel-00.tflite").write_bytes(content)
    listed(bundle)


def linked(bundle):
    (bundle / "submodel-00.tflite").rename(bundle.parent / "outside.tflite")
    (bundle / "submodel-00.tflite").symlink_to(bundle.parent / "outside.tflite")


@pytest.mark.parametrize(
    "damage, codes, text",
    [
        (spoil, {7}, "was changed"),
        (lambda b: (b / "submodel-00.tflite").unlink(), {7}, "is missing"),
        (truncate, {13}, "submodel-00.tflite"),
        (lambda b: os.truncate(b / "submodel-00.tflite", 20_000), {7}, "was changed: 20000 bytes"),
        (foreign, {13}, "takes the inputs"),
        (not_tflite, {13}, "submodel-00.tflite"),
        (zeroed_weights, {13, 16}, "submodel-00"),
        (swapped, {16}, "answers the golden input with a relative error of"),
        (outside, {7}, "leaves the bundle's folder"),
        (linked, {7}, "leaves the bundle's folder"),
        (
            lambda b: rewrite_manifest(b, lambda m: m["input"]["spec"].update(kind="smell")),
            {7},
            "kind 'smell'",
        ),
        (
            lambda b: rewrite_manifest(b, lambda m: m["input"].update(shape=[16, 16, 3])),
            {7},
            "its spec gives [1, 16, 16, 1]",
        ),
        (
            lambda b: rewrite_manifest(b, lambda m: m["sub_models"][0].pop("flavours")),
            {7},
            "'flavours'",
        ),
        (
            lambda b: rewrite_manifest(b, lambda m: m.update(sub_models=[3])),
            {7},
            "not as a recipe writes it",
        ),
        (lambda b: (b / "manifest.json").write_text("[]"), {7}, "schema_version None"),
    ],
)
def test_it_is_refused_before_it_serves(copy, damage, codes, text):
    damage(copy)
    # A spoilt file may make the runtime hang instead of crash: its process is given up, here after
    # 20 s in place of 65.
    code = (
        "import functools; from edvit_tf.device.worker import loaded_models\n"
        "loaded_models.run_model = functools.partial(loaded_models.run_model, timeout_seconds=20)\n"
        "from edvit_tf.device.__main__ import main\n"
        f"raise SystemExit(main([{str(copy)!r}, '--listen', '127.0.0.1:0', '--insecure']))"
    )
    done = run_python("-c", code, timeout=60)
    assert done.returncode in codes and text in done.stderr, done.stderr
    assert '"serving"' not in done.stderr and "Traceback" not in done.stderr


def test_too_little_memory_is_said_before_anything_is_loaded(copy, tmp_path):
    code = (
        "from edvit_tf.device.model import memory; memory.available_memory = lambda: 30 << 20\n"
        "from edvit_tf.device.__main__ import main\n"
        f"raise SystemExit(main([{str(copy)!r}, '--listen', '127.0.0.1:0', '--insecure']))"
    )
    done = run_python("-c", code, timeout=60)
    assert (
        done.returncode == 12
        and "submodel-00.tflite, submodel-01.tflite needs about" in done.stderr
    ), done.stderr
