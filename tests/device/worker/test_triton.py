"""An unmodified tritonclient.grpc, and its asyncio twin, against a worker and an aggregator.

It runs in the Python that EDVIT_TRITON_PYTHON names, or in this one if tritonclient is installed
here.
"""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.subprocess_run import run_model
from edvit_tf.device.rpc import tls
from edvit_tf.operate import certs
from tests.support.aggregator_process import aggregator, fused, wait_ready
from tests.support.worker_process import worker

PYTHON = os.environ.get("EDVIT_TRITON_PYTHON") or (
    sys.executable if importlib.util.find_spec("tritonclient") else None
)
pytestmark = pytest.mark.skipif(
    PYTHON is None, reason="tritonclient is not installed and EDVIT_TRITON_PYTHON not set"
)

CLIENT = """
import asyncio, inspect, json, queue, sys
import numpy as np
import tritonclient.grpc as sync
import tritonclient.grpc.aio as aio

async def talk(module, address, model, outputs, identity, picture):
    async def value(of):
        return await of if inspect.isawaitable(of) else of

    files = {}
    if identity:
        files = {
            "ssl": True,
            "root_certificates": f"{identity}/ca.pem",
            "private_key": f"{identity}/key.pem",
            "certificate_chain": f"{identity}/cert.pem",
        }
    client, said = module.InferenceServerClient(address, **files), {}
    try:
        for name in ("is_server_live", "is_server_ready"):
            said[name] = await value(getattr(client, name)())
        said["ready"] = await value(client.is_model_ready(model))
        said["other ready"] = await value(client.is_model_ready("other"))
        said["server"] = await value(client.get_server_metadata(as_json=True))
        said["model"] = await value(client.get_model_metadata(model, as_json=True))
        said["index"] = await value(client.get_model_repository_index(as_json=True))
        said["config"] = await value(client.get_model_config(model, as_json=True))
        said["extensions"] = said["server"].get("extensions")
        said["shared memory"] = [
            await value(client.get_system_shared_memory_status(as_json=True)),
            await value(client.get_cuda_shared_memory_status(as_json=True)),
        ]
        await value(client.unregister_system_shared_memory())
        await value(client.unregister_cuda_shared_memory())
        said["refusals"] = {}
        for name, arguments in (
            ("load_model", (model,)),
            ("unload_model", (model,)),
            ("register_system_shared_memory", ("x", "/x", 10)),
            ("register_cuda_shared_memory", ("x", b"eA==", 0, 10)),
            ("get_trace_settings", ()),
            ("update_log_settings", ({"log_verbose_level": 1},)),
        ):
            try:
                said["refusals"][name] = str(await value(getattr(client, name)(*arguments)))
            except Exception as error:
                said["refusals"][name] = str(error)
        given = sync.InferInput("image", picture.shape, "UINT8")
        given.set_data_from_numpy(picture)
        wanted = [sync.InferRequestedOutput(name) for name in reversed(outputs)]
        for kind, asked in (("all", None), ("asked", wanted)):
            result = await value(
                client.infer(model, [given], outputs=asked, request_id="r7", client_timeout=10)
            )
            said[kind], said["texts"] = {}, {}
            for name in outputs:
                array = result.as_numpy(name)
                if array.dtype == object:
                    said["texts"][name] = array[0].decode()
                else:
                    said[kind][name] = array.tolist()
        said["id"] = result.get_response().id
        said["digest"] = result.get_response().parameters["bundle_digest"].string_param
        said["degraded"] = result.get_response().parameters["degraded"].bool_param
        bad = sync.InferInput("image", [2, 16, 16, 1], "UINT8")
        bad.set_data_from_numpy(np.repeat(picture, 2, 0))
        both = [
            dict(model_name=model, inputs=[one], request_id=name)
            for name, one in (("s1", given), ("s2", bad))
        ]
        if module is sync:
            came = queue.Queue()
            client.start_stream(lambda result, error: came.put((result, error)))
            for one in both:
                client.async_stream_infer(**one)
            streamed = [came.get(timeout=10) for _ in both]
            client.stop_stream()
        else:
            async def asked():
                for one in both:
                    yield one
                await asyncio.sleep(1)

            streamed = [pair async for pair in client.stream_infer(asked())]
        said["streamed"] = {
            r.get_response().id: r.as_numpy(outputs[0]).tolist() for r, e in streamed if e is None
        }
        said["stream errors"] = [str(e) for r, e in streamed if e is not None]
        said["final"] = [
            r.get_response().parameters["triton_final_response"].bool_param
            for r, e in streamed if e is None
        ]
        try:
            await value(client.infer(model, [bad]))
        except Exception as error:
            said["error"] = str(error)
        for key, name in (("statistics", model), ("all statistics", "")):
            said[key] = await value(client.get_inference_statistics(name, as_json=True))
    except Exception as error:
        said["refused"] = str(error)
    await value(client.close())
    return said

address, model, outputs, identity = sys.argv[1:]
picture = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
print(json.dumps([asyncio.run(talk(module, address, model, outputs.split(","), identity, picture))
                  for module in (sync, aio)]))
"""
PICTURE = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)


