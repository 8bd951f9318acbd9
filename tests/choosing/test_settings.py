"""The table of settings: what follows from which data."""

from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from edvit_tf.choosing import settings
from edvit_tf.choosing.bases import ChosenBase, Pretrained
from edvit_tf.choosing.expectations import expectations, interval
from edvit_tf.choosing.settings import data_settings, run_settings
from edvit_tf.choosing.space import space_of
from edvit_tf.data.folder import Survey
from edvit_tf.data.folders import Found
from edvit_tf.data.own_facts import Picture, Sound, Text
from edvit_tf.data.own_files import OwnFile

NONE = ChosenBase(None, None, ())
DINO = Path("/models/dino")
LEARNT = ChosenBase(DINO, Pretrained(DINO, "dinov2", 14, 384, 88_000_000, "here"), ())


@pytest.fixture(autouse=True)
def enough_memory(monkeypatch):
    monkeypatch.setattr(settings, "_memory_bytes", lambda: 16 << 30)


def found(kind="pictures", fact=None, counts=None):
    counts = counts or {"a": 30, "b": 30}
    fact = fact or Picture(640, 480, False, datetime(2024, 1, 1))
    files = [
        OwnFile(Path(f"/own/{label}/{i}"), f"{label}/{i}", label)
        for label, n in counts.items()
        for i in range(n)
    ]
    facts = {file.path: fact for file in files}
    groups = {file.path: file.key for file in files}
    place = Found(Path("/own"), "own")
    return Survey(place, kind, tuple(sorted(counts)), tuple(files), facts, groups, (), ())


def run(own, base=NONE, n=1000, **options):
    data = data_settings(own, base, kind=None, group_by=None)
    return run_settings(own, base, data, n, **options)


def test_photographs_from_scratch_are_as_in_the_recipe_of_caltech():
    config = run(found(), n=1013)
    assert config.data.image_size == (64, 64) and config.patch_size == 16
    assert (config.model, config.name, config.data.name) == ("vit_cpu", "own", "folder")
    base = config.base_training
    assert (base.epochs, base.batch_size, base.learning_rate) == (20, 32, 5e-4)
    assert base.augment == "shift_flip" and config.stage_training.epochs == 6
    assert config.shared_training is None


def test_texts_are_as_in_the_recipe_of_newsgroups():
    bert = Path("/models/minilm")
    base = ChosenBase(bert, Pretrained(bert, "bert", 0, 384, 91_000_000, "here"), ())
    config = run(found("text", Text(300, b"")), base, n=5204)
    assert config.data.image_size == (1, 128) and config.patch_size is None
    assert (config.model, config.fleet, config.views) == ("minilm", "classes", "none")
    fits = (config.base_training, config.shared_training, config.stage_training)
    assert [(fit.epochs, fit.learning_rate) for fit in fits] == [(3, 5e-5), (8, 5e-4), (2, 1e-4)]
    assert {(fit.augment, fit.mix, fit.batch_size) for fit in fits} == {("none", "none", 32)}
    assert config.pruning.residual == "channels"
    # what a search may try of texts are no variations of them
    assert set(space_of(config.base_training)) == {
        "learning_rate",
        "weight_decay",
        "label_smoothing",
    }

    scratch = run(found("text", Text(300, b"")), n=5204)
    assert (scratch.model, scratch.shared_training) == ("bert_cpu", None)
    assert scratch.base_training.epochs == 12


@pytest.mark.parametrize("words, length", [(8, 32), (24, 64), (48, 128), (500, 128)])
def test_of_texts_as_much_is_read_as_most_have(words, length):
    own = found("text", Text(words, b""))
    own.facts[own.files[0].path] = Text(512, b"")  # one long text lengthens nothing
    assert run(own).data.image_size == (1, length)


def test_digits_are_not_mirrored_and_small():
    digits = found(fact=Picture(28, 28, True, None))
    config = run(digits, n=55_000)
    assert config.data.image_size == (28, 28) and config.patch_size == 7
    assert config.base_training.augment == "affine" and config.base_training.epochs == 12
    assert config.data.options["channels"] == 1
    drawings = run(found(fact=Picture(105, 105, True, None)), n=2904)
    assert drawings.data.image_size == (56, 56) and drawings.patch_size == 14


@pytest.mark.parametrize(("mirror", "augment"), [(None, "shift_flip"), (False, "shift")])
@pytest.mark.parametrize("base", [NONE, LEARNT])
def test_mirroring_can_be_refused(mirror, augment, base):
    config = run(found(), base, mirror=mirror)
    fits = (config.base_training, config.stage_training, config.shared_training)
    assert {fit.augment for fit in fits if fit is not None} == {augment}


@pytest.mark.parametrize("base", [NONE, LEARNT])
def test_sound_is_never_mirrored_and_keeps_its_rate(base):
    config = run(found("sound", Sound(44100 * 3, 44100)), base, mirror=True)
    assert "flip" not in config.base_training.augment
    assert config.data.options["sample_rate_hz"] == 44100
    assert config.data.options["window_seconds"] == 2.0


def test_a_pretrained_base_brings_its_patches_and_has_a_shared_fit():
    config = run(found(), LEARNT, n=3890)
    assert config.data.image_size == (98, 98) and config.patch_size == 14
    assert config.model == "vit_small" and config.shared_training.epochs == 39
    assert config.base_training.learning_rate == 5e-5 and config.base_training.epochs == 5
    rates = [run(found(), LEARNT, n=n).shared_training.learning_rate for n in (63, 3890, 50_000)]
    assert rates == [1e-4, 1e-3, 5e-4]


@pytest.mark.parametrize("base", [NONE, LEARNT])
@pytest.mark.parametrize("kind", ["pictures", "sound"])
def test_fewer_inputs_are_seen_more_often_in_smaller_batches(base, kind):
    own = found(kind, Sound(16000, 16000) if kind == "sound" else None)
    sizes = (5, 50, 500, 5000, 50_000, 500_000)
    fits = [run(own, base, n=n).base_training for n in sizes]
    epochs = [fit.epochs for fit in fits]
    batches = [fit.batch_size for fit in fits]
    assert epochs == sorted(epochs, reverse=True) and batches == sorted(batches)
    assert epochs[0] <= 100 and epochs[-1] >= 3


def test_little_memory_halves_the_batch(monkeypatch):
    usual = run(found()).base_training.batch_size
    monkeypatch.setattr(settings, "_memory_bytes", lambda: 2 << 30)
    assert run(found()).base_training.batch_size == usual // 2


def dataset(own, counts):
    recordings = [
        SimpleNamespace(label=own.labels.index(label))
        for label, n in counts.items()
        for _ in range(n)
    ]
    return SimpleNamespace(labels=own.labels, recordings=lambda split: recordings)


def test_small_and_unbalanced_classes_are_named():
    counts = {"crow": 900, "kite": 7, "owl": 100}
    own = found(counts=counts)
    few, lopsided, test = expectations(own, dataset(own, counts))
    assert few.startswith("'kite' (7) has fewer than 20 pictures")
    assert "always answering 'crow' would be right in 89%" in lopsided
    assert "The test split has 1007 pictures" in test and "+-2 points" in test


def test_balanced_classes_of_enough_files_are_told_their_interval_alone():
    counts = {"a": 60, "b": 50}
    own = found(counts=counts)
    assert len(expectations(own, dataset(own, counts))) == 1
    assert interval(0.5, 100) == pytest.approx(0.098, abs=1e-3)
