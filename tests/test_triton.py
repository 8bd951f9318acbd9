"""An unmodified tritonclient.grpc against a worker.

It runs in the Python that EDVIT_TRITON_PYTHON names, or in this one if tritonclient is installed here.
"""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from edvit_tf.device.process import run_model
from tests.worker_process import worker

PYTHON = os.environ.get("EDVIT_TRITON_PYTHON") or (
    sys.executable if importlib.util.find_spec("tritonclient") else None)
pytestmark = pytest.mark.skipif(PYTHON is None, reason="tritonclient is not installed and EDVIT_TRITON_PYTHON not set")

CLIENT = """
import asyncio, inspect, json, sys
import numpy as np
import tritonclient.grpc as sync
import tritonclient.grpc.aio as aio

async def talk(module, address, picture):
    async def value(of):
        return await of if inspect.isawaitable(of) else of

    client, said = module.InferenceServerClient(address), {}
    for name in ("is_server_live", "is_server_ready"):
        said[name] = await value(getattr(client, name)())
    said["ready"] = await value(client.is_model_ready("submodel-00"))
    said["other ready"] = await value(client.is_model_ready("other"))
    said["server"] = await value(client.get_server_metadata(as_json=True))
    said["model"] = await value(client.get_model_metadata("submodel-00", as_json=True))
    said["index"] = await value(client.get_model_repository_index(as_json=True))
    given = sync.InferInput("image", picture.shape, "UINT8")
    given.set_data_from_numpy(picture)
    wanted = [sync.InferRequestedOutput("logits"), sync.InferRequestedOutput("features")]
    for kind, outputs in (("all", None), ("asked", wanted)):
        result = await value(client.infer("submodel-00", [given], outputs=outputs, request_id="r7", client_timeout=10))
        said[kind] = {name: result.as_numpy(name).tolist() for name in ("features", "logits")}
    said["id"] = result.get_response().id
    said["digest"] = result.get_response().parameters["bundle_digest"].string_param
    bad = sync.InferInput("image", [2, 16, 16, 1], "UINT8")
    bad.set_data_from_numpy(np.repeat(picture, 2, 0))
    try:
        await value(client.infer("submodel-00", [bad]))
    except Exception as error:
        said["error"] = str(error)
    await value(client.close())
    return said

picture = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
print(json.dumps([asyncio.run(talk(module, sys.argv[1], picture)) for module in (sync, aio)]))
"""


def test_an_unmodified_tritonclient_talks_to_a_worker(tiny_bundle, tmp_path):
    picture = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    expected, _ = run_model(tiny_bundle / "submodel-00.tflite", {"image": picture})
    with worker(tiny_bundle, tmp_path) as one:
        done = subprocess.run([PYTHON, "-c", CLIENT, one.address], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        for said in json.loads(done.stdout):
            assert said["is_server_live"] and said["is_server_ready"] and said["ready"] and not said["other ready"]
            assert said["server"]["name"] == "edvit_tf worker"
            assert said["model"]["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": ["1", "16", "16", "1"]}]
            assert [m["name"] for m in said["index"]["models"]] == ["submodel-00", "submodel-01"]
            for kind in ("all", "asked"):
                for name, value in expected.items():
                    np.testing.assert_array_equal(np.array(said[kind][name], np.float32), value)
            assert said["id"] == "r7" and said["digest"] == one.serving["bundle_digest"]
            assert "INVALID_ARGUMENT" in said["error"] and "got [2, 16, 16, 1]" in said["error"]


def test_wire_stands_beside_tritonclient_in_one_process(tmp_path):
    """Both describe messages of the same names; what one writes the other reads."""
    code = ("import numpy as np\nfrom edvit_tf.device import wire\n"
            "from tritonclient.grpc import service_pb2 as theirs\n"
            "x = np.ones((1, 2), np.float32)\n"
            "ours = wire.infer_request('m', {'x': x}, request_id='i', parameters={'p': True})\n"
            "read = theirs.ModelInferRequest.FromString(wire.serialise(ours))\n"
            "assert (read.model_name, read.id, read.inputs[0].name) == ('m', 'i', 'x')\n"
            "assert read.parameters['p'].bool_param and len(read.raw_input_contents[0]) == 8\n"
            "back = wire.deserialiser('ModelInferRequest')(read.SerializeToString())\n"
            "assert wire.tensors(back)['x'].tolist() == [[1, 1]] and wire.parameters(back) == {'p': True}\n")
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "PYTHONPATH": os.getcwd()})
    assert done.returncode == 0, done.stderr
