"""Configurations check themselves and survive JSON."""

import json

import pytest

from edvit_tf.checked import digest
from edvit_tf.config import DataConfig, DeviceSpec, PruneConfig, RunConfig, TrainConfig
from edvit_tf.errors import ConfigError
from edvit_tf.models.vit.config import ViTConfig

VIT = ViTConfig((224, 224, 3), 16, 12, 768, 12, 64, 3072, 10)


def test_round_trip_through_json():
    run = RunConfig(
        "x",
        DataConfig("gtzan", (64, 64), {"window_seconds": 3.0}),
        "vit_cpu",
        TrainConfig(1),
        TrainConfig(2),
        TrainConfig(3),
        devices=(DeviceSpec("pi", 10_000_000, None),),
        min_accuracy=0.5,
    )
    again = RunConfig.from_dict(json.loads(json.dumps(run.to_dict())))
    assert again == run and digest(again.to_dict()) == digest(run.to_dict())
    assert ViTConfig.from_dict(VIT.to_dict()) == VIT


def test_pruned_widths():
    sub = VIT.pruned(2, 3)
    assert (sub.hidden_dim, sub.num_heads, sub.head_dim, sub.mlp_dim, sub.num_classes) == (
        128,
        2,
        64,
        512,
        3,
    )
    with pytest.raises(ConfigError, match="13 heads are to be kept.*base's 12"):
        VIT.pruned(13, 3)


def test_a_reserve_is_kept_of_the_memory():
    assert DeviceSpec("pi", 10, None, 3).usable_bytes == 7 and DeviceSpec("pi").usable_bytes is None
    for wrong, message in (
        ((10, None, 10), "less than the 10 bytes"),
        ((None, None, 1), "no memory limit"),
        ((10, None, -1), "0 or more"),
    ):
        with pytest.raises(ConfigError, match=f"reserve_bytes.*{message}"):
            DeviceSpec("pi", *wrong)


def test_sub_models_are_one_a_device_or_as_many_as_asked():
    run = RunConfig(
        "x",
        DataConfig("gtzan", (64, 64)),
        "vit_cpu",
        TrainConfig(1),
        TrainConfig(2),
        TrainConfig(3),
    )
    assert [run.replace(num_devices=n).group_count for n in (1, 5, 12)] == [1, 5, 12]
    assert run.replace(num_groups=7).group_count == 7


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_other_weight_must_be_positive(weight):
    with pytest.raises(ConfigError, match="other_weight is .*positive and finite"):
        TrainConfig(1, other_weight=weight)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"mlp_dim": "3072"}, "mlp_dim is '3072' .*int"),
        ({"mlp_dim": True}, "mlp_dim is True"),
        ({"image_shape": (225, 224, 3)}, "multiples of patch_size = 16"),
        ({"pool": "max"}, "cls_mean"),
        ({"input_std": (0.0,)}, "positive"),
        ({"heads": 3}, "no field 'heads'"),
    ],
)
def test_wrong_values_say_what_is_wrong(change, message):
    with pytest.raises(ConfigError, match=message):
        VIT.replace(**change)


def test_muon_is_for_fits_of_one_vit():
    fit = TrainConfig(1, optimizer="muon")
    run = RunConfig(
        "r",
        DataConfig("mnist", (28, 28)),
        "vit_smoke",
        fit,
        fit,
        TrainConfig(1),
        shared_training=fit,
    )
    assert RunConfig.from_dict(run.to_dict()) == run
    for change in ({"fusion_training": fit}, {"fusion": "joint", "joint_training": fit}):
        with pytest.raises(ConfigError, match=f"{list(change)[-1]} .*muon.*one ViT.*adamw"):
            run.replace(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"ema": 0.9},
        {"label_smoothing": 0.1},
        {"mix": "mixup"},
        {"augment": "shift"},
        {"patch_dropout": 0.5},
        {"feature_distillation": 1.0},
    ],
)
def test_what_the_mlps_fit_would_not_heed_is_refused(change):
    fit = TrainConfig(1)
    with pytest.raises(ConfigError, match=f"fusion_training .*{next(iter(change))} must be"):
        RunConfig("r", DataConfig("mnist", (28, 28)), "vit_smoke", fit, fit, fit.replace(**change))


def test_the_mlp_and_a_joint_training_have_epochs():
    fit, none = TrainConfig(1), TrainConfig(0)
    run = RunConfig("r", DataConfig("mnist", (28, 28)), "vit_smoke", none, none, fit)
    for change in ({"fusion_training": none}, {"fusion": "joint", "joint_training": none}):
        with pytest.raises(ConfigError, match="epochs must be 1 or more"):
            run.replace(**change)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"fleet": "clones"}, "fleet is 'clones'.*classes, copies, joint, auto"),
        ({"views": "all"}, "views is 'all'.*none, auto"),
        ({"own_weight": 1.5}, "own_weight is 1.5.*between 0 and 1"),
        ({"fleet_missing_rate": 1.0}, "fleet_missing_rate is 1.0"),
        ({"fleet_training": TrainConfig(0)}, "epochs must be 1 or more"),
        ({"training_budget": "0e"}, "training_budget is '0e'.*like .16e.*like .90m"),
        ({"training_budget": "16h"}, "training_budget is '16h'"),
        (
            {
                "fleet": "joint",
                "fleet_start": "units",
                "pruning": PruneConfig(heads="whole"),
            },
            "nothing of whole heads",
        ),
    ],
)
def test_what_no_fleet_can_be_is_refused(change, message):
    fit = TrainConfig(1)
    run = RunConfig("r", DataConfig("mnist", (28, 28)), "vit_smoke", fit, fit, fit)
    with pytest.raises(ConfigError, match=message):
        run.replace(**change)
    assert run.replace(training_budget="1.5m", fleet="auto").fleet == "auto"


def test_unknown_and_missing_keys():
    with pytest.raises(ConfigError, match="no field 'rounds'; its fields are: epochs"):
        TrainConfig.from_dict({"rounds": 3})
    with pytest.raises(ConfigError, match="needs a value for 'epochs'"):
        TrainConfig.from_dict({})
