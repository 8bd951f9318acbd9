"""Fleets of members that all know all classes: widths, devices, and the choice of a kind."""

import pytest

from edvit_tf.config import DataConfig, DeviceSpec, RunConfig, TrainConfig
from edvit_tf.errors import PlanError
from edvit_tf.models.vit import cost
from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.planning.fleets import (
    choose_fleet,
    common_share,
    plan_of_all,
)
from edvit_tf.planning.plan import plan_groups

BASE = ViTConfig((32, 32, 1), 4, 6, 96, 12, 8, 384, 10, pool="cls_mean")
FIT = TrainConfig(1)
RUN = RunConfig("x", DataConfig("mnist", (32, 32)), "vit_smoke", FIT, FIT, FIT)
KEEP = RUN.pruning.heads


def size(kept: int) -> int:
    return cost.file_bytes(BASE.pruned(kept, 10, KEEP))


def planned(members: int | None = None, kept: int | None = None, kind: str = "copies", **fields):
    config = RUN.replace(**fields)
    split = plan_groups(config, BASE)
    if kept is None:
        kept = common_share(split, BASE, KEEP)
    return plan_of_all(split, BASE, kept, config, kind, members)


def test_devices_beyond_the_views_hold_one_again():
    found = planned(3, num_devices=8)
    assert [sub.devices for sub in found.sub_models] == [
        ("device-00", "device-03", "device-06"),
        ("device-01", "device-04", "device-07"),
        ("device-02", "device-05"),
    ]
    assert found.strategy == "copies" and not found.idle
    for sub in found.sub_models:
        assert sub.classes == tuple(range(10)) and sub.config == BASE.pruned(sub.kept, 10, KEEP)


def test_members_of_their_own_stand_on_a_device_each():
    assert [len(sub.devices) for sub in planned(num_devices=4).sub_models] == [1] * 4
    # and on as many as asked for where there are replicas, or fewer groups
    assert [len(sub.devices) for sub in planned(num_devices=4, replicas=2).sub_models] == [2, 2]
    assert [len(sub.devices) for sub in planned(num_devices=4, num_groups=2).sub_models] == [2, 2]


def test_the_one_model_is_as_wide_as_the_least_device_in_use_can_hold():
    # two large devices and a small one, which holds a narrower sub-model of the class split
    devices = (
        DeviceSpec("large", size(2)),
        DeviceSpec("small", size(1)),
        DeviceSpec("wide", size(2)),
    )
    config = RUN.replace(devices=devices, num_devices=3)
    split = plan_groups(config, BASE)
    assert len({sub.kept for sub in split.sub_models}) == 2
    assert common_share(split, BASE, KEEP) == 1
    found = plan_of_all(split, BASE, 1, config, "joint", None)
    assert [sub.devices for sub in found.sub_models] == [("large",), ("small",), ("wide",)]


def test_a_device_that_can_hold_none_keeps_nobody_narrow():
    tiny = DeviceSpec("tiny", size(1) - 1)
    devices = (DeviceSpec("a"), DeviceSpec("b"), tiny)
    config = RUN.replace(devices=(*devices[:2], DeviceSpec("tiny")), num_devices=3)
    split = plan_groups(config, BASE).replace(devices=devices)
    assert common_share(split, BASE, KEEP) == common_share(plan_groups(config, BASE), BASE, KEEP)
    assert common_share(split, BASE, KEEP) > 1


@pytest.mark.parametrize("copies", [1, 2, 5])
def test_the_budget_holds_all_copies(copies):
    config = RUN.replace(num_devices=5)
    budget = copies * size(1) + 4000
    split = plan_groups(config, BASE).replace(budget_bytes=budget)
    found = plan_of_all(split, BASE, 1, config, "copies", 5)
    assert found.deployed_bytes <= budget and len(found.idle) == 5 - copies


def test_a_device_that_cannot_hold_one_is_idle_and_none_at_all_is_an_error():
    compute = 2 * cost.macs(BASE.pruned(1, 10, KEEP))
    devices = (DeviceSpec("a"), DeviceSpec("b", compute_macs=compute))
    for samples, idle in ((1, ()), (2, ()), (3, ("b",))):
        config = RUN.replace(devices=devices, num_devices=2, samples=samples)
        split = plan_groups(config.replace(samples=1), BASE).replace(samples=samples)
        assert plan_of_all(split, BASE, 1, config, "copies", None).idle == idle
    with pytest.raises(PlanError, match="all 10 classes: it takes .* bytes.*--fleet classes"):
        small = split.replace(devices=(DeviceSpec("a", 1000),))
        plan_of_all(small, BASE, 1, config, "copies", None)


@pytest.mark.parametrize("gap, words", [(0.18, "+18.0"), (-0.02, "-2.0"), (None, "had more")])
def test_left_to_itself_a_run_takes_copies_and_says_what_room_there_is(gap, words):
    choice = choose_fleet(gap)
    assert choice.kind == "copies" and words in choice.reason


@pytest.mark.parametrize("kind", ["copies", "joint", "auto"])
def test_of_more_devices_than_classes_each_holds_a_model_of_all_of_them(kind):
    found = planned(kind=kind, num_devices=12, fleet=kind)
    assert len(found.sub_models) == 12 and not found.idle
    with pytest.raises(PlanError, match="12 groups were asked for 10 classes"):
        planned(num_devices=12, fleet="classes")
    # as narrow as the devices that no class group was left for can hold it
    devices = tuple(DeviceSpec(f"d{n}", size(3 if n < 10 else 1)) for n in range(12))
    config = {"num_devices": 12, "devices": devices, "start_heads": 3, "fleet": kind}
    found = planned(kind=kind, **config)
    assert not found.idle and {sub.kept for sub in found.sub_models} == {1}
    # and the budget counts all of them
    assert not planned(kind=kind, num_devices=12, fleet=kind, budget_bytes=12 * size(1)).idle
