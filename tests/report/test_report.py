"""The page from made-up figures: self-contained, honest in both directions, everything escaped."""

import copy
import json
import re
from pathlib import Path

import pytest

from edvit_tf.device.errors import BundleError
from edvit_tf.device.model.manifest import manifest_from_dict
from edvit_tf.evaluation.paired import mcnemar, paired_interval
from edvit_tf.report.compared import Compared, compared
from edvit_tf.report.figures import difference, matrix, number, percent, points, wilson
from edvit_tf.report.page import write_report
from edvit_tf.report.results import results_from_dict
from edvit_tf.report.tables import results_table
from edvit_tf.report.verdict import verdict
from tests.support.made_figures import accuracy, figures


def written(folder: Path, manifest: dict, results: dict) -> str:
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    assert write_report(folder) == folder / "report.html"
    return (folder / "report.html").read_text(encoding="utf-8")


def rows_of(manifest: dict, results: dict) -> dict[str, Compared]:
    """The models of `compared`, by key."""
    rows = compared(manifest_from_dict(manifest).fusion, results_from_dict(results))
    return {row.key: row for row in rows}


def said_of(manifest: dict, results: dict) -> list[str]:
    rows = list(rows_of(manifest, results).values())
    return verdict(results_from_dict(results), rows)


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_the_page_names_the_architecture_and_own_data_once(tmp_path):
    manifest, results = figures(count=2)
    for sub in manifest["sub_models"]:
        sub["config"]["architecture"] = "vgg"
    results["data"] |= {"name": "garden", "source": "garden"}
    html = written(tmp_path, manifest, results)
    assert "<h1>demo: a VGG, cut filter by filter (Split-CNN) split over 2 devices</h1>" in html
    assert "data: garden; seed" in html


def test_the_page_is_self_contained_and_well_formed(tmp_path):
    html = written(tmp_path, *figures())
    bare, scripts = re.subn(r"<script>.*?</script>", "", html, flags=re.S)
    assert scripts == 1  # our own, the only one that the page's policy lets run
    assert not re.search(r"<script|<link|<img|<iframe|\bon\w+=|@import|url\(", bare)
    assert set(re.findall(r"(?:src|href)\s*=\s*[\"']?(.)", html)) == {"#"}
    assert "http://" not in html and "https://" not in html
    assert str(tmp_path) not in html
    for tag in ("table", "svg", "section", "tr", "td", "text", "p", "div", "figure", "g"):
        assert len(re.findall(rf"<{tag}[\s>]", html)) == html.count(f"</{tag}>"), tag
    text = text_of(html)
    for told in (
        "jazz/jazz.00054.wav",
        "a note",
        "shorter than the window: 7",
        "pi-2",
        "nothing",
        "A CPU",
        "keras 3",
        "tflite-runtime 2.14.0, 1 thread",
        "edvit evaluate BUNDLE --data-dir DATA",
        "2.0e-06",
        "30.0 \u2192 60.0",
        "Loss of several sub-models",
        "1 2 45.0 % 40.0 % 50.0 %",
        "fleet, validation 150 windows 1.25 2.1",
        "fleet, test, as deployed 200 recordings 1.25 3.4 0.8",
        "a recording of several windows is named by their mean",
        "with 5.00 T MACs, the single model with 4.90 T",
    ):
        assert told in text, told
    assert "nan" not in text.lower().split() and "None" not in text


@pytest.mark.parametrize("synthetic", [True, False])
def test_the_banner_stands_if_and_only_if_the_data_are_synthetic(tmp_path, synthetic):
    html = written(tmp_path, *figures(synthetic=synthetic))
    assert ('class="banner"' in html) == ("SYNTHETIC" in html) == synthetic
    assert not synthetic or html.index("SYNTHETIC") < html.index("<h1>")


def test_labels_and_names_are_escaped(tmp_path):
    labels = ["<b>bold</b>", "a&b", "\"quoted\" 'label' <script>x</script> of some length", "plain"]
    manifest, results = figures(labels=labels)
    manifest["name"] = "<i>run</i> \N{RIGHT-TO-LEFT OVERRIDE}nur"
    results["data"] |= {"source": "<u>", "skipped_files": ["<s>.wav"], "notes": ["<em>"]}
    html = written(tmp_path, manifest, results)
    assert not re.search(r"<(b>bold|i>|u>|s>|em>|script>x)", html)
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in html  # what follows it would be read backwards
    assert "&lt;b&gt;bold&lt;/b&gt;" in html and "a&amp;b" in html and "&lt;s&gt;.wav" in html


