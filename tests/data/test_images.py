"""MNIST, CIFAR-10 and Caltech: layouts, splits, damaged files."""

import gzip
import pickle

import numpy as np
import pytest

from edvit_tf import data
from edvit_tf.data.caltech256 import class_name
from edvit_tf.errors import DataError
from tests.support.data_files import (
    CIFAR,
    cut_off,
    write_caltech,
    write_cifar_batches,
    write_cifar_folders,
    write_idx,
    write_mnist,
    write_picture,
)

CALTECH = {f"{i:03d}.c{i}": 10 + i for i in range(1, 12)} | {"257.clutter": 40}


def rows(dataset, split):
    return list(dataset.iterate(split))


@pytest.mark.parametrize(
    ("end", "dotted"), [("-ubyte.gz", False), ("-ubyte", False), ("-ubyte", True)]
)
def test_mnist_files(tmp_path, end, dotted):
    loaded = data.load(
        "mnist", write_mnist(tmp_path / "m", end=end, dotted=dotted), image_size=(28, 28)
    )
    assert {s: loaded.size(s) for s in loaded.splits} == {
        "train": 180,
        "validation": 20,
        "test": 50,
    }
    seen = []
    for split in ("train", "validation"):
        for x, label, index in loaded.iterate(split):
            row = int(loaded.recordings(split)[index].id.split("/")[1])
            assert (
                x.shape == (28, 28, 1)
                and x.dtype == np.uint8
                and (x == row).all()
                and label == row % 10
            )
            seen.append(row)
    assert sorted(seen) == list(range(200))
    per_class = loaded.describe()["splits"]["validation"]["per_class"]
    assert {c["recordings"] for c in per_class.values()} == {2}
    assert any("tenth" in note for note in loaded.notes)


def test_mnist_manifest_is_short_and_tells_splits_apart(tmp_path):
    folder = write_mnist(tmp_path)
    a, b = (data.load("mnist", folder, image_size=(28, 28), seed=s) for s in (0, 1))
    assert a.split_ids("train")["count"] == 180
    assert a.split_ids("validation")["sha256"] != b.split_ids("validation")["sha256"]
    assert a.split_ids("test") == b.split_ids("test")


def test_other_pixels_are_other_contents(tmp_path):
    folder = write_mnist(tmp_path / "m")
    a, again = (data.load("mnist", folder, image_size=(28, 28)) for _ in range(2))
    name = next(path for path in sorted(folder.rglob("*")) if "train-images" in path.name)
    name.write_bytes(gzip.compress(gzip.decompress(name.read_bytes())[:-1] + b"!"))
    b = data.load("mnist", folder, image_size=(28, 28))
    assert a.contents() == again.contents() != b.contents() and a.describe() == b.describe()


def test_a_file_replaced_by_one_of_the_same_size_is_other_contents(tmp_path):
    from edvit_tf.device.model.image import ImageSpec

    paths = [tmp_path / name for name in ("a", "b", "gone")]
    for path in paths[:2]:
        path.write_bytes(bytes(20_000))
    splits = {"train": tuple(data.dataset.Recording(p.name, 0, p.name, 1, p) for p in paths)}
    loaded = data.dataset.Dataset(
        "x", ("a",), ImageSpec(2, 2, 1), {}, "x", 0, splits, read=lambda r: None
    )
    before = loaded.contents()
    for place in (0, 10_000, 19_999):
        paths[1].write_bytes(bytes(place) + b"!" + bytes(19_999 - place))
        assert loaded.contents() != before
    paths[1].write_bytes(bytes(20_000))
    assert loaded.contents() == before


def test_mnist_npz_of_keras(tmp_path, monkeypatch):
    y = np.arange(100, dtype=np.uint8) % 10
    x = np.zeros((100, 28, 28), np.uint8) + y[:, None, None]
    (tmp_path / "datasets").mkdir()
    np.savez(tmp_path / "datasets/mnist.npz", x_train=x, y_train=y, x_test=x[:30], y_test=y[:30])
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("EDVIT_DATA", raising=False)
    loaded = data.load("mnist", image_size=(28, 28))
    assert loaded.size("test") == 30 and all((x == y).all() for x, y, _ in loaded.iterate("train"))


