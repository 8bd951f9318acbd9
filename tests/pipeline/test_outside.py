"""A model that was trained elsewhere takes the place of a shared training."""

import numpy as np
import pytest

from edvit_tf.config import DataConfig, RunConfig, TrainConfig
from edvit_tf.errors import ConfigError
from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.models.weights import initial_weights
from edvit_tf.pipeline.cutting import stages_of, take_given
from edvit_tf.pipeline.outside import fitting_share, outside, read_weights
from edvit_tf.pipeline.stage import OUTSIDE, Run, Stage
from edvit_tf.pipeline.store import Stages
from edvit_tf.planning.plan import plan_groups

BASE = ViTConfig((16, 16, 1), 8, 1, 24, 2, 12, 48, 4)
FIT = TrainConfig(1)
RUN = RunConfig(
    "x", DataConfig("mnist", (16, 16)), "vit_smoke", FIT, FIT, FIT, num_devices=2, fleet="copies"
)
SPLIT = plan_groups(RUN, BASE)


def weights(kept: int) -> dict:
    return initial_weights(BASE.pruned(kept, 4, RUN.pruning.heads), 0)


def test_it_is_told_by_its_shapes_whose_training_it_replaces():
    assert fitting_share(weights(1), RUN, SPLIT, BASE) == 1
    with pytest.raises(ConfigError, match="with 1 of 2 shares .* is .*, not .*--devices"):
        fitting_share(weights(2), RUN, SPLIT, BASE)
    # of a class split that has no shared training there is nothing to replace
    with pytest.raises(ConfigError, match="it trains none"):
        fitting_share(weights(1), RUN.replace(fleet="classes"), SPLIT, BASE)
    shared = RUN.replace(fleet="classes", shared_training=FIT)
    assert fitting_share(weights(1), shared, SPLIT, BASE) == 1


def test_files_that_are_no_weights_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"absent.npz, which is no .npz file.*study.fleet"):
        read_weights(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("weights")
    with pytest.raises(ConfigError, match=r"text.npz, which is no .npz file"):
        read_weights(tmp_path / "text.npz")
    np.savez(tmp_path / "nan.npz", a=np.ones(2), b=np.array([1, np.nan]))
    with pytest.raises(ConfigError, match="where b holds a value that is no number"):
        read_weights(tmp_path / "nan.npz")


def test_the_one_model_is_the_given_one_and_has_no_cuts(tmp_path):
    stages = Stages(tmp_path / "work", "key")
    stages.run("base", lambda folder: {"config": BASE.to_dict()})
    stages.run("plan", lambda folder: {"plan": SPLIT.to_dict()})
    file = tmp_path / "given.npz"
    np.savez(file, **weights(1))
    assert Run(stages, RUN).single.steps == ("head", "residual", "attention", "ffn")

    run = Run(stages, RUN)
    run.make(Stage(OUTSIDE, (), lambda run, folder: outside(run, folder, file)))
    (stage,) = stages_of(run.single)
    assert (stage.name, stage.needs[-1]) == ("single.ffn", OUTSIDE)
    assert stage.build.func is take_given and run.single.last_stage == "single.ffn"
    np.testing.assert_equal(stages.arrays(OUTSIDE), dict(np.load(file)))
