"""The log: a line is written whole and in order, and standard error that stands still stops
nobody.
"""

import contextlib
import fcntl
import json
import logging
import os
import subprocess
import sys
import threading
import time
import urllib.request

import grpc
import numpy as np
import pytest

from edvit_tf.device.rpc import jsonlog, messages, tensors
from tests.support.commands import ROOT
from tests.support.machine_clock import machine_seconds
from tests.support.worker_process import ask, wait_for

REQUEST = tensors.infer_request("submodel-00", {"image": np.zeros((1, 16, 16, 1), np.uint8)})


@contextlib.contextmanager
def standard_error(monkeypatch):
    """A pipe in its place; the end that reads. Within a test: pytest puts its own there before."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with (
        open(reading, "rb") as pipe,
        open(writing, "w", encoding="utf-8") as file,
        monkeypatch.context() as patch,
    ):
        patch.setattr(sys, "stderr", file)
        yield pipe


def test_lines_are_written_whole_and_in_order(monkeypatch):
    with standard_error(monkeypatch) as stderr, jsonlog.written_aside():
        for i in range(20):
            jsonlog.log("event", number=i, text="é" * 20)
        logging.getLogger("grpc").error("of a %s", "library")
        lines = [json.loads(stderr.readline()) for _ in range(21)]
    assert [line.get("number") for line in lines] == [*range(20), None]
    assert lines[3]["event"] == "event" and lines[3]["text"] == "é" * 20
    assert (lines[20]["event"], lines[20]["name"]) == ("library", "grpc")
    assert lines[20]["detail"] == "of a library"


def test_a_line_of_the_collector_s_does_not_wait_for_the_one_it_came_into(monkeypatch):
    """asyncio logs a Future whose error nobody saw where the collector finds it: anywhere."""

    class Collected(dict):
        def get(self, key, default=None):
            if key == "outer":
                logging.getLogger("asyncio").error("Future exception was never retrieved")
            return super().get(key, default)

    with standard_error(monkeypatch) as stderr, jsonlog.written_aside():
        monkeypatch.setattr(jsonlog, "_last", Collected())
        logs = threading.Thread(target=jsonlog.log_seldom, args=("refused", "outer"), daemon=True)
        logs.start()
        logs.join(5)
        waits = logs.is_alive()
        if waits:  # whoever logs next would wait as well, the end of this process too
            jsonlog._lock.release()
        assert not waits
        events = [json.loads(stderr.readline())["event"] for _ in range(2)]
    assert events == ["library", "refused"]


def test_what_nobody_reads_is_dropped_and_counted_and_said_later(monkeypatch):
    with standard_error(monkeypatch) as stderr, jsonlog.written_aside():
        for i in range(3000):
            jsonlog.log("event", number=i, text="x" * 1000)
        dropped = jsonlog.dropped_lines()
        # of 256 KiB and a pipe's 4 there is room for some 240
        assert 2700 < dropped < 2800

        lines = []
        while len(lines) < 3000 - dropped:
            lines.append(json.loads(stderr.readline()))
        wait_for(lambda: not jsonlog._writer._waiting_bytes)
        jsonlog.log("again")
        while lines[-1]["event"] != "again":
            lines.append(json.loads(stderr.readline()))

    # what is there is in order, and where something is missing a line says how much
    numbers = [line["number"] for line in lines if line["event"] == "event"]
    assert numbers == sorted(numbers) and len(numbers) == 3000 - dropped
    assert sum(line["lines"] for line in lines if line["event"] == "dropped") == dropped
    assert lines[-2]["event"] == "dropped"


@pytest.mark.parametrize("blocking", [True, False])
def test_the_end_waits_no_longer_than_a_second(monkeypatch, blocking):
    with standard_error(monkeypatch) as stderr:
        os.set_blocking(sys.stderr.fileno(), blocking)
        started, by_machine = time.monotonic(), machine_seconds()
        with jsonlog.written_aside():
            for _ in range(10):
                jsonlog.log("event", text="x" * 1000)
        assert time.monotonic() - started > 0.5 and machine_seconds() - by_machine < 5
        lines = [json.loads(stderr.readline()) for _ in range(10)]
        assert {line["event"] for line in lines} == {"event"}


def test_a_server_whose_standard_error_stands_still_answers_and_ends(tiny_bundle, tmp_path):
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    command = [sys.executable, "-m", "edvit_tf.device", str(tiny_bundle), "--submodel", "0"]
    command += ["--listen", "127.0.0.1:0", "--insecure", "--metrics", "127.0.0.1:0"]
    # with as much to say as there are requests
    prelude = (
        "from edvit_tf.device.rpc import jsonlog; jsonlog._QUIET_SECONDS = 0.0; import sys\n"
        "from edvit_tf.device.__main__ import main; raise SystemExit(main(sys.argv[1:]))"
    )
    command[1:3] = ["-c", prelude]
    environment = {**os.environ, "EDVIT_CACHE": str(tmp_path)}
    process = subprocess.Popen(command, cwd=ROOT, stderr=writing, env=environment)
    os.close(writing)
    with open(reading, "rb") as pipe:
        try:
            while b'"serving"' not in (line := pipe.readline()):
                assert line
            serving = json.loads(line)
            # from here nobody reads

            def dropped():
                url = f"http://{serving['metrics']}/metrics"
                with urllib.request.urlopen(url, timeout=30) as answer:
                    text = answer.read().decode()
                rows = [line for line in text.splitlines() if line.startswith("edvit_log_lines")]
                return int(float(rows[0].split()[1]))

            with grpc.insecure_channel(serving["address"]) as channel:
                unknown = messages.new("ModelMetadataRequest", name="q" * 60)
                for _ in range(1200):
                    with contextlib.suppress(grpc.RpcError):
                        messages.stub(channel, "ModelMetadata")(unknown, timeout=30)
                assert wait_for(dropped) > 100
                assert ask(channel, REQUEST, timeout=30).raw_output_contents

            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()


def test_a_line_is_json_whatever_was_measured(capsys):
    """jq ends at the NaN of Python's json."""
    jsonlog.log("device", times_ms=[1.5, float("nan")], degrees=float("-inf"), at=(1, None))
    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line, parse_constant=lambda name: pytest.fail(name))
    assert (said["times_ms"], said["degrees"], said["at"]) == ([1.5, None], None, [1, None])
