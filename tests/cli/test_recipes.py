"""Recipes: one structure, a card, at most 80 lines; the paper's profile plans what the paper
planned.
"""

import ast
import re

import pytest

from tests.support.commands import ROOT, run_python

RECIPES = sorted((ROOT / "recipes").glob("*.py"))


def test_there_are_seven():
    assert [p.stem for p in RECIPES] == [
        "caltech256",
        "cifar10",
        "cifar10_dinov2",
        "gtzan",
        "mnist",
        "speech_commands",
        "speech_commands_dinov2",
    ]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.stem)
def test_one_structure(recipe):
    text = recipe.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= 80
    names = [t.id for node in tree.body if isinstance(node, ast.Assign) for t in node.targets]
    assert names[-3:] == ["CONFIG", "SMOKE", "PAPER"] and set(names[:-3]) <= {"FIT"}
    card = ast.get_docstring(tree)
    for line in ("Command:", "Time:", "Accuracy", "The paper:"):
        assert line in card, f"{recipe.name}: the card lacks {line!r}"


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.stem)
def test_papers_profile_builds_and_plans(recipe):
    done = run_python(recipe, "--profile", "paper", "--dry-run")
    assert done.returncode == 0, done.stderr
    channels = 1 if recipe.stem.startswith(("gtzan", "mnist", "speech_commands")) else 3
    parameters = {1: 85_413_130, 3: 85_806_346}[channels]  # ViT-Base at 224 / 16 with 10 classes
    assert f"Keras counts {parameters:,} parameters" in done.stdout
    assert (
        len(
            re.findall(
                r"^submodel-\d\d +3 +192 +768 +2[01]\.\d\d +10[5-7]\d\.\d", done.stdout, re.M
            )
        )
        == 5
    )
    assert "budget 180.00 MiB" in done.stdout and "'batch_size': 256" in done.stdout
    assert "'optimizer': 'adam'" in done.stdout


def test_wrong_options_say_what_to_do(tmp_path):
    done = run_python("recipes/gtzan.py", "--devices", str(tmp_path / "none.toml"), "--dry-run")
    assert done.returncode == 3 and "none.toml" in done.stderr
    done = run_python(
        "recipes/gtzan.py", "--data-dir", tmp_path / "nowhere", "--out", tmp_path / "out"
    )
    assert done.returncode == 4 and "nowhere" in done.stderr and "genres" in done.stderr
    done = run_python(
        "recipes/cifar10.py", "--base", "x.h5", "--smoke", "--synthetic", "--out", tmp_path / "out"
    )
    assert done.returncode == 3 and "x.h5" in done.stderr and "[data]" not in done.stdout
    done = run_python("recipes/mnist.py", "--smoke", "--profile", "paper")
    assert done.returncode == 2 and "do not go together" in done.stderr


def test_a_joint_fit_after_muon_is_adamws():
    done = run_python("recipes/cifar10_dinov2.py", "--fusion", "joint", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.count("'optimizer': 'muon'") == 2
    )  # of the shared model and of the sub-models
    assert re.search(r"^joint_training: .*'optimizer': 'adamw'", done.stdout, re.M)


def test_a_plan_that_cannot_be_is_found_before_training(tmp_path):
    done = run_python(
        "recipes/mnist.py", "--smoke", "--synthetic", "--budget", "1kB", "--out", tmp_path / "out"
    )
    assert done.returncode == 5 and "budget" in done.stderr and "[data]" not in done.stdout
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.work").exists()
