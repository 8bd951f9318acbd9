"""Studies on a tiny base and small pictures: rows are kept, a stopped study goes on, tables hold
what was measured.
"""

import json

import numpy as np
import pytest

from edvit_tf.config import PruneConfig
from edvit_tf.errors import ConfigError, DataError, OutputError
from edvit_tf.study.common import Rows, draw, load_trained
from tests.support.data_files import write_cifar_folders


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A random ViT of the CIFAR-10 classes at 16 x 16, saved as a run would save it, with its data
    set.
    """
    from edvit_tf.models.vit.presets import vit_config
    from edvit_tf.models.weights import from_weights
    from tests.support.tiny_vit import random_weights

    folder = tmp_path_factory.mktemp("study")
    config = vit_config("vit_smoke", (16, 16, 3), 10, patch_size=8)
    from_weights(config, random_weights(config)).save(folder / "base.keras")
    write_cifar_folders(folder / "cifar10", each=12)
    return load_trained(str(folder / "base.keras"), "cifar10", folder / "cifar10", seed=0)


def test_draws_are_balanced_seeded_and_apart(base):
    first, again, other = (draw(base, "train", 20, 3, skip) for skip in (0, 0, 20))
    assert np.bincount(first.labels).tolist() == [2] * 10 and first.x.shape == (20, 16, 16, 3)
    np.testing.assert_array_equal(first.x, again.x)
    assert np.bincount(other.labels).tolist() == [2] * 10
    with pytest.raises(DataError, match="need .* of each class"):
        draw(base, "train", 1000, 3)


def test_rows_go_on_after_a_stop_and_refuse_other_settings(tmp_path):
    calls = []

    def measure():
        calls.append(1)
        return {"value": 3}

    for _ in range(2):
        rows = Rows(tmp_path / "out" / "rows.jsonl", {"seed": 0})
        assert rows.row({"name": "a"}, measure) == {"name": "a", "value": 3}
    assert len(calls) == 1
    with pytest.raises(OutputError, match="other settings.*seed: 0 -> 1"):
        Rows(tmp_path / "out" / "rows.jsonl", {"seed": 1})


def test_half_a_row_of_a_killed_study_is_dropped_and_another_file_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    Rows(path, {"seed": 0}).row({"name": "a"}, lambda: {"value": 3})
    whole = path.read_text()
    path.write_text(whole + '{"key": "ab')
    again = Rows(path, {"seed": 0})
    assert again.row({"name": "a"}, lambda: {"value": 4})["value"] == 3
    assert again.row({"name": "b"}, lambda: {"value": 5})["value"] == 5
    assert path.read_text().startswith(whole) and len(path.read_text().splitlines()) == 3
    path.write_text("name,value\na,3\n")
    with pytest.raises(OutputError, match="not a file of finished rows"):
        Rows(path, {"seed": 0})


def test_another_base_is_another_study(base):
    from dataclasses import replace

    weights = {**base.weights, "head.bias": base.weights["head.bias"] + 1}
    assert replace(base, weights=weights).identity["base"] != base.identity["base"]


def test_rank_agreement_rows_and_table(base):
    from edvit_tf.study.scores import agreement, agreement_table

    rows = list(agreement(base, Rows(None, {}), samples=10, units=8, seed=0))
    assert [row["name"] for row in rows] == [
        "residual",
        *(f"block_{i:02d}.{p}" for i in range(2) for p in ("qk", "v")),
        "block_00.ffn",
        "block_01.ffn",
    ]
    assert all(-1 <= row["linearised"]["spearman"] <= 1 for row in rows)
    assert np.mean([row["fisher"]["spearman"] for row in rows]) > 0.5
    table = agreement_table(rows).splitlines()
    assert [line.split()[0] for line in table[2:]] == ["residual", "q/k", "v", "FFN"]


def test_cost_ratio_counts_the_passes():
    from edvit_tf.models.vit.presets import vit_config
    from edvit_tf.study.scores import cost, cost_table

    config = vit_config("vit_smoke", (16, 16, 1), 3, patch_size=8)
    figures = cost(config, samples=4, units=2, runs=2, seed=0)
    assert figures["units"] == 48 + 2 * (48 + 48 + 96) and figures["linearised_passes"] == 4
    assert figures["exact_units_run"] == {"residual": 4, "attention": 16, "ffn": 8}
    assert "linearised, all units" in cost_table(figures)
    assert figures["ratio_passes"] == round(figures["units"] / 4, 1)
    assert figures["ratio"]["min"] <= figures["ratio"]["median"] <= figures["ratio"]["max"]


def test_cuts_rows_and_tables(base, monkeypatch):
    from edvit_tf.config import TrainConfig
    from edvit_tf.study import cuts

    monkeypatch.setattr(cuts, "FIT", TrainConfig(epochs=1, batch_size=10))
    monkeypatch.setattr(
        cuts, "RESIDUAL_GRID", (cuts.RESIDUAL_GRID[2], cuts.RESIDUAL_GRID[4], PruneConfig())
    )
    bench = cuts.Bench(base, calibration=10, train=40, test=20, split="test", seed=0)
    grid = [PruneConfig(heads="keep"), PruneConfig(score="random", repair=False)]
    rows = list(cuts.grid_study(bench, Rows(None, {}), (2,), grid))
    rows += list(cuts.residual_study(bench, Rows(None, {}), (2,)))
    assert {"residual_cut", "residual_repair", "attention_repair", "ffn_cut", "fit"} <= set(rows[0])
    assert "residual_repair" not in rows[1] and all(0 <= row["fit"] <= 1 for row in rows[:2])
    assert len(rows) == 2 + 3 and all(
        0 <= row["cut"] <= 1 and 0 <= row["repair"] <= 1 for row in rows[2:]
    )
    table = cuts.cuts_table(rows, 4)
    assert "channels, linearised, 4 rounds" in table and "linearised, keep, repair, seed 0" in table
    json.dumps(rows)


def test_the_first_stage_is_done_once_for_all_rows_that_share_it(base, monkeypatch):
    from edvit_tf.study import cuts

    bench = cuts.Bench(base, calibration=10, train=20, test=10, split="test", seed=0)
    calls = []

    def counted(*arguments):
        calls.append(arguments[3])
        return prune_stage(*arguments)

    prune_stage = cuts.prune_stage
    monkeypatch.setattr(cuts, "prune_stage", counted)
    target = base.config.pruned(2, 10)
    repaired = bench.prune(bench.start, "residual", target, PruneConfig())
    plain = bench.prune(
        bench.start, "residual", target, PruneConfig(score="random", heads="keep", repair=False)
    )
    assert calls == ["residual"] and plain.repaired is None and plain.cut is repaired.cut
    bench.prune(bench.start, "residual", target, PruneConfig(residual="channels", score="random"))
    assert len(calls) == 2


def test_the_grid_holds_every_score_heads_and_repair():
    from edvit_tf.study.cuts import best_two, full_grid

    grid = {(o.score, o.heads, o.repair) for o in full_grid()}
    assert {
        (s, h, r)
        for s in ("linearised", "magnitude", "random")
        for h in ("merge", "keep")
        for r in (True, False)
    } <= grid
    assert set(best_two()) <= set(full_grid())


def test_every_way_of_narrower_attention_is_a_row_of_the_heads_grid():
    from edvit_tf.config import ATTENTION, HEADS
    from edvit_tf.study.cuts import heads_grid

    grid = [(one.heads, one.attention) for one in heads_grid()]
    apart = {(heads, way) for heads in HEADS if heads != "merge" for way in ATTENTION}
    assert sorted(grid) == sorted(apart | {("merge", "dims")})


def test_a_base_of_other_classes_is_refused(base, tmp_path):
    from edvit_tf.models.vit.presets import vit_config
    from edvit_tf.models.weights import from_weights
    from tests.support.tiny_vit import random_weights

    config = vit_config("vit_smoke", (16, 16, 3), 7, patch_size=8)
    from_weights(config, random_weights(config)).save(tmp_path / "base.keras")
    write_cifar_folders(tmp_path / "cifar10", each=12)
    with pytest.raises(ConfigError, match="no head for the 10 classes"):
        load_trained(str(tmp_path / "base.keras"), "cifar10", tmp_path / "cifar10", seed=0)
