"""A further kind of input is one object and a line of a table: a made-up one goes from a file to
the answers of a worker, of an aggregator and of --predict, and nothing on the way knows it.
"""

import contextlib
import json
import shutil

import grpc
import numpy as np
import pytest

from edvit_tf.device.errors import BundleError
from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.model.input_kinds import KINDS, spec_from_dict
from edvit_tf.device.rpc import messages, tensors
from tests.support import table_input
from tests.support.aggregator_process import aggregator, fused, infer, wait_ready
from tests.support.commands import rewrite_manifest, run_python
from tests.support.worker_process import ask, worker

NUMBERS = np.random.default_rng(1).integers(-9, 10, (3, 16, 16))
ENCODED = table_input.text(NUMBERS[:1])
TABLES = (3 * NUMBERS).astype(np.int32)[..., np.newaxis]  # in the bundle's unit


@pytest.fixture(scope="module")
def bundle(tables_bundle):
    return tables_bundle


@pytest.fixture(scope="module")
def served(bundle, tmp_path_factory):
    with (
        worker(bundle, tmp_path_factory.mktemp("tables"), prelude=table_input.PRELUDE) as one,
        one.channel() as channel,
    ):
        yield one, channel


def answer(channel, value) -> dict[str, np.ndarray]:
    return tensors.arrays(ask(channel, tensors.infer_request("submodel-00", {"table": value})))


def refused(channel, value) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as error:
        answer(channel, value)
    return error.value.code(), error.value.details()


def test_the_bundle_says_what_it_takes(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["task"] == "table-classification"
    assert manifest["input"] == {
        "name": "table",
        "dtype": "int32",
        "shape": [16, 16, 1],
        "spec": {"kind": "csv", "rows": 16, "columns": 16},
        "files": ["unit.txt"],
    }
    assert (bundle / "unit.txt").read_bytes() == b"3" and "unit.txt" in manifest["files"]
    assert "a table of whole numbers (int32)" in (bundle / "README.md").read_text()
    with np.load(bundle / "golden.npz") as golden:
        assert golden["input"].dtype == np.int32 and golden["input"].shape == (1, 16, 16, 1)


def test_a_worker_answers_the_tensor_and_the_file_alike(bundle, served):
    one, channel = served
    by_tensor, by_file = answer(channel, TABLES[:1]), answer(channel, ENCODED)
    for name in ("features", "logits"):
        assert np.isfinite(by_tensor[name]).all()
        np.testing.assert_array_equal(by_tensor[name], by_file[name])
    assert one.serving["message_limit_bytes"] == 12 * 256 + 65_536

    told = messages.stub(channel, "ModelMetadata")(
        messages.new("ModelMetadataRequest", name="submodel-00"), timeout=10
    ).inputs[0]
    assert (told.name, told.datatype, list(told.shape)) == ("table", "INT32", [1, 16, 16, 1])


@pytest.mark.parametrize(
    "value, message",
    [
        (b"one,two", "7 bytes: no table"),
        (b"1,2\n3,4", "no table (cannot reshape"),
        (table_input.text(NUMBERS), "got 3 tables; expected one; send each table by itself"),
        (TABLES[:1].astype(np.float32), "datatype: got FP32; expected INT32"),
        (TABLES[:1, :8], "got [1, 8, 16, 1]; expected [1, 16, 16, 1]"),
    ],
)
def test_a_worker_names_what_it_cannot_use(served, value, message):
    code, details = refused(served[1], value)
    assert code is grpc.StatusCode.INVALID_ARGUMENT and message in details, details


def test_predict_takes_every_table_of_a_file(bundle, tmp_path):
    (tmp_path / "three.csv").write_bytes(table_input.text(NUMBERS))
    code = (
        f"{table_input.PRELUDE}import sys; from edvit_tf.device.__main__ import main; "
        "sys.exit(main(sys.argv[1:]))"
    )
    done = run_python("-c", code, bundle, "--predict", tmp_path / "three.csv", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["windows"] == 3
    expected = fused(bundle, TABLES).mean(axis=0)
    np.testing.assert_allclose(list(said["probabilities"].values()), expected, rtol=1e-5)

    (tmp_path / "none.csv").write_text("no numbers")
    done = run_python("-c", code, bundle, "--predict", tmp_path / "none.csv")
    assert done.returncode == 10 and "none.csv: no table" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_aggregator_passes_it_on(bundle, served, tmp_path):
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(
            aggregator(bundle, tmp_path, [served[0].address], prelude=table_input.PRELUDE)
        )
        channel = stack.enter_context(one.channel())
        wait_ready(channel)
        for value in (TABLES[:1], ENCODED):
            outputs, said, _ = infer(channel, value, name="table")
            expected = fused(bundle, TABLES[:1])
            np.testing.assert_array_equal(outputs["probabilities"], expected)
            assert said["degraded"] is False


def test_a_process_that_does_not_know_it_says_which_it_knows(bundle, tmp_path):
    done = run_python("-m", "edvit_tf.device", bundle, "--predict", tmp_path / "x.csv")
    assert done.returncode == 7 and "kind 'csv'; the kinds are image, mel, text" in done.stderr


def test_a_bundle_without_its_input_files_is_named(bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "copy")
    rewrite_manifest(copy, lambda m: m["input"].update(files=[]))
    with pytest.raises(BundleError, match=r"lacks unit\.txt"):
        bundle_input(open_bundle(copy))


def test_a_manifest_of_an_earlier_version_opens(tiny_mel_bundle, tmp_path):
    """Its input has the key mel_filters in the place of files."""
    copy = shutil.copytree(tiny_mel_bundle, tmp_path / "copy")

    def as_before(manifest):
        manifest["input"]["mel_filters"] = manifest["input"].pop("files")[0]

    now = bundle_input(open_bundle(tiny_mel_bundle))
    rewrite_manifest(copy, as_before)
    before = bundle_input(open_bundle(copy))
    assert before.spec == now.spec and open_bundle(copy).input_files == ("mel_filters.npy",)
    np.testing.assert_array_equal(before.files["mel_filters.npy"], now.files["mel_filters.npy"])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_brings_what_a_spec_promises(kind):
    values = {
        "image": {"height": 12, "width": 10, "channels": 3},
        "mel": {
            "sample_rate_hz": 8000,
            "window_samples": 4000,
            "n_fft": 256,
            "hop_length": 128,
            "n_mels": 16,
            "frames": 31,
            "fmin_hz": 0.0,
            "fmax_hz": 4000.0,
            "height": 12,
            "width": 10,
        },
        "csv": {"rows": 12, "columns": 10},
        "text": {"length": 16, "vocab_size": 40},
    }
    spec = spec_from_dict({"kind": kind, **values[kind]})
    assert spec_from_dict(json.loads(json.dumps(spec.to_dict()))) == spec

    golden = spec.golden_sample(5, (0.5,), (2.0,))
    assert golden.shape == (1, *spec.shape) and golden.dtype == spec.dtype
    np.testing.assert_array_equal(golden, spec.golden_sample(5, (0.5,), (2.0,)))
    assert np.ptp(spec.golden_sample(6, (0.5,), (2.0,)) - golden) > 0

    assert np.dtype(spec.dtype) in tensors.DATATYPES and spec.largest_file_bytes > 0
    assert spec.task == f"{spec.modality}-classification" and spec.item and spec.described
    assert spec.is_sound == hasattr(spec, "from_samples")
