"""Where a run's results go, and what stands there already: nothing is lost, and every word of
advice is one that works.
"""

import errno
import fcntl
import json
import os
import shutil
from pathlib import Path

import pytest

from edvit_tf.cli.main import _parser as edvit_parser
from edvit_tf.cli.recipe import _parser as recipe_parser
from edvit_tf.cli.values import user_path
from edvit_tf.errors import OutputError
from edvit_tf.pipeline import publish as publishing
from edvit_tf.pipeline.places import check_replaceable, is_taken
from edvit_tf.pipeline.publish import publish
from edvit_tf.pipeline.store import Stages
from edvit_tf.pipeline.work_folder import lock, may_replace, open_stages
from tests.support.commands import SMOKE, run_host
from tests.support.small_recipe import CONFIG


@pytest.fixture
def finished(smoke_bundle, tmp_path) -> tuple[Stages, dict]:
    """A copy of a finished run's stages, and its results."""
    work = shutil.copytree(smoke_bundle.with_name("mnist.work"), tmp_path / "mnist.work")
    key = json.loads((work / "run.json").read_text())["key"]
    return Stages(work, key), json.loads((smoke_bundle / "results.json").read_text())


def test_what_is_no_number_is_null_in_results_json(finished, tmp_path):
    stages, results = finished
    results["fusion"]["calibration"]["nll"] = float("nan")
    publish(stages, tmp_path / "mnist", results | {"this_process_seconds": float("inf")})
    text = (tmp_path / "mnist" / "results.json").read_text()
    stored = json.loads(text, parse_constant=pytest.fail)  # NaN and Infinity are not JSON's
    assert stored["fusion"]["calibration"]["nll"] is None and stored["this_process_seconds"] is None
    assert (tmp_path / "mnist" / "report.html").is_file()


# What stands at --out


def test_an_empty_folder_is_taken_and_other_things_are_not(finished, tmp_path):
    stages, results = finished
    out = tmp_path / "mnist"
    out.mkdir()
    assert not is_taken(out)
    check_replaceable(out)
    publish(stages, out, results)
    assert (out / "manifest.json").is_file() and (out / "report.html").is_file()

    (tmp_path / "file").write_text("x")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("x")
    for place in ("file", "notes"):
        with pytest.raises(OutputError, match="is no bundle .*Take another --out"):
            check_replaceable(tmp_path / place)


