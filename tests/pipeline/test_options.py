"""A whole run away from the defaults: a pretrained base whose head reads patch tokens, all heads
kept, replicas.
"""

import json

import pytest

from edvit_tf.data.synthetic import SHAPES
from edvit_tf.device.model.bundle import open_bundle
from tests.support.checkpoint_files import HEADS, D, huggingface
from tests.support.commands import SMOKE, run_device, run_host

OPTIONS = (
    "--baselines",
    "none",
    "--heads",
    "keep",
    "--groups",
    "4",
    "--devices",
    "3",
    "--replicas",
    "2",
)


@pytest.fixture(scope="module")
def optional_bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("options")
    huggingface(
        folder / "base", "dinov2", classes=10, labels=list(SHAPES), image_size=28, patch_size=7
    )
    done = run_host(*SMOKE, "--base", folder / "base", *OPTIONS, "--out", folder / "mnist")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "mnist"


def test_sub_models_keep_every_head_and_lie_on_two_devices_each(optional_bundle):
    results = json.loads((optional_bundle / "results.json").read_text())
    base = results["base"]
    assert base["config"]["pool"] == "cls_mean" and base["training"] == {}
    assert (
        base["parity"]["ok"]
        and base["parity"]["max_relative_error"] < 1e-3
        and base["tflite"] == base["keras"]
    )
    assert (
        base["process"]["invoke_ms"]["median"] > 0 and base["process"]["tensorflow_loaded"] is False
    )
    assert len(results["sub_models"]) == 4 and all(
        entry["ok"] for entry in results["parity"].values()
    )
    for sub in results["sub_models"]:
        last = sub["stages"][-1]["config"]
        assert last["pool"] == "cls" and last["num_heads"] == HEADS
        assert last["head_dim"] == max(1, D // HEADS * sub["kept_heads"] // HEADS)
        assert len(set(sub["devices"])) == 2
        for stage in sub["stages"][1:] if sub["kept_heads"] < HEADS else ():
            assert set(stage["accuracy"]) == {"before", "cut", "repair", "fit"}
    held = [name for sub in results["sub_models"] for name in sub["devices"]]
    assert len(set(held)) == 3


def test_its_bundle_answers_without_tensorflow(optional_bundle):
    assert len(open_bundle(optional_bundle).sub_models) == 4
    done = run_device("-m", "edvit_tf.device", optional_bundle, "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f"submodel-0{i}" in done.stdout for i in range(4))


def test_with_replicas_the_loss_of_any_one_device_costs_nothing(optional_bundle):
    results = json.loads((optional_bundle / "results.json").read_text())
    assert [row["device"] for row in results["lost_devices"]] == [
        "device-00",
        "device-01",
        "device-02",
    ]
    for row in results["lost_devices"]:
        assert row["missing"] == [] and row["tflite"] == results["fusion"]["tflite"]
    assert (
        "3 of 3 devices can fail alone without any loss"
        in (optional_bundle / "report.html").read_text()
    )
