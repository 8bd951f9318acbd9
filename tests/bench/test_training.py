"""`edvit bench training` as a user calls it."""

import json
import subprocess
import sys

import pytest

COMMAND = [
    sys.executable,
    "-m",
    "edvit_tf.cli",
    "bench",
    "training",
    "--model",
    "vit_smoke",
    "--image-size",
    "16",
    "--patch-size",
    "8",
    "--batch",
    "4",
    "--turns",
    "2",
    "--steps",
    "1",
    "--json",
]


def test_four_ways_to_step_take_turns():
    out = subprocess.run(
        [*COMMAND, "--patch-dropout", "0.25"], capture_output=True, text=True, timeout=300
    )
    assert out.returncode == 0, out.stderr
    result = json.loads(out.stdout)
    assert [(row["precision"], row["layers"]) for row in result["rows"]] == [
        ("float32", "Keras's"),
        ("float32", "fused"),
        ("bfloat16", "Keras's"),
        ("bfloat16", "fused"),
    ]
    assert (
        result["patches"] == 3
        and result["threads"] == 1
        and result["config"]["image_shape"] == [16, 16, 3]
    )
    assert set(result["rows"][0]["ratio"].values()) == {1.0}
    for row in result["rows"]:
        rate = row["samples_per_second"]
        assert 0 < rate["least"] <= rate["median"] <= rate["largest"]


def test_the_steps_that_take_turns_differ(monkeypatch):
    """Each way makes a model of the layers and the precision that its row names."""
    from edvit_tf.bench import training
    from edvit_tf.models.vit.fused import FusedGelu
    from edvit_tf.models.vit.presets import vit_config
    from edvit_tf.training import trainer as of_fits

    made, real = [], of_fits.trainer_of

    def trainer_of(*given, **options):
        both = real(*given, **options)
        made.append(both[0])
        return both

    monkeypatch.setattr(of_fits, "trainer_of", trainer_of)
    config = vit_config("vit_smoke", (16, 16, 1), 2, patch_size=8)
    for precision, fused in training.WAYS:
        training._step(config, precision, fused, 2, None)()
        gelu = made[-1].get_layer("block_00.mlp.gelu")
        assert isinstance(gelu, FusedGelu) == fused and gelu.compute_dtype == precision


@pytest.mark.parametrize("given", ["1", "-0.1", "half", "nan"])
def test_a_share_that_is_none_is_refused(given, capsys):
    from edvit_tf.cli.main import main

    with pytest.raises(SystemExit):
        main(["bench", "training", "--patch-dropout", given])
    assert f"{given!r} is not a number of at least 0 and below 1" in capsys.readouterr().err


def test_optimizers_take_turns():
    """Ours and Keras's, each traced anew in every turn."""
    from edvit_tf.bench.training import optimizers_text

    command = [*COMMAND, "--optimizers", "bfloat16", "--turns", "1"]
    out = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert out.returncode == 0, out.stderr
    result = json.loads(out.stdout)
    assert [(row["optimizer"], row["of"]) for row in result["rows"]] == [
        ("adamw", "Keras"),
        ("adamw", "edvit"),
        ("muon", "Keras"),
        ("muon", "edvit"),
    ]
    for row in result["rows"]:
        assert 0 < row["step_ms"]["median"] < 1e3 * row["trace_seconds"]["median"]
    assert result["precision"] == "bfloat16" and "CPU time" in optimizers_text(result)


def test_a_trainer_takes_the_optimizer_of_its_row():
    """What is fitted with is ours; Keras's own stands in for it in the comparison alone."""
    from edvit_tf.models.vit.presets import vit_config
    from edvit_tf.training.optimizers import FusedAdam, StackedMuon, stock_optimizer
    from edvit_tf.training.trainer import trainer_of

    config = vit_config("vit_smoke", (16, 16, 1), 2, patch_size=8)
    kinds = {"adamw": FusedAdam, "adam": FusedAdam, "muon": StackedMuon}
    for name, kind in kinds.items():
        _, trainer = trainer_of(config, name, 0.05, 0.0, "bfloat16", None, 0, 0.0)
        assert type(trainer.optimizer) is kind and trainer.optimizer.built
        assert not isinstance(stock_optimizer(name, 0.05), FusedAdam)
    assert trainer.optimizer.precision == "bfloat16"  # Muon's