@pytest.mark.parametrize(
    "fused, single, base, word, sign",
    [
        (0.9, 0.6, 0.8, "better than one single model", "+30.0 points"),
        (0.5, 0.9, 0.8, "worse than one single model", "\u221240.0 points"),
        (
            0.7,
            0.7,
            0.8,
            "and one single model of a device's size cannot be told apart",
            "0.0 points",
        ),
    ],
)
def test_the_verdict_has_the_right_sign(fused, single, base, word, sign):
    manifest, results = figures(fused, single, base)
    said = said_of(manifest, results)
    assert word in said[0] and sign in said[1]
    assert ("one small model on one device is the better choice" in " ".join(said)) == (
        fused < single
    )
    against_base = next(s for s in said if "unsplit base" in s)
    assert f"difference is {points(fused - base, 200)} points" in against_base
    assert ("one small model on one device may do as well" in " ".join(said)) == (fused == single)


def comparison(first_only: int, second_only: int, count: int = 200) -> dict:
    """As `measure` stores it."""
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


@pytest.mark.parametrize(
    "counts, first, figures_said",
    [
        ((12, 0), "The fleet is better than one", "right alone 12 against 0, exact McNemar p < 0"),
        ((0, 12), "The fleet is worse than one", "right alone 0 against 12, exact McNemar p < 0"),
        ((20, 9), "The fleet and one single", "right alone 20 against 9, exact McNemar p = 0.061"),
    ],
)
def test_the_verdict_is_by_recording_and_has_three_states(tmp_path, counts, first, figures_said):
    """The last has an interval that misses 0 by a hair: test and interval have to agree."""
    more, fewer = counts
    manifest, results = figures(0.6 + (more - fewer) / 200, 0.6)
    results["comparisons"] = {"single": comparison(more, fewer), "base": comparison(5, 5)}
    said = said_of(manifest, results)
    assert said[0].startswith(first) and figures_said in said[1]
    base = next(one for one in said if "unsplit base" in one)
    assert base.endswith("exact McNemar p = 1): the two cannot be told apart.")

    text = text_of(written(tmp_path, manifest, results))
    state = {12: "better", 0: "worse", 20: "cannot be told apart"}[more]
    assert f"points against one model on one device (60.0 %): {state}." in text
    assert f"one model of a device&#x27;s size {more} {fewer}" in text
    assert f"fused less single: {100 * (more - fewer) / 200:+.1f} points" in results_table(
        results_from_dict(results)
    )


def test_milliseconds_of_the_verdict_are_of_alternating_passes(tmp_path):
    """The machine was twice as slow in the second pass: the ratio does not notice."""
    manifest, results = figures()
    slow = (1.0, 2.0, 1.0)
    results["turns"] = {
        "passes": 3,
        "runs": 10,
        "runtime": "tflite-runtime 2.14.0",
        "models": {
            "submodel-00": [2.0 * s for s in slow],
            "submodel-01": [3.0 * s for s in slow],
            "fusion": [1.0 * s for s in slow],
            "base": [16.0 * s for s in slow],
            "single": [5.0 * s for s in slow],
        },
    }
    rows = rows_of(manifest, results)
    assert rows["fused"].times.median == 4.0 and rows["average"].times.median == 3.0
    assert rows["base"].times.median == 16.0 and rows["base"].times.p95 == 4.0
    said = next(one for one in said_of(manifest, results) if "slowest device" in one)
    assert "4.0 ms (median of 3 alternating passes, 4.0 ms to 8.0 ms)" in said
    assert "0.250 times (0.250 to 0.250) the base's" in said
    assert "0.800 times (0.800 to 0.800) the single model's" in said
    assert "Medians: of 3 passes of 10 runs" in text_of(written(tmp_path, manifest, results))


def test_a_loss_is_compared_by_recording_too(tmp_path):
    manifest, results = figures()
    results["missing_one"][0]["paired"] = comparison(2, 62)
    results["lost_devices"] = [
        {"device": "pi-0", "missing": [0, 1], "tflite": accuracy(0.4), "paired": comparison(9, 9)}
    ]
    text = text_of(written(tmp_path, manifest, results))
    assert "submodel-00 40.0 % \u221230.0 p < 0.001 " in text.replace("&lt;", "<")
    assert "pi-0 submodel-00, submodel-01 40.0 % \u221230.0 p = 1 " in text


def test_every_model_is_calibrated_and_a_bound_is_told(tmp_path):
    manifest, results = figures()
    results["fusion"]["validation_calibration"]["recordings"] = 75
    results["fusion"]["bound"] = 10.0
    results["fusion"]["temperature"] = 10.0
    results["single"] |= {"temperature": 1.5, "calibration": {"ece": 0.05, "nll": 0.6}}
    text = text_of(written(tmp_path, manifest, results))
    assert "fleet, validation 75 recordings 10.0 (bound) 2.1" in text
    assert "single model, test 200 recordings 1.50 5.0 0.600" in text
    assert "at a bound the validation data do not say where it would end" in text


