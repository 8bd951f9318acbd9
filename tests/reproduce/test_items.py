"""Figures of the items from rows of runs, which are made up here."""

from pathlib import Path

import numpy as np
import pytest

from edvit_tf.reproduce import items
from edvit_tf.reproduce.asked import Asked
from edvit_tf.reproduce.compare import compare
from edvit_tf.reproduce.paper import read_paper
from edvit_tf.study import tsne


def row(devices: int, seed: int = 0, fused: float = 0.8, spikes: float | None = None) -> dict:
    model = {"accuracy": fused, "device_bytes": 2**20, "total_bytes": devices * 2**20}
    model |= {"device_macs": 2_000_000, "median": 1.5}
    return {
        "devices": devices,
        "seed": seed,
        "data": "cifar10",
        "synthetic": False,
        "splits": {"train": 70, "validation": 10, "test": 20},
        "given": None,
        "base_params": 1_500_000,
        "command": f"python recipes/cifar10.py --devices {devices} --seed {seed}",
        "spikes": spikes,
        "models": {"fused": model, "average": model | {"accuracy": fused - 0.1}, "base": model},
    }


def now(*seeds: int, mode: str = "recipes", **more) -> items.Now:
    """Runs with a point more for each device and each seed."""
    asked = Asked(out=Path("out"), recipes=Path("recipes"), seeds=seeds or (0,), mode=mode)

    def made(run) -> dict:
        share = 0.5 + run.devices / 100 + run.seed / 100
        return row(run.devices, run.seed, share, **more)

    return items.Now(asked, made)


def test_accuracies_against_n_are_means_over_the_seeds():
    found = items.vit(now(0, 2))
    figures = found["figures"]
    assert figures["n5.fused"] == pytest.approx(56) and figures["n5.average"] == pytest.approx(46)
    assert figures["n10.total_mib"] == 10 and figures["n10.ms"] == 1.5
    assert figures["said"].startswith("accuracy by N, 1: 52.0 %")
    assert found["seeds"] == [0, 2] and "70 / 10 / 20" in found["data"]
    assert found["base"] == "trained from scratch, 1.50 M weights"

    rows = compare(read_paper(), {"vit": found}, now().asked)
    of = {row.said.id: row.about for row in rows}
    assert of["fused-n10"]["command"].endswith("--devices 10 --seed 0")
    assert of["average-n2"]["command"].endswith("--devices 2 --seed 0")


def test_a_recipes_figures_have_its_data_and_its_spikes():
    asked = now(spikes=250_000.0)
    item = next(item for item in items.ITEMS if item.name == "snn")
    figures = item.build(asked)["figures"]
    assert figures["million_spikes"] == 0.25 and figures["devices"] == 10
    assert (figures["recordings"], figures["train_and_validation"], figures["test"]) == (
        100,
        80,
        20,
    )


def test_features_of_each_n_are_drawn_with_a_number_beside_them(monkeypatch):
    def study(bundle, each):
        panels = []
        for key, knn in (("fused", 0.9), ("sub_model", None if "n2-" in str(bundle) else 0.7)):
            panel = {"key": key, "title": f"<{key}>", "width": 8, "knn": knn, "auc_of": "all"}
            points = np.zeros((each, 2))
            panels.append(panel | {"silhouette": None, "auc": None, "points": points})
        return {
            "panels": panels,
            "labels": ["a"],
            "notes": [],
            "point_labels": np.zeros(each, int),
            "recordings": np.arange(each),
        }

    monkeypatch.setattr(tsne, "tsne_study", study)
    found = items.tsne(now(mode="quick"))
    assert found["figures"]["n10.fused.knn"] == 90
    assert found["figures"]["said"].endswith("by N, 2: -, 3: 70 %, 5: 70 %, 10: 70 %")
    assert found["html"].count("<h3>") == 4 and "<fused>" not in found["html"]