def triton(one, model: str, outputs: str, identity=None) -> list[dict]:
    """What tritonclient.grpc and tritonclient.grpc.aio say of a server; a failure before the end is
    "refused".
    """
    done = subprocess.run(
        [PYTHON, "-c", CLIENT, one.address, model, outputs, str(identity or "")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check_worker(one, bundle, identity=None) -> None:
    expected, _ = run_model(bundle / "submodel-00.tflite", {"image": PICTURE})
    for turn, said in enumerate(triton(one, "submodel-00", "features,logits", identity), 1):
        check_common(one, said)
        # two calls and a streamed one, and a refused call and a refused streamed one
        if identity is None:
            check_statistics(said, 3 * turn, 2 * turn)
        assert len(said["all statistics"]["model_stats"]) == 2
        assert said["server"]["name"] == "edvit_tf worker"
        assert [m["name"] for m in said["index"]["models"]] == ["submodel-00", "submodel-01"]
        for kind in ("all", "asked"):
            for name, value in expected.items():
                np.testing.assert_array_equal(np.array(said[kind][name], np.float32), value)


def check_aggregator(one, bundle, identity=None) -> None:
    expected = fused(bundle, PICTURE)
    for turn, said in enumerate(triton(one, "edvit", "probabilities,label", identity), 1):
        check_common(one, said)
        check_statistics(said, 3 * turn, 2 * turn)
        assert said["server"]["name"] == "edvit_tf aggregator" and said["degraded"] is False
        assert [m["name"] for m in said["index"]["models"]] == ["edvit"]
        for kind in ("all", "asked"):
            np.testing.assert_array_equal(
                np.array(said[kind]["probabilities"], np.float32), expected
            )
        assert said["texts"]["label"] == open_bundle(bundle).labels[int(expected.argmax())]


def check_common(one, said: dict) -> None:
    assert "refused" not in said, said
    assert (
        said["is_server_live"]
        and said["is_server_ready"]
        and said["ready"]
        and not said["other ready"]
    )
    assert said["model"]["inputs"] == [
        {"name": "image", "datatype": "UINT8", "shape": ["1", "16", "16", "1"]}
    ]
    assert said["id"] == "r7" and said["digest"] == one.serving["bundle_digest"]
    assert list(said["streamed"].items()) == [("s1", said["all"][next(iter(said["all"]))])]
    assert said["final"] == [True]
    assert len(said["stream errors"]) == 1 and "got [2, 16, 16, 1]" in said["stream errors"][0]
    assert "INVALID_ARGUMENT" in said["error"] and "got [2, 16, 16, 1]" in said["error"]
    check_configuration(said)
    check_refusals(said)


def check_configuration(said: dict) -> None:
    """As perf_analyzer reads it: names, types and whole shapes, no batches."""
    config = said["config"]["config"]
    assert (config["name"], config["platform"]) == (
        said["model"]["name"],
        said["model"]["platform"],
    )
    assert config["backend"] == "edvit_tf" and "max_batch_size" not in config  # 0
    assert config["input"] == [
        {"name": "image", "data_type": "TYPE_UINT8", "dims": ["1", "16", "16", "1"]}
    ]
    types = {"FP32": "TYPE_FP32", "BYTES": "TYPE_STRING"}
    assert config["output"] == [
        {"name": one["name"], "data_type": types[one["datatype"]], "dims": one["shape"]}
        for one in said["model"]["outputs"]
    ]
    assert config["parameters"]["bundle_digest"] == {"string_value": said["digest"]}


def check_refusals(said: dict) -> None:
    assert said["extensions"] == ["model_configuration", "statistics", "parameters"]
    assert said["shared memory"] == [{}, {}]
    words = {
        "load_model": "the bundle that it was started with",
        "unload_model": "the bundle that it was started with",
        "register_system_shared_memory": "there is no shared memory here",
        "register_cuda_shared_memory": "there is no shared memory here",
        "get_trace_settings": "nothing is traced here",
        "update_log_settings": "the log has one setting",
    }
    for name, expected in words.items():
        refusal = said["refusals"][name]
        assert "UNIMPLEMENTED" in refusal and expected in refusal


def check_statistics(said: dict, runs: int, refused: int) -> None:
    """The server's counters after so many calls of these clients, all the streams' among them."""
    (found,) = said["statistics"]["model_stats"]
    assert found["name"] == said["model"]["name"] and found["version"] == "1"
    assert int(found["inference_count"]) == int(found["execution_count"]) == runs
    assert abs(int(found["last_inference"]) / 1e3 - time.time()) < 60

    stats = found["inference_stats"]
    assert {int(stats[key]["count"]) for key in ("success", "queue", "compute_infer")} == {runs}
    assert int(stats["fail"]["count"]) == refused and int(stats["fail"]["ns"]) > 0
    # nanoseconds: a request takes some, and its computing not more than the whole
    assert 1e3 * runs < int(stats["compute_infer"]["ns"]) <= int(stats["success"]["ns"])
    assert int(stats["success"]["ns"]) < 10e9 * runs
    assert [one["batch_size"] for one in found["batch_stats"]] == ["1"]
    assert found in said["all statistics"]["model_stats"]


def test_an_unmodified_tritonclient_talks_to_worker_and_aggregator(tiny_bundle, tmp_path):
    with (
        worker(tiny_bundle, tmp_path) as device,
        aggregator(tiny_bundle, tmp_path, [device.address]) as hub,
        hub.channel() as channel,
    ):
        wait_ready(channel)
        check_worker(device, tiny_bundle)
        check_aggregator(hub, tiny_bundle)


def test_over_mutual_tls_too_and_roles_hold(tiny_bundle, tmp_path):
    certs.init(tmp_path / "ca")
    certs.init(tmp_path / "rogue")
    here = ["127.0.0.1"]
    ids = {
        role: certs.issue(tmp_path / "ca", role, "me", hosts, 10, tmp_path / role)
        for role, hosts in (("worker", here), ("aggregator", here), ("client", []))
    }
    rogue = certs.issue(tmp_path / "rogue", "client", "me", [], 10, tmp_path / "rogue-client")
    with contextlib.ExitStack() as stack:
        device = stack.enter_context(
            worker(tiny_bundle, tmp_path, "--identity", str(ids["worker"]))
        )
        hub = stack.enter_context(
            aggregator(
                tiny_bundle, tmp_path, [device.address], "--identity", str(ids["aggregator"])
            )
        )
        wait_ready(stack.enter_context(hub.channel(tls.identity(ids["client"]))))
        check_worker(device, tiny_bundle, ids["client"])  # a client may ask one worker
        check_worker(device, tiny_bundle, ids["aggregator"])
        check_aggregator(hub, tiny_bundle, ids["client"])
        for one, role in ((device, "worker"), (hub, "worker"), (hub, "aggregator")):
            for said in triton(one, "submodel-00", "features", ids[role]):
                assert (
                    "PERMISSION_DENIED" in said["refused"]
                    and f"role: got {role} (me)" in said["refused"]
                ), said
        for one in (device, hub):
            for identity in (rogue, None):  # another authority's, plaintext
                for said in triton(one, "submodel-00", "features", identity):
                    assert not said.get("is_server_live") and "UNAVAILABLE" in said["refused"], said


def test_wire_stands_beside_tritonclient_in_one_process(tmp_path):
    """Both describe messages of the same names; what one writes the other reads."""
    code = (
        "import numpy as np\nfrom edvit_tf.device.rpc import messages, tensors\n"
        "from tritonclient.grpc import service_pb2 as theirs\n"
        "x = np.ones((1, 2), np.float32)\n"
        "ours = tensors.infer_request('m', {'x': x}, request_id='i', parameters={'p': True})\n"
        "read = theirs.ModelInferRequest.FromString(messages.serialise(ours))\n"
        "assert (read.model_name, read.id, read.inputs[0].name) == ('m', 'i', 'x')\n"
        "assert read.parameters['p'].bool_param and len(read.raw_input_contents[0]) == 8\n"
        "back = messages.deserialiser('ModelInferRequest')(read.SerializeToString())\n"
        "assert tensors.arrays(back)['x'].tolist() == [[1, 1]]\n"
        "assert tensors.parameters(back) == {'p': True}\n"
    )
    done = subprocess.run(
        [PYTHON, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert done.returncode == 0, done.stderr