def test_one_advice_and_not_two_for_what_is_no_bundle(tmp_path):
    """Without --overwrite it was: pass --overwrite. With it: take another --out."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    said = []
    for option in ((), ("--overwrite",)):
        done = run_host(*SMOKE, "--out", tmp_path / "out", *option)
        assert done.returncode == 6
        said.append(done.stderr.splitlines()[-1])
    assert said[0] == said[1] and "Take another --out" in said[0] and "--overwrite" not in said[0]


def test_a_place_that_is_mounted_is_named_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "ismount", lambda path: True)
    with pytest.raises(OutputError, match=r"mounted.*such as --out .*/out/bundle"):
        check_replaceable(tmp_path / "out")


# A disk that is full at the end


@pytest.mark.parametrize(
    "error",
    [
        shutil.Error([(f"a{n}", f"b{n}", "[Errno 28] No space left on device") for n in range(90)]),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EROFS, "Read-only file system"),
    ],
    ids=["shutil", "space", "read-only"],
)
@pytest.mark.parametrize("step", ["_prepare", "_put", "write_report"])
def test_a_publication_that_cannot_be_written_loses_nothing(
    finished, tmp_path, monkeypatch, step, error
):
    stages, results = finished
    out = tmp_path / "mnist"
    publish(stages, out, results)
    (out / "mine.txt").write_text("of the bundle before")

    def fails(*_):
        raise error

    monkeypatch.setattr(publishing, step, fails)
    with pytest.raises(OutputError) as raised:
        publish(stages, out, results)
    told = str(raised.value)
    assert str(out) in told and "All stages are kept" in told and "without --overwrite" in told
    assert len(told) < 700
    assert (out / "mine.txt").is_file() and not (stages.folder / "publish.partial").exists()

    monkeypatch.undo()
    publish(stages, out, results)
    assert not (out / "mine.txt").exists() and stages.has("measure")


def test_a_page_that_cannot_be_made_loses_no_bundle(finished, tmp_path, monkeypatch, capsys):
    stages, results = finished
    out = tmp_path / "mnist"

    def fails(_):
        raise ValueError("max() of nothing")

    monkeypatch.setattr(publishing, "write_report", fails)
    publish(stages, out, results)
    assert (out / "results.json").is_file() and not (out / "report.html").exists()
    told = capsys.readouterr().err
    assert "report.html cannot be made (ValueError: max() of nothing)" in told
    assert "`edvit report` tries again" in told


def test_what_came_to_out_while_the_run_went_on_is_not_replaced(finished, tmp_path):
    stages, results = finished
    out = tmp_path / "mnist"
    out.mkdir()
    (out / "mine.txt").write_text("of another")
    with pytest.raises(OutputError, match="was not there when this run began"):
        publish(stages, out, results)
    assert (out / "mine.txt").read_text() == "of another"

    # moved away, as the message says
    out.rename(tmp_path / "elsewhere")
    publish(stages, out, results)
    assert (out / "manifest.json").is_file()


def test_a_bundle_that_stood_there_is_put_back(finished, tmp_path, monkeypatch):
    """The older one has been moved away when the new one cannot take its place."""
    stages, results = finished
    out = tmp_path / "mnist"
    publish(stages, out, results)
    (out / "mine.txt").write_text("of the bundle before")
    replace = os.replace

    def fails(source, target):
        if Path(source).name == "publish.partial":
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OutputError, match="Disk quota exceeded"):
        publish(stages, out, results)
    assert (out / "mine.txt").is_file()


def test_a_full_folder_for_temporary_files_is_not_blamed_on_out(tmp_path, monkeypatch):
    stages = open_stages(tmp_path / "work", "a" * 64, {}, overwrite=False)

    def full(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))  # as full as a folder can be
    with pytest.raises(OutputError, match=r"stage one failed.*nowhere, is full.*set TMPDIR"):
        stages.run("one", full)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with pytest.raises(OutputError, match=r"stage one failed.*or choose another --out"):
        stages.run("one", full)


def test_a_model_that_has_no_room_for_its_answers_is_no_bad_export(monkeypatch, tmp_path):
    from edvit_tf.device.errors import ModelFailed
    from edvit_tf.export import process

    def full(*_, **__):
        words = "the process that runs m ended with 1: OSError: [Errno 28] No space left on device"
        raise ModelFailed(words)

    monkeypatch.setattr(process, "run_model", full)
    with pytest.raises(OutputError, match="No space left.*temporary files.*set TMPDIR"):
        process.run_in_process(tmp_path / "m.tflite", tmp_path / "x.npy")


# Starting again


def test_overwrite_starts_again_and_the_same_command_without_it_goes_on(tmp_path):
    work, key, description = tmp_path / "work", "a" * 64, {"config": {"seed": 0}}
    stages = open_stages(work, key, description, overwrite=False)
    stages.run("one", lambda folder: {"value": 1})
    assert open_stages(work, key, description, overwrite=False).has("one")
    assert not may_replace(work, key)

    # all of an unfinished run goes too, as the help says
    anew = open_stages(work, key, description, overwrite=True, replaces=True)
    assert anew.names() == []

    # killed, and started without --overwrite: it goes on, and may replace what it was told to
    anew.run("one", lambda folder: {"value": 2})
    again = open_stages(work, key, description, overwrite=False)
    assert again.has("one") and may_replace(work, key)
    assert not may_replace(work, "b" * 64)


def test_the_order_to_replace_ends_with_the_publication(finished, tmp_path):
    stages, results = finished
    out = tmp_path / "mnist"
    record = json.loads((stages.folder / "run.json").read_text())
    (stages.folder / "run.json").write_text(json.dumps({**record, "replaces": True}))
    assert may_replace(stages.folder, stages.key)
    publish(stages, out, results)
    assert not may_replace(stages.folder, stages.key)
    assert json.loads((out / "run.json").read_text()) == record


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_no_other_process(tmp_path, monkeypatch, capsys, number):
    def refused(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    lock(tmp_path / "work").close()
    assert "has no locks; see to it that no other process" in capsys.readouterr().err


# What is typed


def test_a_dry_run_looks_at_the_folder_that_is_named(tmp_path):
    done = run_host(SMOKE[0], "--smoke", "--dry-run", "--data-dir", tmp_path / "nowhere")
    assert done.returncode == 4 and "nowhere" in done.stderr
    done = run_host(SMOKE[0], "--smoke", "--dry-run")
    assert done.returncode == 0, done.stderr


def test_the_home_folder_stands_behind_an_equals_sign_too(monkeypatch):
    """bash leaves the "~" of --out=~/x as it is."""
    monkeypatch.setenv("HOME", "/home/somebody")
    typed = [f"--{name}=~/x" for name in ("out", "data-dir", "base", "reuse")]
    args = recipe_parser("A card.", CONFIG).parse_args(typed)
    for name in ("out", "data_dir", "base", "reuse"):
        assert str(getattr(args, name)) == "/home/somebody/x", name
    assert recipe_parser("A card.", CONFIG).parse_args(["--base", "a/b"]).base == "a/b"
    with pytest.raises(SystemExit):
        recipe_parser("A card.", CONFIG).parse_args(["--out=~nobody-of-this-name/x"])


def test_every_path_of_the_command_line_is_read_so():
    def parsers(parser):
        yield parser
        for action in parser._actions:
            for inner in (action.choices or {}).values() if action.nargs == "A..." else ():
                yield from parsers(inner)

    types = []
    for parser in (*parsers(edvit_parser()), recipe_parser("A card.", CONFIG)):
        types += [action.type for action in parser._actions]
    assert Path not in types and types.count(user_path) > 10


def test_a_report_of_a_run_that_went_astray_is_written(tmp_path):
    """Figures that are infinite or no numbers are shown as that."""
    from edvit_tf.report.page import write_report
    from tests.support.made_figures import figures

    for bad in (float("inf"), float("-inf"), float("nan")):
        manifest, results = figures()
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
        (tmp_path / "results.json").write_text(json.dumps(_with(results, bad)))
        text = write_report(tmp_path).read_text()
        assert f"{bad}" in text


def _with(value, bad: float):
    """The same figures with every number that is no whole one replaced."""
    if isinstance(value, dict):
        return {name: _with(one, bad) for name, one in value.items()}
    if isinstance(value, list):
        return [_with(one, bad) for one in value]
    return bad if isinstance(value, float) else value
