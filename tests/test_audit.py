"""The audit of a small bundle with made-up weights: what fits is said to fit, and what was tampered with is named."""

import json
import math
import shutil

import numpy as np
import pytest

from edvit_tf.config import DataConfig, DeviceSpec, Plan, RunConfig, SubModelPlan, TrainConfig, ViTConfig
from edvit_tf.device.bundle import BundleError, sha256
from edvit_tf.planning import cost

LABELS = ("ant", "bee", "cat", "dog")
GROUPS = ((0, 1), (2, 3))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bundle of two sub-models and a fusion, random weights, 16 x 16 pictures."""
    from edvit_tf.export.bundle import BundleParts, write_bundle
    from edvit_tf.models.vit import build_vit, get_weights
    from edvit_tf.training.fuse import build_fusion

    config = ViTConfig((16, 16, 1), patch_size=8, num_layers=2, hidden_dim=24, num_heads=2, head_dim=12, mlp_dim=48,
                       num_classes=3)
    subs = tuple(SubModelPlan(j, group, 2, config, cost.size_bytes(config), cost.macs(config), (f"pi-{j}",))
                 for j, group in enumerate(GROUPS))
    devices = tuple(DeviceSpec(name=f"pi-{j}") for j in range(2))
    model, fusion = build_vit(config), build_fusion((config.hidden_dim,) * 2, len(LABELS))
    rng = np.random.default_rng(0)

    def drawn(of):
        return {name: rng.normal(0, 0.1, w.shape).astype(np.float32) for name, w in get_weights(of).items()}

    fit = TrainConfig(epochs=1)
    folder = tmp_path_factory.mktemp("audit") / "bundle"
    folder.mkdir()
    write_bundle(folder, BundleParts(
        run=RunConfig("demo", DataConfig("mnist", (16, 16)), "vit_smoke", fit, fit, fit, num_devices=2),
        plan=Plan(subs, devices, None, "random", "greedy"), labels=LABELS, input_spec={"kind": "image"},
        mel_filters=None, data={"name": "mnist", "source": "made up", "synthetic": True}, splits={},
        sub_models=(drawn(model), drawn(model)), fusion=drawn(fusion)))
    return folder


@pytest.fixture(scope="module")
def result(made):
    from edvit_tf.report.audit import audit

    return audit(made)


def changed(made, tmp_path, change):
    """A copy of the bundle whose manifest went through `change`."""
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest, folder)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_a_sound_bundle_is_reconciled(made, result):
    assert result["reconciled"] and [m["name"] for m in result["models"]] == ["submodel-00", "submodel-01", "fusion"]
    for found in result["models"]:
        assert found["reasons"] == [] and found["params_keras"] == found["params_config"]
        assert found["weight_bytes"] == 4 * found["params_keras"] >= found["matrix_bytes"]
        file = made / f"{found['name']}.tflite"
        assert found["tflite_bytes"] == file.stat().st_size == found["weight_bytes"] + found["overhead_bytes"]
        assert found["sha256"][file.name] == sha256(file)
    first, fusion = result["models"][0], result["models"][2]
    assert first["params_manifest"] == first["params_keras"] and first["macs"] < first["macs_full"]
    width = 2 * 24
    hidden = math.ceil(width / 2)
    assert fusion["params_keras"] == (width + 1) * hidden + (hidden + 1) * len(LABELS)
    assert result["totals"]["tflite_bytes"] == sum(m["tflite_bytes"] for m in result["models"])
    json.dumps(result)


def test_the_text_is_ascii_shows_every_layer_and_equal_summaries_once(result):
    from edvit_tf.report.audit import text

    shown = text(result)
    assert shown.isascii() and max(map(len, shown.splitlines())) <= 120
    for layer in ("patch_embedding (Conv2D)", "block_01.attention.heads (DotProductAttention)", "block_01.mlp.contract",
                  "head (Dense)", "tower.hidden (Dense)"):
        assert shown.count(layer) >= 1, layer
    assert shown.count('Model: "submodel_0') == 1
    assert "submodel-01: layer by layer the same table as submodel-00" in shown
    assert "NOT reconciled" not in shown
    row = next(line for line in shown.splitlines() if line.startswith("submodel-01  "))
    assert f"{result['models'][1]['tflite_bytes']:,}" in row and row.endswith("yes")


def test_a_manipulated_count_is_reported(made, tmp_path):
    from edvit_tf.report.audit import audit, text

    def change(manifest, folder):
        manifest["sub_models"][1]["params"] += 1
        manifest["sub_models"][0]["config"]["mlp_dim"] += 1

    found = audit(changed(made, tmp_path, change))
    assert not found["reconciled"] and [m["reconciled"] for m in found["models"]] == [False, False, True]
    params = found["models"][1]["params_keras"]
    assert found["models"][1]["reasons"] == [f"the manifest says params {params + 1:,}; its config gives {params:,}"]
    assert any("has mlp_dim 48; the manifest's config says 49" in reason for reason in found["models"][0]["reasons"])
    assert "NOT reconciled: submodel-01" in text(found)


@pytest.mark.parametrize("size, word", [
    (2000, "fewer than its weight matrices'"), (400_000, "larger than its weights"),
])
def test_a_file_of_the_wrong_size_is_reported_even_if_the_manifest_agrees(made, tmp_path, size, word):
    from edvit_tf.report.audit import audit

    def change(manifest, folder):
        file = folder / "submodel-00.tflite"
        file.write_bytes(file.read_bytes()[:size].ljust(size, b"\0"))
        manifest["files"][file.name] = {"bytes": size, "sha256": sha256(file)}

    found = audit(changed(made, tmp_path, change))
    assert [m["reconciled"] for m in found["models"]] == [False, True, True]
    assert word in found["models"][0]["reasons"][0]


@pytest.mark.parametrize("name", ["submodel-00.tflite", "submodel-01.keras", "fusion.tflite"])
def test_a_truncated_file_is_refused(made, tmp_path, name):
    from edvit_tf.report.audit import audit

    def change(manifest, folder):
        (folder / name).write_bytes((folder / name).read_bytes()[:-1])

    with pytest.raises(BundleError, match=f"{name} was changed"):
        audit(changed(made, tmp_path, change))
