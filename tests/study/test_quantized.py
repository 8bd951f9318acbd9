"""`edvit study quantized`: our int8 files beside those of ai-edge-quantizer."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.runtime import installed_runtimes
from edvit_tf.errors import ConfigError
from edvit_tf.export.quantizer import RECIPES
from edvit_tf.study import quantized


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"ai-edge-quantizer is not installed.*\[bench\]"):
        quantized.quantized_study(None, None, split="test", turns=1, runs=1)


@pytest.mark.skipif(
    importlib.util.find_spec("ai_edge_quantizer") is None
    or "ai-edge-litert" not in installed_runtimes(),
    reason="needs ai-edge-quantizer and ai-edge-litert: pip install -e '.[bench]'",
)
def test_rows_of_a_bundle_are_told_beside_float32_and_our_int8(tiny_bundle, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (6, 16, 16, 1), np.uint8)

    def held_out(dataset, split, folder):
        np.save(folder / "inputs.npy", x)
        return folder / "inputs.npy", np.arange(6) % 4, np.arange(6)

    monkeypatch.setattr(quantized, "materialise", held_out)
    rows = quantized.quantized_study(
        open_bundle(tiny_bundle), SimpleNamespace(), split="test", turns=1, runs=2
    )
    by_way = {row["way"]: row for row in rows}
    assert list(by_way) == [*quantized.OURS, *RECIPES]

    exact = by_way["float32"]
    assert exact["logits_error"] == 0 and exact["other_label"] == 0 and exact["recordings"] == 6
    for way in RECIPES:
        assert by_way[way]["files"] == "ai-edge-quantizer"
        assert by_way[way]["bytes"] < exact["bytes"] and by_way[way]["logits_error"] > 0
    assert by_way["dynamic_wi4_afp32"]["bytes"] < by_way["dynamic_wi8_afp32"]["bytes"]
    assert by_way["int8"]["ratio"] == {"median": 1, "min": 1, "max": 1}
    assert len(quantized.quantized_table(rows).splitlines()) == len(rows) + 1


def test_a_way_that_failed_is_a_line():
    text = quantized.quantized_table([{"files": "ours", "way": "int8", "failure": "no such op"}])
    assert "FAILED: no such op" in text
