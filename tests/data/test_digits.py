"""The digits that scikit-learn ships: found without a folder, read without scikit-learn."""

import gzip
import importlib.util

import numpy as np
import pytest

from edvit_tf import data
from edvit_tf.data.digits import FILE, read_digits
from edvit_tf.errors import DataError


@pytest.fixture(autouse=True)
def no_folder(monkeypatch):
    monkeypatch.delenv("EDVIT_DATA", raising=False)


def test_they_are_there_without_a_folder_and_as_scikit_learn_has_them():
    from sklearn.datasets import load_digits

    loaded = data.load("digits", image_size=(8, 8))
    sizes = {split: loaded.size(split) for split in loaded.splits}
    assert sum(sizes.values()) == 1797 and not loaded.synthetic
    assert sizes == {"train": 1146, "validation": 202, "test": 449}
    assert loaded.source == "scikit-learn"

    theirs = load_digits()
    for split in sizes:
        for x, label, place in loaded.iterate(split):
            row = int(loaded.recordings(split)[place].id.removeprefix("digits/"))
            assert label == theirs.target[row]
            np.testing.assert_allclose(x[..., 0] / 255 * 16, theirs.images[row], atol=0.05)


def test_a_split_has_every_digit_and_follows_the_seed():
    ids = {}
    for seed in (0, 0, 1):
        loaded = data.load("digits", image_size=(8, 8), seed=seed)
        labels = [one.label for one in loaded.recordings("validation")]
        assert np.bincount(labels).min() >= 19
        found = {split: loaded.split_ids(split) for split in loaded.splits}
        assert ids.setdefault(seed, found) == found
    assert ids[0] != ids[1]


def test_without_scikit_learn_it_is_said_where_they_come_from(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install scikit-learn"):
        data.load("digits", image_size=(8, 8))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no gzip", "cannot be read"),
        (gzip.compress(b"1,2,three\n"), "cannot be read"),
        (gzip.compress(b"1,2,3\n"), "1 lines of 3 numbers"),
        (gzip.compress(b"17," * 64 + b"3\n"), "pixels of 0 to 16, then a digit"),
        (gzip.compress(b"1," * 64 + b"11\n"), "pixels of 0 to 16, then a digit"),
        (gzip.compress(b"1," * 64 + b"3\n")[:-6], "cannot be read"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content, words):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(DataError, match=words) as told:
        read_digits(tmp_path / FILE)
    assert FILE in str(told.value)
