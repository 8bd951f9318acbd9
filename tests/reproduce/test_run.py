"""`edvit reproduce`: pages, resumption, and what it refuses. The recipes here are a few lines that
copy a finished bundle.
"""

import json
import re
import shutil
from pathlib import Path

import pytest

from edvit_tf.reproduce.compare import MISSING, NOT_COMPARABLE, NOT_RUN, STATES
from edvit_tf.reproduce.paper import read_paper
from edvit_tf.reproduce.run import FIGURES, PAGE
from tests.support.commands import run_command
from tests.support.data_files import write_mnist

COPYING = """
import shutil, sys
words = sys.argv[1:]
out = words[words.index("--out") + 1]
print("asked for", *words)
shutil.copytree({bundle!r}, out)
"""


def test_a_page_of_two_places_has_every_number_of_the_paper(tmp_path):
    out = tmp_path / "out"
    words = ("reproduce", "--table", "4", "--section", "e.2", "--out", out)
    code, told, err = run_command(words)
    assert code == 0, err
    assert str(out / PAGE) in told

    html = (out / PAGE).read_text()
    stored = json.loads((out / FIGURES).read_text())
    rows = {row["id"]: row for row in stored["rows"]}
    for said in read_paper().said:
        assert f'<tr id="{said.id}">' in html, said.id
        assert rows[said.id]["state"] in STATES and rows[said.id]["why"]
    assert rows["macs-n10"]["ours"] == pytest.approx(0.484, abs=5e-4)
    assert rows["macs-n10"]["command"].startswith("edvit ")
    assert rows["fused-n5"]["state"] == NOT_RUN and "--table 3" in rows["fused-n5"]["why"]
    for tag in ("table", "section", "tr", "td", "p"):
        assert len(re.findall(rf"<{tag}[\s>]", html)) == html.count(f"</{tag}>"), tag


def test_what_is_done_is_not_run_again_and_more_can_be_asked_for(tmp_path):
    words = ("reproduce", "--out", tmp_path / "out")
    assert run_command([*words, "--table", "4"])[0] == 0
    stage = tmp_path / "out" / "flops" / "stage.json"
    first = stage.stat().st_mtime_ns
    code, _, err = run_command([*words, "--table", "4", "--section", "E.3"])
    assert code == 0 and "done earlier" in err
    assert stage.stat().st_mtime_ns == first and (tmp_path / "out" / "cases").is_dir()
    # what an earlier command had done is on the page of a later one
    assert run_command([*words, "--section", "E.3"])[0] == 0
    assert ">0.484 GMACs<" in (tmp_path / "out" / PAGE).read_text()


@pytest.fixture
def recipes(tmp_path, smoke_bundle) -> Path:
    """A folder with a recipe of MNIST that is done at once."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "mnist.py").write_text(COPYING.format(bundle=str(smoke_bundle)))
    return folder


def only_mnist(monkeypatch) -> None:
    """The exact items, and MNIST's, are all that there is to run."""
    from edvit_tf.reproduce import run

    kept = ("flops", "mnist")
    monkeypatch.setattr(run, "ITEMS", tuple(item for item in run.ITEMS if item.name in kept))


def test_a_recipes_run_is_a_process_of_its_own_and_its_figures_are_on_the_page(
    recipes, tmp_path, monkeypatch
):
    only_mnist(monkeypatch)
    write_mnist(tmp_path / "data" / "mnist")
    out = tmp_path / "out"
    words = ("reproduce", "--recipes", recipes, "--data", tmp_path / "data", "--out", out)
    code, _, err = run_command([*words, "--seeds", "0,1"])
    assert code == 0, err

    stored = json.loads((out / FIGURES).read_text())
    row = next(row for row in stored["rows"] if row["id"] == "accuracy-mnist")
    results = json.loads((out / "runs" / "mnist-n10-s0" / "results.json").read_text())
    assert row["ours"] == pytest.approx(100 * results["fusion"]["tflite"]["recording"])
    # the bundle is of made-up digits, and says so
    assert row["state"] == NOT_COMPARABLE and "stand-in" in row["why"]
    assert row["seeds"] == [0] and "python recipes/mnist.py --devices 10" in row["command"]
    log = (out / "runs" / "mnist-n10-s1.log").read_text()
    assert "--fleet classes --views none --fusion tower" in log and "--synthetic" not in log
    assert "SYNTHETIC DATA for mnist" in (out / PAGE).read_text()

    # a run that is done is not started again
    before = (out / "runs" / "mnist-n10-s0.log").read_text()
    assert run_command([*words, "--seeds", "0,1"])[0] == 0
    assert (out / "runs" / "mnist-n10-s0.log").read_text() == before


def test_a_recipe_that_fails_is_named_and_what_was_done_stays(recipes, tmp_path, monkeypatch):
    only_mnist(monkeypatch)
    write_mnist(tmp_path / "data" / "mnist")
    working = (recipes / "mnist.py").read_text()
    (recipes / "mnist.py").write_text("raise SystemExit('no room left')")
    out = tmp_path / "out"
    words = ("reproduce", "--recipes", recipes, "--data", tmp_path / "data", "--out", out)
    code, _, err = run_command(words)
    assert code == 6 and "mnist-n10-s0 ended with 1: no room left" in err
    assert "start the same command again" in err and ">0.484 GMACs<" in (out / PAGE).read_text()

    (recipes / "mnist.py").write_text(working)
    code, _, err = run_command(words)
    assert code == 0 and "[flops] done earlier" in err, err


