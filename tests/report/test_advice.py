"""What `edvit advise` recommends, from made-up figures: the simplest way that nothing beats."""

import argparse
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from edvit_tf.cli.output import show
from edvit_tf.device.errors import BundleError
from edvit_tf.device.model.manifest import manifest_from_dict
from edvit_tf.device.strict_json import finite_json
from edvit_tf.evaluation.paired import mcnemar, paired_interval
from edvit_tf.evaluation.predictions import Predictions
from edvit_tf.report.advice import Advice, advice
from edvit_tf.report.advised import advice_json, advice_section, advice_text
from edvit_tf.report.causes import causes, independent
from edvit_tf.report.compared import compared
from edvit_tf.report.options import ways
from edvit_tf.report.page import write_report
from edvit_tf.report.results import results_from_dict
from edvit_tf.report.sweep import sweep_page, sweep_row, sweep_text
from edvit_tf.report.tables import results_table, stages_table
from edvit_tf.report.typed import ResultsError
from edvit_tf.report.verdict import verdict
from tests.support.commands import run_command
from tests.support.made_figures import accuracy, copies_figures, figures, with_copies


def advised(manifest: dict, results: dict, folder: Path | None = None) -> Advice:
    return advice(manifest_from_dict(manifest), results_from_dict(results), folder)


def comparison(first_only: int, second_only: int, count: int = 200) -> dict:
    low, high = paired_interval(first_only, second_only, count)
    return {
        "recordings": count,
        "first_only": first_only,
        "second_only": second_only,
        "difference": (first_only - second_only) / count,
        "low": low,
        "high": high,
        "p_value": mcnemar(first_only, second_only),
    }


def page_of(folder: Path, manifest: dict, results: dict) -> str:
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return write_report(folder).read_text(encoding="utf-8")


def predicted(folder: Path, right: dict[str, range], count: int = 200) -> None:
    """predictions.npz of models that are right on so many of `count` recordings."""
    labels = np.zeros(count, int)
    stored = Predictions(labels, np.arange(count))
    for name, own in right.items():
        answers = np.tile([0.0, 1.0], (count, 1))
        answers[list(own)] = [1.0, 0.0]
        stored.add(name, answers)
    stored.store(folder, None)


def test_of_what_cannot_be_told_apart_the_simplest_is_taken():
    manifest, results = figures(0.62, 0.6)
    results["comparisons"] = {"single": comparison(14, 10), "base": comparison(2, 40)}
    found = advised(manifest, results)
    assert found.recommended.key == "single"
    assert found.sentence.startswith("Take one model of a device's size, on each device")
    said = " ".join(found.reasons)
    assert "It cannot be told apart from the class split, and is simpler: \u22122.0 points" in said
    assert "each of the 3 devices answers for itself" in said  # the plan has one that is idle


def test_a_fleet_that_is_better_by_recording_is_taken_and_its_price_is_told():
    manifest, results = figures(0.7, 0.6)
    results["comparisons"] = {"single": comparison(25, 5)}
    found = advised(manifest, results)
    assert found.recommended.key == "classes" and found.causes == ()
    assert (
        found.sentence
        == "Take the class split, 2 sub-models: 70.0 % of the test recordings, fused."
    )
    assert "It is better than one of a device's models alone: +10.0 points" in found.reasons[0]
    # 0.5 ms keep a device at work; three devices with 0.6 ms each
    assert "together answer 2,000 inputs a second, with one model each 5,000." in found.reasons[1]


def test_copies_beside_a_fleet_are_compared_by_what_they_answered(tmp_path):
    """The fleet is better than one model, but no better than copies of it: these are taken."""
    manifest, results = figures(0.7, 0.6)
    with_copies(results, [0.6, 0.69])
    right = {"fused": range(140), "single": range(120), "copies": range(2, 140), "base": range(160)}
    predicted(tmp_path, right)
    found = advised(manifest, results, tmp_path)
    assert found.recommended.key == "copies" and found.recommended.answering == 2
    assert found.sentence.startswith("Take 2 copies of one model, each with its own view: 69.0 %")

    against = {row.way.key: row.against_single for row in found.rows if row.against_single}
    assert (against["copies"].first_only, against["copies"].second_only) == (20, 2)
    assert against["classes"].first_only == 20
    assert "cannot be told apart from the class split" in " ".join(found.reasons)


