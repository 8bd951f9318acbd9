"""From a folder of one's own to answers: by `edvit train`, then from Python."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest

import edvit_tf
from edvit_tf.choosing import settings
from edvit_tf.cli.main import main
from edvit_tf.device.errors import InputError
from edvit_tf.errors import ConfigError
from edvit_tf.training.callbacks import callbacks_of, reaching_fits
from tests.support import small_recipe  # noqa: F401 (the preset of one block)
from tests.support.data_files import tone, write_wav


def make_sounds(folder, each=6):
    for c, name in enumerate(("bell", "drum roll")):
        for i in range(each):
            write_wav(folder / name / f"r {i}.wav", tone(8000, 0.1 + 0.4 * c + 0.01 * i), 8000)
    return folder


@pytest.fixture
def small(monkeypatch):
    """The table with fits of an epoch or two, of a model of one block."""
    quick = {"epochs": (2, 2), "samples": 1, "samples_a_class": 1, "rate": 1e-3}
    for name in ("PHOTOGRAPHS", "SOUNDS"):
        column = getattr(settings, name)
        monkeypatch.setattr(settings, name, dataclasses.replace(column, **quick))
    monkeypatch.setattr(settings, "_model", lambda *_: "vit_one_block")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """`edvit train` of sounds: (folder, bundle, titles of the fits, what was printed)."""
    root = tmp_path_factory.mktemp("own")
    folder = make_sounds(root / "my sounds")
    titles = []

    class Ended(keras.callbacks.Callback):
        def __init__(self, title):
            super().__init__()
            self.title = title

        def on_train_end(self, logs=None):
            titles.append(self.title)

    with pytest.MonkeyPatch.context() as patch, reaching_fits(lambda title: [Ended(title)]):
        small.__wrapped__(patch)
        given = ["train", str(folder), "--base", "scratch", "--devices", "2"]
        # a search whose time is over within its first trial: the run is that of the table
        assert main([*given, "--out", str(root / "bundle"), "--tune", "0.0001"]) == 0
    return folder, root / "bundle", titles


def test_a_run_of_a_folder_has_the_folders_name(trained):
    _, place, _ = trained
    manifest = json.loads((place / "manifest.json").read_text())
    assert manifest["name"] == "my sounds" and manifest["data"]["name"] == "my sounds"
    assert manifest["labels"] == ["bell", "drum roll"]
    report = (place / "report.html").read_text()
    assert (
        "my sounds" in report
        and "folders" not in manifest["data"]["source"]
        and "SYNTHETIC" not in report
    )


def test_a_search_that_found_nothing_in_time_says_so_and_the_run_goes_on(trained):
    _, place, _ = trained
    tuning = json.loads((place / "results.json").read_text())["tuning"]
    (tried,) = tuning["trials"]
    assert tuning["taken"] is None and tried["state"] == "late" and tried["number"] == 0
    assert tuning["settings"] == {} and tried["settings"]["augment"] == "mask"
    log = place.with_name("bundle.log").read_text()
    assert "tune: trial 0 (0.0 of 0.0001 minutes): the table" in log
    assert "no trial has ended in 0.0001 minutes" in log


def test_callbacks_reach_every_keras_fit(trained):
    _, _, titles = trained
    assert titles == ["base", "base", "single.residual", "single.attention", "single.ffn"]
    assert callbacks_of("base") == []  # and none behind it


def test_a_bundle_answers_files_of_any_rate_and_format(trained, tmp_path):
    import soundfile

    folder, place, _ = trained
    bundle = edvit_tf.Bundle(place)
    files = [folder / "bell" / "r 0.wav", folder / "drum roll" / "r 1.wav"]
    soundfile.write(tmp_path / "other.ogg", tone(3 * 16000, 0.05), 16000)
    answers = bundle.predict([*files, tmp_path / "other.ogg"])
    assert [one["windows"] for one in answers] == [1, 1, 3]
    for answer in answers:
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)
    assert bundle.predict(files[0]) == answers[:1] and bundle.predict([]) == []
    with pytest.raises(InputError, match="gone.wav: there is no such file"):
        bundle.predict([tmp_path / "gone.wav"])


def test_a_bundle_is_evaluated_on_its_folder_as_its_run_was(trained):
    folder, place, _ = trained
    bundle = edvit_tf.Bundle(place)
    found = bundle.evaluate(folder)
    stored = json.loads((place / "results.json").read_text())
    assert found["note"] is None and found["data"]["name"] == "my sounds"
    assert found["accuracy"] == stored["fusion"]["tflite"]
    assert bundle.report() == place / "report.html"


def test_another_folder_is_evaluated_whole_however_small(trained, tmp_path):
    folder, place, _ = trained
    for c, name in enumerate(("bell", "drum roll")):
        write_wav(tmp_path / name / "new.wav", tone(8000, 0.125 + 0.4 * c), 8000)
    found = edvit_tf.Bundle(place).evaluate(tmp_path, "all")
    assert found["accuracy"]["recordings"] == 2
    # of its own folder the test split alone is left
    own = edvit_tf.Bundle(place).evaluate(folder, "all")
    assert own["accuracy"]["recordings"] == 2 and "10 recordings that it was trained" in own["note"]


def test_what_was_learnt_is_known_under_another_name(trained, tmp_path):
    folder, place, _ = trained
    for file in folder.glob("*/*.wav"):
        other = tmp_path / file.parent.name / f"renamed {file.name}"
        other.parent.mkdir(exist_ok=True)
        shutil.copy(file, other)
    found = edvit_tf.Bundle(place).evaluate(tmp_path, "all")
    assert found["accuracy"]["recordings"] == 2 and "10 recordings that it was" in found["note"]


def test_a_card_says_what_was_measured(trained):
    _, place, _ = trained
    results = json.loads((place / "results.json").read_text())
    head = (place / "README.md").read_text().split("---\n")[1]
    assert f"value: {results['fusion']['tflite']['recording']:.4g}" in head.replace(".0\n", "\n")
    assert 'name: "my sounds"' in head and 'pipeline_tag: "audio-classification"' in head


def test_train_from_python_goes_on_where_the_command_ended(trained, small, capsys):
    folder, place, _ = trained
    bundle = edvit_tf.train(folder, devices=2, out=place, base="scratch")
    said = capsys.readouterr().out
    assert bundle.labels == ["bell", "drum roll"] and "12 recordings in 2 classes" in said
    assert "is finished already" in said and "epoch 1 of" not in said


def test_callbacks_and_processes_do_not_go_together(tmp_path):
    with pytest.raises(ConfigError, match="which callbacks do not reach"):
        edvit_tf.train(tmp_path, callbacks=[keras.callbacks.TerminateOnNaN()], jobs=2)


def pictures(folder):
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        for i in range(8):
            (folder / name).mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (20, 30, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"s{i // 2}_{i}.png")
    return folder


def test_a_dry_run_reads_the_folder_and_writes_nothing(tmp_path, small, capsys, monkeypatch):
    folder = pictures(tmp_path / "pets")
    monkeypatch.chdir(tmp_path)
    given = ["train", str(folder), "--dry-run", "--base", "scratch", "--group-by", r"(s\d)_"]
    assert main(given) == 0
    said = capsys.readouterr().out
    assert "pets: 16 pictures in 2 classes, 4 groups" in said
    assert "'cat' (" in said and "base: trained from scratch" in said
    assert "base_training: 2 epochs of batches of 16" in said and "on 3 devices" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pets"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--devices", "devices.toml"], "unknown key 'colour'"),
        (["--devices", "0"], "num_devices"),
        (["--group-by", "(x"], "is no regular expression"),
        (["--kind", "sound"], "'cat', 'dog' in pets hold no sound"),
        (["--base", "absent/model/x"], "is not there"),
    ],
)
def test_what_is_wrong_with_the_command_is_one_line(tmp_path, capsys, monkeypatch, more, words):
    pictures(tmp_path / "pets")
    (tmp_path / "devices.toml").write_text('[[device]]\nname = "pi"\ncolour = "red"\n')
    monkeypatch.chdir(tmp_path)
    assert main(["train", "pets", *more]) != 0
    said = capsys.readouterr().err
    assert said.startswith("error: ") and words in said and "Traceback" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["devices.toml", "pets"]


def test_several_devices_in_a_file_are_the_fleets(tmp_path, small, capsys):
    folder = pictures(tmp_path / "pets")
    (tmp_path / "devices.toml").write_text(
        '[[device]]\nname = "kitchen"\n[[device]]\nname = "shed"'
    )
    given = ["train", str(folder), "--dry-run", "--base", "scratch"]
    assert main([*given, "--devices", str(tmp_path / "devices.toml")]) == 0
    said = capsys.readouterr().out
    assert "kitchen" in said and "shed" in said
