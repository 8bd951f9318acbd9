"""`edvit bench latency`: every engine computes the same model, alternating, in processes of their
own.
"""

import importlib.util
import json
import shutil

import numpy as np
import pytest

from edvit_tf.bench import rivals
from edvit_tf.device.model.runtime import installed_runtimes
from edvit_tf.export.quantizer import RECIPES
from edvit_tf.models.vit.config import ViTConfig
from tests.support.commands import run_command

CONFIG = ViTConfig(
    (32, 24, 3),
    patch_size=8,
    num_layers=2,
    hidden_dim=24,
    num_heads=2,
    head_dim=8,
    mlp_dim=40,
    num_classes=4,
    input_mean=(90.0, 100.0, 110.0),
    input_std=(40.0, 50.0, 60.0),
)


@pytest.fixture(scope="module")
def weights():
    from edvit_tf.models.vit.spread import spread_weights

    rng = np.random.default_rng(3)
    return {
        n: (w + rng.normal(0, 0.05, w.shape)).astype(np.float32)
        for n, w in spread_weights(CONFIG, 1.5).items()
    }


@pytest.mark.parametrize("engine", rivals.MODULES)
def test_a_rival_computes_the_same_model(engine, weights, tmp_path):
    if engine not in rivals.installed():
        pytest.skip(f"{engine} (or onnx) is not installed: pip install -e '.[bench]'")
    from edvit_tf.bench.latency import _rival_files
    from edvit_tf.models.weights import from_weights

    x = np.random.default_rng(0).integers(0, 256, (1, 32, 24, 3)).astype(np.float32)
    np.save(tmp_path / "input.npy", x)
    _rival_files(CONFIG, weights, tmp_path, onnx=engine != "torch")
    found = rivals.run_rival(engine, tmp_path, 1, 3)
    expected = np.asarray(from_weights(CONFIG, weights)(x)["logits"])[0]
    np.testing.assert_allclose(found["logits"], expected, rtol=1e-4, atol=1e-4)
    assert len(found["times_ms"]) == 3 and found["engine"].startswith(engine)


@pytest.mark.skipif(
    importlib.util.find_spec("ai_edge_quantizer") is None
    or "ai-edge-litert" not in installed_runtimes(),
    reason="needs ai-edge-quantizer and ai-edge-litert: pip install -e '.[bench]'",
)
def test_what_the_quantizer_makes_is_a_row_of_the_runtime_that_loads_it(weights):
    from edvit_tf.bench.latency import bench_latency

    result = bench_latency(CONFIG, weights, runs=1, turns=1, against=(), quantizer=True)
    rows = {row["graph"]: row for row in result["rows"] if row["graph"] in RECIPES}
    assert set(rows) == set(RECIPES)
    assert {row["engine"].split()[0] for row in rows.values()} == {"ai-edge-litert"}
    assert rows["dynamic_wi4_afp32"]["file_bytes"] < rows["dynamic_wi8_afp32"]["file_bytes"]


def test_the_quantizer_is_for_what_is_exported_here(tiny_bundle):
    code, _, err = run_command(["bench", "latency", tiny_bundle, "--quantizer"])
    assert code == 3 and "edvit study quantized" in err


def test_rows_alternate_and_ratios_are_to_the_first(weights):
    from edvit_tf.bench.latency import KERAS, bench_latency, latency_text

    result = bench_latency(CONFIG, weights, runs=3, turns=2, against=(), naive=True)
    rows = result["rows"]
    assert rows[0]["graph"] == "portable" and rows[0]["ratio"] == {
        "median": 1.0,
        "min": 1.0,
        "max": 1.0,
    }
    assert {row["graph"] for row in rows} >= {"portable", KERAS} and all(
        "failure" not in row for row in rows
    )
    assert not {(row["graph"], row["engine"].split()[0]) for row in rows} & {
        ("int8", "tflite-runtime"),
        ("litert", "tflite-runtime"),
    }
    for row in rows:
        assert 0 < row["min"] <= row["median"] <= row["p95"] and row["peak_rss_bytes"] > 10 << 20
        assert row["ratio"]["min"] <= row["ratio"]["median"] <= row["ratio"]["max"]
    assert rows[-1]["gmacs"] > rows[0]["gmacs"]  # the last block on all tokens
    text = latency_text(result)
    assert "2 alternating turns of 3 runs" in text and text.count("\n") == len(rows) + 3


def test_the_spread_before_gelu_is_the_one_asked_for():
    from edvit_tf.models.vit.spread import spread_weights

    weights = spread_weights(CONFIG, 2.0)
    y = np.random.default_rng(1).normal(size=(500, 24))
    y = (y - y.mean(1, keepdims=True)) / y.std(1, keepdims=True)
    assert (y @ weights["block_01.mlp.expand.kernel"]).std() == pytest.approx(2.0, rel=0.1)


def test_a_rival_that_is_not_there_is_named(monkeypatch, capsys):
    from edvit_tf.cli.main import main

    monkeypatch.setattr(rivals, "installed", lambda: ("torch",))
    assert (
        main(["bench", "latency", "--model", "vit_tiny", "--heads", "1", "--against", "openvino"])
        == 3
    )
    assert "openvino cannot be measured here; installed: torch" in capsys.readouterr().err


def test_figures_are_stored_and_shown_in_the_report(smoke_bundle, tmp_path, capsys):
    from edvit_tf.cli.main import main

    copy = tmp_path / "bundle"
    shutil.copytree(smoke_bundle, copy)
    assert (
        main(
            [
                "bench",
                "latency",
                str(copy),
                "--threads",
                "1,2",
                "--runs",
                "2",
                "--turns",
                "1",
                "--against",
                "none",
                "--store",
            ]
        )
        == 0
    )
    result = json.loads((copy / "latency.json").read_text())
    assert result["submodel"] == "submodel-00" and {row["threads"] for row in result["rows"]} == {
        1,
        2,
    }
    page = (copy / "report.html").read_text()
    assert "Latency beside other runtimes" in page and "median time, 2 threads" in page
    assert main(["audit", str(copy), "--json"]) == 0  # the manifest's files are as they were
    assert main(["bench", "latency", "--store"]) == 3
    assert "Name a bundle" in capsys.readouterr().err


def test_a_keras_file_is_measured(smoke_bundle, tmp_path, capsys):
    from edvit_tf.cli.main import main

    options = ["--runs", "2", "--turns", "1", "--against", "none", "--json"]
    assert main(["bench", "latency", str(smoke_bundle / "submodel-01.keras"), *options]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["graph"] == "portable"
    assert main(["bench", "latency", str(smoke_bundle / "fusion.keras"), *options]) == 3
    assert "no .keras file of a ViT of ours" in capsys.readouterr().err


def test_a_bundle_is_measured_file_by_file(smoke_bundle, capsys):
    from edvit_tf.cli.main import main

    assert (
        main(
            [
                "bench",
                "latency",
                str(smoke_bundle),
                "--submodel",
                "1",
                "--runs",
                "2",
                "--turns",
                "1",
                "--against",
                "none",
                "--json",
            ]
        )
        == 0
    )
    result = json.loads(capsys.readouterr().out)
    assert result["rows"][0]["graph"] == "float32" and result["config"]["hidden_dim"] < 48
    assert result["rows"][0]["file_bytes"] == (smoke_bundle / "submodel-01.tflite").stat().st_size
