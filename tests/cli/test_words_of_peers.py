"""What another machine says reaches a terminal as text: it moves no cursor, makes no line of its
own, and has an end.
"""

import argparse
import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from edvit_tf.cli import deploy
from edvit_tf.device.rpc import messages, tensors
from edvit_tf.device.terminal import printable
from tests.support.commands import run_command

HOSTILE = "\x1b]0;pwned\x07\x1b[2J\rfile.png: dog 1.000\n\u202etxt"
LONG = 60_000  # characters, which no terminal needs


@contextlib.contextmanager
def hub(answer) -> Iterator[str]:
    """The address of what speaks the protocol of an aggregator, and answers ModelInfer so."""

    def metadata(request, context):
        response = messages.new("ModelMetadataResponse", name="edvit")
        response.inputs.add(name="image", datatype="UINT8", shape=(1, 16, 16, 1))
        response.properties["bundle_digest"] = "d"
        return response

    server = grpc.server(ThreadPoolExecutor(4))
    calls = (("ModelMetadata", metadata), ("ModelInfer", answer))
    made = {
        method: grpc.unary_unary_rpc_method_handler(
            call, messages.deserialiser(messages.METHODS[method][0]), messages.serialise
        )
        for method, call in calls
    }
    handler = grpc.method_handlers_generic_handler(messages.INFERENCE, made)
    server.add_generic_rpc_handlers([handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def answered(label="ant", probabilities=(0.5, 0.5), **said):
    outputs = {"probabilities": np.array([probabilities], np.float32), "label": [label]}
    told = {"bundle_digest": "d", "degraded": True, "missing": "", **said}
    return tensors.infer_response("edvit", outputs, parameters=told)


def predicted(address, folder, *options):
    (folder / "one.png").write_bytes(b"anything")
    words = ["predict", "--server", address, "--insecure", "--timeout-ms", "60000", *options]
    return run_command([*words, str(folder / "one.png")])


def test_an_answer_is_one_line_of_text(tmp_path):
    said = {"missing": HOSTILE, "submodel_0.device": HOSTILE, "submodel_0.compute_ms": 1.0}
    with hub(lambda request, context: answered(HOSTILE, total_ms=1.0, **said)) as address:
        code, out, err = predicted(address, tmp_path)
        _, as_json, _ = predicted(address, tmp_path, "--json")

    assert (code, err) == (0, "")
    assert out.endswith("\n") and out[:-1].isprintable() and "\\x1b[2J" in out
    assert json.loads(as_json)["label"] == HOSTILE  # whole, as JSON has it


def test_json_is_what_every_reader_takes(tmp_path):
    """NaN is Python's: jq and JSON.parse end at it."""
    odd = answered(probabilities=(np.nan, np.inf), total_ms=1.0, expected_accuracy=np.nan)
    with hub(lambda request, context: odd) as address:
        code, out, _ = predicted(address, tmp_path, "--json")
    said = json.loads(out, parse_constant=lambda name: pytest.fail(name))
    assert code == 0 and said["probabilities"] == [None, None]
    assert said["parameters"]["expected_accuracy"] is None


def test_a_label_without_end_is_cut(tmp_path):
    with hub(lambda request, context: answered("x" * LONG, total_ms=1.0)) as address:
        code, out, _ = predicted(address, tmp_path)
    assert code == 0 and len(out) < LONG // 10


def test_a_refusal_is_text(tmp_path):
    def refuse(request, context):
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, HOSTILE)

    with hub(refuse) as address:
        code, out, err = predicted(address, tmp_path)

    assert code == 19 and out == ""
    assert err.count("\n") == 1 and err[:-1].isprintable() and "\\x1b]0;pwned" in err


@pytest.mark.parametrize(
    "answer",
    [
        lambda: messages.new("ModelInferResponse", model_name="edvit"),  # nothing in it
        lambda: answered(total_ms="soon"),
        lambda: answered(probabilities=()),
        lambda: b"\xff\xff\xff",  # no message
    ],
    ids=["empty", "a word for a number", "no probabilities", "rubbish"],
)
def test_an_answer_that_no_aggregator_gives_is_an_error_of_the_file(tmp_path, answer):
    with hub(lambda request, context: answer()) as address:
        code, out, err = predicted(address, tmp_path)
    assert code == 19 and out == "" and err.startswith("error: one.png: 127.0.0.1:"), err
    assert "answers what no aggregator does" in err and "Traceback" not in err


def test_what_machines_say_in_a_deployment_keeps_its_lines(monkeypatch, capsys):
    def fails(targets, table, say):
        say(HOSTILE)
        return {"pi": HOSTILE}

    monkeypatch.setattr("edvit_tf.operate.deploy.fleet.deploy", fails)
    assert deploy._run(argparse.Namespace(json=True), Path("certs"), []) != 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5 and all(line.isprintable() for line in lines), lines


def test_a_file_s_name_in_an_error_is_text():
    words = ["serve", "no\x1b[2Jsuch", "--devices", "127.0.0.1:1", "--listen", "127.0.0.1:0"]
    code, _, err = run_command([*words, "--insecure"])
    assert code != 0 and err.startswith("error: ") and err.replace("\n", "").isprintable(), err


def test_a_text_is_cut_before_it_is_escaped():
    assert printable("plain größe.png", 300) == "plain größe.png"
    assert printable("a\x1b[31m\u202e") == "a\\x1b[31m\\u202e"
    assert printable("x" * 300, 20) == "x" * 19 + "…"
