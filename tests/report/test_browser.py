"""The pages in a real browser, at the widths of a telephone and of a desk, light and dark.

Not in the README's test command, since it needs Chromium and playwright; .ci/run calls it:

    python -m pytest -q -n 0 -m browser
"""

import base64
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from edvit_tf.evaluation.mistakes import FILE
from edvit_tf.report.page import write_report
from edvit_tf.report.sweep import sweep_page, sweep_row
from tests.support import browser as browsers
from tests.support.made_figures import copies_figures, figures, with_copies

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browsers.missing() is not None, reason=str(browsers.missing())),
]

WIDTHS = (390, 1600)
SCHEMES = ("light", "dark")
HOSTILE = [
    "<script>window.taken=1</script>",
    '"><img src=x onerror="window.taken=1">',
    "'; window.taken=1; //" + "a" * 300,
    "</style></svg></title><script>alert(1)</script>\N{RIGHT-TO-LEFT OVERRIDE}",
]


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with browsers.chromium() as started:
        yield started


def encoded(content: bytes, kind: str) -> dict:
    return {"type": kind, "content": base64.b64encode(content).decode()}


def picture() -> dict:
    written = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    Image.fromarray(pixels).save(written, "PNG")
    return encoded(written.getvalue(), "image/png")


def sound() -> dict:
    written = io.BytesIO()
    soundfile.write(written, np.sin(np.arange(4000) / 9), 8000, format="FLAC")
    return encoded(written.getvalue(), "audio/flac")


def write(folder: Path, manifest: dict, results: dict, shown: dict) -> Path:
    """A report with learning curves, and with three wrong answers that have what is `shown`."""
    labels = results["labels"]
    curve = {"loss": [2.0, 1.0, 0.5], "accuracy": [0.2, 0.6, 0.8]}
    results["base"]["training"] |= curve
    for sub in results["sub_models"]:
        for stage in sub["stages"]:
            stage["history"] |= curve
    found = []
    for i in range(3):
        members = [
            {"name": sub["name"], "devices": sub["devices"], "named": labels[i], "share": 0.8}
            for sub in results["sub_models"]
        ]
        one = {"id": f"{labels[0]}/{i}", "label": labels[3], "named": labels[i], "share": 0.9}
        found.append(one | {"label_share": 0.05, "members": members} | shown)

    folder.mkdir()
    for name, value in (
        ("manifest", manifest),
        ("results", results),
        (FILE[:-5], {"mistakes": found}),
    ):
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    return write_report(folder)


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> dict[str, Path]:
    """A class split of pictures, copies that hear, a hundred classes on ten devices, and names that
    mean harm.
    """
    folder = tmp_path_factory.mktemp("reports")
    manifest, results = figures(0.7, 0.6)
    results["data"]["kind"] = "image"
    with_copies(results, [0.6, 0.65, 0.68])
    hundred = [f"class-{i:03d} with a name" for i in range(100)]
    many = figures(count=10, labels=hundred)
    harm = figures(labels=HOSTILE)
    harm[0]["name"] = harm[1]["sub_models"][0]["devices"][0] = HOSTILE[0]
    harm[1]["data"] |= {"name": HOSTILE[1], "notes": [HOSTILE[2]], "source": HOSTILE[3]}
    both = {"picture": picture(), "sound": sound()}
    return {
        "pictures": write(folder / "pictures", manifest, results, {"picture": picture()}),
        "sound": write(folder / "sound", *copies_figures([0.6, 0.66, 0.7]), both),
        "hundred": write(folder / "hundred", *many, {"picture": picture()}),
        "harm": write(folder / "harm", *harm, both),
    }


def check(found: browsers.Opened, width: int) -> None:
    """Nothing complains, nothing is asked for, nothing is wider than the window; then with all that
    is folded open.
    """
    page = found.page
    for _ in range(2):
        assert found.complaints == [] and found.asked == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        wide = page.evaluate(WIDER_THAN_ITS_PLACE)
        assert wide == [], wide
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")


