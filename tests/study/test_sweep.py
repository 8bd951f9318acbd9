"""`edvit sweep`: two runs of a recipe from one base, the page over them, and going on after a
stop.
"""

import json
import re
import shlex
import subprocess

import pytest

from edvit_tf.report.curves import curves, ticks
from edvit_tf.report.sweep import sweep_page, sweep_text
from edvit_tf.report.sweep_csv import sweep_csv
from edvit_tf.study import recipe_run
from edvit_tf.study import sweep as sweeping
from tests.support.commands import SMOKE, run_host

COMMAND = ("-m", "edvit_tf.cli", "sweep", SMOKE[0], "--devices", "1,2", "--json")


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep") / "out"
    done = run_host(*COMMAND, "--out", out, "--", "--smoke", "--synthetic")
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout)


def test_every_row_is_what_its_bundle_stores(swept):
    out, rows = swept
    assert [row["devices"] for row in rows] == [1, 2] and json.loads(
        (out / "sweep.json").read_text()
    ) == rows
    for row in rows:
        results = json.loads((out / row["bundle"] / "results.json").read_text())
        assert row["models"]["fused"]["accuracy"] == results["fusion"]["tflite"]["recording"]
        assert ("single" in row["models"]) == (row["devices"] > 1) == (row["one_lost"] is not None)
    first, second = (out / f"{row['bundle']}.work" for row in rows)
    for stage in ("data/train.npy", "base/weights.npz", "teacher/teacher.npz"):
        assert (first / stage).samefile(second / stage)  # made once
    assert "[teacher] taken from" in (out / f"{rows[1]['bundle']}.log").read_text()
    html = (out / "report.html").read_text()
    assert "SYNTHETIC" in html and html.count("<svg") == 4
    # pasted into a shell it makes the same sweep
    command = re.search(r'<pre class="paste"[^>]*>(.*?)</pre>', html)[1]
    assert shlex.split(command)[:5] == ["edvit", "sweep", SMOKE[0], "--devices", "1,2"]
    assert shlex.split(command)[5:] == [
        *("--seeds", "0", "--out", str(out), "--", "--smoke", "--synthetic")
    ]
    for row in rows:
        link = f"{row['bundle']}/report.html"
        assert f'<a href="{link}">report</a>' in html and (out / link).is_file()
    assert (out / "sweep.csv").read_text() == sweep_csv(rows)
    for tag in ("table", "svg", "section", "tr", "td", "text"):
        assert len(re.findall(rf"<{tag}[\s>]", html)) == html.count(f"</{tag}>"), tag


def test_a_run_with_stages_of_another_ends_with_the_same_files(swept, smoke_bundle):
    """The run alone is `smoke_bundle`: two devices are the recipe's own number."""
    out, rows = swept
    reused = out / rows[1]["bundle"]
    files = sorted(path.name for path in reused.glob("*.tflite"))
    assert files == ["fusion.tflite", "submodel-00.tflite", "submodel-01.tflite"]
    for name in files:
        assert (smoke_bundle / name).read_bytes() == (reused / name).read_bytes(), name


def test_stages_of_a_run_that_began_otherwise_are_refused(swept, tmp_path):
    out, rows = swept
    other = out / f"{rows[0]['bundle']}.work"
    done = run_host(*SMOKE, "--seed", "1", "--reuse", other, "--out", tmp_path / "x")
    assert done.returncode == 6 and "config.seed: 0 -> 1" in done.stderr, done.stderr
    done = run_host(*SMOKE, "--reuse", tmp_path, "--out", tmp_path / "x")
    assert done.returncode == 6 and "no work folder" in done.stderr
    assert not list(tmp_path.glob("x*"))


def test_a_sweep_goes_on_where_it_was_stopped(swept):
    out, rows = swept
    again = run_host(*COMMAND, "--out", out, "--", "--smoke", "--synthetic")
    assert again.returncode == 0 and json.loads(again.stdout) == rows
    assert all("finished already" in (out / f"{row['bundle']}.log").read_text() for row in rows)


def test_a_run_that_fails_is_named_with_its_last_words(tmp_path):
    done = run_host(
        *COMMAND, "--out", tmp_path / "out", "--", "--smoke", "--synthetic", "--budget", "1kB"
    )
    assert (
        done.returncode == 6 and "seed-0-n1 ended with 5" in done.stderr and "budget" in done.stderr
    )
    done = run_host("-m", "edvit_tf.cli", "sweep", "recipes/none.py", "--out", tmp_path / "none")
    assert done.returncode == 6 and "not a file" in done.stderr


def test_several_seeds_give_mean_and_deviation(swept):
    _, rows = swept
    one = rows[1]
    other = {
        **one,
        "seed": 1,
        "models": {**one["models"], "fused": {**one["models"]["fused"], "accuracy": 0.75}},
    }
    first = {
        **one,
        "models": {**one["models"], "fused": {**one["models"]["fused"], "accuracy": 0.65}},
    }
    for text in (sweep_text([first, other], 400), sweep_page("x", [first, other], "y")):
        assert "N = 2: 70.00 +- 7.07 % (2 seeds)" in text
    page = sweep_page("x", [first, other], "y")
    assert (
        '<td class="">70.00 \u00b1 7.07</td>' in page
        and "fleet, average" in page
        and "single model" in page
    )
    assert "fleet, fused, N = 2: 70</title>" in page  # the mean, in percent
    assert "One seed a row" in " ".join(sweep_text(rows).split())