def test_an_mnist_npz_of_other_values_is_refused(tmp_path):
    y = np.arange(100) % 10
    x = np.zeros((100, 28, 28), np.uint8)
    unlabelled = np.where(y == 3, -1, y)
    for pixels, labels, said in [
        (x / 255, y, "float64 and labels .* int64"),
        (x.astype(bool), y, "bool"),
        (x.astype(np.int64), y, "int64"),
        (x, unlabelled, "labels 0..9"),
        (x, y + 0.5, "labels .* float64"),
        (x, np.where(y == 3, np.nan, y), "labels .* float64"),
        (x, y.astype(str), "labels .* <U21"),
    ]:
        np.savez(
            tmp_path / "mnist.npz", x_train=pixels, y_train=labels, x_test=x[:30], y_test=y[:30]
        )
        with pytest.raises(DataError, match=f"train images .*{said}"):
            data.load("mnist", tmp_path, image_size=(28, 28))

    # whole labels of any width are labels
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x[:30], y_test=y[:30])
    assert data.load("mnist", tmp_path, image_size=(28, 28)).size("test") == 30


def test_mnist_damage(tmp_path):
    folder = write_mnist(tmp_path / "a")
    path = folder / "train-images-idx3-ubyte.gz"
    good = path.read_bytes()
    for bad, message in [
        (good[:200], "cannot be read"),
        (gzip.compress(gzip.decompress(good)[:-1]), "header says"),
        (gzip.compress(b"\0\0\x08\x01" + gzip.decompress(good)[4:]), "starts with '00000801'"),
        (b"", "starts with"),
    ]:
        path.write_bytes(bad)
        with pytest.raises(DataError, match=message):
            data.load("mnist", folder, image_size=(28, 28))
    path.unlink()
    with pytest.raises(DataError, match=r"lacks train-images-idx3-ubyte[\s\S]*t10k-images"):
        data.load("mnist", folder, image_size=(28, 28))
    folder = write_mnist(tmp_path / "b")
    write_idx(folder / "t10k-labels-idx1-ubyte.gz", np.arange(49) % 10)
    with pytest.raises(DataError, match="t10k images"):
        data.load("mnist", folder, image_size=(28, 28))


def test_mnist_empty_class(tmp_path):
    folder = write_mnist(tmp_path)
    write_idx(folder / "train-labels-idx1-ubyte.gz", np.arange(200) % 9)
    with pytest.raises(DataError, match="'9' has no recording in the train"):
        data.load("mnist", folder, image_size=(28, 28))


def test_cifar_batches(tmp_path):
    loaded = data.load("cifar10", write_cifar_batches(tmp_path), image_size=(32, 32))
    assert loaded.labels == CIFAR
    assert {s: loaded.size(s) for s in loaded.splits} == {
        "train": 90,
        "validation": 10,
        "test": 100,
    }
    for x, label, _ in loaded.iterate("test"):
        assert x.shape == (32, 32, 3)  # planes became channels, rows stayed rows
        assert (x[..., 0] == 10 * label).all() and (x[..., 2] == 9).all()
        assert (x[..., 1] == np.arange(32)[:, None]).all()


def test_cifar_batches_run_no_code(tmp_path):
    write_cifar_batches(tmp_path)

    class Trap:
        def __reduce__(self):
            return print, ("ran code",)

    (tmp_path / "cifar-10-batches-py/test_batch").write_bytes(
        pickle.dumps({"data": Trap(), "labels": [0]})
    )
    with pytest.raises(DataError, match="builtins.print"):
        data.load("cifar10", tmp_path, image_size=(32, 32))


def test_cifar_batches_damage(tmp_path):
    write_cifar_batches(tmp_path)
    path = tmp_path / "cifar-10-batches-py/data_batch_1"
    cut_off(path)
    with pytest.raises(DataError, match="data_batch_1 cannot be read"):
        data.load("cifar10", tmp_path, image_size=(32, 32))
    path.write_bytes(pickle.dumps({"data": np.zeros((5, 3072), np.uint8), "labels": [0, 1, 2, 3]}))
    with pytest.raises(DataError, match=r"labels \(4,\)"):
        data.load("cifar10", tmp_path, image_size=(32, 32))
    path.unlink()
    with pytest.raises(DataError, match="lacks data_batch_1"):
        data.load("cifar10", tmp_path, image_size=(32, 32))


def test_cifar_folders(tmp_path):
    loaded = data.load("cifar10", write_cifar_folders(tmp_path), image_size=(32, 32))
    assert {s: loaded.size(s) for s in loaded.splits} == {
        "train": 108,
        "validation": 12,
        "test": 120,
    }
    for x, label, index in loaded.iterate("test"):
        name = loaded.recordings("test")[index].id
        assert name.split("/")[1] == CIFAR[label] and (x == 10 * label + int(name[-8:-4])).all()


