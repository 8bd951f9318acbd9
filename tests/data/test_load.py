"""`load`: where it looks, what it refuses, the stand-ins, iterating, and what it must not
import.
"""

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edvit_tf import data
from edvit_tf.data import catalogue, keras_cache, synthetic
from edvit_tf.data.split import split_groups
from edvit_tf.errors import DataError
from tests.support.data_files import (
    GENRES,
    write_caltech,
    write_caltech101,
    write_cifar_batches,
    write_gtzan,
    write_mnist,
    write_newsgroups,
    write_omniglot,
    write_speech,
)
from tests.support.ports import free_port

SMALL = {"image_size": (16, 16), "window_seconds": 0.1}
REAL = os.environ.get("EDVIT_DATA")


@pytest.fixture(autouse=True)
def nowhere(request, monkeypatch, tmp_path_factory):
    """No $EDVIT_DATA, an empty Keras cache, and no network, unless the test says otherwise."""
    if "real_data" not in request.keywords:
        monkeypatch.delenv("EDVIT_DATA", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
    monkeypatch.setattr(keras_cache, "_unreachable", lambda url: "no network in tests")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "gtzam",
            {},
            "gtzan, speech_commands, mnist, cifar10, caltech256, caltech101, omniglot, digits",
        ),
        ("gtzan", {"window": 3}, "window_seconds"),
        ("gtzan", {"window_seconds": "3"}, "of type float"),
        ("gtzan", {"n_mels": 128.0}, "of type int"),
        ("gtzan", {"n_mels": True}, "of type int"),
        ("gtzan", {"window_seconds": -1}, "positive"),
        ("gtzan", {"test_fraction": 0.9, "validation_fraction": 0.1}, "nothing to train on"),
        ("caltech256", {"clutter": 1}, "of type bool"),
        ("mnist", {"synthetic": "yes"}, "never, fallback, only"),
        ("mnist", {"image_size": (28, 0)}, "positive integers"),
        ("mnist", {"seed": -1}, "seed is -1"),
        ("mnist", {"max_per_class": 0}, "max_per_class is 0"),
    ],
)
def test_what_is_asked_for_is_checked(name, options, message):
    with pytest.raises(DataError, match=message):
        data.load(name, **{"image_size": (28, 28), **options})


def size_of(name: str, height: int = 16, width: int = 16) -> tuple[int, int]:
    """An image_size; texts are one row of pieces."""
    return (1, width) if name == "newsgroups" else (height, width)


@pytest.mark.parametrize("name", catalogue.NAMES)
def test_wrong_layout_says_what_was_looked_for_and_found(tmp_path, name):
    (tmp_path / "holiday").mkdir()
    with pytest.raises(DataError) as caught:
        data.load(name, tmp_path, image_size=(28, 28))
    message = str(caught.value)
    assert str(tmp_path) in message and "it holds holiday/" in message and "Expected:" in message
    with pytest.raises(DataError, match="no such folder"):
        data.load(name, tmp_path / "absent", image_size=(28, 28), synthetic="fallback")


def test_missing_data_names_the_places(monkeypatch, tmp_path):
    with pytest.raises(DataError, match=r"EDVIT_DATA is not set"):
        data.load("gtzan", **SMALL)
    monkeypatch.setenv("EDVIT_DATA", str(tmp_path))
    with pytest.raises(DataError, match=f"{tmp_path}/gtzan: there is no such folder"):
        data.load("gtzan", **SMALL)
    for name in ("mnist", "cifar10"):
        with pytest.raises(
            DataError,
            match=r"datasets[\s\S]*Expected:[\s\S]*download from http.*no network in tests",
        ):
            data.load(name, image_size=(28, 28))


def test_an_unreachable_server_is_noticed_soon():
    # the real function: the fixture has replaced the module's
    reason = REAL_UNREACHABLE(f"http://127.0.0.1:{free_port()}/mnist.npz")
    assert "refused" in reason