def test_a_fleet_of_copies_is_its_own_row():
    manifest, results = copies_figures([0.6, 0.66, 0.7])
    results["comparisons"] = {"single": comparison(25, 5)}
    read = results_from_dict(results)
    found = {
        (way.key, way.answering): way
        for way in ways(manifest_from_dict(manifest), read)
        if way.accuracy
    }
    assert list(found) == [("single", 1), ("copies", 2), ("copies", 3), ("base", 1)]
    # four devices of 0.6 ms each; two of them answer one input, as three do with 0.5 ms
    assert found["single", 1].answers_per_second == pytest.approx(4000 / 0.6)
    assert found["copies", 2].answers_per_second == pytest.approx(2000 / 0.6)
    assert found["copies", 3].answers_per_second == pytest.approx(2000)
    # sub-models 0, 1 and 2 alone leave 40, 50 and 60 %
    assert [(at.lost, at.mean, at.worst) for at in found["copies", 3].lost] == [
        (1, pytest.approx(0.5), pytest.approx(0.4))
    ]
    # two views on four devices: of two lost devices both can be those of one view
    lost = {at.lost: at for at in found["copies", 2].lost}
    assert lost[1].mean == 0.66 and (lost[2].worst, lost[3].mean) == (0.6, 0.6)
    assert lost[2].mean == pytest.approx((2 * 0.6 + 4 * 0.66) / 6)
    assert [at.lost for at in found["single", 1].lost] == [1, 2, 3]

    taken = advised(manifest, results)
    assert taken.recommended.key == "copies" and taken.gap == 0.21
    assert "On validation data the base is 21.0 points above" in " ".join(taken.reasons)


def test_fewer_copies_that_are_nearly_as_good_are_told_of():
    manifest, results = copies_figures([0.6, 0.699, 0.7])
    results["comparisons"] = {"single": comparison(25, 5)}
    said = " ".join(advised(manifest, results).reasons)
    assert "On validation data 2 of them lack 0.1 points of that: groups of 2 devices" in said
    manifest, results = copies_figures([0.6, 0.66, 0.7])
    results["comparisons"] = {"single": comparison(25, 5)}
    assert "of them lack" not in " ".join(advised(manifest, results).reasons)


def test_where_no_view_is_worth_a_device_all_hold_the_one_model(tmp_path):
    manifest, results = copies_figures([0.6])
    results["single"] = figures(0.6, 0.6)[1]["single"]
    results["sub_models"][0]["devices"] = ["pi-0", "pi-1"]
    results["comparisons"] = {"single": comparison(0, 0)}
    results["disagreement"] = None
    found = advised(manifest, results)
    assert found.recommended.key == "single"
    fleet = next(row.way for row in found.rows if row.way.key == "copies")
    assert "no view is worth a device" in fleet.name
    assert [(at.lost, at.worst) for at in fleet.lost] == [(1, 0.6)]
    assert "no view is worth a device" in page_of(tmp_path, manifest, results)


def test_replicas_share_the_answers():
    manifest, results = copies_figures([0.6, 0.7])
    for j, sub in enumerate(results["sub_models"]):
        sub["devices"] = [f"pi-{j}", f"pi-{j + 2}"]
    rows = ways(manifest_from_dict(manifest), results_from_dict(results))
    fleet = next(way for way in rows if way.predictions == "fused")
    assert fleet.answers_per_second == pytest.approx(2 * 2000)
    lost = {at.lost: at for at in fleet.lost}
    assert (lost[1].mean, lost[1].worst, lost[2].worst) == (0.7, 0.7, 0.4)


