"""Whoever runs a sub-model applies its view, to what a request brings as to what a file becomes:
pictures (uint8), sound (float32), and a kind that the package does not know (int32).
"""

import io
import json
import shutil
import wave

import numpy as np
import pytest

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.model.predict import load_fleet
from edvit_tf.device.model.view import View
from edvit_tf.device.rpc import messages, tensors
from edvit_tf.evaluation.answers import ask as ask_files
from edvit_tf.export.process import run_in_process
from tests.support import table_input
from tests.support.aggregator_process import fused
from tests.support.commands import rewrite_manifest, run_device
from tests.support.fleet_process import metric
from tests.support.worker_process import ask, worker

RNG = np.random.default_rng(3)
VIEWS = (View(down=2, right=-1, crop=1), View(mirrored=True))
KINDS = {
    "pictures": ("tiny_bundle", ""),
    "sound": ("tiny_mel_bundle", ""),
    "tables": ("tables_bundle", table_input.PRELUDE),
}


def picture_file() -> bytes:
    from PIL import Image

    stored = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (40, 40), np.uint8)).save(stored, "PNG")
    return stored.getvalue()


def sound_file() -> bytes:
    stored = io.BytesIO()
    with wave.open(stored, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(RNG.integers(-9999, 9999, 4000).astype("<i2").tobytes())
    return stored.getvalue()


FILES = {
    "pictures": picture_file,
    "sound": sound_file,
    "tables": lambda: table_input.text(RNG.integers(-9, 10, (1, 16, 16))),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def bundle(request, kind, tmp_path_factory):
    """A bundle of the kind whose sub-models have VIEWS."""
    made = request.getfixturevalue(KINDS[kind][0])
    copy = shutil.copytree(made, tmp_path_factory.mktemp("views") / kind)

    def give_views(manifest):
        for entry, view in zip(manifest["sub_models"], VIEWS, strict=True):
            entry["view"] = view.to_dict()

    rewrite_manifest(copy, give_views)
    return copy


@pytest.fixture(scope="module")
def encoded(kind) -> bytes:
    return FILES[kind]()


@pytest.fixture(scope="module")
def served(kind, bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    arguments = ("--insecure", "--metrics", "127.0.0.1:0")
    with (
        worker(bundle, folder, *arguments, prelude=KINDS[kind][1]) as one,
        one.channel() as channel,
    ):
        yield one, channel


@pytest.mark.parametrize("index", [0, 1])
def test_a_worker_sees_a_tensor_and_a_file_by_its_view(bundle, served, encoded, index):
    given = bundle_input(open_bundle(bundle))
    x = given.from_file(encoded)
    seen = VIEWS[index].applied(x)
    assert not np.array_equal(seen, x)

    name = f"submodel-0{index}"
    expected, _ = run_in_process(bundle / f"{name}.tflite", {given.name: seen})
    for value in (x, encoded):
        answer = tensors.arrays(ask(served[1], tensors.infer_request(name, {given.name: value})))
        for output, numbers in expected.items():
            np.testing.assert_array_equal(answer[output], numbers)


def test_a_worker_says_its_views(served):
    one, channel = served
    (told,) = one.events("serving")
    assert [model["view"] for model in told["models"]] == [str(view) for view in VIEWS]
    for index, view in enumerate(VIEWS):
        name = f"submodel-0{index}"
        request = messages.new("ModelMetadataRequest", name=name)
        metadata = messages.stub(channel, "ModelMetadata")(request, timeout=10)
        assert metadata.properties[messages.VIEW] == str(view)
        # and in every answer, of which a probe says nothing
        x = np.zeros(metadata.inputs[0].shape, tensors.DTYPES[metadata.inputs[0].datatype])
        answer = ask(channel, tensors.infer_request(name, {metadata.inputs[0].name: x}))
        assert tensors.parameters(answer)[messages.VIEW] == str(view)
        assert metric(one, "edvit_model_info", model=name, view=str(view)) == 1


def test_one_process_and_a_process_each_answer_by_the_views(bundle, kind, encoded, tmp_path):
    """`--predict`, and what accuracy is measured by."""
    fleet = load_fleet(bundle)
    x = fleet.input.from_file(encoded)
    many = np.concatenate([x, x[:, ::-1]])
    expected = fused(bundle, many)
    for row, probabilities in zip(many, expected, strict=True):
        np.testing.assert_allclose(fleet.probabilities(row), probabilities, rtol=1e-5)

    np.save(tmp_path / "x.npy", many)
    answers = ask_files(open_bundle(bundle), tmp_path / "x.npy")
    for index, view in enumerate(VIEWS):
        file = bundle / f"submodel-0{index}.tflite"
        alone, _ = run_in_process(file, {fleet.input.name: view.applied(many)})
        np.testing.assert_array_equal(answers.features[index], alone["features"])
        np.testing.assert_array_equal(answers.logits[index], alone["logits"])


def test_check_proves_the_files_and_says_what_a_view_takes(bundle):
    done = run_device("-m", "edvit_tf.device", bundle, "--check", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["models"]
    assert [row["view"] for row in rows] == [*map(str, VIEWS), "as it is"]
    assert all(row["view_ms"] > 0 for row in rows[:2]) and rows[2]["view_ms"] == 0
    assert all(row["golden_error"] < 1e-5 for row in rows)

    done = run_device("-m", "edvit_tf.device", bundle, "--check")
    assert "(sees it: down 2, right -1, crop 1, 0." in done.stdout


def test_the_process_that_runs_a_file_refuses_a_view_that_is_none(bundle, tmp_path):
    words = [bundle / "submodel-00.tflite", tmp_path / "x.npy", tmp_path / "out.npz"]
    module = "edvit_tf.device.model.subprocess_main"
    done = run_device("-m", module, *words, "--view", json.dumps({"crop": -1}))
    assert done.returncode == 2 and "--view" in done.stderr
