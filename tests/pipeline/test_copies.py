"""Copies beside a fleet are as many as the devices, whatever number of views was looked for."""

from types import SimpleNamespace

import numpy as np
import pytest

from edvit_tf.device.model.view import AS_IT_IS, View
from edvit_tf.pipeline import copies

VIEWS = (AS_IT_IS, View(mirrored=True), View(down=1), View(right=1))


@pytest.fixture
def run(tmp_path):
    """Two devices that hold two sub-models each: views were looked for four of them."""
    figures = [{"devices": n, "accuracy": n / 10} for n in (1, 2, 3, 4)]
    stages = SimpleNamespace(
        path=lambda stage, file: tmp_path / file, result=lambda stage: {"validation": figures}
    )
    split = SimpleNamespace(devices=["pi-0", "pi-1"])
    single = SimpleNamespace(widths=None)
    return SimpleNamespace(
        stages=stages,
        split=split,
        splits_classes=True,
        chosen_views=VIEWS,
        single=single,
        fitted_weights=lambda _: {},
    )


def test_of_one_view_the_single_model_is_not_measured_again(run, tmp_path, monkeypatch):
    from edvit_tf.pipeline import measure

    (tmp_path / "single.tflite").write_bytes(b"x" * 7)
    run.single.name = "single"
    run.kind = "classes"
    logits = [np.zeros((3, 2))]
    monkeypatch.setattr(measure, "has_copies", lambda _: True)
    monkeypatch.setattr(measure, "under_views", lambda run, file: logits)
    monkeypatch.setattr(measure, "by_devices", lambda run, said: {"test": len(said)})
    # no predictions are added, and no temperature is looked for
    told = measure._copies(run, tmp_path, None, None, None)
    assert told == {"file_bytes": 7, "test": 1}


def test_the_file_is_asked_under_a_view_a_device(run, tmp_path, monkeypatch):
    asked = []

    def answers(file, inputs, view):
        asked.append(view)
        return {"logits": np.zeros((3, 2))}, {}

    monkeypatch.setattr(copies, "run_in_process", answers)
    assert len(copies.under_views(run, tmp_path / "single.tflite")) == 2
    assert asked == [AS_IT_IS, View(mirrored=True)]


def test_what_is_told_and_validated_is_of_the_same_copies(run, monkeypatch):
    from edvit_tf.training import train

    x = np.arange(24, dtype=np.float32).reshape(2, 2, 3, 2)
    split = SimpleNamespace(x=x, labels=np.zeros(2, int), recordings=np.arange(2))
    monkeypatch.setattr(copies, "Split", lambda *_: split)
    monkeypatch.setattr(train, "predict", lambda _, __, seen: {"logits": seen[:][:, 0, 0, :]})

    own = [view.applied(x)[:, 0, 0, :] for view in VIEWS[:2]]
    expected = np.mean([train.softmax(one) for one in own], axis=0)
    np.testing.assert_allclose(copies.validated(run), expected)

    told = copies.by_devices(run, own)
    assert told["views"] == [view.to_dict() for view in VIEWS[:2]]
    assert [row["accuracy"] for row in told["validation"]] == [0.1, 0.2]
    assert len(told["test"]) == 2


def test_a_device_that_holds_no_copy_is_not_counted(run):
    run.split.devices.append("small")
    assert copies.holding(run) == 3 and len(copies.copied_views(run)) == 3
    run.splits_classes, run.plan = False, SimpleNamespace(idle=("small",))
    assert copies.holding(run) == 2 and copies.copied_views(run) == VIEWS[:2]
