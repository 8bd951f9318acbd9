"""A training budget is divided so that the fits together take it."""

import pytest

from edvit_tf.config import DataConfig, RunConfig, TrainConfig
from edvit_tf.planning.training_budget import divided, in_epochs

FIT = TrainConfig(2)
RUN = RunConfig(
    "x", DataConfig("mnist", (8, 8)), "vit_smoke", FIT, FIT, FIT, shared_training=TrainConfig(5)
)


def test_minutes_are_epochs_by_what_one_takes():
    assert in_epochs("16e") == 16 and in_epochs("1.5e", 3.0) == 1.5
    assert in_epochs("90m", 60.0) == 90 and in_epochs("1m", 240.0) == 0.25
    with pytest.raises(ValueError, match="budget is 90m.*seconds of an epoch"):
        in_epochs("90m")


def test_copies_give_all_of_it_to_the_one_model():
    found = divided(RUN.replace(fleet="copies"), 16.4, 10, 3, 5, splits=False)
    assert found.config.shared_training.epochs == 16 and found.member_epochs == 0
    # without a shared training it has a fit after each cut
    bare = RUN.replace(fleet="copies", shared_training=None)
    assert divided(bare, 16, 10, 3, 5, splits=False).config.stage_training.epochs == 5


def test_members_that_are_trained_together_share_half_of_it():
    found = divided(RUN.replace(fleet="joint"), 80, 10, 3, 10, splits=False)
    single, own = found.config.shared_training.epochs, found.config.fleet_training.epochs
    assert (single, own, found.member_epochs) == (40, 4, 4.0) and single + 10 * own == 80


@pytest.mark.parametrize("fleet, epochs", [("joint", 0.8), ("auto", 0)])
def test_below_the_break_even_the_one_model_gets_all_of_it(fleet, epochs):
    found = divided(RUN.replace(fleet=fleet), 16, 10, 3, 10, splits=False)
    assert found.config.shared_training.epochs == 16 and found.config.fleet_training is None
    assert found.member_epochs == pytest.approx(epochs)


def test_a_class_split_gives_the_shared_training_what_its_own_fits_leave():
    # five sub-models see ten classes and "other" five times: 1.5 epochs each time
    found = divided(RUN.replace(num_devices=5), 16, 10, 3, 1, splits=True).config
    assert found.stage_training == FIT and found.shared_training.epochs == 16 - 2 * 1.5
    assert divided(RUN, 1, 10, 3, 1, splits=True).config.shared_training.epochs == 1
    bare = RUN.replace(num_devices=5, shared_training=None)
    assert divided(bare, 18, 10, 3, 1, splits=True).config.stage_training.epochs == 4