def test_more_devices_than_views_hold_one_again():
    """Three devices measured, two views: the third changes no answer, and is no way of its own."""
    manifest, results = figures(0.7, 0.6)
    with_copies(results, [0.6, 0.65, 0.65])
    results["copies"]["views"] = results["copies"]["views"][:2]
    found = ways(manifest_from_dict(manifest), results_from_dict(results))
    assert [way.answering for way in found if way.key == "copies"] == [2]
    assert next(way for way in found if way.key == "copies").predictions == "copies"


def test_copies_beside_a_fleet_have_their_row_everywhere(tmp_path):
    manifest, results = figures(0.7, 0.6)
    with_copies(results, [0.6, 0.65])
    results["comparisons"] = {"single": comparison(25, 5), "copies": comparison(20, 10)}
    passes = {
        name: [0.5, 0.5] for name in ("single", "base", "fusion", "submodel-00", "submodel-01")
    }
    results["turns"] = {"passes": 2, "runs": 10, "runtime": "tflite-runtime", "models": passes}
    read = results_from_dict(results)
    row = next(
        row for row in compared(manifest_from_dict(manifest).fusion, read) if row.key == "copies"
    )
    assert (row.device_bytes, row.total_bytes, row.macs) == (41_000, 82_000, 82_000)
    assert row.times.median == 0.5  # as the single model's in the alternating passes
    assert "2 copies of it, a view each" in results_table(read)

    text = page_of(tmp_path, manifest, results)
    assert "2 copies of that one, a view each" in text and "copies, views, test" in text
    rows = [sweep_row(tmp_path)]
    assert rows[0]["models"]["copies"]["accuracy"] == 0.65 and "65.0 %" in sweep_text(rows, 400)

    # of another version, or without the single model: no row
    for change in ({"copies": None}, {"copies": {"views": [], "test": []}}, {"single": None}):
        left = compared(manifest_from_dict(manifest).fusion, results_from_dict(results | change))
        assert "copies" not in [row.key for row in left]
        advised(manifest, results | change)


def test_one_sub_model_is_no_fleet():
    manifest, results = figures(count=1)
    found = advised(manifest, results)
    assert found.sentence.startswith("There is one sub-model: a pruned model on one device")
    assert found.recommended is None and "not trained here" in advice_text(
        found, results_from_dict(results)
    )


def test_without_a_single_model_there_is_no_advice():
    manifest, results = figures()
    results["single"] = None
    found = advised(manifest, results)
    assert found.recommended is None and found.gap is None
    assert "Run the recipe with --baselines single" in found.sentence
    assert "--baselines single trains it" in advice_text(found, results_from_dict(results))


@pytest.mark.parametrize(
    "change, told",
    [
        ({"fleet": {"gap": 0.004}}, "from which all learn, is only 0.4 points better than"),
        ({"members_samples": [300, 500]}, "trained on 400 samples, 1.0 times the data"),
        ({"disagreement": 0.31}, "both claim an input, for different classes, on 31.0 %"),
    ],
)
def test_the_causes_of_no_gain_are_named(change, told):
    manifest, results = figures(0.6, 0.6)
    results["comparisons"] = {"single": comparison(3, 3)}
    quiet = advised(manifest, results).causes
    assert not any(told in cause for cause in quiet)
    found = advised(manifest, results | change).causes
    assert any(told in cause for cause in found), found


def test_members_that_err_alike_are_told_of_and_independent_ones_are_not():
    manifest, results = copies_figures([0.6, 0.6], 0.6)
    results["comparisons"] = {"single": comparison(3, 3)}
    results["losses"] = []  # no member was measured alone
    (alike,) = advised(manifest, results).causes
    # the one model's windows: 59 % right, so 2 * 0.41 * 0.59, and 0.41 ** 2 less a third: 4 classes
    assert "different classes on 10.0 %" in alike and "differ on about 59.6 %" in alike
    results["disagreement"] = 0.4
    assert advised(manifest, results).causes == ()


