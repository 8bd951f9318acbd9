"""A work folder that is not whole: every run that meets it says which stage, and what to do."""

import json
import re
import shutil

import numpy as np
import pytest

from edvit_tf.errors import OutputError
from edvit_tf.pipeline.description import check_reusable
from edvit_tf.pipeline.inputs import Split
from edvit_tf.pipeline.measure import whole_bundle
from edvit_tf.pipeline.publish import publish
from edvit_tf.pipeline.stage import Run, Stage
from edvit_tf.pipeline.store import Stages
from edvit_tf.pipeline.work_folder import open_stages
from tests.support.commands import SMOKE, run_host

ADVICE = r"stage {name} of .* is damaged: .*Delete the folder .*/{name} and start the same command"


@pytest.fixture
def stages(tmp_path) -> Stages:
    """A work folder with one finished stage, "one"."""

    def build(folder):
        np.savez(folder / "weights.npz", kernel=np.arange(6.0))
        np.save(folder / "train.npy", np.arange(6))
        return {"value": 1}

    stages = open_stages(tmp_path / "work", "a" * 64, {"config": {"seed": 0}}, overwrite=False)
    stages.run("one", build)
    return stages


def _truncate(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _never(folder):
    pytest.fail("a stage was made")


@pytest.mark.parametrize(
    "text", ["", '{"key": "aaa", "resu', "[]", "{}", '{"key": 3, "result": {"seconds": 1}}', "\0\1"]
)
def test_a_damaged_result_names_its_stage(stages, text):
    stages.path("one", "stage.json").write_text(text)
    for read in (
        lambda: stages.result("one"),
        lambda: stages.run("one", _never),
        lambda: stages.run("two", _never, needs=("one",)),
        lambda: stages.codes(["one"]),
    ):
        with pytest.raises(OutputError, match=ADVICE.format(name="one")) as raised:
            read()
        assert "--overwrite" in str(raised.value) and "Copy" not in str(raised.value)


def test_a_stage_that_lost_its_result_is_not_made_over_what_is_there(stages):
    stages.path("one", "stage.json").unlink()
    with pytest.raises(OutputError, match=ADVICE.format(name="one")):
        stages.run("one", _never)


@pytest.mark.parametrize("how", ["missing", "cut off", "overwritten"])
@pytest.mark.parametrize("file", ["weights.npz", "train.npy"])
def test_a_damaged_file_names_its_stage(stages, file, how):
    path = stages.path("one", file)
    if how == "missing":
        path.unlink()
    elif how == "cut off":
        _truncate(path)
    else:
        path.write_bytes(b"x" * 300)
    read = stages.arrays if file.endswith(".npz") else stages.array
    with pytest.raises(OutputError, match=ADVICE.format(name="one") + f"|{file}"):
        read("one", file)


def test_a_stage_without_what_it_needs_is_not_begun(stages):
    run = Run(stages, None)
    with pytest.raises(OutputError, match=ADVICE.format(name="zero")):
        run.make(Stage("two", ("one", "zero"), lambda run, folder: _never(folder)))
    assert not (stages.folder / "two.partial").exists()


def test_inputs_that_were_cut_off_name_their_stage(stages):
    (stages.folder / "one").rename(stages.folder / "data")
    np.savez(stages.folder / "data" / "index.npz", train_labels=[0], train_recordings=[0])
    assert len(Split(stages, "train").x) == 6
    _truncate(stages.path("data", "index.npz"))
    with pytest.raises(OutputError, match=ADVICE.format(name="data")):
        Split(stages, "train")


@pytest.mark.parametrize("text", ["", '{"key": "a', "[]", '{"key": "a"}'])
def test_half_a_record_of_the_run_is_refused_and_overwritten_on_demand(stages, text):
    (stages.folder / "run.json").write_text(text)
    description = {"config": {"seed": 0}}
    with pytest.raises(OutputError, match=r"run.json is damaged.*--overwrite"):
        open_stages(stages.folder, "a" * 64, description, overwrite=False)
    fresh = open_stages(stages.folder, "a" * 64, description, overwrite=True)
    assert fresh.names() == []
    assert json.loads((stages.folder / "run.json").read_text())["description"] == description


def test_nothing_is_taken_from_a_damaged_run(stages, tmp_path):
    other = open_stages(tmp_path / "other", "b" * 64, {"config": {}}, overwrite=False)
    _truncate(stages.path("one", "stage.json"))
    with pytest.raises(OutputError, match=ADVICE.format(name="one")):
        other.take(stages.folder, ["one"])
    assert other.names() == []
    (stages.folder / "run.json").write_text("{")
    with pytest.raises(OutputError, match=r"--reuse is .*run.json is damaged.*leave it out"):
        check_reusable(stages.folder, {"config": {}})


@pytest.mark.parametrize("file", ["manifest.json", "fusion.tflite", "submodel-01.keras"])
@pytest.mark.parametrize("how", ["missing", "cut off"])
def test_a_bundle_that_is_not_whole_is_neither_measured_nor_published(
    stages, tiny_bundle, tmp_path, file, how
):
    bundle = shutil.copytree(tiny_bundle, stages.folder / "bundle")
    assert whole_bundle(stages).labels
    if how == "missing":
        (bundle / file).unlink()
    else:
        _truncate(bundle / file)
    for read in (
        lambda: whole_bundle(stages),
        lambda: publish(stages, tmp_path / "out", {}),
    ):
        with pytest.raises(OutputError, match=ADVICE.format(name="bundle")) as raised:
            read()
        assert file in str(raised.value) and "Copy the bundle" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_a_recipe_that_meets_a_damaged_stage_says_which_and_goes_on_without_it(
    smoke_bundle, tmp_path
):
    """Each damage in turn ends in code 6 with the folder to delete; without it the run ends with
    the files of the unbroken one.
    """
    out, work = tmp_path / "mnist", tmp_path / "mnist.work"
    shutil.copytree(smoke_bundle.with_name("mnist.work"), work)
    shutil.rmtree(work / "measure")
    weights = work / "submodel-01.ffn" / "weights.npz"
    shutil.rmtree(work / "features")

    for damaged, stage in (
        (work / "teacher" / "stage.json", "teacher"),
        (weights, "submodel-01.ffn"),
        (work / "bundle" / "submodel-00.tflite", "bundle"),
    ):
        kept = damaged.read_bytes()
        damaged.write_bytes(kept[:100])
        done = run_host(*SMOKE, "--out", out)
        assert done.returncode == 6, done.stderr
        assert re.search(ADVICE.format(name=stage), done.stderr), done.stderr
        assert "Traceback" not in done.stderr and "Copy the bundle" not in done.stderr
        if stage == "bundle":
            shutil.rmtree(work / stage)
        else:
            damaged.write_bytes(kept)

    done = run_host(*SMOKE, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "[teacher] done earlier" in done.stdout and "[bundle] done earlier" not in done.stdout
    for file in sorted(smoke_bundle.glob("*.tflite")):
        assert (out / file.name).read_bytes() == file.read_bytes(), file.name
