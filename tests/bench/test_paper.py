"""`edvit bench paper`, by a net of two blocks: what it prints comes out of the files."""

import json

from tests.support.commands import run_host
from tests.support.paper_inputs import write_checkpoint, write_pictures


def test_it_runs_the_papers_profile_from_a_checkpoint_to_a_bundle(tmp_path):
    write_pictures(tmp_path / "pictures", train=4, test=2)
    base = write_checkpoint(tmp_path / "base", "vit_smoke", side=32)
    given = ["--data-dir", tmp_path / "pictures", "--base", base, "--out", tmp_path / "out"]
    small = ["--model", "vit_smoke", "--image-size", "32", "--devices", "2", "--budget", "1MiB"]
    small += ["--max-per-class", "3", "--samples", "4", "--batch", "8", "--json"]
    done = run_host("-m", "edvit_tf.cli", "bench", "paper", *given, *small)
    assert done.returncode == 0, done.stderr

    found = json.loads(done.stdout)
    files = sorted((tmp_path / "out").glob("submodel-0?.tflite"))
    assert found["total_bytes"] == sum(file.stat().st_size for file in files) <= 2**20
    assert found["sub_models"] == len(files) == 2 and found["parity"] is True
    assert found["ratio"] == found["base"]["median_ms"] / found["sub_model"]["median_ms"]
    assert found["base"]["macs"] > found["sub_model"]["macs"]
    assert found["short"]["pictures"] == {"train": 30, "validation": 4, "test": 20}
    assert {"base", "plan", "cut: residual", "bundle", "measure"} <= set(found["seconds"])
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    run = manifest["run"]
    assert run["pruning"]["residual"] == "channels" and run["fleet"] == "classes"
    assert run["base_training"]["optimizer"] == "adam" and run["base_training"]["epochs"] == 1
