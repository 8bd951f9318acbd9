"""The audit of a small bundle with made-up weights: what fits is said to fit, and what was tampered
with is named.
"""

import json
import math
import shutil

import pytest

from edvit_tf.device.errors import BundleError
from edvit_tf.device.model.bundle import sha256
from edvit_tf.device.model.runtime import installed_runtimes
from tests.support import made_bundle


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return made_bundle.write(
        tmp_path_factory.mktemp("audit") / "bundle", flavours=("float32", "float16")
    )


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
    assert result["reconciled"] and [m["name"] for m in result["models"]] == [
        "submodel-00",
        "submodel-01",
        "fusion",
    ]
    for found in result["models"]:
        assert found["reasons"] == [] and found["params_keras"] == found["params_config"]
        assert found["weight_bytes"] == 4 * found["params_keras"] >= found["matrix_bytes"]
        file = made / f"{found['name']}.tflite"
        assert (
            found["tflite_bytes"]
            == file.stat().st_size
            == found["weight_bytes"] + found["overhead_bytes"]
        )
        assert found["sha256"][file.name] == sha256(file)
    first, fusion = result["models"][0], result["models"][2]
    assert first["params_manifest"] == first["params_keras"] and first["macs"] < first["macs_full"]
    width = 2 * 24
    hidden = math.ceil(width / 2)
    assert fusion["params_keras"] == (width + 1) * hidden + (hidden + 1) * len(made_bundle.LABELS)
    assert result["totals"]["tflite_bytes"] == sum(m["tflite_bytes"] for m in result["models"])
    json.dumps(result)


@pytest.mark.parametrize("kind", ["average", "low_rank"])
def test_every_kind_of_fusion_is_reconciled_with_copies_of_one_model(kind, tmp_path):
    from edvit_tf.report.audit import audit

    views = [{}, {"mirrored": True}, {"right": 1}]
    found = audit(made_bundle.write(tmp_path / "bundle", views=views, fusion=kind))
    fusion = found["models"][-1]
    assert fusion["reasons"] == [] and found["reconciled"]
    assert fusion["params_config"] == fusion["params_keras"]
    assert fusion["macs"] >= 3 * 24 * 3  # half the rank of six classes
    # who holds a sub-model has room for the fusion
    assert all(fusion["tflite_bytes"] < own["tflite_bytes"] for own in found["models"][:-1])


def test_a_fusion_of_an_unknown_kind_is_said_to_be_of_a_newer_version(made, tmp_path):
    from edvit_tf.report.audit import audit

    folder = changed(made, tmp_path, lambda m, _: m["fusion"].update(kind="forest"))
    with pytest.raises(
        BundleError, match=r"the kind 'forest'; this version knows tower, .*Use the"
    ):
        audit(folder)


def test_the_text_is_ascii_shows_every_layer_and_equal_summaries_once(result):
    from edvit_tf.report.audit import text

    shown = text(result)
    assert shown.isascii() and max(map(len, shown.splitlines())) <= 120
    for layer in (
        "patch_embedding (Conv2D)",
        "block_01.attention.heads (DotProductAttention)",
        "block_01.mlp.contract",
        "head (Dense)",
        "tower.hidden (Dense)",
    ):
        assert shown.count(layer) >= 1, layer
    assert shown.count('Model: "submodel_0') == 1
    assert "submodel-01: layer by layer the same table as submodel-00" in shown
    assert "NOT reconciled" not in shown
    row = next(line for line in shown.splitlines() if line.startswith("submodel-01  "))
    assert f"{result['models'][1]['tflite_bytes']:,}" in row and row.endswith("yes")


def test_each_file_is_run_in_each_runtime_and_its_operators_and_memory_are_told(result):
    from edvit_tf.report.audit import text

    runs = {(run["file"], run["runtime"].split()[0]): run for run in result["runs"]}
    files = [f"submodel-0{j}{flavour}.tflite" for j in range(2) for flavour in ("", ".float16")] + [
        "fusion.tflite"
    ]
    assert set(runs) == {(file, runtime) for file in files for runtime in installed_runtimes()}
    for (file, runtime), run in runs.items():
        assert 0 < run["rss_bytes"] <= run["estimated_bytes"] and run["reasons"] == []
        assert run["partitions"] >= 1 and set(run["undelegated"]) <= set(run["operators"])
        if runtime == "tflite-runtime" and file.startswith("submodel"):
            assert (
                run["undelegated"]["BATCH_MATMUL"] == run["operators"]["BATCH_MATMUL"] == 4
            )  # two a block
        if runtime == "ai-edge-litert" and file.startswith("submodel"):
            assert set(run["undelegated"]) <= {"CAST"}  # of the uint8 picture
    shown = text(result)
    assert shown.count("submodel-01.float16.tflite") >= len(installed_runtimes())
    assert "operators of submodel-00" in shown


def test_operators_are_those_of_the_file(made, result):
    from tests.support.tflite_count import operators

    for run in result["runs"]:
        assert run["operators"] == operators(made / run["file"])


def test_a_file_that_takes_more_memory_than_is_reserved_is_reported(made, monkeypatch):
    from edvit_tf.report import audit, audit_runs

    monkeypatch.setattr(audit_runs, "needed_memory", lambda file_bytes: 1000)
    found = audit.audit(made)
    assert not found["reconciled"] and "a device reserves 1,000" in audit.text(found)


def test_a_manipulated_count_is_reported(made, tmp_path):
    from edvit_tf.report.audit import audit, text

    def change(manifest, folder):
        manifest["sub_models"][1]["params"] += 1
        manifest["sub_models"][0]["config"]["mlp_dim"] += 1

    found = audit(changed(made, tmp_path, change))
    assert not found["reconciled"] and [m["reconciled"] for m in found["models"]] == [
        False,
        False,
        True,
    ]
    params = found["models"][1]["params_keras"]
    assert found["models"][1]["reasons"] == [
        f"the manifest says params {params + 1:,}; its config gives {params:,}"
    ]
    assert any(
        "has mlp_dim 48; the manifest's config says 49" in reason
        for reason in found["models"][0]["reasons"]
    )
    assert "NOT reconciled: submodel-01" in text(found)


@pytest.mark.parametrize(
    "size, word",
    [
        (2000, "fewer than its weight matrices'"),
        (400_000, "larger than its weights"),
    ],
)
def test_a_file_of_the_wrong_size_is_reported_even_if_the_manifest_agrees(
    made, tmp_path, size, word
):
    from edvit_tf.report.audit import audit

    def change(manifest, folder):
        file = folder / "submodel-00.tflite"
        file.write_bytes(file.read_bytes()[:size].ljust(size, b"\0"))
        manifest["files"][file.name] = {"bytes": size, "sha256": sha256(file)}

    found = audit(changed(made, tmp_path, change))
    assert [m["reconciled"] for m in found["models"]] == [False, True, True] and not found[
        "reconciled"
    ]
    assert word in found["models"][0]["reasons"][0]


@pytest.mark.parametrize("name", ["submodel-00.tflite", "submodel-01.keras", "fusion.tflite"])
def test_a_truncated_file_is_refused(made, tmp_path, name):
    from edvit_tf.report.audit import audit

    def change(manifest, folder):
        (folder / name).write_bytes((folder / name).read_bytes()[:-1])

    with pytest.raises(BundleError, match=f"{name} was changed"):
        audit(changed(made, tmp_path, change))
