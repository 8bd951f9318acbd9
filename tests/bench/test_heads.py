"""`edvit bench heads`: every choice is timed beside merge's, on files of its own widths."""

import json

import pytest

from edvit_tf.bench.heads import bench_heads, heads_text
from edvit_tf.cli.main import main
from edvit_tf.config import HEADS
from edvit_tf.device.model.runtime import installed_runtimes
from edvit_tf.errors import ConfigError
from edvit_tf.models.vit.config import ViTConfig

BASE = ViTConfig(
    image_shape=(16, 16, 3),
    patch_size=8,
    num_layers=2,
    hidden_dim=32,
    num_heads=4,
    head_dim=8,
    mlp_dim=64,
    num_classes=10,
)


def test_each_choice_is_a_row_of_its_own_widths():
    rows = bench_heads(BASE, 1, [(3, 4)], runs=2, turns=1)

    found = {row["heads"]: (row["num_heads"], row["head_dim"]) for row in rows}
    # the best heads as they are have the widths of merged ones, and are not timed twice
    assert set(found) == set(HEADS) - {"whole"} | {"3x4"}
    assert found["merge"] == (1, 8) and found["keep"] == (4, 2) and found["half"] == (2, 4)
    assert found["3x4"] == (3, 4)

    for row in rows:
        assert set(row["ms"]) == set(installed_runtimes())
        for ms in row["ms"].values():
            assert 0 < ms["min"] <= ms["median"] <= ms["p95"]
            assert ms["of_merge"]["min"] <= ms["of_merge"]["max"]
    assert all(ms["of_merge"]["median"] == 1 for ms in rows[0]["ms"].values())
    text = heads_text(rows)
    assert all(name in text for name in found)


def test_heads_of_nothing_are_refused():
    with pytest.raises(ConfigError, match="0x4"):
        bench_heads(BASE, 1, [(0, 4)])
    with pytest.raises(ConfigError, match="5 heads are to be kept"):
        bench_heads(BASE, 5)


def test_the_command_takes_shapes_and_refuses_another_model(capsys):
    words = ["bench", "heads", "--model", "vit_smoke", "--image-size", "16", "--kept", "1"]
    assert main([*words, "--turns", "1", "--runs", "1", "--shapes", "2x3", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[-1]["heads"] == "2x3" and rows[-1]["num_heads"] == 2

    assert main(["bench", "heads", "--model", "vgg9", "--image-size", "32"]) != 0
    assert "vgg9 is no Vision Transformer" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*words, "--shapes", "2,3"])
    assert "'2' is not heads x dims" in capsys.readouterr().err
