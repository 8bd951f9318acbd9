"""A run with a training budget goes on with the epochs that it allows, whoever opens it."""

from types import SimpleNamespace

import numpy as np
import pytest

from edvit_tf.config import DataConfig, DeviceSpec, RunConfig, TrainConfig
from edvit_tf.models import architecture
from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.pipeline import divide
from edvit_tf.pipeline.budget import Budget
from edvit_tf.pipeline.divide import with_budget
from edvit_tf.pipeline.fleets import _chosen
from edvit_tf.pipeline.stage import Run
from edvit_tf.pipeline.store import Stages
from edvit_tf.planning.plan import plan_groups
from edvit_tf.planning.training_budget import divided

BASE = ViTConfig((16, 16, 1), 8, 1, 24, 2, 12, 48, 4)
FIT = TrainConfig(1)
RUN = RunConfig(
    "x",
    DataConfig("mnist", (16, 16)),
    "vit_smoke",
    FIT,
    FIT,
    FIT,
    shared_training=FIT,
    num_devices=2,
    fleet="joint",
)


def opened(folder, config: RunConfig) -> Run:
    """A run that has its plan."""
    stages = Stages(folder, "key")
    stages.run("data", lambda folder: {})
    stages.run("base", lambda folder: {"config": BASE.to_dict()})
    stages.run("teacher", lambda folder: {})
    stages.run("plan", lambda folder: {"plan": plan_groups(config, BASE).to_dict()})
    return Run(stages, config)


def test_the_fits_take_the_budget(tmp_path):
    run = with_budget(opened(tmp_path, RUN.replace(training_budget="8e")))
    assert run.config.shared_training.epochs == 4 and run.config.fleet_training.epochs == 2
    assert _chosen(run, gap=0.1).kind == "joint"
    # another process finds it divided
    again = with_budget(Run(run.stages, RUN.replace(training_budget="8e")))
    assert again.config == run.config


def test_too_little_trains_the_one_model_and_its_copies(tmp_path):
    run = with_budget(opened(tmp_path, RUN.replace(training_budget="3e")))
    choice = _chosen(run, gap=0.1)
    assert run.config.shared_training.epochs == 3
    assert choice.kind == "copies" and "0.75 epochs" in choice.reason


def test_minutes_are_measured_once(tmp_path, monkeypatch):
    monkeypatch.setattr(divide, "_epoch_seconds", lambda run: 30.0)
    config = RUN.replace(training_budget="5m", fleet="copies")
    run = with_budget(opened(tmp_path, config))
    assert run.config.shared_training.epochs == 10

    monkeypatch.setattr(divide, "_epoch_seconds", lambda run: pytest.fail("measured again"))
    assert with_budget(Run(run.stages, config)).config == run.config


def test_without_a_budget_nothing_changes(tmp_path):
    run = opened(tmp_path, RUN)
    assert with_budget(run) is run and not run.stages.has("budget")


@pytest.mark.parametrize("epoch, fits", [("group", (2, 9)), ("all", (2, 7))])
def test_a_class_split_is_counted_by_what_its_own_epochs_have(tmp_path, monkeypatch, epoch, fits):
    """Of four classes in two groups: 2 * 3 / 4 epochs of the data, or 2 * 2 / 2."""
    labels = np.arange(256) % 4
    monkeypatch.setattr(divide, "Split", lambda *_: SimpleNamespace(labels=labels))
    config = RUN.replace(
        fleet="classes",
        stage_training=TrainConfig(2, epoch=epoch, batch_size=32),
        training_budget="12e" if epoch == "group" else "11e",
    )
    run = with_budget(opened(tmp_path, config))
    assert (run.config.stage_training.epochs, run.config.shared_training.epochs) == fits


def test_a_class_split_of_two_widths_keeps_to_its_budget(tmp_path, monkeypatch):
    """Of devices of two sizes: a shared model for each width, the narrower one for fewer MACs."""
    labels = np.arange(256) % 4
    monkeypatch.setattr(divide, "Split", lambda *_: SimpleNamespace(labels=labels))
    one, two = (architecture(BASE).file_bytes(BASE.pruned(kept, 3, "keep")) for kept in (1, 2))
    devices = (DeviceSpec("large", two + 100), DeviceSpec("small", one + 100))
    config = RUN.replace(fleet="classes", devices=devices, start_heads=2, training_budget="12e")
    run = with_budget(opened(tmp_path, config))
    assert len({sub.kept for sub in run.split.sub_models}) == 2
    shares = Budget(run.config, BASE, run.split, labels).shares()
    fits = run.config.stage_training.epochs, run.config.shared_training.epochs
    assert 1 < shares.shared < 2
    assert 11 - shares.shared < fits[0] * shares.own + fits[1] * shares.shared <= 12


@pytest.mark.parametrize("share, epochs", [(0.01, 3), (100.0, None)])
def test_a_joint_training_has_a_part_where_its_mlp_fits_a_device(
    tmp_path, monkeypatch, capsys, share, epochs
):
    """A quarter of 24 epochs is three of two sub-models together; what is not tried has none."""
    labels = np.arange(256) % 4
    monkeypatch.setattr(divide, "Split", lambda *_: SimpleNamespace(labels=labels))
    config = RUN.replace(
        **{"fleet": "classes", "fusion": "auto", "fusion_lambda": share, "training_budget": "24e"},
        joint_training=TrainConfig(9),
    )
    run = with_budget(opened(tmp_path, config))
    said = capsys.readouterr().out
    if epochs is None:
        alone = divided(config.replace(joint_training=None), 24, 3, 1, _shares(run, labels)).config
        assert run.config == alone.replace(joint_training=config.joint_training)
        assert not run.tries_joint and "joint" not in said
    else:
        assert run.config.joint_training.epochs == epochs and run.tries_joint
        assert f"{epochs} epochs of joint training are in it" in said


def _shares(run, labels):
    return Budget(run.config, BASE, run.split, labels).shares()


def test_a_joint_training_that_was_asked_for_is_no_matter_of_the_budget(tmp_path):
    config = RUN.replace(
        fleet="copies", fusion="joint", joint_training=TrainConfig(9), training_budget="8e"
    )
    run = with_budget(opened(tmp_path, config))
    assert run.config.joint_training == TrainConfig(9)
