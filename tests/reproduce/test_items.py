"""Figures of the items from rows of runs, which are made up here."""

from pathlib import Path

import numpy as np
import pytest

from edvit_tf.errors import ExportError
from edvit_tf.reproduce import files, items, runs
from edvit_tf.reproduce.asked import Asked
from edvit_tf.reproduce.compare import compare
from edvit_tf.reproduce.paper import read_paper
from edvit_tf.reproduce.run import chosen_items
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
    fleets = "2: 53.0 %, 3: 54.0 %, 5: 56.0 %, 10: 61.0 %"
    assert figures["lost"] == f"base 52.0 %; fleets by N, {fleets}"
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


def test_systems_side_by_side_say_what_each_was_trained_on(monkeypatch):
    monkeypatch.setattr(items, "energy_of_bundle", lambda bundle: {})
    monkeypatch.setattr(items, "energy_html", lambda found: "")

    def made(run) -> dict:
        splits = {"train": 70 if run.recipe == "cifar10" else 7, "validation": 10, "test": 20}
        return row(10) | {"splits": splits, "base_params": 1_000_000 * len(run.recipe)}

    found = items.order(items.Now(now().asked, made))
    few = "cifar10: 7 / 10 / 20 (train / validation / test)"
    assert found["data"].startswith("ViT: cifar10: 70 / 10 / 20")
    assert found["data"].endswith(f"; CNN: {few}; SNN: {few}")
    assert found["base"].startswith("ViT: trained from scratch, 7.00 M weights; CNN: ")


def test_two_nets_are_ranked_of_as_many_pictures():
    """Split-SNN's recipe has 700 of a class; in other modes the two have the same anyway."""
    for mode, few in (("recipes", True), ("quick", False), ("full", False)):
        asked = now(mode=mode).asked
        (beside,) = [run for run in runs.order_runs(asked) if run.recipe == "cifar10_cnn"]
        (alone,) = runs.cnn_runs(asked)
        assert beside.options == (("--max-per-class", "700") if few else ())
        assert (beside.name != alone.name) == few


def test_figures_against_n_need_no_joint_training():
    names = {item.name for item in chosen_items(("figure 3", "figure 4", "figure 5"))}
    assert "vit" in names and "retrained" not in names
    assert "retrained" in {item.name for item in chosen_items(("table 3",))}


def test_latency_is_of_the_first_runtime_that_both_files_ran_in(monkeypatch):
    ran = {"median_ms": 8.0, "peak_rss_bytes": 2**20}
    sub_model = {"first": {"failure": "out of memory"}, "second": ran | {"median_ms": 2.0}}
    rows = [
        {"model": "vit_base", "devices": None, "measured": {"first": ran, "second": ran}},
        {"model": "vit_base", "devices": 10, "measured": sub_model},
    ]
    rows = [row | {"exported_bytes": 2**20} for row in rows]
    monkeypatch.setattr(files, "timed", lambda *given, **more: rows)
    monkeypatch.setattr(files, "against_n_html", lambda rows: [])
    found = files.latency(now().asked)
    assert found["figures"]["ratio"] == 4 and "second" in found["base"]

    sub_model["second"] = {"failure": "no such operation"}
    with pytest.raises(ExportError, match="first: out of memory; second: no such operation"):
        files.latency(now().asked)


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