def test_a_silent_server_is_given_up(monkeypatch):
    monkeypatch.setattr(keras_cache, "PROBE_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        reason = REAL_UNREACHABLE(f"http://127.0.0.1:{server.getsockname()[1]}/")
    assert "timed out" in reason or "no answer" in reason


REAL_UNREACHABLE = keras_cache._unreachable


def test_environment_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("EDVIT_DATA", str(tmp_path))
    write_gtzan(tmp_path / "gtzan_short")
    write_gtzan(tmp_path / "gtzan_long", suffix=".flac")
    (tmp_path / "gtzan_pictures/spectrograms/blues").mkdir(parents=True)
    (tmp_path / "gtzan_pictures/spectrograms/blues/blues.00000.png").write_bytes(b"")
    write_speech(tmp_path / "speech_commands_subset/speech_commands")
    write_mnist(tmp_path / "mnist")
    write_cifar_batches(tmp_path / "cifar10_lossless")
    write_caltech(tmp_path / "caltech101_sample", {f"c{i}": 10 for i in range(10)})
    write_caltech101(tmp_path / "manyclass_caltech101", each=5)
    write_omniglot(tmp_path / "omniglot")
    write_newsgroups(tmp_path / "20news-sample")
    assert data.load("gtzan", **SMALL).source == "gtzan_long/genres + gtzan_short/genres"
    for name in catalogue.NAMES[1:]:
        loaded = data.load(name, image_size=size_of(name))
        assert not loaded.synthetic and loaded.size("train") > 0
    write_gtzan(tmp_path / "gtzan")
    assert data.load("gtzan", **SMALL).source == "gtzan/genres"  # the exact name comes first
    write_speech(tmp_path / "speech_commands_more")
    with pytest.raises(DataError, match="Several speech_commands folders.*more.*subset"):
        data.load("speech_commands", image_size=(16, 16))


def test_data_dir_comes_before_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("EDVIT_DATA", str(tmp_path / "env"))
    write_mnist(tmp_path / "env/mnist", train=100)
    assert (
        data.load("mnist", write_mnist(tmp_path / "mine", train=300), image_size=(28, 28)).size(
            "train"
        )
        == 270
    )


def test_fallback_is_loud(capsys):
    loaded = data.load(
        "gtzan", synthetic="fallback", synthetic_per_class=5, synthetic_seconds=0.2, **SMALL
    )
    err = capsys.readouterr().err
    assert (
        err.count("\n") == 1
        and "no gtzan data found" in err
        and "SYNTHETIC" in err
        and "mean nothing" in err
    )
    assert (
        loaded.synthetic
        and loaded.source == "synthetic stand-in"
        and synthetic.NOTE in loaded.notes
    )
    assert loaded.describe()["synthetic"] is True
    loaded = data.load("mnist", synthetic="fallback", synthetic_per_class=5, image_size=(28, 28))
    assert "no mnist data found" in capsys.readouterr().err and loaded.synthetic


def test_fallback_prefers_real_data(tmp_path, capsys):
    assert not data.load("gtzan", write_gtzan(tmp_path), synthetic="fallback", **SMALL).synthetic
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", catalogue.NAMES)
def test_stand_ins_have_the_shape_of_the_real_set(name):
    options = {"synthetic_seconds": 0.5, "window_seconds": 0.5} if name == "gtzan" else {}
    options["synthetic_seconds"] = 0.5
    if name == "newsgroups":
        options["vocab_size"] = 400
    one, two, other = (
        data.load(
            name,
            image_size=size_of(name, 24, 20),
            synthetic="only",
            synthetic_per_class=5,
            seed=s,
            **options,
        )
        for s in (3, 3, 4)
    )
    channels = 3 if name in ("cifar10", "caltech256", "caltech101") else 1
    x = [np.stack([x for x, _, _ in d.iterate("test")]) for d in (one, two, other)]
    shape = (20,) if name == "newsgroups" else (24, 20, channels)
    assert x[0].shape == (10, *shape) and x[0].dtype == one.spec.dtype
    np.testing.assert_array_equal(x[0], x[1])
    assert not np.array_equal(x[0], x[2])
    assert len(one.labels) == 10 and {r.label for r in one.recordings("train")} == set(range(10))
    if name == "speech_commands":
        speakers = [{r.group for r in rs} for rs in one.splits.values()]
        assert sum(map(len, speakers)) == len(set.union(*speakers))


def nearest_accuracy(train, train_label, test, test_label) -> float:
    """Of the label of the nearest training clip."""
    mean, std = train.mean(0), train.std(0) + 1e-9
    distance = np.square(((test - mean) / std)[:, None] - (train - mean) / std).sum(2)
    return float((train_label[distance.argmin(1)] == test_label).mean())


@pytest.mark.parametrize("name", ["gtzan", "speech_commands"])
def test_stand_ins_are_told_apart_by_sound_not_by_loudness(name):
    per_class, seconds = 20, 3.0
    options = {"window_seconds": seconds} if name == "gtzan" else {}
    loaded = data.load(
        name, image_size=(32, 32), synthetic="only", synthetic_per_class=per_class, **options
    )
    features, loudness, labels = [], [], []
    for label in range(10):
        for index in range(per_class):
            rng = np.random.default_rng((0, label, index))
            clip = (
                synthetic.genre_clip(rng, label, 22_050, seconds)
                if name == "gtzan"
                else synthetic.word_clip(rng, label, 16_000, index)
            )
            assert np.abs(clip).max() < 1  # nothing clipped
            mel = loaded.spec.from_samples(clip, loaded.input_files)[0, :, :, 0]
            features.append(np.r_[mel.mean(1) - mel.mean(), mel.std(1)])
            loudness.append([10 * np.log10(np.mean(clip**2))])
            labels.append(label)
    features, loudness, labels = map(np.array, (features, loudness, labels))
    train = np.arange(len(labels)) % per_class < 14  # by speaker too: the index is the speaker
    by_loudness = nearest_accuracy(loudness[train], labels[train], loudness[~train], labels[~train])
    by_mel = nearest_accuracy(features[train], labels[train], features[~train], labels[~train])
    assert np.ptp(loudness) > 20
    assert by_loudness < 0.25 and by_mel > 0.6, (by_loudness, by_mel)


def counting(loaded):
    """The data set with a `read` that counts the recordings it decodes."""
    reads = []

    def read(recordings):
        reads.extend(r.id for r in recordings)
        return loaded.read(recordings)

    return dataclasses.replace(loaded, read=read), reads


def test_iterating_decodes_one_recording_at_a_time(tmp_path):
    loaded, reads = counting(data.load("gtzan", write_gtzan(tmp_path, num_samples=6000), **SMALL))
    steps = loaded.iterate("train")
    assert reads == []
    next(steps)
    assert len(reads) == 1
    for _ in range(3):
        next(steps)
    assert reads == [r.id for r in loaded.recordings("train")[:2]]


def test_iterating_rows_in_memory_gives_each_once_in_order(tmp_path):
    loaded = data.load("mnist", write_mnist(tmp_path, train=2000), image_size=(28, 28))
    seen = []
    for x, label, index in loaded.iterate("train"):
        row = int(loaded.recordings("train")[index].id.split("/")[1])
        assert x[0, 0, 0] == row % 256 and label == row % 10
        seen.append(row)
    assert len(seen) == 1800 and seen == sorted(set(seen))


def test_unknown_split(tmp_path):
    loaded = data.load("mnist", write_mnist(tmp_path), image_size=(28, 28))
    with pytest.raises(DataError, match="train, validation, test"):
        next(loaded.iterate("dev"))


def test_describe_and_ids_are_plain_json(tmp_path):
    loaded = data.load("gtzan", write_gtzan(tmp_path, num_samples=6000), **SMALL)
    described = json.loads(json.dumps(loaded.describe()))
    assert described["splits"]["test"] == {
        "recordings": 10,
        "windows": 30,
        "per_class": {g: {"recordings": 1, "windows": 3} for g in GENRES},
    }
    assert json.loads(json.dumps(loaded.split_ids("test"))) == [
        r.id for r in loaded.recordings("test")
    ]


def test_split_groups_does_not_depend_on_file_order():
    groups = [f"g{i // 2}" for i in range(60)]
    labels = [i // 2 % 3 for i in range(60)]
    fractions = {"test": 0.2, "validation": 0.1}
    sides = split_groups(labels, groups, fractions, seed=1)
    order = np.random.default_rng(0).permutation(60)
    again = split_groups([labels[i] for i in order], [groups[i] for i in order], fractions, seed=1)
    assert [sides[i] for i in order] == again
    for label in range(3):
        assert [s for s, c in zip(sides, labels, strict=True) if c == label].count("test") == 4


def test_split_groups_leaves_no_split_without_a_label():
    groups = [f"g{i // 4}" for i in range(24)]  # groups of four: none fits into a tenth of twelve
    sides = split_groups(
        [i % 2 for i in range(24)], groups, {"test": 0.1, "validation": 0.1}, seed=0
    )
    assert sorted(sides) == ["test"] * 4 + ["train"] * 16 + ["validation"] * 4
    assert all(len({sides[i] for i in range(24) if groups[i] == g}) == 1 for g in groups)
    assert split_groups([0], ["a"], {}, seed=0) == ["train"]


def test_loading_and_iterating_import_no_tensorflow(tmp_path):
    write_gtzan(tmp_path / "gtzan")
    write_speech(tmp_path / "speech_commands")
    write_mnist(tmp_path / "mnist")
    write_cifar_batches(tmp_path / "cifar10")
    write_caltech(tmp_path / "caltech256", {f"c{i}": 10 for i in range(10)})
    write_caltech101(tmp_path / "caltech101", each=5)
    write_omniglot(tmp_path / "omniglot")
    code = (
        "import sys\nfrom edvit_tf import data\n"
        "big = ('tensorflow', 'keras', 'librosa', 'sklearn')\n"
        "heavy = lambda: [m for m in big if m in sys.modules]\n"
        "print(heavy())\n"
        "for n in ('mnist', 'cifar10', 'caltech256', 'caltech101', 'omniglot', 'digits',\n"
        "          'gtzan', 'speech_commands'):\n"
        "    next(data.load(n, image_size=(16, 16)).iterate('train')); print(n, heavy())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "EDVIT_DATA": str(tmp_path)},
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "[]",
        "mnist []",
        "cifar10 []",
        "caltech256 []",
        "caltech101 []",
        "omniglot []",
        "digits []",
        "gtzan ['librosa']",
        "speech_commands ['librosa']",
    ]


# recordings the development samples hold (train + validation + test), by folder found
REAL_SIZES = {
    "gtzan": {"gtzan_12s/genres + gtzan_excerpts_2s/genres": 339},
    "speech_commands": {"speech_commands_subset/speech_commands": 1720},
    "mnist": {"mnist": 62_000},
    "cifar10": {"cifar10_lossless_subset/cifar-10-batches-py": 3500},
    "caltech256": {"caltech101_10class/101_ObjectCategories": 1408},
    "caltech101": {"manyclass_caltech101_112px/101_ObjectCategories": 5403},
    "omniglot": {"manyclass_omniglot242/omniglot": 4114},
    "newsgroups": {"20news-bydate_10class": 8882},  # 256 more are empty without what is quoted
    "digits": {},  # scikit-learn's: tests/data/test_digits.py
}


@pytest.mark.real_data
@pytest.mark.skipif(not REAL, reason="set EDVIT_DATA to a folder of real data sets")
@pytest.mark.parametrize("name", catalogue.NAMES)
def test_real_data(name):
    options = {"window_seconds": 3.0} if name == "gtzan" else {}
    try:
        loaded = data.load(name, image_size=size_of(name, 32, 32), **options)
    except DataError as error:
        if "data found. Looked in" not in str(error):
            raise
        pytest.skip(f"no {name} in EDVIT_DATA: put it there to run this")
    count = dict.fromkeys(loaded.splits, 0)
    for split in loaded.splits:
        seen = set()
        for n, (x, label, index) in enumerate(loaded.iterate(split)):
            assert x.shape == loaded.spec.shape and x.dtype == loaded.spec.dtype
            assert label == loaded.recordings(split)[index].label
            seen.add(label)
            count[split] += 1
            if n == 1000:
                break
        assert count[split] > 0 and np.ptp(x) > 0
    assert not loaded.skipped
    total = sum(len(r) for r in loaded.splits.values())
    assert total == REAL_SIZES[name].get(loaded.source, total)


@pytest.mark.real_data
@pytest.mark.skipif(not REAL, reason="set EDVIT_DATA to a folder of real data sets")
def test_real_cifar_class_folders():
    folder = Path(REAL) / "cifar10_jpeg"
    if not folder.is_dir():
        pytest.skip("no cifar10_jpeg in EDVIT_DATA: unpack it there to run this")
    loaded = data.load("cifar10", folder, image_size=(32, 32), max_per_class=20)
    whole = data.load("cifar10", folder, image_size=(32, 32))
    assert {s: len(r) for s, r in whole.splits.items()} == {
        "train": 44_550,
        "validation": 4950,
        "test": 9000,
    }
    assert sum(1 for _ in loaded.iterate("test")) == 200 and not loaded.skipped