def test_a_rival_of_the_fullest_device_is_called_so():
    """Where a device holds two sub-models; with one a device it is one of a device's size."""
    manifest, results = figures(count=2)
    assert rows_of(manifest, results)["single"].name == "one model of a device's size"
    for sub in results["sub_models"]:
        sub["devices"] = ["pi-0"]
    assert rows_of(manifest, results)["single"].name == "one model of the fullest device's size"
    assert "one single model of the fullest device's size" in said_of(manifest, results)[0]


def test_the_verdict_admits_small_differences_guessing_and_a_better_average():
    manifest, results = figures(0.71, 0.70)
    said = " ".join(said_of(manifest, results))
    assert "cannot be told apart: 71.0 % against 70.0 %" in said
    assert "do not decide, and one small model on one device may do as well" in said
    manifest, results = figures(0.26, 0.28)
    results["fusion"]["average"] = accuracy(0.4)
    said = " ".join(said_of(manifest, results))
    assert (
        "cannot be told from guessing (25.0 %)" in said
        and "plain softmax average does better" in said
    )
    assert "the fleet is worse" not in said.lower()


def test_the_fleet_is_charged_for_replicas_and_for_devices_with_two_sub_models():
    manifest, results = figures(count=3)
    for sub, devices in zip(
        results["sub_models"], (["pi-0"], ["pi-0", "pi-1"], ["pi-1"]), strict=True
    ):
        sub["devices"] = devices
    fused = rows_of(manifest, results)["fused"]
    sizes = [sub["file_bytes"] for sub in results["sub_models"]]
    assert fused.device_bytes == sizes[1] + max(sizes[0], sizes[2])
    assert fused.total_bytes == sum(sizes) + sizes[1] + 900
    assert fused.times.median == pytest.approx(0.5 + 0.5 + 0.1)
    assert fused.macs == sum(sizes) + 36 * (72 + 4)
    manifest["fusion"]["kind"] = "linear"  # 72 features, four classes, no hidden units
    assert rows_of(manifest, results)["fused"].macs == sum(sizes) + 72 * 4


def test_an_average_costs_the_sub_models_heads_and_rivals_training_is_not_the_fleets():
    manifest, results = figures(count=3)
    manifest["fusion"]["kind"] = "average"
    sizes = [sub["file_bytes"] for sub in results["sub_models"]]
    rows = [len(sub["labels"]) + 1 for sub in results["sub_models"]]
    assert rows_of(manifest, results)["fused"].macs == sum(sizes) + 24 * sum(rows)

    for sub in results["sub_models"]:
        sub["kept_heads"], sub["stages"] = (
            2,
            [{"stage": "group", "history": {"samples": 100}, "accuracy": {}}],
        )
    results["base"]["training"] = {"samples": 7}
    results["shared"] = {f"shared-{k}": [{"history": {"samples": k * 1000}}] for k in (2, 4)}
    results["fusion"]["joint"] = {"samples": 10}
    assert "goes on from the base: 2,330 training samples" in " ".join(said_of(manifest, results))


def test_one_sub_model_and_a_base_without_a_file(tmp_path):
    manifest, results = figures(count=1)
    for key in ("tflite", "process", "file_bytes", "parity"):
        del results["base"][key]
    text = text_of(written(tmp_path, manifest, results))
    assert "nothing is split" in text and "without it there is no answer" in text
    assert (
        "base, unsplit (Keras, no .tflite file)" in text and "The base has no .tflite file" in text
    )


def test_every_count_of_the_confusion_matrix_is_shown(tmp_path):
    labels = [f"class {i}" for i in range(12)]
    manifest, results = figures(count=3, labels=labels)
    html = written(tmp_path, manifest, results)
    drawn = re.findall(
        r">(\d+)</text>",
        html[html.index('class="matrix"') : html.index("<h2>Tables</h2>")],
    )
    assert [int(n) for n in drawn] == [count for row in results["confusion"] for count in row]
    assert "none" in matrix([[0, 0], [0, 3]], ["a", "b"])  # a class without test data


def test_of_many_classes_the_page_has_the_pairs_that_are_confused_most(tmp_path):
    """A matrix of 242 classes would be 17 MB."""
    labels = [f"class-{i}" for i in range(242)]
    manifest, results = figures(count=2, labels=labels)
    results["confusion"] = [[0] * 242 for _ in labels]
    for i in range(242):
        results["confusion"][i][i] = 19
    results["confusion"][7][9] = 6
    results["confusion"][8][3] = 1
    html = written(tmp_path, manifest, results)
    assert len(html) < 300_000 and 'class="matrix"' not in html
    text = text_of(html)
    assert "class-7 class-9 6 76 % of 25 class-8 class-3 1 95 % of 20" in text
    assert "of the 7 errors are between classes" in text
    assert "the five smallest and largest of 242 classes" in text


