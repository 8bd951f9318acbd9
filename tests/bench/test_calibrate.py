"""`edvit bench calibrate`: files are written, timed as a device times them, and fitted."""

import json

import pytest

from edvit_tf.bench import calibrate
from edvit_tf.cli.main import main
from edvit_tf.device.errors import InputError
from edvit_tf.device.model import timing
from edvit_tf.device.model.runtime import installed_runtimes
from edvit_tf.errors import DataError
from edvit_tf.planning.latency import read_calibration


@pytest.fixture
def few(monkeypatch):
    """Three small files to fit and one that is held out, in the place of 36."""
    fitted = ((16, 1, 8, 1, 8, 16), (32, 1, 8, 2, 4, 16), (32, 2, 16, 2, 8, 32))
    monkeypatch.setattr(calibrate, "FITTED", fitted)
    monkeypatch.setattr(calibrate, "HELD_OUT", ((32, 1, 16, 1, 16, 32),))


def test_this_machine_in_one_command(few, tmp_path, capsys):
    out = tmp_path / "here.json"
    assert main(["bench", "calibrate", "--out", str(out), "--turns", "1", "--runs", "2"]) == 0

    found = read_calibration(out)
    runtimes = {speed.runtime for speed in found.speeds}
    assert runtimes == set(installed_runtimes())
    assert all(speed.held_out == 1 for speed in found.speeds)
    assert found.processor in capsys.readouterr().out

    assert main(["bench", "calibrate", "--out", str(out)]) != 0
    assert "exists" in capsys.readouterr().err  # nothing is overwritten unasked


def test_a_device_in_three_commands(few, tmp_path, capsys):
    folder = tmp_path / "files"
    assert main(["bench", "calibrate", "--files", str(folder)]) == 0
    assert "python -m edvit_tf.device.model.timing files" in capsys.readouterr().out

    assert timing.main([str(folder), "--turns", "2", "--runs", "2", "--threads", "1,2"]) == 0
    times = tmp_path / "times.json"
    times.write_text(capsys.readouterr().out)
    rows = json.loads(times.read_text())["rows"]
    assert {row["threads"] for row in rows} == {1, 2} and all(row["ms"] > 0 for row in rows)

    out = tmp_path / "pi.json"
    words = ["bench", "calibrate", "--files", str(folder), "--times", str(times)]
    assert main([*words, "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["calibration"] == read_calibration(out).to_dict()
    assert len(told["held_out"]) == len(read_calibration(out).speeds)


def test_an_out_that_cannot_be_written_is_said_before_anything_is_timed(
    few, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(calibrate, "write_files", None)  # whoever calls it fails otherwise
    out = tmp_path / "gone" / "here.json"
    assert main(["bench", "calibrate", "--out", str(out)]) == 6
    assert "there is no folder" in capsys.readouterr().err


def test_the_files_alone_are_told_as_json_too(few, tmp_path, capsys):
    folder = tmp_path / "files"
    assert main(["bench", "calibrate", "--files", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"files": str(folder)}


def test_a_folder_that_holds_something_is_not_written_into(few, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        calibrate.write_files(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--times", "times.json"],
        ["--files", "there", "--times", "missing.json"],
    ],
)
def test_what_a_command_lacks_is_said(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "calibrate", *words]) != 0
    said = capsys.readouterr().err
    assert "--files" in said or "python -m edvit_tf.device.model.timing" in said


LISTED = {
    "file": "a.tflite",
    "input": "image",
    "shape": [4, 4, 3],
    "dtype": "uint8",
    "runtimes": ["tflite-runtime"],
}


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "[]",
        '{"files": []}',
        json.dumps({"files": [LISTED | {"file": "../a.tflite"}]}),
        json.dumps({"files": [LISTED | {"file": "/etc/passwd"}]}),
        json.dumps({"files": [LISTED | {"shape": [1 << 40]}]}),
        json.dumps({"files": [LISTED | {"shape": [-1, 3]}]}),
        json.dumps({"files": [LISTED | {"dtype": "object"}]}),
        json.dumps({"files": [LISTED | {"runtimes": 3}]}),
        json.dumps({"files": [{}]}),
        json.dumps({"files": [3]}),
        "[" * 100_000,
    ],
)
def test_a_list_that_names_no_files_to_time(tmp_path, content):
    if content is not None:
        (tmp_path / timing.LIST).write_text(content)
    with pytest.raises(InputError, match="edvit bench calibrate"):
        timing.time_files(tmp_path, (1,), 1, 1)


def test_files_for_another_runtime_alone_are_said(tmp_path):
    text = json.dumps({"files": [LISTED | {"runtimes": ["another-runtime"]}]})
    (tmp_path / timing.LIST).write_text(text)
    with pytest.raises(InputError, match="none of the files"):
        timing.time_files(tmp_path, (1,), 1, 1)
