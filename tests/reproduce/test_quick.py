"""The tiny forms of the recipes are configurations that there can be."""

import runpy
from pathlib import Path

import pytest

from edvit_tf.reproduce import quick
from edvit_tf.reproduce.asked import Asked
from edvit_tf.reproduce.items import ITEMS

RECIPES = Path(__file__).parents[2] / "recipes"


def test_every_recipe_that_is_run_has_one():
    asked = Asked(out=Path(), recipes=RECIPES, mode="quick", base="weights")
    assert {run.recipe for item in ITEMS for run in item.runs(asked)} == set(quick.QUICK)


@pytest.mark.parametrize("stem", quick.QUICK)
def test_it_is_handed_to_the_recipes_own_command_line(stem, tmp_path, monkeypatch):
    recipe = RECIPES / f"{stem}.py"
    given = {}

    def main(card, config, smoke, paper, argv):
        given.update(config=config, argv=argv)
        return 7

    found = runpy.run_path(str(recipe))
    monkeypatch.setattr(quick.runpy, "run_path", lambda path: {**found, "main": main})
    assert quick.main([str(recipe), "--devices", "2"]) == 7
    assert given["argv"] == ["--devices", "2"]
    tiny, whole = given["config"], found["CONFIG"]
    assert tiny.name == f"{whole.name}-quick" and tiny.data.options["max_per_class"] <= 100
    assert tiny.model != whole.model and tiny.shared_training is None
    assert tiny.fleet == "classes" and tiny.baselines == ()