def test_errors_of_the_members_are_their_own_where_each_was_measured_alone():
    manifest, results = copies_figures([0.6, 0.6], 0.6)
    results["comparisons"] = {"single": comparison(3, 3)}
    results["losses"] = [
        {"missing": [j], "names": [f"submodel-0{j}"], "tflite": accuracy(share)}
        for j, share in enumerate((0.91, 0.81))  # of windows a point less
    ]
    (alike,) = advised(manifest, results).causes
    # 0.1 * 0.8 + 0.2 * 0.9 + 0.02 * 2 / 3
    assert "One is wrong on 15.0 %" in alike and "differ on about 27.3 %" in alike


@pytest.mark.parametrize("classes", [2, 4, 100])
def test_independent_errors_are_as_chance_has_them(classes):
    rng = np.random.default_rng(0)
    wrong = (0.6, 0.4)
    said = [np.where(rng.random(200_000) < w, rng.integers(1, classes, 200_000), 0) for w in wrong]
    assert independent(list(wrong), classes) == pytest.approx((said[0] != said[1]).mean(), abs=0.01)


def test_few_test_recordings_are_a_cause():
    manifest, results = figures(0.7, 0.65)
    read = results_from_dict(results)
    rows = {row.key: row for row in compared(manifest_from_dict(manifest).fusion, read)}
    assert rows["single"].accuracy.recordings == 200
    found = advised(manifest, results).causes
    assert any("200 test recordings are few: a difference under about 9." in one for one in found)
    assert causes(read, advised(manifest, results).rows[2].against_single) == list(found)


def test_text_json_and_section_tell_the_same(tmp_path):
    manifest, results = copies_figures([0.6, 0.66, 0.7])
    results["comparisons"] = {"single": comparison(25, 5)}
    read = results_from_dict(results)
    found = advised(manifest, results)

    text = advice_text(found, read)
    assert "4 devices" in text
    assert "3 copies of it, a view each" in text and "2 copies of it, a view each" in text
    assert "The run took copies of the one model with views: of 4" in text
    assert "joint fleet: not measured here." in text and "class split: not measured here." in text
    lines = [line for line in text.splitlines() if "a view each  " in line]
    assert len(lines) == 2 and "+10.0 better" in lines[1]

    stored = json.loads(json.dumps(advice_json(found)))
    assert stored["recommended"] == {"key": "copies", "devices": 3}
    kinds = [row["way"]["key"] for row in stored["ways"]]
    assert kinds == ["single", "copies", "copies", "classes", "joint", "base"]
    assert stored["ways"][2]["against_single"]["state"] == "better"
    assert stored["ways"][4]["way"]["known"].startswith("not measured here")

    html = advice_section(found, read)
    assert html.count("<svg") == html.count("</svg>") == 1
    assert "Copies of one model, %, mean of N views" in html
    # one lost: one model, and three copies of which each is one
    assert ">60.0 %</td>" in html and ">50.0 % (40.0 %)</td>" in html


@pytest.mark.parametrize("kind", ["classes", "joint"])
def test_where_no_second_view_helped_that_is_told_and_all_is_shown(tmp_path, kind):
    manifest, results = figures(0.7, 0.6)
    results["fleet"] = {"kind": kind}
    with_copies(results, [0.6, 0.6, 0.6])
    results["copies"]["views"] = results["copies"]["views"][:1]
    results["comparisons"] = {"single": comparison(25, 5)}
    found = advised(manifest, results)
    assert found.recommended.key == kind
    read = results_from_dict(results)
    told = "copies of it, a view each: no second view helped on validation data."
    assert told in advice_text(found, read)
    (copies,) = [row["way"] for row in advice_json(found)["ways"] if row["way"]["key"] == "copies"]
    assert copies["known"] == "no second view helped on validation data"
    assert told in page_of(tmp_path, manifest, results)
    assert "1 copies" not in results_table(read)


def test_the_ms_of_copies_say_what_they_leave_out():
    manifest, results = figures(0.7, 0.6)
    told = "Copies were measured by their file alone"
    assert told not in advice_text(advised(manifest, results), results_from_dict(results))
    with_copies(results, [0.6, 0.65])
    text = advice_text(advised(manifest, results), results_from_dict(results))
    assert told in " ".join(text.split())


