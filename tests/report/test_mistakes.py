"""Wrong answers on the page: whatever stands in mistakes.json, nothing of it runs or is loaded."""

import base64
import json
import re
from pathlib import Path

import pytest

from edvit_tf.device.errors import BundleError
from edvit_tf.evaluation.mistakes import FILE
from edvit_tf.report.page import write_report
from tests.support.made_figures import figures

PIXEL = base64.b64encode(b"not decoded here").decode()


def mistake(**more) -> dict:
    members = [
        {"name": "submodel-00", "devices": ["pi-0"], "named": "jazz", "share": 0.9},
        {"name": "submodel-01", "devices": ["pi-1"], "named": None, "share": 0.6},
    ]
    return {
        "id": "rock/<b>7",
        "label": "rock",
        "named": "jazz",
        "share": 0.914,
        "label_share": 0.05,
        "members": members,
        "picture": {"type": "image/png", "content": PIXEL},
        "sound": {"type": "audio/flac", "content": PIXEL},
        **more,
    }


def page_of(folder: Path, found: object) -> str:
    manifest, results = figures()
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    (folder / FILE).write_text(json.dumps(found), encoding="utf-8")
    return write_report(folder).read_text(encoding="utf-8")


def test_each_has_its_picture_its_sound_and_what_every_device_said(tmp_path):
    html = page_of(tmp_path, {"mistakes": [mistake(), mistake(picture=None, sound=None)]})
    assert html.count("<img ") == html.count("<audio ") == 1
    assert f'src="data:image/png;base64,{PIXEL}"' in html
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))
    assert "jazz 91&nbsp;% it is rock 5&nbsp;%" in text
    assert "1 say jazz, 1 say none of its classes" in text
    assert "pi-0: jazz 90&nbsp;%" in text and "pi-1: none of its classes 60&nbsp;%" in text
    assert "The 2 most confident of" in text


@pytest.mark.parametrize(
    "media",
    [
        {"type": "image/svg+xml", "content": PIXEL},
        {"type": "text/html", "content": PIXEL},
        {"type": "image/png", "content": '" onerror="alert(1)'},
        {"type": "image/png", "content": "A"},
        {"type": "image/png", "content": ""},
        {"type": "image/png", "content": "AAAA" * (1 << 20)},
    ],
)
def test_what_is_no_picture_is_not_shown(tmp_path, media):
    html = page_of(tmp_path, {"mistakes": [mistake(picture=media, sound=media)]})
    assert "<img" not in html and "<audio" not in html and "onerror" not in html


def test_a_text_is_shown_as_it_begins_and_runs_nothing(tmp_path):
    hostile = "</blockquote><script>alert(1)</script> & \u202eback"
    one = mistake(picture=None, sound=None, text=hostile)
    html = page_of(tmp_path, {"mistakes": [one, mistake(text="w" * 10**6)]})
    assert "&lt;/blockquote&gt;&lt;script&gt;alert(1)" in html and "<script>alert" not in html
    assert f"<blockquote>{'w' * 560}</blockquote>" in html
    assert "A text is shown as it begins" in html


def test_names_are_escaped(tmp_path):
    hostile = '"><script>alert(1)</script>'
    html = page_of(tmp_path, {"mistakes": [mistake(id=hostile, label=hostile, named=hostile)]})
    assert "<script>alert" not in html and "&lt;script&gt;alert" in html


def test_no_file_is_no_section_and_a_damaged_one_is_named(tmp_path):
    assert "Wrong answers" not in page_of(tmp_path, {"mistakes": []})
    for found in ({"mistakes": [{"id": 7}]}, [], {"mistakes": 3}):
        with pytest.raises(BundleError, match=r"mistakes.json cannot be read .*Delete it"):
            page_of(tmp_path, found)
