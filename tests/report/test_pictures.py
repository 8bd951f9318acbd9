"""The pictures of the page: what is drawn of whole, old and broken results."""

import itertools
import json
import math
import re
from pathlib import Path

import pytest

from edvit_tf.device.model.manifest import manifest_from_dict
from edvit_tf.report.advice import advice
from edvit_tf.report.compared import compared
from edvit_tf.report.learning import fits_of, learning
from edvit_tf.report.losing import losing
from edvit_tf.report.page import write_report
from edvit_tf.report.results import Results, results_from_dict
from edvit_tf.report.scatter import Point, scatter
from edvit_tf.report.trade import trade
from edvit_tf.report.units import size
from edvit_tf.report.who_knows import who_knows
from tests.support.made_figures import copies_figures, figures


def page_of(folder: Path, manifest: dict, results: dict) -> str:
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return write_report(folder).read_text(encoding="utf-8")


def trade_of(manifest: dict, results: dict) -> str:
    read = results_from_dict(results)
    return trade(read, compared(manifest_from_dict(manifest).fusion, read))


def losing_of(manifest: dict, results: dict) -> str:
    read = results_from_dict(results)
    return losing(advice(manifest_from_dict(manifest), read), read)


def with_curves(results: dict) -> dict:
    """Histories as fits store them: of the base, and of two stages of every other model."""
    results["base"]["training"] |= {"loss": [2.0, 1.0, 0.5], "accuracy": [0.2, 0.6, 0.8]}
    models = [*results["sub_models"], results["single"]]
    for stages in (model["stages"] for model in models):
        stages[1]["history"] |= {"loss": [1.0, 0.8], "accuracy": [0.5, 0.7]}
        stages[3]["history"] |= {"loss": [0.9, 0.7], "accuracy": [0.6, 0.75]}
    return results


def test_pictures_come_first_and_every_table_is_folded(tmp_path):
    manifest, results = figures()
    html = page_of(tmp_path, manifest, with_curves(results))
    heads = re.findall(r"<h2>(.*?)</h2>", html)
    assert heads[:6] == [
        "Accuracy against what it costs",
        "Who knows what",
        "When devices are lost",
        "How the models learnt",
        "Confusion matrix",
        "Tables",
    ]
    pictures, tables = html.split('<section id="tables">')
    assert "<table" not in pictures and "<details open" not in html
    assert tables.count('<details class="part">') == len(heads) - 6 >= 9
    # every link of the page leads to a place of it
    assert {f'id="{place}"' in html for place in re.findall(r'href="#(\w+)"', html)} == {True}


def test_a_device_is_shown_with_the_classes_that_it_knows():
    _, results = figures(count=2)
    results["sub_models"][0]["devices"] = ["pi-0", "pi-<7>"]
    html = who_knows(results_from_dict(results), (64, 64, 1))
    assert html.count("<li>") == 2 and "pi-&lt;7&gt;" in html and "pi-<7>" not in html
    assert html.count('aria-label="knows 2 of 4 classes"') == 2
    assert "rock, jazz" in html and "pop &amp; soul, folk" in html
    assert "1 sub-model is on several devices" in html
    # two squares of four are full
    assert [found.count("M") for found in re.findall(r'class="yes" d="([^"]*)"', html)] == [2, 2]


def test_copies_are_shown_with_their_views():
    _, results = copies_figures([0.6, 0.66, 0.7])
    html = who_knows(results_from_dict(results), (64, 64, 1))
    views = re.findall(r"view: ([^<\"]*)<", html)
    assert views == ["as it is", "mirrored", "down 7"]
    assert html.count("all 4 classes") == 3 and 'class="strip"' not in html
    # moved down by 7 of 64 rows: what is seen lies as much further up than the input's frame
    frames = re.findall(r'class="fit" x="([\d.]+)" y="([\d.]+)"', html)
    assert frames[0] == ("8.0", "8.0") and frames[2] == ("8.0", f"{8 - 36 * 7 / 64:.1f}")


def test_hundreds_of_classes_stay_a_small_picture():
    labels = [f"character-{i:03d}" for i in range(242)]
    html = who_knows(results_from_dict(figures(count=10, labels=labels)[1]), (28, 28, 1))
    assert len(html) < 80_000 and html.count(' of 242 classes"') == 10


def test_accuracy_is_drawn_against_time_and_bytes():
    html = trade_of(*figures(0.7, 0.6, 0.8))
    assert html.count("<svg") == 3
    for told in ("fleet: 70.0 % at 0.60 ms", "base: 80.0 % at 160 KB", "single model: 60.0 % at"):
        assert told in html, told
    assert html.count("files on all devices together") == 1


def crowded(cost, accuracy) -> list[Point]:
    return [Point(f"model {i}", cost(i), accuracy(i), 49, 53, "base") for i in range(5)]


