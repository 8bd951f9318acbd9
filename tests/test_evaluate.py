"""Accuracy by window and by recording; `edvit evaluate` against what the run stored; the command line's refusals."""

import json

import numpy as np
import pytest

from edvit_tf.evaluate import accuracy, confusion
from tests.conftest import run_python


def test_accuracy_by_window_and_by_recording():
    p = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.6, 0.4], [0.45, 0.55]])
    figures = accuracy(p, np.array([0, 0, 1, 1, 1]), np.array([0, 0, 3, 3, 7]))
    assert figures == {"window": pytest.approx(0.6), "windows": 5, "recording": 1.0, "recordings": 3}


def test_confusion_rows_are_true_classes():
    assert confusion(np.array([1, 1, 0]), np.array([0, 1, 0]), 2) == [[1, 1], [0, 1]]


def test_evaluate_repeats_the_stored_figures(smoke_bundle):
    stored = json.loads((smoke_bundle / "results.json").read_text())
    done = run_python("-m", "edvit_tf.cli", "evaluate", smoke_bundle, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["accuracy"] == stored["fusion"]["tflite"] and result["average"] == stored["fusion"]["average"]
    assert result["confusion"] == stored["confusion"]
    assert all(p["tensorflow_loaded"] is False for p in result["processes"])
    lost = json.loads(run_python("-m", "edvit_tf.cli", "evaluate", smoke_bundle, "--missing", "1", "--json").stdout)
    assert lost["missing"] == [1] and lost["accuracy"] == stored["missing_one"][1]["tflite"]


def test_evaluate_all_splits_counts_every_recording(smoke_bundle):
    result = json.loads(run_python("-m", "edvit_tf.cli", "evaluate", smoke_bundle, "--split", "all", "--json").stdout)
    sizes = result["data"]["splits"]
    assert result["accuracy"]["recordings"] == sum(sizes[s]["recordings"] for s in ("train", "validation", "test"))


@pytest.mark.parametrize("arguments, code, message", [
    (["evaluate", "BUNDLE", "--missing", "0,1"], 7, "no sub-model is left"),
    (["evaluate", "BUNDLE", "--missing", "7"], 7, "has 0 to 1"),
    (["evaluate", "nowhere"], 7, "no manifest.json"),
    (["evaluate", "BUNDLE", "--data-dir", "nowhere"], 4, "nowhere"),
    (["plan", "--model", "vit_huge"], 3, "vit_huge"),
    (["plan", "--model", "vit_base", "--devices", "2", "--budget", "1MiB"], 5, "MiB"),
    (["plan", "--devices", "11"], 5, "11"),
])
def test_the_command_line_says_what_to_do(smoke_bundle, arguments, code, message):
    done = run_python("-m", "edvit_tf.cli", *[str(smoke_bundle) if a == "BUNDLE" else a for a in arguments])
    assert done.returncode == code and message in done.stderr and "Traceback" not in done.stderr


def test_plan_prints_the_papers_sizes():
    done = run_python("-m", "edvit_tf.cli", "plan", "--model", "vit_base", "--devices", "10",
                      "--budget", "180MiB", "--json")
    plan = json.loads(done.stdout)
    assert {s["kept_heads"] for s in plan["sub_models"]} == {2} and len(plan["sub_models"]) == 10
    assert plan["sub_models"][0]["size_bytes"] / 2**20 == pytest.approx(9.6, rel=0.025)