def test_an_unknown_kind_of_fleet_is_said_in_words():
    _, results = figures()
    results["fleet"] = {"kind": "swarm"}
    with pytest.raises(ResultsError, match=r"fleet.kind is 'swarm'; this version knows classes, c"):
        results_from_dict(results)


def test_a_gap_that_is_no_number_is_measured_on_test_data():
    for gap in ("NaN", "Infinity"):
        manifest, results = figures(0.6, 0.6)
        results["fleet"] = {"gap": json.loads(gap)}
        found = advised(manifest, results)
        assert found.gap_split == "test" and found.gap == pytest.approx(0.2, abs=0.2)


def every_reader(folder: Path, manifest: dict, results: dict) -> str:
    """What every reader of a bundle's figures writes of them, as one text."""
    page = page_of(folder, manifest, results)
    read = results_from_dict(results)
    found = advice(manifest_from_dict(manifest), read, folder)
    json.dumps(finite_json(advice_json(found)), allow_nan=False)
    row = sweep_row(folder)
    swept = sweep_text([row], 400) + sweep_page("x", [row], "x")
    return "\n".join(
        [page, swept, advice_text(found, read), results_table(read), stages_table(read)]
    )


def of_every_kind() -> dict[str, tuple[dict, dict]]:
    """Figures of a class split, one sub-model, copies (on more devices than views) and a joint
    fleet.
    """
    kinds = {"classes": figures(0.7, 0.6), "one": figures(0.7, count=1)}
    with_copies(kinds["classes"][1], [0.6, 0.69])
    for kind in ("copies", "joint"):
        manifest, results = copies_figures([0.6, 0.66, 0.69])
        results["fleet"]["kind"] = kind
        for j, sub in enumerate(results["sub_models"]):
            sub["devices"] = [f"pi-{i}" for i in range(10) if i % 3 == j]
        kinds[kind] = manifest, results
    return kinds


@pytest.mark.parametrize("kind", ["classes", "one", "copies", "joint"])
@pytest.mark.parametrize("astray", [math.nan, math.inf])
def test_a_run_that_went_astray_has_an_advice_and_pages(kind, astray, tmp_path):
    """Every reader tells of figures that are no numbers, and no chart draws them."""
    manifest, results = of_every_kind()[kind]
    results["base"]["process"]["invoke_ms"]["median"] = astray
    results["fusion"]["process"]["invoke_ms"] = {"median": astray, "p95": astray}
    results["fusion"]["calibration"] = {"ece": astray, "nll": astray}
    results["fleet"] = results.get("fleet", {}) | {"gap": astray, "single_validation": astray}
    for at in results.get("copies", {}).get("validation", []):
        at["accuracy"] = astray
    steps = [*results["sub_models"][0]["stages"], *((results["single"] or {}).get("stages", []))]
    for step in steps:
        for shares in step["accuracy"].values():
            shares |= {"all": astray, "group": astray}

    text = every_reader(tmp_path, manifest, results)
    drawn = re.findall(r'(?: [xydr][12]?|width|height|transform)="([^"]*)"', text)
    assert len(drawn) > 100 and not [value for value in drawn if "nan" in value or "inf" in value]


@pytest.mark.parametrize("kind", ["classes", "copies"])
def test_figures_that_lack_what_came_later_are_read(kind, tmp_path):
    manifest, results = of_every_kind()[kind]
    whole = every_reader(tmp_path, manifest, results)
    assert ">50 / 100<" in whole
    for split in results["data"]["splits"].values():
        split.pop("per_class", None)  # one dict for all
    found = comparison(25, 5)
    for name in ("p_value", "first_only", "second_only"):
        del found[name]
    results["comparisons"] = {"single": found}
    text = every_reader(tmp_path, manifest, results)
    assert ">50 / 100<" not in text
    assert re.search(r"fused less single: \+10.0 points \(95 % [^;]*\): better", text)


