"""A training budget is divided so that the fits together take it."""

import pytest

from edvit_tf.config import DataConfig, RunConfig, TrainConfig
from edvit_tf.errors import ConfigError
from edvit_tf.planning.training_budget import Shares, divided, in_epochs

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
    found = divided(RUN.replace(fleet="copies"), 16.4, 3, 5, None)
    assert found.config.shared_training.epochs == 16 and found.member_epochs == 0
    # without a shared training it has a fit after each cut
    bare = RUN.replace(fleet="copies", shared_training=None)
    assert divided(bare, 16, 3, 5, None).config.stage_training.epochs == 5


def test_members_that_are_trained_together_share_half_of_it():
    found = divided(RUN.replace(fleet="joint"), 80, 3, 10, None)
    single, own = found.config.shared_training.epochs, found.config.fleet_training.epochs
    assert (single, own, found.member_epochs) == (40, 4, 4.0) and single + 10 * own == 80


@pytest.mark.parametrize("fleet, epochs", [("joint", 0.8), ("auto", 0)])
def test_below_the_break_even_the_one_model_gets_all_of_it(fleet, epochs):
    found = divided(RUN.replace(fleet=fleet), 16, 3, 10, None)
    assert found.config.shared_training.epochs == 16 and found.config.fleet_training is None
    assert found.member_epochs == pytest.approx(epochs)


@pytest.mark.parametrize("epochs", [15.9, 17.3, 22, 31])
def test_the_one_model_gets_what_whole_epochs_of_the_members_leave(epochs):
    found = divided(RUN.replace(fleet="joint"), epochs, 3, 4, None)
    own = found.config.fleet_training.epochs
    spent = found.config.shared_training.epochs + 4 * own
    assert found.member_epochs == own and epochs - 1 < spent <= epochs + 1e-6


def test_a_class_split_gives_the_shared_training_what_its_own_fits_leave():
    found = divided(RUN, 16, 3, 1, Shares(1.5)).config
    assert found.stage_training == FIT and found.shared_training.epochs == 16 - 2 * 1.5
    bare = RUN.replace(shared_training=None)
    assert divided(bare, 18, 3, 1, Shares(1.5)).config.stage_training.epochs == 4


@pytest.mark.parametrize("epochs, fits", [(4, (2, 1)), (3.6, (1, 2)), (2.5, (1, 1))])
def test_own_fits_are_shortened_where_the_budget_has_no_room_for_them(epochs, fits):
    found = divided(RUN.replace(stage_training=TrainConfig(9)), epochs, 3, 1, Shares(1.5)).config
    assert (found.stage_training.epochs, found.shared_training.epochs) == fits


@pytest.mark.parametrize("shared, least", [(TrainConfig(5), "2.5e"), (None, "4.5e")])
def test_a_class_split_that_no_epoch_each_is_left_for_is_refused(shared, least):
    config = RUN.replace(shared_training=shared, training_budget="2e")
    with pytest.raises(ConfigError, match=f'training_budget is .2e.*"{least}" or more'):
        divided(config, 2, 3, 1, Shares(1.5))
    divided(config, in_epochs(least), 3, 1, Shares(1.5))


@pytest.mark.parametrize("start", ["cut", "units"])
def test_members_that_do_not_start_from_the_one_model_have_a_whole_budget_and_so_has_it(start):
    config = RUN.replace(fleet="joint", fleet_start=start)
    found = divided(config, 40, 3, 10, None)
    assert found.config.shared_training.epochs == 40 and found.config.fleet_training.epochs == 4
    # what is enough is enough of the whole
    assert divided(config, 10, 3, 10, None).member_epochs == 1
    assert divided(config, 9, 3, 10, None).config.fleet_training is None


@pytest.mark.parametrize("epochs", [3.7, 6, 11.2, 16])
def test_a_shared_model_of_every_width_is_paid_for(epochs):
    shares = Shares(own=0.8, shared=1.6)
    found = divided(RUN, epochs, 3, 1, shares).config
    spent = found.stage_training.epochs * 0.8 + found.shared_training.epochs * 1.6
    assert epochs - 1.6 < spent <= epochs + 1e-6


@pytest.mark.parametrize("epochs, joint", [(32, 4), (20, 2), (6, None)])
def test_a_joint_training_to_choose_from_has_a_quarter_of_the_budget(epochs, joint):
    config = RUN.replace(fusion="auto", joint_training=TrainConfig(9))
    found = divided(config, epochs, 3, 1, Shares(1.5, 1.0, 2.0)).config
    assert (found.joint_training and found.joint_training.epochs) == joint
    spent = found.shared_training.epochs + 1.5 * found.stage_training.epochs
    assert epochs - 1 <= spent + 2.0 * (joint or 0) <= epochs
