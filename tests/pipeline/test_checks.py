"""What a run asks of the disk before it begins."""

from types import SimpleNamespace

import pytest

from edvit_tf.config import DataConfig, RunConfig, TrainConfig
from edvit_tf.models import architecture
from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.pipeline.checks import needed_bytes

BASE = ViTConfig((16, 16, 1), 8, 1, 24, 2, 12, 48, 4)
FIT = TrainConfig(1)
SPLITS = {"train": 1000, "validation": 100, "test": 50}
DATA = SimpleNamespace(
    spec=SimpleNamespace(shape=(16, 16, 1), dtype="uint8"),
    size=SPLITS.__getitem__,
    labels=("a", "b", "c", "d"),
)
RUN = RunConfig(
    "x",
    DataConfig("mnist", (16, 16)),
    "vit_smoke",
    FIT,
    FIT.replace(augment="shift"),
    FIT,
    num_devices=2,
)
NARROW = BASE.pruned(1, 4)
WEIGHTS = architecture(BASE).size_bytes(NARROW)


def more(**changes) -> int:
    """Bytes that a change of the configuration needs beside those of RUN."""
    return needed_bytes(RUN.replace(**changes), DATA, BASE) - needed_bytes(RUN, DATA, BASE)


def test_augmented_features_need_room_and_so_do_those_under_views():
    row = 4 * 2 * NARROW.feature_dim
    assert more(fusion_views=2) == row * 2 * 1000
    assert more(views="auto") == row * (1000 + 100)
    assert more(views="auto", fusion_views=2) == row * (2 * (3 * 1000 + 100) - 1100)


@pytest.mark.parametrize("start, copies", [("model", 0), ("cut", 2), ("units", 2)])
def test_members_that_are_trained_together_need_room_for_checkpoints_and_starts(start, copies):
    joint = {"fleet": "joint", "fleet_start": start}
    beside = more(**joint) - more(fleet="copies")
    # weights of two members, a checkpoint of theirs and the next one, each with the optimizer's;
    # and the rival of equal training
    assert beside == (2 + copies + 2 * 8 + 1) * WEIGHTS
    assert more(**joint, baselines=()) < more(**joint) - WEIGHTS