def test_flavours_that_were_left_out_are_told_of(tmp_path):
    manifest, results = figures()
    judged = {"runtime": "ai-edge-litert 1.2", "recordings": 300, "float32_accuracy": 0.9}
    results["flavours_on_validation"] = [
        judged | {"flavour": "float16", "accuracy": 0.9, "lost": 0, "may_lose": 1, "ok": True},
        judged | {"flavour": "int8", "accuracy": 0.87, "lost": 9, "may_lose": 6, "ok": False},
    ]
    text = text_of(written(tmp_path, manifest, results))
    assert "float16 ai-edge-litert 1.2 300 90.0 % 90.0 % 0 1 kept" in text
    assert "int8 ai-edge-litert 1.2 300 90.0 % 87.0 % 9 6 LEFT OUT" in text
    assert "before the bundle was published" in text


def test_fusions_that_were_tried_are_shown_with_the_one_that_was_taken(tmp_path):
    manifest, results = figures()
    assert "Choice of the fusion" not in text_of(written(tmp_path, manifest, results))
    results["fusion"] |= {
        "kind": "linear",
        "kinds_on_validation": {
            "tower": {"accuracy": 0.9012, "nll": 0.31, "size_bytes": 20480},
            "linear": {"accuracy": 0.9008, "nll": 0.32, "size_bytes": 1024},
        },
        "reason": "it is small",
        "left_out": {"joint": "the budget has no epoch for it"},
        "seen": "own",
        "seen_on_validation": {"as it is": {"accuracy": 0.88, "nll": 0.4}},
    }
    text = text_of(written(tmp_path, manifest, results))
    assert "tower 90.12 % 0.310 20.5 KB linear 90.08 % 0.320 1.02 KB taken" in text
    assert "sub-models see inputs" not in text  # there was no choice
    assert "taken because: it is small" in text
    assert "Not tried: joint, as the budget has no epoch for it." in text
    results["fusion"]["seen_on_validation"]["own"] = {"accuracy": 0.9, "nll": 0.3}
    text = text_of(written(tmp_path, manifest, results))
    assert "as it is 88.00 % 0.400 - own 90.00 % 0.300 - taken" in text


def test_pictures_are_not_called_recordings(tmp_path):
    manifest, results = figures()
    results["data"] = copy.deepcopy(results["data"]) | {"kind": "image"}
    text = text_of(written(tmp_path, manifest, results))
    assert "test pictures" in text and "recording" not in text


def test_missing_or_broken_results_are_named(tmp_path):
    manifest, _ = figures()
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="no results.json"):
        write_report(tmp_path)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(BundleError, match="results.json is not JSON"):
        write_report(tmp_path)


def test_intervals_and_numbers():
    assert wilson(0.15, 60) == pytest.approx((0.0810, 0.2611), abs=1e-4)  # by hand, Wilson 1927
    assert (
        wilson(0.0, 10)[0] == 0.0
        and wilson(1.0, 10)[1] == pytest.approx(1.0)
        and wilson(0.5, 0) == (0.0, 1.0)
    )
    assert difference(56 / 70, 48 / 70, 70)[0] < 0 < difference(56 / 70, 48 / 70, 70)[1]
    low, high = difference(0.9, 0.6, 200)
    assert 0 < low < 0.3 < high
    assert [number(v) for v in (0, 0.037, 12.34, 999.9, 1234.4)] == [
        "0",
        "0.0370",
        "12.3",
        "1,000",
        "1,234",
    ]
    assert (percent(0.98456, 10_000), percent(0.15, 60)) == ("98.46 %", "15.0 %")
    assert [points(v, 60) for v in (0.05, -0.05, -0.0001)] == ["+5.0", "\u22125.0", "0.0"]


def test_a_page_of_hundreds_of_classes_names_each_once(tmp_path):
    """Which sub-model knows which class stands in one table; the others have the first few."""
    labels = [f"character-{i:03d}" for i in range(242)]
    manifest, results = figures(0.7, 0.6, count=5, labels=labels)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (tmp_path / "results.json").write_text(json.dumps(results), encoding="utf-8")
    text = write_report(tmp_path).read_text(encoding="utf-8")

    shown, plan = text.partition("<h2>Class groups and plan</h2>")[::2]
    assert all(label in plan for label in labels)
    # of 49 or 48 classes a sub-model: its card, stages twice, and what its loss costs
    assert len(re.findall(r"4[89] classes: character-\d{3}, .*?, \.\.\.<", shown)) == 20
    rows = re.findall(r"<t[dh][^>]*>([^<]*)</t[dh]>", shown)
    assert max(map(len, rows)) <= 80
