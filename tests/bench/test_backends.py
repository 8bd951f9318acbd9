"""`edvit bench backends` as a user calls it."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("jax", reason="JAX is not installed: pip install 'edvit-tf[jax]'")

SMALL = "--widths 12 --layers 1 --image-size 28 --batch 4 --members 3 --steps 2 --turns 2"


def test_one_member_and_several_at_once_take_turns_with_tensorflow():
    command = [sys.executable, "-m", "edvit_tf.cli", "bench", "backends", *SMALL.split()]
    out = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=500)
    assert out.returncode == 0, out.stderr

    result = json.loads(out.stdout)
    found = [(row["width"], row["backend"], row["members"]) for row in result["rows"]]
    assert found == [(12, "tensorflow", 1), (12, "jax", 1), (12, "jax", 3)]
    assert set(result["rows"][0]["ratio"].values()) == {1.0}
    for row in result["rows"]:
        rate = row["samples_per_second"]
        assert 0 < rate["least"] <= rate["median"] <= rate["largest"]
    assert result["device"]


def test_the_table_says_what_computed_and_how():
    from edvit_tf.bench.backends import backends_text

    spread = {"median": 100.0, "least": 90.0, "largest": 110.0}
    row = {"width": 64, "backend": "jax", "members": 10, "samples_per_second": spread}
    result = {
        "rows": [row | {"ratio": {"median": 2.0, "least": 1.8, "largest": 2.2}}],
        "image_size": 98,
        "patch_size": 14,
        "layers": 12,
        "batch": 32,
        "steps": 5,
        "turns": 3,
        "device": "cpu",
    }
    text = backends_text(result)
    assert "   64  jax              10        100  (90-110)" in text
    assert "2.00 (1.80-2.20)" in text and text.endswith("after one that compiled; by cpu.")
