"""Runs with a shared model and joint training, and with softmax averaging: what is stored, and what
the files say.
"""

import hashlib
import json

import numpy as np
import pytest

from edvit_tf.aggregate.fusion import measured_losses
from edvit_tf.config import TrainConfig
from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.pipeline import cutting
from edvit_tf.pipeline.inputs import Split
from edvit_tf.pipeline.store import Stages
from edvit_tf.planning.plan import Plan
from edvit_tf.report.results import results_from_dict
from edvit_tf.report.tables import stages_table
from edvit_tf.training.calibrate import calibration_figures
from edvit_tf.training.train import predict
from tests.support.commands import SMOKE, run_device, run_host

SHARED = """
from edvit_tf.cli.recipe import main
from edvit_tf.config import TrainConfig
from tests.support import small_recipe
fit = TrainConfig(epochs=1, batch_size=16, patch_dropout=0.5, feature_distillation=1.0)
smoke = {
    **small_recipe.SMOKE, "num_devices": 3, "budget_bytes": 66_000, "fusion": "joint",
    "shared_training": fit, "joint_training": fit, "repair_samples": 24,
    "teacher_precision": "bfloat16",
}
raise SystemExit(main("x", small_recipe.CONFIG, smoke=smoke, paper=small_recipe.PAPER))
"""


