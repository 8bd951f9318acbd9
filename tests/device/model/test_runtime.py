"""Which runtime loads a file in a process: the installed one, and beside TensorFlow the one that
can.
"""

import json
import types
from pathlib import Path

import numpy as np
import pytest

from edvit_tf.device.errors import RuntimeMissing
from edvit_tf.device.model import runtime
from edvit_tf.device.model.runtime import RUNTIMES, installed_runtimes, runtime_name
from tests.support.commands import run_python

needs_both = pytest.mark.skipif(
    set(installed_runtimes()) != set(RUNTIMES), reason="needs tflite-runtime and ai-edge-litert"
)

# what a notebook does first
TRAINED = """
import keras, numpy as np
model = keras.Sequential([keras.layers.Dense(3)])
model.compile("adam", "mse")
model.fit(np.ones((8, 4)), np.ones((8, 3)), verbose=0)
"""

ANSWERED = """
import json, sys
import numpy as np
from edvit_tf.device.model.predict import load_fleet
fleet = load_fleet(sys.argv[1])
x = np.random.default_rng(0).integers(0, 256, (16, 16, 1), np.uint8)
told = {
    "runtimes": sorted({model.runtime for model in (*fleet.sub_models, fleet.fusion)}),
    "probabilities": fleet.probabilities(x).tolist(),
    "tensorflow": "tensorflow" in sys.modules,
}
print(json.dumps(told))
"""


def answered(code: str, bundle: Path) -> dict:
    """What ANSWERED prints after `code`, in a process of its own."""
    done = run_python("-c", code + ANSWERED, bundle)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@needs_both
def test_a_process_that_has_trained_loads_a_fleet_and_answers_alike(tiny_bundle):
    alone = answered("", tiny_bundle)
    assert alone["runtimes"] == [runtime_name("tflite-runtime")] and not alone["tensorflow"]

    beside = answered(TRAINED, tiny_bundle)
    assert beside["runtimes"] == [runtime_name("ai-edge-litert")] and beside["tensorflow"]
    np.testing.assert_allclose(beside["probabilities"], alone["probabilities"], atol=1e-4)


@needs_both
def test_a_runtime_that_was_there_before_tensorflow_stays(tiny_bundle):
    first = "import tflite_runtime.interpreter\n"
    told = answered(first + TRAINED, tiny_bundle)
    assert told["runtimes"] == [runtime_name("tflite-runtime")] and told["tensorflow"]


@needs_both
def test_a_fusion_and_a_trained_bundle_answer_in_a_process_that_has_trained(tiny_bundle, tmp_path):
    from PIL import Image

    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "x.png")
    code = """
import sys
from edvit_tf.aggregate.fusion import Fusion
from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.pipeline.trained import Bundle
fusion = Fusion(open_bundle(sys.argv[1]))
print(fusion.answer({}).sum())
fusion.executor.close()
print(Bundle(sys.argv[1]).predict(sys.argv[2])[0]["label"])
"""
    done = run_python("-c", TRAINED + code, tiny_bundle, tmp_path / "x.png")
    assert done.returncode == 0, done.stderr
    total, label = done.stdout.split()[-2:]
    assert float(total) == pytest.approx(1, abs=1e-5)
    assert label in (tiny_bundle / "labels.txt").read_text().split()


# ai-edge-litert is hidden from the second
@needs_both
@pytest.mark.parametrize(
    "code",
    [
        "load(sys.argv[1], runtime='tflite-runtime')",
        "runtime.RUNTIMES.pop('ai-edge-litert'); load(sys.argv[1])",
    ],
)
def test_tflite_runtime_after_tensorflow_is_told_as_what_it_is(tiny_bundle, code):
    imports = """
import sys, tensorflow
from edvit_tf.device.errors import RuntimeMissing
from edvit_tf.device.model import runtime
from edvit_tf.device.model.runtime import load
try:
    {}
except RuntimeMissing as error:
    print(error)
"""
    done = run_python("-c", imports.format(code), tiny_bundle / "submodel-00.tflite")
    assert done.returncode == 0, done.stderr
    assert "imported TensorFlow before it" in done.stdout
    assert "pip install ai-edge-litert" in done.stdout and "process of its own" in done.stdout
    assert "flavour" not in done.stdout


@pytest.mark.parametrize(
    "imported, spoilt",
    [
        ({"tensorflow": 1}, True),
        ({"tensorflow": 1, runtime._TFLITE_LIBRARY: 1}, True),
        ({runtime._TFLITE_LIBRARY: 1, "tensorflow": 1}, False),
        ({"tensorflow": None}, False),  # kept out of a process, as tests and bundlers do
        ({}, False),
    ],
)
def test_tflite_runtime_is_spoilt_by_a_tensorflow_that_came_first(monkeypatch, imported, spoilt):
    monkeypatch.setattr(runtime, "sys", types.SimpleNamespace(modules=imported))
    assert runtime._spoilt_by_tensorflow("tflite-runtime 2.14.0") is spoilt
    assert runtime._spoilt_by_tensorflow("ai-edge-litert 2.1.0") is False


def test_a_runtime_that_is_not_installed_is_named():
    with pytest.raises(
        RuntimeMissing, match="coral is not installed; installed here: .*pip install coral"
    ):
        runtime_name("coral")
