"""Recipes: one structure, a card, at most 80 lines; the paper's profile plans what the paper
planned.
"""

import ast
import re

import pytest

from tests.support.commands import ROOT, run_command

GREY = ("digits", "gtzan", "mnist", "omniglot", "speech_commands")
RECIPES = sorted((ROOT / "recipes").glob("*.py"))


SPLIT_NETS = {"cifar10_cnn": 33_655_114, "cifar10_snn": 33_642_698}  # parameters of 16 layers


def test_which_there_are():
    assert [p.stem for p in RECIPES] == [
        "caltech101",
        "caltech256",
        "cifar10",
        "cifar10_cnn",
        "cifar10_dinov2",
        "cifar10_snn",
        "digits",
        "gtzan",
        "mnist",
        "newsgroups",
        "omniglot",
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


VITS = [recipe for recipe in RECIPES if recipe.stem not in SPLIT_NETS]


@pytest.mark.parametrize("recipe", SPLIT_NETS)
def test_the_papers_profile_of_the_nets_that_it_compares_with(recipe):
    path = ROOT / "recipes" / f"{recipe}.py"
    code, out, err = run_command([path, "--profile", "paper", "--dry-run"])
    assert code == 0, err
    assert f"Keras counts {SPLIT_NETS[recipe]:,} parameters" in out
    assert len(re.findall(r"^submodel-\d\d +\d+ +51 .*device-\d\d", out, re.M)) == 10
    assert "'epochs': 70" in out and "'epoch': 'fixed'" in out


@pytest.mark.parametrize("recipe", VITS, ids=lambda p: p.stem)
def test_papers_profile_builds_and_plans(recipe):
    code, out, err = run_command([recipe, "--profile", "paper", "--dry-run"])
    assert code == 0, err
    channels = 1 if recipe.stem.startswith(GREY) else 3
    parameters = {1: 85_413_130, 3: 85_806_346}[channels]  # ViT-Base at 224 / 16 with 10 classes
    row = r"^submodel-\d\d +3 +192 +768 +2[01]\.\d\d +10[5-7]\d\.\d"
    if recipe.stem == "newsgroups":
        # a BERT-Base for the 634 pieces of the stand-in, and for 128 of a text
        parameters = 85_649_674
        row = r"^submodel-\d\d +3 +192 +768 +634 +21\.04 +679\.5"
    assert f"Keras counts {parameters:,} parameters" in out
    assert len(re.findall(row, out, re.M)) == 5
    assert "budget 180.00 MiB" in out and "'batch_size': 256" in out
    assert "'optimizer': 'adam'" in out


@pytest.mark.parametrize(
    "options, code, words",
    [
        ("gtzan --devices FOLDER/none.toml --dry-run", 3, ("none.toml",)),
        ("gtzan --data-dir FOLDER/nowhere --out FOLDER/out", 4, ("nowhere", "genres")),
        ("cifar10 --base x.h5 --smoke --synthetic --out FOLDER/out", 3, ("x.h5",)),
        ("mnist --smoke --profile paper", 2, ("do not go together",)),
        ("mnist --seed -1", 2, ("-1", "0 or more")),
        ("mnist --heads 3", 2, ("--heads", "merge")),
    ],
)
def test_wrong_options_say_what_to_do(tmp_path, options, code, words):
    recipe, *rest = options.replace("FOLDER", str(tmp_path)).split()
    found, out, err = run_command([f"recipes/{recipe}.py", *rest])
    assert found == code and "[data]" not in out
    assert all(word in err for word in words), err


def test_a_joint_fit_after_muon_is_adamws():
    code, out, err = run_command(["recipes/cifar10_dinov2.py", "--fusion", "joint", "--dry-run"])
    assert code == 0, err
    assert out.count("'optimizer': 'muon'") == 2  # of the shared model and of the sub-models
    assert re.search(r"^joint_training: .*'optimizer': 'adamw'", out, re.M)


def test_a_plan_that_cannot_be_is_found_before_training(tmp_path):
    code, out, err = run_command(
        ["recipes/mnist.py", "--smoke", "--synthetic", "--budget", "1kB", "--out", tmp_path / "out"]
    )
    assert code == 5 and "budget" in err and "[data]" not in out
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.work").exists()


def test_the_help_tells_every_option_with_the_default_of_the_recipe():
    code, out, _ = run_command(["recipes/mnist.py", "--help"])
    text = " ".join(out.split())
    assert code == 0 and "(default exports/mnist)" in text
    for option, default in (
        ("--devices", "10"),
        ("--start-heads K", "2"),
        ("--groups", "one a device"),
        ("--cut-heads", "keep"),
        ("--flavours", "float32"),
        ("--baselines", "single"),
    ):
        described = re.search(rf"{option} .*?\(default ([^)]*)\)", text.partition("planning:")[2])
        assert described[1] == default, option
    assert "--heads " not in text.replace("--cut-heads ", "").replace("--start-heads ", "")


def test_a_dry_run_tells_of_the_fleet():
    """A fleet of the one model is as wide as the class split lets it be."""
    mnist = next(recipe for recipe in RECIPES if recipe.stem == "mnist")
    code, out, err = run_command([mnist, "--smoke", "--dry-run", "--devices", "3"])
    assert code == 0 and "fleet: classes, as planned above" in out, err
    code, out, err = run_command(
        [mnist, "--smoke", "--dry-run", "--devices", "3", "--fleet", "copies"]
    )
    assert code == 0 and "fleet: copies, of one model of all classes with 2 of 4 heads" in out, err
    assert "on 3 devices" in out and "Which these are is not known yet" in out

    # of more devices than classes each holds a model of all of them, and none is idle
    code, out, err = run_command(
        [mnist, "--smoke", "--dry-run", "--devices", "12", "--fleet", "auto"]
    )
    assert code == 0 and "on 12 devices" in out and "idle:" not in out, err
    assert max(map(len, out.splitlines())) <= 118