@pytest.fixture(scope="module")
def shared_bundle(tmp_path_factory):
    out = tmp_path_factory.mktemp("shared") / "mnist"
    done = run_host(
        "-c", SHARED, "--smoke", "--synthetic", "--baselines", "single,plain,total", "--out", out
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_sub_models_start_from_one_shared_model_and_are_trained_together(shared_bundle):
    results = json.loads((shared_bundle / "results.json").read_text())
    work = shared_bundle.with_name("mnist.work")
    label, shared = next(iter(results["shared"].items()))
    assert [s["stage"] for s in shared] == ["head", "residual", "attention", "ffn"]
    assert [bool(s["history"].get("samples")) for s in shared] == [False, False, False, True]
    assert all(
        [s["stage"] for s in sub["stages"]] == ["group"]
        for sub in [*results["sub_models"], results["single"]]
    )
    assert set(results["shared"]) == {label, f"shared-{results['total']['config']['num_heads']}"}
    weights = {
        name: np.load(work / name)
        for name in (
            f"{label}.ffn/weights.npz",
            "submodel-00.group/weights.npz",
            "joint/submodel-00.npz",
        )
    }
    one, two, three = (w["block_00.mlp.expand.kernel"] for w in weights.values())
    assert one.shape == two.shape == three.shape
    assert (one != two).any() and (two != three).any()  # each fit changed something
    assert np.abs(two - one).max() < np.abs(one).max()  # and started from where the other left
    assert results["fusion"]["kind"] == "joint" and results["fusion"]["joint"]["samples"] > 0
    assert all(entry["ok"] for entry in results["parity"].values())


def test_the_head_alone_is_measured_before_a_sub_models_own_fit(shared_bundle):
    results = json.loads((shared_bundle / "results.json").read_text())
    steps = [list(sub["stages"][0]["accuracy"]) for sub in results["sub_models"]]
    assert all(sorted(names) == ["before", "cut", "fit", "repair"] for names in steps)
    assert sorted(results["single"]["stages"][0]["accuracy"]) == [
        "before",
        "cut",
        "fit",
    ]  # it has no "other" to fit
    table = stages_table(results_from_dict(results))
    assert "before -> cut -> repair -> fit" in table
    dashed = next(line for line in table.splitlines() if line.startswith("single"))
    assert dashed.split().count("-") == 1

    stages = Stages(shared_bundle.with_name("mnist.work"), "")
    stored = stages.result("submodel-00.group")
    widths, weights = ViTConfig.from_dict(stored["config"]), stages.arrays("submodel-00.group")
    plan = Plan.from_dict(stages.result("plan")["plan"])
    classes, validation = plan.sub_models[0].classes, Split(stages, "validation")
    features = predict(widths, weights, validation.x)["features"]
    assert (
        cutting.head_accuracy(weights, features, validation.labels, classes)
        == stored["accuracy"]["fit"]
    )


def test_a_fit_that_loses_is_told(capsys):
    def told(start: float, end: float, **repair) -> str:
        cutting.tell_a_loss(
            "submodel-00.group",
            {"cut": {"all": start}, **repair, "fit": {"all": end}},
            TrainConfig(epochs=1, learning_rate=4e-4),
        )
        return capsys.readouterr().out

    assert (
        "lost 5.2 points" in told(0.2, 0.824, repair={"all": 0.876})
        and not told(0.8, 0.795)
        and not told(0.2, 0.9)
    )
    assert "lower than 0.0004" in told(0.9, 0.8)


def test_every_rival_gets_the_fleets_training(shared_bundle):
    results = json.loads((shared_bundle / "results.json").read_text())
    spent = results["training_macs"]
    for kind in ("single", "plain", "total"):
        batch = (
            3 * 16 * results[kind]["macs"]
        )  # forward and backward; the last of each of two fits is filled up
        assert spent[kind] == pytest.approx(
            spent["fleet"], rel=0.1, abs=2 * batch if kind == "total" else 0
        ), kind
        assert results[kind]["tflite"]["recordings"] == results["fusion"]["tflite"]["recordings"]
        assert results[kind]["parity"]["ok"]


def test_the_rivals_are_what_they_are_called(shared_bundle):
    results = json.loads((shared_bundle / "results.json").read_text())
    single, plain, total = (results[kind] for kind in ("single", "plain", "total"))
    assert plain["config"] == single["config"] and plain["file_bytes"] == single["file_bytes"]
    assert [s["stage"] for s in plain["stages"]] == [
        "head",
        "residual",
        "attention",
        "ffn",
        "group",
    ]
    files = sum(sub["file_bytes"] for sub in results["sub_models"])
    assert single["file_bytes"] < total["file_bytes"] <= files
    weights = [
        np.load(shared_bundle.with_name("mnist.work") / f"{kind}.group/weights.npz")
        for kind in ("single", "plain")
    ]
    assert (weights[0]["head.kernel"] != weights[1]["head.kernel"]).any()
    page = (shared_bundle / "report.html").read_text()
    assert "the same, not distilled" in page and "one model of all files&#x27; size" in page


def test_accuracy_is_stored_for_every_number_of_lost_sub_models(shared_bundle):
    results = json.loads((shared_bundle / "results.json").read_text())
    assert [row["missing"] for row in results["losses"]] == [[0], [1], [2], [0, 1], [0, 2], [1, 2]]
    assert [row["tflite"] for row in results["missing_one"]] == [
        row["tflite"] for row in results["losses"][:3]
    ]
    stored = measured_losses(open_bundle(shared_bundle))
    assert (
        stored[frozenset({"submodel-00", "submodel-02"})]
        == results["losses"][4]["tflite"]["recording"]
    )
    done = run_host("-m", "edvit_tf.cli", "evaluate", shared_bundle, "--missing", "0,2", "--json")
    assert json.loads(done.stdout)["accuracy"] == results["losses"][4]["tflite"]


def test_probabilities_are_calibrated_on_validation_data(shared_bundle):
    fusion = json.loads((shared_bundle / "results.json").read_text())["fusion"]
    told = fusion["validation_calibration"]
    assert told["after"]["nll"] <= told["before"]["nll"] + 1e-9 and fusion["temperature"] > 0
    assert 0 <= fusion["calibration"]["ece"] <= 1
    work = shared_bundle.with_name("mnist.work")
    raw, cooled = (
        np.load(work / name / "weights.npz")["probabilities.kernel"]
        for name in ("joint", "calibration")
    )
    np.testing.assert_allclose(cooled * fusion["temperature"], raw, rtol=1e-5)


def test_every_answer_is_stored_and_compared_by_recording(shared_bundle):
    """predictions.npz has what the accuracies, the calibration and the comparisons are of."""
    results = json.loads((shared_bundle / "results.json").read_text())
    told = results["predictions"]
    content = (shared_bundle / told["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == told["sha256"]

    with np.load(shared_bundle / "predictions.npz", allow_pickle=False) as file:
        stored = dict(file)
    right = {}
    measured = {
        "fused": results["fusion"] | {"accuracy": results["fusion"]["tflite"]},
        "average": {
            "accuracy": results["fusion"]["average"],
            "calibration": results["fusion"]["average_calibration"],
        },
        **{
            name: results[name] | {"accuracy": results[name]["tflite"]}
            for name in ("base", "single", "plain", "total")
        },
        "floor": results["floor"],
    }
    for name, figures in measured.items():
        p = stored[f"{name}_probabilities"]
        right[name] = stored[f"{name}_top1"] == stored["labels"]
        assert right[name].mean() == figures["accuracy"]["recording"], name
        assert figures["calibration"] == pytest.approx(
            calibration_figures(p, stored["labels"]), rel=1e-4
        ), name

    base = results["floor"]["base"]
    assert base["difference"] == pytest.approx(right["base"].mean() - right["floor"].mean())
    assert set(results["comparisons"]) == set(measured) - {"fused"}
    for name, found in results["comparisons"].items():
        assert found["first_only"] == (right["fused"] & ~right[name]).sum(), name
        assert found["second_only"] == (right[name] & ~right["fused"]).sum(), name
    for name in ("base", "single", "plain", "total"):
        assert results[name]["temperature"] > 0
    names = {*(sub["name"] for sub in results["sub_models"]), *measured, "fusion"}
    assert set(results["turns"]["models"]) == names - {"fused", "average", "floor"}
    assert results["flavours"][0]["paired"]["first_only"] == 0
    for lost in results["missing_one"]:
        change = lost["tflite"]["recording"] - results["fusion"]["tflite"]["recording"]
        assert lost["paired"]["difference"] == pytest.approx(change)


def test_the_average_is_a_fusion_file_that_the_aggregator_can_use(tmp_path):
    """The same graph inputs as the tower's; its answers are the numpy average's, and missing ones
    are left out.
    """
    out = tmp_path / "mnist"
    done = run_host(*SMOKE, "--fusion", "average", "--baselines", "none", "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((out / "results.json").read_text())
    told = results["fusion"]["history"]["other"]
    assert set(told["validation"]) == {"as fitted", "other's prior"}
    if told["kept"] == "as fitted":  # an average of pictures: a temperature changes no order
        assert results["fusion"]["tflite"] == results["fusion"]["average"]
    manifest = open_bundle(out).manifest
    assert manifest.fusion.kind == "average" and results["parity"]["fused"]["ok"]
    done = run_device("-m", "edvit_tf.device", out, "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_another_grouping_takes_the_shared_model_and_ends_with_the_same_files(
    shared_bundle, tmp_path
):
    work = shared_bundle.with_name("mnist.work")
    other = (
        "-c",
        SHARED,
        "--smoke",
        "--synthetic",
        "--strategy",
        "dissimilar",
        "--baselines",
        "none",
    )
    alone = run_host(*other, "--out", tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    done = run_host(*other, "--reuse", work, "--out", tmp_path / "taken")
    assert done.returncode == 0, done.stderr
    label = min(
        path.name for path in work.glob("shared-*.ffn")
    )  # of the sub-models; the other is a rival's
    taken = [
        line
        for line in done.stdout.splitlines()
        if line.startswith("[shared-") and "taken from" in line
    ]
    assert len(taken) == 4 and taken[-1].startswith(f"[{label}]"), done.stdout
    assert (work / label / "weights.npz").samefile(tmp_path / "taken.work" / label / "weights.npz")
    files = sorted(path.name for path in (tmp_path / "alone").glob("*.tflite"))
    assert len(files) == 4
    for name in files:
        assert (tmp_path / "alone" / name).read_bytes() == (
            tmp_path / "taken" / name
        ).read_bytes(), name
    changed = run_host(
        *[part.replace("patch_dropout=0.5", "patch_dropout=0.25") for part in other],
        "--reuse",
        work,
        "--out",
        tmp_path / "changed",
    )
    assert changed.returncode == 0 and "[shared-" in changed.stdout, changed.stderr
    assert (
        "[teacher] taken from" in changed.stdout and f"[{label}] taken from" not in changed.stdout
    )
