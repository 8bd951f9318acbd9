"""Every rival's training costs what the whole fleet's does: counted here from what is run, stage by
stage.
"""

import numpy as np
import pytest

from edvit_tf.config import BASELINES, DataConfig, DeviceSpec, RunConfig, TrainConfig
from edvit_tf.models.vit import cost
from edvit_tf.models.vit.config import ViTConfig, widths_after
from edvit_tf.pipeline.budget import Budget
from edvit_tf.pipeline.member import rivals
from edvit_tf.planning.plan import plan
from edvit_tf.training.batches import group_epoch

BASE = ViTConfig((32, 32, 1), 4, 6, 96, 12, 8, 384, 10, pool="cls_mean")
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 500))
FIT, FUSION = TrainConfig(3, batch_size=16), TrainConfig(20, batch_size=64)
SHARED = TrainConfig(5, batch_size=32, patch_dropout=0.5)
JOINT = {"fusion": "joint", "joint_training": TrainConfig(2, batch_size=48)}
CASES = {
    "five": {},
    "ten": {"devices": 10},
    "joint": JOINT,
    "an average": {"fusion": "average"},
    "with views": {"views": "auto"},
    "two devices with ten": {"devices": 2, "groups": 10},
    "unequal": {"budget": 900_000},
    "shared": {"shared_training": SHARED},
    "shared, joint": {"shared_training": SHARED, **JOINT},
    "shared, unequal": {"shared_training": SHARED, "budget": 900_000},
    "shared, two with ten": {"shared_training": SHARED, "devices": 2, "groups": 10},
}


def made(devices=5, groups=None, budget=None, **fields):
    config = RunConfig(
        "x",
        DataConfig("mnist", (32, 32)),
        "vit_smoke",
        FIT,
        FIT,
        FUSION,
        baselines=BASELINES,
        num_devices=devices,
        **fields,
    )
    split = [
        tuple(int(c) for c in part) for part in np.array_split(np.arange(10), groups or devices)
    ]
    planned = plan(
        BASE, split, [DeviceSpec(str(i)) for i in range(devices)], budget, cut_heads="keep"
    )
    return config, planned


def spent(config: ViTConfig, fit: TrainConfig, samples: int) -> float:
    """Three forward passes of every sample, in whole batches, on the tokens that a step keeps."""
    tokens = 1 + round(config.num_patches * (1 - fit.patch_dropout))
    whole = -(-samples // fit.batch_size) * fit.batch_size
    return 3 * fit.epochs * whole * cost.macs(config) * tokens / config.num_tokens


def on_the_way(final: ViTConfig) -> list[ViTConfig]:
    narrow = BASE.replace(pool="cls", num_classes=final.num_classes, hidden_dim=final.hidden_dim)
    return [narrow, final.replace(mlp_dim=BASE.mlp_dim), final]


@pytest.mark.parametrize("name", CASES)
def test_rivals_cost_what_the_fleet_costs(name):
    config, planned = made(**CASES[name])
    budget, subs, shared = (
        Budget(config, BASE, planned, LABELS),
        planned.sub_models,
        config.shared_training,
    )
    fleet = 0.0
    for sub in subs:
        rows = len(group_epoch(LABELS, sub.classes, 10, 3, 1))
        fits = on_the_way(sub.config) if shared is None else [sub.config]
        fleet += sum(spent(widths, FIT, rows) for widths in fits)
    if shared is not None:
        fleet += sum(
            spent(BASE.pruned(kept, 10, "keep"), shared, 5000)
            for kept in {sub.kept for sub in subs}
        )
    width = sum(sub.config.hidden_dim for sub in subs)
    mlp = -(-width // 2) * (width + 10)
    if config.fusion != "average":
        ways = 2 if config.views == "auto" else 1
        fleet += ways * 3 * 20 * (5000 // 64 * 64) * mlp
    if config.joint_training is not None:
        fleet += (
            sum(spent(sub.config, config.joint_training, 5000) for sub in subs) + 3 * 2 * 5040 * mlp
        )
    assert sum(budget.fleet().values()) == pytest.approx(fleet, rel=1e-6)
    found = rivals(config, planned, BASE)
    assert {one.kind for one in found} == set(BASELINES)
    for one in found:
        if shared is None:
            own = sum(
                spent(widths, FIT, budget.rival(one.widths, stage))
                for stage, widths in zip(
                    ("residual", "attention", "ffn"), on_the_way(one.widths), strict=True
                )
            )
        else:
            own = spent(one.widths, shared, budget.rival_shared(one)) + spent(
                one.widths, FIT, budget.rival_own(one)
            )
        batches = sum(
            spent(widths, fit, 1)
            for widths in on_the_way(one.widths)
            for fit in (FIT, shared or FIT)
        )
        assert own == pytest.approx(fleet, rel=1e-6, abs=batches), (
            one.kind
        )  # the last batch is filled up


def test_a_rival_of_the_fleets_width_starts_from_the_fleets_own_model():
    config, planned = made(shared_training=SHARED)
    by = {one.kind: one for one in rivals(config, planned, BASE)}
    budget = Budget(config, BASE, planned, LABELS)
    assert budget.rival_shared(by["single"]) == budget.rival_shared(by["plain"]) == len(LABELS)
    assert budget.rival_shared(by["total"]) < len(LABELS)


def test_widths_on_the_way_are_those_of_the_cuts():
    final = BASE.pruned(3, 4, "keep")
    assert [
        widths_after(BASE, final, stage) for stage in ("residual", "attention", "ffn")
    ] == on_the_way(final)
    assert widths_after(BASE, final, "ffn") == final


@pytest.mark.parametrize(
    "weight, batch, samples",
    [
        (1.0, 1, 30 + 30 - 10 + 30),
        (2.0, 1, 80 + 30),
        (0.5, 1, 80 - 15),
        (1.0, 16, 32 + 32 + 32),
        (1.0, 64, 3 * 64),
    ],
)
def test_a_sub_models_epoch_has_others_by_their_weight(weight, batch, samples):
    base = ViTConfig((8, 8, 1), 4, 2, 16, 8, 2, 32, 5)
    planned = plan(base, [(0, 1), (2, 3), (4,)], [DeviceSpec(name) for name in "abc"])
    train = TrainConfig(1)
    config = RunConfig(
        "x",
        DataConfig("mnist", (8, 8)),
        "vit_smoke",
        train,
        train.replace(other_weight=weight, batch_size=batch),
        train,
    )
    budget = Budget(config, base, planned, np.repeat(np.arange(5), 10))
    assert sum(budget.own_samples(sub) for sub in planned.sub_models) == samples


def test_an_epoch_of_all_samples_counts_them_all_in_the_budget():
    base = ViTConfig((8, 8, 1), 4, 2, 16, 8, 2, 32, 5)
    planned = plan(base, [(0, 1), (2, 3, 4)], [DeviceSpec(name) for name in "ab"])
    train = TrainConfig(1, batch_size=1, epoch="all")
    config = RunConfig("x", DataConfig("mnist", (8, 8)), "vit_smoke", train, train, train)
    budget = Budget(config, base, planned, np.repeat(np.arange(5), 10))
    # 20 of the group as often as the 30 others; 30 of the group once, and the 20 others
    assert [budget.own_samples(sub) for sub in planned.sub_models] == [60, 50]
