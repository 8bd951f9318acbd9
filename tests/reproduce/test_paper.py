"""paper.yaml holds together, and what follows from configurations comes out as the paper has it."""

import copy
import dataclasses
from importlib import resources
from pathlib import Path

import pytest
import yaml

from edvit_tf.errors import ConfigError
from edvit_tf.reproduce import exact
from edvit_tf.reproduce.asked import Asked
from edvit_tf.reproduce.compare import AGREES, DIFFERS, NOT_COMPARABLE, STATES, compare
from edvit_tf.reproduce.items import ITEMS
from edvit_tf.reproduce.paper import paper_of, read_paper

RECIPES = Path(__file__).parents[2] / "recipes"
ASKED = Asked(out=Path("out"), recipes=RECIPES)
EXACT = {
    "settings": exact.settings,
    "flops": exact.flops,
    "plans": exact.plans,
    "cases": exact.cases,
}
CONTENT = yaml.safe_load(resources.files("edvit_tf.reproduce").joinpath("paper.yaml").read_text())


@pytest.fixture(scope="module")
def exact_results() -> dict[str, dict]:
    return {name: build(ASKED) for name, build in EXACT.items()}


def test_every_entry_names_an_item_that_there_is_and_a_figure_that_it_has(exact_results):
    names = {item.name for item in ITEMS}
    for said in read_paper().said:
        assert said.item is None or said.item in names, said.id
        if said.item in exact_results:
            assert said.key in exact_results[said.item]["figures"], said.id


def test_an_item_belongs_to_every_place_of_its_entries():
    """Else a table that is asked for alone would lack some of its figures."""
    of = {item.name: item for item in ITEMS}
    for said in read_paper().said:
        if said.item is not None:
            assert set(said.where) <= set(of[said.item].where), said.id


def test_every_reason_is_used():
    """But those of a run itself, which `compare` adds."""
    paper = read_paper()
    used = {name for said in paper.said for name in said.reasons}
    assert used | {"quick", "stand-in"} == set(paper.reasons)


def test_all_that_follows_from_configurations_agrees_but_the_number_of_trials(exact_results):
    rows = {row.said.id: row for row in compare(read_paper(), exact_results, ASKED)}
    judged = {
        name: row.state
        for name, row in rows.items()
        if row.said.item in exact_results and row.said.kind == "number"
    }
    # what we took from the paper ourselves agrees with nothing
    given = {name for name, row in rows.items() if "given" in row.said.reasons}
    assert {name for name, state in judged.items() if state != AGREES} == {"trials", *given}
    assert judged["trials"] == DIFFERS and len(judged) == 58
    assert {judged[name] for name in given} == {NOT_COMPARABLE}
    assert {"budget-base", "e2-budget", "e3-small-memory"} <= given and len(given) == 10
    assert f"{rows['macs-n10'].ours:.2f}" == "0.48"
    assert f"{rows['mib-n10'].ours:.2f}" == "9.55"  # the paper's 9.60
    assert f"{rows['mib-ratio'].ours:.2f}" == "34.27"
    assert f"{rows['e2-total'].ours:.2f}" == "95.35"


def test_every_row_has_a_state_whatever_was_run(exact_results):
    paper = read_paper()
    for results in ({}, {"flops": exact_results["flops"]}, exact_results):
        rows = compare(paper, results, ASKED)
        assert [row.said for row in rows] == list(paper.said)
        assert all(row.state in STATES and row.why for row in rows)


def figures_of(value: float, **more) -> dict:
    about = {"data": "d", "base": "b", "seeds": [0], "command": "c", "trained": True}
    return {"vit": {"figures": {"n5.fused": value}, **about, **more}}


def row_of(results: dict, **asked):
    rows = compare(read_paper(), results, Asked(out=Path(), recipes=RECIPES, **asked))
    return next(row for row in rows if row.said.id == "fused-n5")


def test_a_reason_holds_until_what_is_missing_is_given():
    row = row_of(figures_of(86.0))
    assert row.state == NOT_COMPARABLE and "ImageNet" in row.why and "--base WEIGHTS" in row.why
    assert "--full" in row_of(figures_of(86.0), base="w").why
    small = row_of(figures_of(86.0, base_params=22_000_000), base="w", mode="full")
    assert "ImageNet" in small.why
    full = row_of(figures_of(86.0, base_params=85_800_000), base="w", mode="full")
    # which data there are no option says
    assert "ImageNet" not in full.why and "whole data set" in full.why
    assert full.state == NOT_COMPARABLE


def test_two_numbers_that_can_be_compared_are_judged():
    paper = read_paper()
    said = dataclasses.replace(next(one for one in paper.said if one.id == "fused-n5"), reasons=())
    paper = dataclasses.replace(paper, said=(said,))
    (row,) = compare(paper, figures_of(86.0), ASKED)
    assert row.state == AGREES and "-1.1 %" in row.why  # 86.94 in the paper
    (row,) = compare(paper, figures_of(80.0), ASKED)
    assert row.state == DIFFERS

    over = dataclasses.replace(said, bound="over", value=84.0)
    paper = dataclasses.replace(paper, said=(over,))
    for ours, state, words in (
        (84.1, AGREES, "Over it."),
        (84.0, DIFFERS, "0.0 %: not over it."),
        (82.4, DIFFERS, "-1.9 %: not over it."),
    ):
        (row,) = compare(paper, figures_of(ours), ASKED)
        assert (row.state, row.why) == (state, words)


def test_a_quick_run_and_a_stand_in_compare_with_nothing():
    for row, words in (
        (row_of(figures_of(86.94), mode="quick"), "tiny widths"),
        (row_of(figures_of(86.94, synthetic=True), base="w", mode="full"), "made-up stand-in"),
    ):
        assert row.state == NOT_COMPARABLE and words in row.why


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("numbers", {"id": "batch-size"}, "'batch-size': this id stands twice"),
        ("numbers", {"value": None}, "numbers, and they alone, have a value"),
        ("claims", {"value": 3}, "numbers, and they alone, have a value"),
        ("numbers", {"where": ["table 9"]}, "'table 9' is none of abstract"),
        ("numbers", {"where": []}, "it needs a place"),
        ("numbers", {"reasons": ["weather"]}, "'weather' is none of pretrained"),
        ("numbers", {"bound": "under"}, "bound is 'under'"),
        ("numbers", {"colour": "red"}, "colour"),
        ("numbers", {"ours": "flops"}, "ours as ITEM:KEY"),
    ],
)
def test_an_entry_that_is_wrong_is_named(kind, change, message):
    content = copy.deepcopy(CONTENT)
    content[kind][0] |= change
    with pytest.raises(ConfigError, match="paper.yaml") as told:
        paper_of(content)
    assert message in str(told.value)
