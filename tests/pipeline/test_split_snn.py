"""Split-SNN: its spikes are counted in the file, and it goes the whole way of a ViT."""

import json

import numpy as np
import pytest

from edvit_tf import models


def test_spikes_and_flips_are_counted_against_the_file(monkeypatch):
    from edvit_tf.models.snn import deployed
    from edvit_tf.models.weights import initial_weights
    from edvit_tf.pipeline.spikes import spikes

    config = models.preset("snn_smoke", (8, 8, 3), 3)
    weights = {
        name: value + np.float32(1.2 if name.endswith("beta") else 0)
        for name, value in initial_weights(config, 0).items()
    }
    x = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    maps = deployed.spike_maps(config, weights, x)
    assert maps["conv_00"].shape == (4, 5, 8, 8, 8)
    found = spikes(config, weights, x)
    assert found["spikes"] == sum(s.sum() for s in maps.values()) / 4 > 100
    share = sum(s.sum() for s in maps.values()) / sum(s.size for s in maps.values())
    assert found["rate"] == pytest.approx(share)
    assert 0 <= found["flip_rate"] < 1e-3

    # beside another net's spikes the file's are otherwise
    other = {**weights, "norm_00.beta": weights["norm_00.beta"] - 1}
    told = deployed.spike_maps(config, other, x)
    monkeypatch.setattr(deployed, "spike_maps", lambda c, w, inputs: told)
    assert spikes(config, weights, x)["flip_rate"] > 0.01
    assert spikes(models.preset("vgg_smoke", (8, 8, 3), 3), {}, x) is None


def test_it_is_cut_exported_measured_and_reported(split_snn_bundle):
    from edvit_tf.report.audit import audit

    out = split_snn_bundle
    results = json.loads((out / "results.json").read_text())
    assert all(one["ok"] for one in results["parity"].values())
    for sub in results["sub_models"]:
        assert sub["stages"][-1]["config"]["filters"] == [4, 6]
        assert set(sub["spikes"]) == {"spikes", "rate", "flip_rate"}
    assert "Spikes an inference" in (out / "report.html").read_text()
    assert "| filt | F | T |" in (out / "README.md").read_text()
    assert audit(out)["reconciled"]