@pytest.mark.parametrize(
    "points",
    [
        crowded(lambda i: 1000 + i, lambda i: 50 + i / 100),
        crowded(lambda i: 1000.0, lambda i: 51.0),
        crowded(lambda i: 1000.0 * (1 + i / 8), lambda i: 51.0),
    ],
)
def test_names_lie_on_no_other_name_and_on_no_dot(points):
    html = scatter("t", points, size, "bytes")
    found = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)">model', html)
    assert len(found) == 5
    boxes = []
    for x, y, anchor in found:
        left = float(x) - (6.2 * 7 if anchor == "end" else 0)
        boxes.append((left, left + 6.2 * 7, float(y) - 10, float(y) + 2.9))
    for (a, b, top, end), (c, d, other, last) in itertools.combinations(boxes, 2):
        assert a >= d or c >= b or top >= last or other >= end
    for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', html):
        for a, b, top, end in boxes:
            beside = float(x) + 4 <= a or float(x) - 4 >= b
            assert beside or float(y) + 4 <= top or float(y) - 4 >= end


@pytest.mark.parametrize("share", [math.nan, math.inf])
def test_what_is_no_number_is_left_out_of_a_chart(share):
    points = [Point("a", 1.0, 50, 40, 60, "base"), Point("b", 2.0, 51, 41, 61, "single")]
    html = scatter("t", [*points, Point("astray", 3.0, share, 0, 1, "fused")], size, "bytes")
    assert html.count("<circle") == 2 and "nan" not in html and "inf" not in html
    assert scatter("t", [points[0], Point("x", share, 1, 0, 2, "fused")], size, "bytes") == ""


def test_lost_devices_are_drawn_beside_one_model_on_each():
    html = losing_of(*copies_figures([0.6, 0.66, 0.7]))
    assert "one model on each device" in html and "3 copies of it, a view each" in html
    assert "a view each, lost = 0: 70" in html and "one model on each device, lost = 1: 60" in html
    assert losing_of(*figures(count=1)) == ""


def curves_of(results: dict) -> tuple[Results, str]:
    read = results_from_dict(results)
    return read, learning(read)


def test_learning_curves_are_of_every_fit_in_order():
    read, html = curves_of(with_curves(figures()[1]))
    fits = fits_of(read)
    assert list(fits) == ["base", "single model", "submodel-00", "submodel-01"]
    assert [fit.stage for fit in fits["submodel-01"]] == ["residual", "ffn"]
    assert html.count("<svg") == 8 and "base: training loss: from 2 to 0.5 in 3 epochs" in html
    assert "single model: training accuracy, %: from 50 to 75 in 4 epochs" in html


def test_curves_that_went_astray_or_were_not_stored_break_nothing():
    assert curves_of(figures()[1])[1] == ""  # a version that stored none
    results = with_curves(figures()[1])
    results["base"]["training"] |= {"loss": [2.0, math.nan, None], "accuracy": [0.2, 0.4, 0.5]}
    results["single"]["stages"][1]["history"] |= {"loss": [None, math.inf], "accuracy": []}
    html = curves_of(results)[1]
    assert "nan" not in html and "inf" not in html
    assert "base: training accuracy" in html and "base: training loss" not in html


def test_fits_of_one_epoch_are_dots_apart_from_the_cuts_between_them():
    results = with_curves(figures()[1])
    for i in (1, 3):
        results["single"]["stages"][i]["history"] |= {"loss": [1.0 + i], "accuracy": [0.5]}
    html = curves_of(results)[1]
    chart = html[html.index("single model: training loss") :].split("</figure>")[0]
    dots = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', chart)]
    cut = float(re.search(r'class="cut" d="M([\d.]+)', chart)[1])
    names = [float(x) for x in re.findall(r'x="([\d.]+)" y="133" text-anchor="middle"', chart)]
    assert len(dots) == 2 and dots == names and cut == pytest.approx(sum(dots) / 2)


def test_results_that_lack_what_came_later_leave_their_pictures_out(tmp_path):
    manifest, results = figures()
    for key in ("losses", "training_macs"):
        del results[key]
    results["single"] = None
    html = page_of(tmp_path, manifest, results)
    assert "How the models learnt" not in html and "Who knows what" in html


def test_what_a_device_spends_stands_beside_what_it_holds(tmp_path):
    manifest, results = figures()
    without = page_of(tmp_path, manifest, results)
    assert "J a question" not in without
    devices = manifest["plan"]["devices"]
    for device in devices[:2]:
        device |= {"board": "pi4b", "macs_per_second": 10**9}
    devices[2]["board"] = "of a newer version"
    results["sub_models"][0]["macs_full"] = 2 * 10**9
    results["sub_models"][0]["devices"] = [devices[0]["name"]]
    html = page_of(tmp_path, manifest, results)
    # two seconds at 3.06 to 3.7 W; the board that nobody knows here has a dash
    assert "J a question" in html and "6.8 (6.12-7.4)" in html
    assert "Estimates from published figures" in html