def test_a_dry_run_says_what_would_be_run_in_order_and_writes_nothing(tmp_path):
    write_mnist(tmp_path / "mnist")
    words = ("reproduce", "--quick", "--data", tmp_path, "--out", tmp_path / "out", "--dry-run")
    code, told, err = run_command(words)
    assert code == 0, err
    places = [told.index(f"\n{name}: ") for name in ("flops", "latency", "mnist", "vit", "snn")]
    assert places == sorted(places) and "min on two cores" in told
    assert "SYNTHETIC stand-ins for caltech256, cifar10, gtzan" in told
    for line in told.splitlines():
        if "recipes/" in line:
            assert ("--synthetic" in line) == ("recipes/mnist.py" not in line), line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--table", "9"], 3, "nothing to run for table 9; choose from --table 2|3|4|5"),
        (["--figure", "7"], 3, "nothing to run for figure 7"),
        (["--section", "Z"], 3, "nothing to run for section Z"),
        (["--table", "4", "--data", "{tmp}/none"], 4, "none is no folder"),
        (["--table", "2", "--data", "{tmp}"], 4, "has no cifar10"),
        (["--table", "2", "--quick", "--data", "{tmp}"], 4, "has none of caltech256, cifar10"),
        (["--table", "2"], 4, "no folder of data sets was named"),
        (["--table", "4", "--quick", "--full"], 2, "not allowed with argument"),
        (["--figure", "4", "--quick", "--latency-from", "{tmp}/none.json"], 3, "median_base_ms"),
        (["--section", "E.2", "--out", "{tmp}/theirs"], 6, "is not a work folder of ours"),
        (["--section", "E.2", "--quick", "--out", "{tmp}/ours"], 6, "mode: 'recipes' -> 'quick'"),
    ],
)
def test_what_cannot_be_done_is_said(words, code, message, tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "letter.txt").touch()
    if "{tmp}/ours" in words:
        assert run_command(["reproduce", "--table", "4", "--out", tmp_path / "ours"])[0] == 0
    given = [word.format(tmp=tmp_path) for word in words]
    if "--out" not in given:
        given += ["--out", str(tmp_path / "out")]
    ended, _, err = run_command(["reproduce", *given])
    assert ended == code and message in err, err
    assert (tmp_path / "theirs" / "letter.txt").is_file()


def test_a_quick_run_makes_up_what_a_folder_of_data_sets_lacks(tmp_path):
    write_mnist(tmp_path / "mnist")
    words = ("reproduce", "--quick", "--table", "5", "--data", tmp_path, "--dry-run")
    code, told, err = run_command(words)
    assert code == 0 and "SYNTHETIC stand-ins for newsgroups" in told, err


def test_figures_of_other_things_are_not_gone_on_with(tmp_path, monkeypatch):
    from edvit_tf.reproduce import run

    data, seconds = tmp_path / "data", tmp_path / "pi.json"
    data.mkdir()
    seconds.write_text("{}")
    words = ["reproduce", "--quick", "--section", "E.2", "--data", data, "--out", tmp_path / "out"]
    words += ["--latency-from", seconds]
    assert run_command(words)[0] == 0

    def refused(*more) -> str:
        code, _, err = run_command([*words, *more])
        assert code == 6, err
        return err

    assert "recipes: " in refused("--recipes", tmp_path)
    seconds.write_text("{ }")
    assert "latency_from_sha256: " in refused()
    seconds.write_text("{}")
    write_mnist(data / "mnist")
    assert "data_sets: " in refused()
    shutil.rmtree(data / "mnist")
    monkeypatch.setattr(run, "__version__", "0.0.1")
    assert "version: " in refused()
    monkeypatch.undo()
    assert run_command(words)[0] == 0


def test_texts_wait_for_a_pretrained_bert(tmp_path):
    """Its recipe's rates are of one; from scratch hours would show nothing."""
    words = ["reproduce", "--table", "5", "--out", tmp_path / "out"]
    code, told, err = run_command([*words, "--dry-run"])
    assert code == 0 and "left out without --text-base WEIGHTS" in told, err
    code, _, err = run_command(words)
    assert code == 0, err
    rows = {row["id"]: row for row in json.loads((tmp_path / "out" / FIGURES).read_text())["rows"]}
    for name in ("newsgroups-texts", "table-5-values"):
        assert rows[name]["state"] == MISSING and "--text-base WEIGHTS" in rows[name]["why"]
    code, _, err = run_command([*words, "--text-base", "weights", "--dry-run"])
    assert code == 4 and "newsgroups are needed" in err


def test_a_seed_that_is_named_twice_is_one_trial(tmp_path):
    words = ["reproduce", "--section", "E.2", "--seeds", "0,0", "--out", tmp_path / "out"]
    assert run_command(words)[0] == 0
    rows = json.loads((tmp_path / "out" / FIGURES).read_text())["rows"]
    assert next(row for row in rows if row["id"] == "trials")["ours"] == 1


def test_another_runs_folder_is_emptied_when_told_to(tmp_path):
    words = ["reproduce", "--table", "4", "--out", tmp_path / "out"]
    assert run_command(words)[0] == 0
    assert run_command([*words, "--quick"])[0] == 6
    assert run_command([*words, "--quick", "--overwrite"])[0] == 0
    assert "A QUICK RUN" in (tmp_path / "out" / PAGE).read_text()
