"""A run that ends below its floor says so before anything else, and what to do."""

import re

import pytest

from edvit_tf.device.model.manifest import manifest_from_dict
from edvit_tf.report.advice import advice
from edvit_tf.report.advised import advice_text
from edvit_tf.report.compared import compared
from edvit_tf.report.floor import floor_said
from edvit_tf.report.models import models
from edvit_tf.report.results import results_from_dict
from edvit_tf.report.tables import results_table
from edvit_tf.report.verdict import verdict
from tests.support.made_figures import accuracy, figures


def made(floor: float, fused: float, base: float):
    """A manifest and results of a run with these shares of 200 recordings."""

    def against(share: float) -> dict:
        return {
            "recordings": 200,
            "difference": share - floor,
            "low": share - floor - 0.05,
            "high": share - floor + 0.05,
            "first_only": 20,
            "second_only": 20 + round(200 * (floor - share)),
            "p_value": 0.01,
        }

    manifest, results = figures(fused=fused, base=base)
    results["floor"] = {
        "accuracy": accuracy(floor),
        "validation": accuracy(floor),
        "grid": [16, 4],
        "features": 112,
        "ridge": 0.1,
        "weight_bytes": 5000,
        "macs": 448,
        "base": against(base),
    }
    results["comparisons"] = {"floor": against(fused)}
    return manifest_from_dict(manifest), results_from_dict(results)


@pytest.mark.parametrize(
    ("fused", "base", "first", "then"),
    [
        (0.46, 0.40, "The base is below the floor: 40.0 %", "Train the base longer"),
        (0.60, 0.40, "The base is below the floor: 40.0 %", "Train the base longer"),
        (0.46, 0.55, "The fleet is below the floor: 46.0 %", "so the cuts lost it"),
    ],
)
def test_it_is_said_first_everywhere(fused, base, first, then):
    manifest, results = made(0.5, fused, base)
    rows = compared(manifest.fusion, results)
    found = advice(manifest, results)

    for said in (
        verdict(results, rows),
        [found.sentence, *found.reasons],
        advice_text(found, results).replace("\n  ", " ").splitlines(),
        results_table(results).replace("\n  ", " ").splitlines(),
    ):
        assert said[0].startswith(first), said[0]
        assert "where a linear classifier on pooled inputs has 50.0 %" in said[0]
    assert any(then in line for line in found.reasons[:2])
    # the recommendation is there still
    assert any(reason.startswith("Take ") for reason in found.reasons)


def test_a_run_above_its_floor_shows_it_and_says_nothing():
    manifest, results = made(0.5, 0.6, 0.7)
    assert floor_said(results) == ()
    rows = compared(manifest.fusion, results)
    assert rows[0].key == "floor"
    assert "floor: linear, on pooled inputs" in models(results, rows)
    assert re.search(r"floor: linear, on pooled inputs +50.00 %", results_table(results))
    assert advice(manifest, results).sentence.startswith("Take ")


def test_results_of_earlier_versions_have_none():
    manifest, results = figures()
    read = results_from_dict(results)
    assert read.floor is None and floor_said(read) == ()
    assert compared(manifest_from_dict(manifest).fusion, read)[0].key == "base"