# What sticks out of the window, unless it lies in something that scrolls by itself.
WIDER_THAN_ITS_PLACE = """() => [...document.querySelectorAll("main *")].filter(one =>
    one.getBoundingClientRect().right > innerWidth + 1 && !one.closest(".wide, pre"))
  .map(one => one.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize("name", ["pictures", "sound", "hundred", "harm"])
def test_a_report_is_whole_at_every_width_and_in_both_schemes(browser, reports, name):
    assert reports[name].stat().st_size < 3_000_000
    grounds = set()
    for width in WIDTHS:
        for scheme in SCHEMES:
            with browsers.opened(browser, reports[name], width, scheme) as found:
                check(found, width)
                assert found.page.evaluate("window.taken") is None
                grounds.add(found.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


def test_thumbnails_are_drawn_and_sounds_can_be_played(browser, reports):
    for name, sounds in (("pictures", 0), ("sound", 3), ("harm", 3)):
        with browsers.opened(browser, reports[name], 390, "light") as found:
            page = found.page
            drawn = page.evaluate("[...document.images].map(one => one.naturalWidth)")
            assert drawn == [28, 28, 28]
            assert all(one.bounding_box()["width"] > 90 for one in page.query_selector_all("img"))
            page.wait_for_function(
                "[...document.querySelectorAll('audio')].every(one => one.duration > 0)"
            )
            assert page.locator("audio").count() == sounds


def test_tables_are_folded_open_by_the_keyboard_and_sort(browser, reports):
    with browsers.opened(browser, reports["pictures"], 1600, "light") as found:
        page = found.page
        parts = page.locator("details.part")
        assert parts.count() >= 9 and page.locator("details[open]").count() == 0
        assert page.locator("table:visible").count() == 0

        part = page.locator("details.part", has_text="Models compared")
        part.locator("summary").focus()
        page.keyboard.press("Enter")
        table = part.locator("table").first
        assert table.is_visible()

        # by bytes: 160 KB is more than 41.0 KB, however it is written
        button = table.locator("th", has_text="files,").first.locator("button")
        button.focus()
        page.keyboard.press("Enter")
        names = table.locator("tbody tr td:first-child").all_inner_texts()
        assert names[0] == "base, unsplit"
        page.keyboard.press("Enter")
        assert table.locator("tbody tr td:first-child").all_inner_texts()[-1] == "base, unsplit"
        head = table.locator("th", has_text="files,").first
        assert head.get_attribute("aria-sort") == "ascending"
        assert found.complaints == []


def test_every_chart_has_words_and_every_link_a_place(browser, reports):
    with browsers.opened(browser, reports["hundred"], 1600, "dark") as found:
        page = found.page
        silent = page.evaluate(
            "[...document.querySelectorAll('svg')].filter(one => "
            "one.getAttribute('role') !== 'img' || !one.getAttribute('aria-label')).length"
        )
        assert silent == 0 and page.locator("svg").count() > 10
        for link in page.query_selector_all("nav a"):
            assert page.locator(link.get_attribute("href")).count() == 1


def test_the_first_screen_says_what_the_fleet_gives(browser, reports, tmp_path):
    with browsers.opened(browser, reports["pictures"], 390, "light", height=844) as found:
        for line in found.page.query_selector_all(".top li")[:2]:
            box = line.bounding_box()
            assert box["y"] + box["height"] <= 844
        found.page.screenshot(path=tmp_path / "shot.png")
    with Image.open(tmp_path / "shot.png") as shot:
        assert shot.size == (390, 844)


def test_the_page_of_a_sweep_leads_to_its_runs(browser, reports, tmp_path):
    folder = shutil.copytree(reports["pictures"].parent, tmp_path / "seed-0 <n2>")
    rows = [sweep_row(folder)]
    file = tmp_path / "report.html"
    file.write_text(sweep_page("a sweep", rows, "edvit sweep r.py --devices 2"), encoding="utf-8")
    for width in WIDTHS:
        with browsers.opened(browser, file, width, "dark") as found:
            check(found, width)
    with browsers.opened(browser, file, 1600, "light") as found:
        with found.page.expect_download() as download:
            found.page.click("a[download]")
        assert Path(download.value.path()).read_text().startswith("bundle,data,")
        found.page.click("td a")  # seen without a turn of the table
        assert found.page.url.endswith("/seed-0%20%3Cn2%3E/report.html")
