"""`edvit study tsne`: panels of a bundle's features, and the figures beside them."""

import json
import shutil
import zipfile

import numpy as np
import pytest

from edvit_tf.cli.main import main
from edvit_tf.device.errors import BundleError
from edvit_tf.errors import OutputError
from edvit_tf.report.embedding import embedding, points, read_embedding
from edvit_tf.study.page import check_new
from edvit_tf.study.tsne import (
    Features,
    drawn,
    knn_accuracy,
    own_against_rest,
    panel,
    silhouette,
    standardised,
    store,
)


@pytest.fixture(scope="module")
def heaps():
    """60 samples in three heaps far apart, 20 a class."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 20)
    return rng.normal(size=(60, 5)) + 20 * np.eye(3, 5)[labels], labels


def test_heaps_apart_have_the_best_figures_and_noise_has_not(heaps):
    x, labels = heaps
    x = standardised(x)
    np.testing.assert_allclose(x.std(axis=0), 1)
    assert knn_accuracy(x, labels) == 1 and silhouette(x, labels) > 0.4
    noise = np.random.default_rng(1).normal(size=x.shape)
    assert knn_accuracy(noise, labels) < 0.6 and abs(silhouette(noise, labels)) < 0.1


def test_a_sample_is_no_neighbour_of_its_own():
    # pairs of two classes: the nearest other is always of the other class
    x = np.array([[0.0], [0.1], [50.0], [50.1]])
    assert knn_accuracy(x, np.array([0, 1, 0, 1])) == 0
    # of equal counts the nearest counts: three others, one of each class
    assert knn_accuracy(np.array([[0.0], [1.0], [3.0], [7.0]]), np.array([0, 0, 1, 2])) == 0.5


def test_auc_is_of_the_models_own_answers(heaps):
    x, labels = heaps
    right = np.eye(3)[labels]
    auc, of = own_against_rest(Features("base", "", x, right), labels)
    assert auc == 1 and "each class" in of
    assert own_against_rest(Features("base", "", x, 1 - right), labels)[0] == 0
    group = Features("submodel", "", x, np.isin(labels, (0, 2)) * 1.0, (0, 2))
    assert own_against_rest(group, labels) == (1, "its own classes against the rest")
    alone = labels == 1
    assert own_against_rest(Features("s", "", x[alone], right[alone]), labels[alone])[0] is None


def test_a_panel_is_the_same_again_and_few_samples_have_a_smaller_perplexity(heaps):
    x, labels = heaps
    one, again = (panel(Features("base", "t", x, np.eye(3)[labels]), labels, 0) for _ in range(2))
    assert one["points"].shape == (60, 2) and one["width"] == 5
    np.testing.assert_array_equal(one["points"], again["points"])
    # a feature that never changes, and 4 samples
    flat = np.c_[x[:4], np.ones(4)]
    few = panel(Features("base", "t", flat, np.eye(3)[labels[:4]]), labels[:4], 0)
    assert np.isfinite(few["points"]).all() and few["silhouette"] is None


def test_points_are_escaped_and_what_is_no_number_is_counted():
    places = np.array([[0, 0], [np.nan, 1], [2, np.inf], [3, 3.0]])
    figure = points("<t>", places, np.array([0, 0, 1, 1]), ["a<b", "c&d"])
    assert "&lt;t&gt; (2 not drawn: no numbers)" in figure and "<t>" not in figure
    assert "<title>a&lt;b</title>" in figure and "<title>c&amp;d</title>" in figure
    assert figure.count("h0") == 2 and "nan" not in figure
    assert "(4 not drawn" in points("t", np.full((4, 2), np.nan), np.zeros(4, int), ["a"])


def test_classes_are_drawn_in_equal_numbers():
    from edvit_tf.data import load

    dataset = load("mnist", None, image_size=(28, 28), synthetic="only")
    few, short_of = drawn(dataset, 3, 0)
    labels = [recording.label for recording in few.recordings("test")]
    assert np.bincount(labels).tolist() == [3] * 10 and not short_of
    again, _ = drawn(dataset, 3, 0)
    assert few.recordings("test") == again.recordings("test")
    assert drawn(dataset, 3, 1)[0].recordings("test") != few.recordings("test")
    windows = list(few.iterate("test"))
    assert len(windows) == 30 and [label for _, label, _ in windows] == labels
    every, short_of = drawn(dataset, 10**6, 0)
    assert set(short_of) == set(dataset.labels)
    assert len(every.recordings("test")) == len(dataset.recordings("test"))


@pytest.fixture(scope="module")
def stored(smoke_bundle, tmp_path_factory):
    """A copy of the bundle, and of its base, in which the figures are stored."""
    folder = tmp_path_factory.mktemp("tsne") / "mnist"
    shutil.copytree(smoke_bundle, folder)
    base = smoke_bundle.with_name("mnist.work") / "base" / "base.keras"
    words = ["study", "tsne", str(folder), "--each", "4", "--base", str(base)]
    assert main([*words, "--store", "--npz", str(folder.parent / "t.npz")]) == 0
    return folder


def test_what_is_stored_is_shown_in_the_report(stored):
    found = read_embedding(stored)
    assert [one["key"] for one in found["panels"]] == ["base", "fused", "submodel"]
    assert found["samples"] == len(found["point_labels"]) <= 40 and found["synthetic"]
    base, fused, sub = found["panels"]
    assert base["title"] == "unsplit base: class token" and sub["title"].startswith("submodel-0")
    assert fused["title"] == "fused: hidden layer" and "own classes" in sub["auc_of"]
    for one in found["panels"]:
        assert np.isfinite(one["points"]).all() and 0 <= one["knn"] <= 1 and 0 <= one["auc"] <= 1
    html = (stored / "report.html").read_text()
    assert "Features in two dimensions" in html and "fused: hidden layer. 10-NN" in html
    assert f"{found['samples']} test samples, up to 4 of a class" in html
    assert found["notes"][0].startswith("SYNTHETIC stand-in")
    with np.load(stored.parent / "t.npz") as npz:
        np.testing.assert_array_equal(npz["fused"], fused["points"])
        assert len(npz["recordings"]) == found["samples"]


def test_a_damaged_store_is_one_error(stored, tmp_path, capsys):
    folder = shutil.copytree(stored, tmp_path / "mnist")
    whole = (folder / "tsne.npz").read_bytes()
    for content in (b"", whole[:200], b"no zip"):
        (folder / "tsne.npz").write_bytes(content)
        with pytest.raises(BundleError, match="tsne.npz cannot be read.*Delete it"):
            read_embedding(folder)
    np.savez(folder / "tsne.npz", labels=np.zeros(3, int), figures=np.array(json.dumps({})))
    assert main(["report", str(folder)]) != 0
    assert "tsne.npz cannot be read" in capsys.readouterr().err


def found_of_one_panel() -> dict:
    """What a study of 400 samples may find."""
    one = {"key": "fused", "title": "fused", "width": 4, "knn": 0.9, "silhouette": 0.1, "auc": 0.9}
    points = np.random.default_rng(0).normal(size=(400, 2))
    return {
        "labels": ["a", "b"],
        "notes": ["how"],
        "panels": [one | {"auc_of": "all", "points": points}],
        "point_labels": np.arange(400) % 2,
        "recordings": np.arange(400),
    }


def test_a_store_of_other_content_is_the_same_error(tmp_path):
    folder = tmp_path
    store(found_of_one_panel(), folder / "tsne.npz")
    assert read_embedding(folder)["labels"] == ["a", "b"]
    with np.load(folder / "tsne.npz") as npz:
        arrays = dict(npz)

    def refused(said: str, **more) -> None:
        np.savez_compressed(folder / "tsne.npz", **(arrays | more))
        with pytest.raises(BundleError, match=f"tsne.npz cannot be read.*{said}.*Delete it"):
            read_embedding(folder)

    labels = arrays["labels"]
    refused("a label is none of its 2 classes", labels=labels + 1)
    refused("a label is none of its 2 classes", labels=labels - 1)
    refused("no list of whole numbers", labels=labels / 2)
    figures = json.loads(str(arrays["figures"]))
    for wrong in ({"labels": [1, 2]}, {"panels": [1]}, {"panels": 1}, {"notes": [1]}):
        refused("", figures=np.array(json.dumps(figures | wrong)))

    # the compressed bytes of the first array, and the header of one that is not compressed
    np.savez_compressed(folder / "tsne.npz", **arrays)
    whole = bytearray((folder / "tsne.npz").read_bytes())
    start = whole.index(b"labels.npy") + len("labels.npy") + 20
    whole[start : start + 40] = b"\xff" * 40
    (folder / "tsne.npz").write_bytes(whole)
    with pytest.raises(BundleError, match="tsne.npz cannot be read"):
        read_embedding(folder)
    with zipfile.ZipFile(folder / "tsne.npz", "w") as archive:
        archive.writestr("labels.npy", b"\x93NUMPY\x01\x00\x10\x00" + b"{'descr': ((((((")
    with pytest.raises(BundleError, match="tsne.npz cannot be read"):
        read_embedding(folder)


def test_coordinates_go_to_the_very_name(tmp_path):
    found = found_of_one_panel()
    (tmp_path / "coords.npz").write_text("another's")
    store(found, tmp_path / "coords")
    store(found, tmp_path / "new" / "folder" / "coords")
    assert (tmp_path / "coords.npz").read_text() == "another's"
    for path in (tmp_path / "coords", tmp_path / "new" / "folder" / "coords"):
        with np.load(path) as npz:
            assert set(npz) >= {"labels", "recordings", "figures", "fused"}


def test_a_place_that_takes_no_file_is_told_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file is no folder that can be written to"):
        check_new(tmp_path / "file" / "coords.npz", overwrite=True)
    check_new(tmp_path / "new" / "coords.npz", overwrite=False)


def test_bad_input_is_one_error_each(smoke_bundle, tmp_path, capsys):
    bundle = str(smoke_bundle)
    for words, code, said in (
        ([bundle, "--base", str(tmp_path / "none.keras")], 3, "which is no file"),
        ([bundle, "--base", str(smoke_bundle / "labels.txt"), "--each", "1"], 3, "no base of ours"),
        ([bundle, "--submodel", "7"], None, "sub-model 7 was asked for"),
        ([str(tmp_path)], None, "manifest.json"),
    ):
        found = main(["study", "tsne", *words])
        assert found == code or (code is None and found != 0), words
        assert said in capsys.readouterr().err


def test_a_figure_that_there_is_not_is_a_dash(stored):
    found = read_embedding(stored)
    found["panels"][0] |= {"silhouette": None, "auc": None}
    assert ">-</td>" in embedding(found)
