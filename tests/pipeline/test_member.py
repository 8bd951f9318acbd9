"""What the members of a run are, where each starts, and by which steps it goes."""

import numpy as np
import pytest

from edvit_tf.config import BASELINES, DataConfig, DeviceSpec, RunConfig, TrainConfig
from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.pipeline.cutting import stages_of
from edvit_tf.pipeline.member import (
    copies,
    members,
    shared_models,
    trained_together,
)
from edvit_tf.planning.fleets import splits_classes
from edvit_tf.planning.plan import plan

BASE = ViTConfig((32, 32, 1), 4, 6, 96, 12, 8, 384, 10, pool="cls_mean")
FIT = TrainConfig(1)
WAY = ("head", "residual", "attention", "ffn")


@pytest.fixture(params=[None, FIT], ids=["from the base", "from shared models"])
def made(request):
    """A configuration with or without shared models, and a plan of three sub-models."""
    config = RunConfig(
        "x",
        DataConfig("mnist", (32, 32)),
        "vit_smoke",
        FIT,
        FIT,
        FIT,
        baselines=BASELINES,
        num_devices=3,
        shared_training=request.param,
    )
    groups = [tuple(int(c) for c in part) for part in np.array_split(np.arange(10), 3)]
    devices = [DeviceSpec(name) for name in "abc"]
    return config, plan(BASE, groups, devices, cut_heads="keep")


def test_every_member_has_a_name_a_kind_and_a_start(made):
    config, planned = made
    found = {member.name: member for member in members(config, planned, BASE)}
    assert list(found) == ["submodel-00", "submodel-01", "submodel-02", *BASELINES]
    assert [m.is_sub_model for m in found.values()] == [True] * 3 + [False] * 3
    assert [m.is_rival for m in found.values()] == [False] * 3 + [True] * 3
    for sub in planned.sub_models:
        member = found[sub.name]
        assert (member.classes, member.widths, member.devices) == (
            sub.classes,
            sub.config,
            sub.devices,
        )
    for kind in BASELINES:
        assert found[kind].classes == tuple(range(10)) and found[kind].devices == ()

    starts = {name: member.starts_from for name, member in found.items()}
    if config.shared_training is None:
        assert set(starts.values()) == {None}
    else:
        assert starts["submodel-00"] == f"shared-{planned.sub_models[0].kept}"
        assert starts["single"] == f"shared-{found['single'].kept}" and starts["plain"] == "plain"


def test_the_steps_are_those_from_the_base_or_from_where_it_starts(made):
    config, planned = made
    found = {member.name: member for member in members(config, planned, BASE)}
    shared = shared_models(config, tuple(found.values()), BASE)
    if config.shared_training is None:
        assert shared == [] and {member.steps for member in found.values()} == {WAY}
        assert found["single"].last_stage == "single.ffn"
        return
    assert [member.steps for member in shared] == [WAY] * len(shared)
    assert {member.name for member in shared} == {
        member.starts_from for member in found.values() if member.name != "plain"
    }
    assert found["plain"].steps == (*WAY, "group") and found["single"].steps == ("group",)
    assert found["submodel-01"].last_stage == "submodel-01.group"


def test_a_stage_needs_the_one_before_it_or_the_model_where_it_starts(made):
    config, planned = made
    found = members(config, planned, BASE)
    before = {"data", "base", "teacher", "plan"}
    for member in (*shared_models(config, found, BASE), *found):
        for stage in stages_of(member):
            assert set(stage.needs) <= before, stage.name
            before.add(stage.name)
        assert member.last_stage in before


@pytest.mark.parametrize("kind", ["copies", "joint", "auto"])
def test_a_fleet_of_the_one_model_has_nothing_else_to_cut(made, kind):
    config, planned = made
    config = config.replace(fleet=kind, baselines=())
    (single,) = members(config, planned, BASE)
    assert single.kind == "single" and single.steps == WAY and single.starts_from is None
    assert not shared_models(config, (single,), BASE)

    # its copies have its weights, and no steps of their own
    for copy, sub in zip(copies(single, planned), planned.sub_models, strict=True):
        assert (copy.steps, copy.last_stage, copy.weights_file) == (
            (),
            single.last_stage,
            "weights.npz",
        )
        assert copy.name == sub.name and copy.devices == sub.devices and copy.is_sub_model
    files = [member.weights_file for member in trained_together(planned, "together")]
    assert files == [f"submodel-0{j}.npz" for j in range(3)]


def test_views_are_chosen_by_the_one_model_whether_it_is_a_baseline_or_not(made):
    config, planned = made
    found = members(config.replace(baselines=("total",), views="auto"), planned, BASE)
    assert [m.kind for m in found if m.is_rival] == ["single", "total"]
    assert not [m for m in members(config.replace(baselines=()), planned, BASE) if m.is_rival]


def test_one_device_holds_the_class_split_whatever_is_asked(made):
    config, planned = made
    one = planned.replace(devices=planned.devices[:1])
    assert splits_classes(config.replace(fleet="auto"), one)
    assert not splits_classes(config.replace(fleet="auto"), planned)