def test_titles_of_a_terminal_stand_over_their_figures_in_two_lines():
    manifest, results = of_every_kind()["copies"]
    text = advice_text(advised(manifest, results), results_from_dict(results))
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.endswith("training")) - 1
    upper, lower, one = lines[at : at + 3]
    assert "10 devices" in lower and "bytes a" in upper and "one model of" in one
    # right-aligned: a column ends where its titles do
    assert upper.index("answers/s,") == lower.index("10 devices")
    assert max(map(len, lines)) <= 132


def test_one_device_is_one_device(tmp_path):
    text = every_reader(tmp_path, *of_every_kind()["one"])
    assert "There is one sub-model: a pruned model on one device, 70.0 %" in text
    assert not re.search(r"\b1 (?:devices|sub-models)\b", text)


def test_turns_without_a_model_name_it():
    _, results = figures()
    results["turns"] = {"passes": 1, "runs": 1, "runtime": "x", "models": {"submodel-00": [1.0]}}
    with pytest.raises(ResultsError, match="turns.models lacks submodel-01"):
        results_from_dict(results)


def test_json_for_programs_has_no_nan(capsys):
    show(argparse.Namespace(json=True), {"a": [math.nan, 1.5], "b": (math.inf,)}, "")
    assert json.loads(capsys.readouterr().out) == {"a": [None, 1.5], "b": [None]}


def test_what_results_tell_cannot_move_the_cursor():
    manifest, results = copies_figures([0.6, 0.7])
    results["fleet"]["reason"] = "of 4\x1b[2J classes"
    results["data"]["noun"] = "pic\x07ture"
    text = advice_text(advised(manifest, results), results_from_dict(results))
    assert "\x1b" not in text and "\x07" not in text and "of 4\\x1b[2J classes" in text


def test_of_many_copies_a_table_has_some_and_json_all():
    manifest, results = figures(0.7, 0.6)
    with_copies(results, [0.6, 0.62, 0.64, 0.66])
    found = advised(manifest, results)
    text = advice_text(found, results_from_dict(results))
    numbers = [int(line.split()[0]) for line in text.splitlines() if "copies of it, a v" in line]
    assert numbers == [2, 3, 4]
    results["copies"]["views"] += [{"down": 1}, {"down": 2}, {"down": 3}]
    results["copies"]["test"] += [{"devices": n, "tflite": accuracy(0.66)} for n in (5, 6, 7)]
    found = advised(manifest, results)
    text = advice_text(found, results_from_dict(results))
    numbers = [int(line.split()[0]) for line in text.splitlines() if "copies of it, a v" in line]
    assert numbers == [2, 3, 5, 7]
    every = [row["way"]["answering"] for row in advice_json(found)["ways"]]
    assert every == [1, 2, 3, 4, 5, 6, 7, 2, 1, 1]


def test_the_report_of_a_fleet_of_copies(tmp_path):
    manifest, results = copies_figures([0.6, 0.66, 0.7])
    results["comparisons"] = {"single": comparison(25, 5)}
    html = page_of(tmp_path, manifest, results)
    first = html[html.index('class="lead"') :]
    assert first.startswith('class="lead">Take 3 copies of one model, each with its own')
    assert "down 7" in html and "mirrored" in html  # views of the sub-models
    assert "Each of the others knows all classes" in html
    assert "errors are between classes of different sub-models" not in html


def test_the_command_needs_nothing_but_the_bundle(tmp_path):
    manifest, results = figures(synthetic=True)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (tmp_path / "results.json").write_text(json.dumps(results), encoding="utf-8")
    code, out, err = run_command(["advise", str(tmp_path)])
    assert code == 0, err
    assert out.startswith("SYNTHETIC stand-in") and "class split, 2 sub-models" in out
    code, out, _ = run_command(["advise", str(tmp_path), "--json"])
    assert json.loads(out)["devices"] == 3

    (tmp_path / "predictions.npz").write_bytes(b"PK\x03\x04 cut short")
    code, _, err = run_command(["advise", str(tmp_path)])
    assert code == BundleError.exit_code and "predictions.npz cannot be read" in err


