"""`edvit bench fleet`: real workers, a real aggregator, mutual TLS, and figures that add up."""

import json
import shutil

from tests.support.commands import run_command


def test_the_figures_add_up(tiny_bundle):
    code, out, err = run_command(["bench", "fleet", tiny_bundle, "--runs", "10", "--json"])
    assert code == 0, err
    result = json.loads(out)
    assert result["devices"] == 2
    assert result["input_bytes"] == 256
    assert result["worker_rss_bytes"] > 20 << 20 and result["views"] == ["as it is"] * 2
    for key in ("total_ms", "compute_ms", "overhead_ms", "worker_overhead_ms"):
        assert 0 < result[key]["min"] <= result[key]["median"] <= result[key]["p95"]
    assert result["compute_ms"]["min"] < result["total_ms"]["median"]


def test_the_views_are_part_of_what_a_model_takes(copies_bundle):
    code, out, err = run_command(["bench", "fleet", copies_bundle, "--runs", "3"])
    assert code == 0, err
    assert "compute_ms includes the views: down 2, right -1; mirrored, crop 1" in out


def test_more_devices_than_sub_models_are_refused(tiny_bundle):
    code, _, err = run_command(["bench", "fleet", tiny_bundle, "--devices", "3"])
    assert code == 3 and "Give 1 to 2" in err


def test_a_damaged_bundle_is_refused_as_one(tiny_bundle, tmp_path):
    """It ended with 3, the configuration's code, when a worker had refused the bundle."""
    damaged = shutil.copytree(tiny_bundle, tmp_path / "damaged")
    file = damaged / "submodel-01.tflite"
    file.write_bytes(file.read_bytes()[:-1])
    code, _, err = run_command(["bench", "fleet", damaged])
    assert code == 7 and "submodel-01.tflite" in err, err
