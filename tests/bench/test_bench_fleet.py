"""`edvit bench fleet`: real workers, a real aggregator, mutual TLS, and figures that add up."""

import json

from tests.support.commands import run_python


def test_the_figures_add_up(tiny_bundle):
    done = run_python("-m", "edvit_tf.cli", "bench", "fleet", tiny_bundle, "--runs", "10", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (
        result["devices"] == 2
        and result["input_bytes"] == 256
        and result["worker_rss_bytes"] > 20 << 20
    )
    for key in ("total_ms", "compute_ms", "overhead_ms", "worker_overhead_ms"):
        assert 0 < result[key]["min"] <= result[key]["median"] <= result[key]["p95"]
    assert result["compute_ms"]["min"] < result["total_ms"]["median"]


def test_more_devices_than_sub_models_are_refused(tiny_bundle):
    done = run_python("-m", "edvit_tf.cli", "bench", "fleet", tiny_bundle, "--devices", "3")
    assert done.returncode == 3 and "Give 1 to 2" in done.stderr