def test_a_joint_fleet_has_the_single_models_cuts_and_a_training_together(tmp_path):
    manifest, results = copies_figures([0.6, 0.7], 0.6)
    results["fleet"]["kind"] = manifest["plan"]["strategy"] = "joint"
    cuts = results["single"]["stages"]
    for sub in results["sub_models"]:
        after = {"before": 0.5, "cut": 0.51, "fit": 0.72}
        together = {
            "stage": "together",
            "history": {"samples": 500},
            "config": {"num_classes": 4},
            "accuracy": {key: {"group": share, "all": share} for key, share in after.items()},
        }
        sub["stages"] = [*cuts, together]

    html = page_of(tmp_path, manifest, results)
    assert "51.0 \u2192 72.0" in html and html.count('<td class="t">submodel-00</td>') >= 1
    read = results_from_dict(results)
    text = stages_table(read)
    assert "submodel-01             trained together:  51.0 ->  72.0" in text
    assert [line.split()[0] for line in text.splitlines()[2:]] == [
        "single",
        "submodel-00",
        "submodel-01",
    ]
    # the one model's 400 samples once, 500 of each of the two
    said = " ".join(verdict(read, compared(manifest_from_dict(manifest).fusion, read)))
    assert "goes on from the base: 1,400 training samples" in said
    found = advised(manifest, results)
    assert [row.way.name for row in found.rows if row.way.key == "joint"] == [
        "joint fleet, 2 sub-models"
    ]


def test_what_other_sections_say_of_copies_holds():
    """No training of their own, no fusion that could be worse than the average."""
    manifest, results = copies_figures([0.6, 0.7])
    results["training_macs"] = {"fleet": 0, "single": 10**12}
    read = results_from_dict(results)
    said = " ".join(verdict(read, compared(manifest_from_dict(manifest).fusion, read)))
    assert "softmax average" not in said and "goes on from the base" not in said
    assert results["missing_one"][0]["tflite"] == accuracy(0.4)


def test_a_model_whose_weights_were_given_was_trained_elsewhere():
    manifest, results = figures()
    results["stage_seconds"] = {"outside": 0.6, "single.ffn": 11.2}
    single = next(row for row in advised(manifest, results).rows if row.way.key == "single")
    assert single.way.training.elsewhere and single.way.training.seconds is None
    text = advice_text(advised(manifest, results), results_from_dict(results))
    assert "elsewhere" in text


def test_joules_stand_beside_milliseconds_where_the_plan_has_boards():
    manifest, results = figures(0.7, 0.6)
    without = advice_text(advised(manifest, results), results_from_dict(results))
    assert "J an answer" not in without and "Estimates from" not in without

    for device in manifest["plan"]["devices"]:
        device |= {"board": "pi4b", "macs_per_second": 10**9}  # 3.06 to 3.7 W of computing
    results["single"]["macs_full"] = 2 * 10**9
    results["base"]["macs_full"] = 4 * 10**9
    for place, sub in enumerate(results["sub_models"]):
        sub["macs_full"] = (1 + place) * 10**9
    found = advised(manifest, results)
    joules = {row.way.key: row.way.joules for row in found.rows}
    single, base, fleet = (joules[key] for key in ("single", "base", "classes"))
    assert (single.low, single.high) == pytest.approx((2 * 3.06, 2 * 3.7))
    assert base.middle == pytest.approx(2 * single.middle)
    # of both sub-models
    assert fleet.middle == pytest.approx(1.5 * single.middle)
    # a way that was not measured
    assert joules["joint"] is None

    text = advice_text(found, results_from_dict(results))
    assert "J an answer" in text and "6.8 (6.12-7.4)" in text and "Estimates from pub" in text
    assert "J an answer" in advice_section(found, results_from_dict(results))
    told = finite_json(advice_json(found))["ways"][0]["way"]["joules"]
    assert told["middle"] == single.middle

    manifest["plan"]["devices"][0]["board"] = "of a newer version"
    joules = {row.way.key: row.way.joules for row in advised(manifest, results).rows}
    assert set(joules.values()) == {None}
