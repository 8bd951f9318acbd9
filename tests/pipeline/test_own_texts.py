"""From texts of one's own to answers: by `edvit train`, then from Python."""

import dataclasses
import json
import re

import pytest

import edvit_tf
from edvit_tf.choosing import settings
from edvit_tf.cli.main import main
from edvit_tf.device.errors import InputError
from edvit_tf.pipeline.prepare import prepare
from tests.support import tiny_bert
from tests.support.data_files import write_texts


def small(patch) -> None:
    """The table with fits of an epoch or two, of a model of a few thousand weights."""
    quick = {"epochs": (2, 2), "samples": 1, "samples_a_class": 1, "rate": 1e-2}
    for name in ("TEXTS", "LEARNT_TEXTS"):
        column = getattr(settings, name)
        patch.setattr(settings, name, dataclasses.replace(column, **quick, shared_epochs=(1, 1)))
    patch.setattr(settings, "_model", lambda *_: "bert_smoke")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """`edvit train` of texts from scratch: (folder, bundle)."""
    root = tmp_path_factory.mktemp("own")
    folder = write_texts(root / "reviews", 20)
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        given = ["train", str(folder), "--base", "scratch", "--devices", "2", "--fusion", "average"]
        assert main([*given, "--out", str(root / "bundle")]) == 0
    return folder, root / "bundle"


def test_a_run_of_texts_is_one_of_texts(trained):
    _, place = trained
    manifest = json.loads((place / "manifest.json").read_text())
    assert manifest["task"] == "text-classification" and manifest["labels"] == ["blame", "praise"]
    assert manifest["run"]["data"]["options"] == {"kind": "text", "lower_case": True}
    results = json.loads((place / "results.json").read_text())
    assert results["data"]["item"] == "text" and "accuracy" in results["floor"]
    page = (place / "report.html").read_text()
    for mistake in json.loads((place / "mistakes.json").read_text())["mistakes"]:
        assert mistake["text"].startswith("The ") and f"<blockquote>{mistake['text']}" in page


def test_texts_and_their_files_are_answered_alike(trained, tmp_path):
    folder, place = trained
    bundle = edvit_tf.Bundle(place)
    file = folder / "praise" / "00.txt"
    text = file.read_text()
    answers = bundle.predict([text, file, str(file), "blameful"])
    assert [one["file"] for one in answers] == [text, str(file), str(file), "blameful"]
    assert answers[0]["probabilities"] == answers[1]["probabilities"]
    assert sum(answers[3]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert bundle.predict("praiseful")[0]["windows"] == 1
    for given, words in (
        ("", "the text: a text of 0 characters without a word"),
        ("gone.txt", "gone.txt: there is no such file"),
        (tmp_path / "gone", "gone: there is no such file"),
        ("a\0b", "the text: a zero byte"),
        ("and/or", "and/or: there is no such file. Put a space into a text, or name a file that"),
        ("\u16a0", "the text: a text of 1 characters of which the vocabulary knows no piece"),
        ("w " * (1 << 20), "the text: .*expected at most 1048576"),
    ):
        with pytest.raises(InputError, match=words):
            bundle.predict([given])


def test_a_bundle_of_texts_is_evaluated_on_its_folder_and_on_a_table(trained, tmp_path):
    folder, place = trained
    bundle = edvit_tf.Bundle(place)
    found = bundle.evaluate(folder)
    stored = json.loads((place / "results.json").read_text())
    assert found["note"] is None and found["accuracy"] == stored["fusion"]["tflite"]

    # what was trained on is known by what it says, wherever it stands
    learnt = bundle_train(place)[0]
    said = (folder / learnt).read_text()
    rows = [f'"{said}",{learnt.split("/")[0]}', "a new praiseful thing,praise", "no blame,blame"]
    (tmp_path / "new.csv").write_text("\n".join(["text,label", *rows]))
    found = bundle.evaluate(tmp_path / "new.csv", "all")
    assert found["accuracy"]["recordings"] == 2 and "1 recording that it was" in found["note"]


def bundle_train(place) -> list[str]:
    return json.loads((place / "splits.json").read_text())["train"]


@pytest.fixture
def checkpoint(tmp_path):
    pieces = [
        *tiny_bert.PIECES[:4],
        "the",
        "thing",
        "praise",
        "blame",
        "##ful",
        "is",
        "of",
        "again",
    ]
    pieces += tiny_bert.WORDS[len(pieces) - 4 :]
    config = tiny_bert.CONFIG.replace(length=32, num_positions=32)
    weights = tiny_bert.weights_of(config)
    return tiny_bert.write_checkpoint(tmp_path / "model", config, weights, pieces)


def test_a_bert_at_hand_is_taken_with_its_vocabulary(tmp_path, checkpoint, monkeypatch, capsys):
    folder = write_texts(tmp_path / "reviews", 20)
    monkeypatch.setenv("EDVIT_WEIGHTS", str(tmp_path))
    small(monkeypatch)
    assert main(["train", str(folder), "--dry-run", "--devices", "2"]) == 0
    said = capsys.readouterr().out
    assert "base: model (bert, " in said and "is at hand and is taken" in said
    assert "reviews: 40 texts in 2 classes, 40 groups" in said
    assert "the first 32 pieces of a text, of 30 that are known, without capitals" in said
    assert "base: new head of 2 classes" in said and "augmented" not in said

    (checkpoint / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    ready = prepare(folder)
    assert ready.config.data.options["lower_case"] is False
    assert not ready.dataset.spec.lower_case


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda folder: (folder / "vocab.txt").unlink(), "is no checkpoint that is read for text"),
        (
            lambda folder: (folder / "config.json").write_text('{"model_type": "vit"}'),
            "its config.json must be of bert",
        ),
        (
            lambda folder: (folder / "vocab.txt").write_text("\n".join([*tiny_bert.PIECES, "x"])),
            "has 31 pieces; its config.json says 30: it is the vocabulary of another checkpoint",
        ),
        (lambda folder: (folder / "vocab.txt").write_text("a\nb"), r"has no \[PAD\]"),
    ],
    ids=["none", "of pictures", "of another size", "of no BERT"],
)
def test_a_checkpoint_that_cannot_be_the_base_is_named(tmp_path, checkpoint, capsys, change, words):
    folder = write_texts(tmp_path / "reviews", 20)
    change(checkpoint)
    code = main(["train", str(folder), "--dry-run", "--base", str(checkpoint)])
    said = capsys.readouterr().err
    assert code != 0 and said.startswith("error: ") and re.search(words, said), said