def test_cifar_folder_damage_is_named(tmp_path, capsys):
    folder = write_cifar_folders(tmp_path / "c")
    cut_off(folder / "test/cat/0003.png")  # met while decoding
    (folder / "test/dog/0001.png").write_bytes(b"")  # met while loading
    write_picture(folder / "test/dog/0002.png", (64, 48))
    loaded = data.load("cifar10", folder, image_size=(32, 32))
    assert [s.path for s in loaded.skipped] == ["c/test/dog/0001.png"]
    assert len(rows(loaded, "test")) == 117 == loaded.size("test")
    assert [s.path for s in loaded.skipped[1:]] == ["test/cat/0003.png", "test/dog/0002.png"]
    err = capsys.readouterr().err
    assert err.count("WARNING: skipped") == 3 and "64x48" in err


def test_cifar_folder_errors(tmp_path):
    folder = write_cifar_folders(tmp_path, each=2)
    for path in (folder / "train/ship").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="'ship' has no recording in the train split"):
        data.load("cifar10", folder, image_size=(32, 32))
    (folder / "train/ship").rmdir()
    with pytest.raises(DataError, match="lacks the class folders ship"):
        data.load("cifar10", folder, image_size=(32, 32))


def test_cifar_batches_are_preferred_to_folders(tmp_path):
    write_cifar_folders(tmp_path / "jpeg", each=2)
    write_cifar_batches(tmp_path / "exact")
    loaded = data.load("cifar10", tmp_path, image_size=(32, 32))
    assert loaded.source.endswith("exact/cifar-10-batches-py")
    assert any("not used" in note and "jpeg" in note for note in loaded.notes)


def test_caltech_takes_the_ten_biggest(tmp_path):
    folder = write_caltech(tmp_path, CALTECH)
    loaded = data.load("caltech256", folder, image_size=(24, 32))
    assert loaded.labels == (*(f"c{i}" for i in range(3, 12)), "clutter")
    total = sum(10 + i for i in range(3, 12)) + 40
    sizes = {s: loaded.size(s) for s in loaded.splits}
    assert sum(sizes.values()) == total and sizes["test"] == round(0.2 * total)
    assert sizes["validation"] == round(0.1 * (total - sizes["test"]))
    x, _, _ = rows(loaded, "test")[0]
    assert x.shape == (24, 32, 3) and x.dtype == np.uint8
    without = data.load("caltech256", folder, image_size=(24, 32), clutter=False)
    assert without.labels == tuple(f"c{i}" for i in range(2, 12))
    ids = [r.id for rs in loaded.splits.values() for r in rs]
    assert len(set(ids)) == len(ids) == total


def test_paper_split_sizes():
    from edvit_tf.data.split import stratified_mask

    sizes = [827, 800, 798, 435, 358, 285, 278, 270, 242, 232]  # Caltech-256's ten biggest folders
    labels = np.repeat(range(10), sizes)
    mask = stratified_mask(labels, round(0.2 * len(labels)), seed=0)
    assert (len(labels), mask.sum(), (~mask).sum()) == (4525, 905, 3620)
    assert all(abs(mask[labels == c].sum() - 0.2 * n) < 1 for c, n in enumerate(sizes))


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK"])
def test_caltech_converts_odd_pictures(tmp_path, mode):
    folder = write_caltech(tmp_path, CALTECH)
    suffix = "png" if mode == "RGBA" else "jpg"
    for i in range(40):
        (folder / f"256_ObjectCategories/257.clutter/{i:03d}.jpg").unlink()
        write_picture(
            folder / f"256_ObjectCategories/257.clutter/{i:03d}.{suffix}", (50, 20), mode, value=200
        )
    loaded = data.load("caltech256", folder, image_size=(8, 8))
    clutter = [x for x, label, _ in loaded.iterate("test") if loaded.labels[label] == "clutter"]
    assert (
        len(clutter) == 8
        and all(abs(x.astype(int) - 200).max() < 4 for x in clutter)
        and loaded.skipped == []
    )


def test_caltech_errors(tmp_path):
    folder = write_caltech(tmp_path, {"a": 5, "b": 5, "c": 5})
    (folder / "256_ObjectCategories/d").mkdir()
    with pytest.raises(DataError, match=r"3 class folders.*empty: d.*10 are needed"):
        data.load("caltech256", folder, image_size=(8, 8))
    few = data.load("caltech256", folder, image_size=(8, 8), num_classes=3)
    assert few.labels == ("a", "b", "c")
    lost = [
        n
        for n in few.labels
        if not few.describe()["splits"]["validation"]["per_class"][n]["recordings"]
    ]
    assert lost and f"no recordings of {', '.join(lost)} in validation" in few.notes


def test_class_name():
    assert class_name("257.clutter") == "clutter" and class_name("256.toad-101") == "toad-101"
    assert class_name("Faces_easy") == "Faces_easy"