def test_a_budget_is_an_option_of_the_recipe_and_part_of_the_name(tmp_path, monkeypatch):
    started = []

    def start(command, **settings):
        started.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(recipe_run.subprocess, "run", start)
    monkeypatch.setattr(sweeping, "sweep_row", lambda folder: {"bundle": folder.name})
    monkeypatch.setattr(sweeping, "sweep_csv", lambda rows: "")
    monkeypatch.setattr(sweeping, "sweep_page", lambda title, rows, command: command)
    recipe = tmp_path / "r.py"
    recipe.touch()
    rows = sweeping.sweep(recipe, tmp_path / "out", (2,), (0,), (), budgets=("4e", "16e"))
    names = ["seed-0-n2-4e", "seed-0-n2-16e"]
    assert [row["bundle"] for row in rows] == names
    for command, name, budget in zip(started, names, ("4e", "16e"), strict=True):
        assert command[command.index("--out") + 1] == str(tmp_path / "out" / name)
        assert command[command.index("--training-budget") + 1] == budget
    assert (tmp_path / "out/report.html").read_text().endswith("--budgets 4e,16e")


def test_runs_at_once_hand_their_members_to_one_cluster(tmp_path, monkeypatch):
    started, looked = [], []

    def start(command, env, **settings):
        started.append((command, env.get("TF_NUM_INTRAOP_THREADS")))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "7")
    monkeypatch.setattr(recipe_run.subprocess, "run", start)
    monkeypatch.setattr(sweeping, "check_engine", lambda jobs, ray: looked.append((jobs, ray)))
    monkeypatch.setattr(sweeping, "sweep_row", lambda folder: {"bundle": folder.name})
    monkeypatch.setattr(sweeping, "sweep_csv", lambda rows: "")
    monkeypatch.setattr(sweeping, "sweep_page", lambda title, rows, command: command)
    recipe = tmp_path / "r.py"
    recipe.touch()
    sweeping.sweep(recipe, tmp_path / "out", (2, 3), (0,), (), 2, ray="192.0.2.1:6379")
    assert looked == [(1, "192.0.2.1:6379")] and len(started) == 2
    for command, threads in started:
        assert command[command.index("--ray") + 1] == "192.0.2.1:6379"
        assert threads == "7"  # nodes have the fits: the cores here need not be shared out
    assert (tmp_path / "out/report.html").read_text().endswith("--ray 192.0.2.1:6379")


def test_axes_have_round_marks_that_hold_every_value():
    assert ticks(0, 82.2) == [0, 50, 100] and ticks(0, 0.75) == pytest.approx(
        [0, 0.2, 0.4, 0.6, 0.8]
    )
    for low, high in ((80.8, 94.1), (0, 1e-3), (5, 5), (0.31, 0.32)):
        marks = ticks(low, high)
        assert marks[0] <= low + 1e-9 and marks[-1] >= high - 1e-9 and len(marks) <= 7


def test_ways_to_group_classes_are_rows_of_their_own(swept, tmp_path):
    out, rows = swept
    base = out / f"{rows[0]['bundle']}.work" / "base" / "base.keras"
    done = run_host(
        "-m",
        "edvit_tf.cli",
        "sweep",
        SMOKE[0],
        "--devices",
        "2",
        "--strategies",
        "random,similar",
        "--jobs",
        "2",
        "--out",
        tmp_path / "out",
        "--json",
        "--",
        "--smoke",
        "--synthetic",
        "--base",
        base,
        "--baselines",
        "none",
        "--groups",
        "3",
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)  # N is the number of devices, whatever they hold
    assert [(row["devices"], row["strategy"]) for row in found] == [(2, "random"), (2, "similar")]
    log = (tmp_path / "out" / "seed-0-n2-similar.log").read_text()
    assert f"[teacher] taken from {tmp_path / 'out' / 'seed-0-n2-random.work'}" in log
    assert "Test accuracy, %, groups: similar" in (tmp_path / "out" / "report.html").read_text()


def test_points_that_are_no_numbers_are_named_and_not_drawn():
    nan, inf = float("nan"), float("inf")
    figure = curves(
        "Loss", [("fleet", "fused", {1: (0.5, 0.4, 0.6), 2: (nan, nan, nan), 3: (0.7, 0.6, inf)})]
    )
    assert figure.count("<circle") == 1 and "not drawn: fleet at 2: nan, fleet at 3: 0.7" in figure

    figure = curves("Loss", [("fleet", "fused", {1: (inf, inf, inf)})])
    assert "nothing to draw: fleet at 1: inf" in figure and "<svg" not in figure
    assert "nothing to draw: no figures" in curves("Loss", [("fleet", "fused", {})])
