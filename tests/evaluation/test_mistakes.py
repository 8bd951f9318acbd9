"""What the fleet names wrong: which recordings are told of, their pictures and sounds, and what a
run stores of them.
"""

import base64
import hashlib
import io
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from PIL import Image

from edvit_tf.device.errors import BundleError, InputError
from edvit_tf.evaluation import mistakes
from edvit_tf.evaluation.mistakes import (
    FILE,
    LONGEST_EDGE,
    MOST,
    MOST_BYTES,
    add_mistakes,
    most_confident,
)

PICTURE = SimpleNamespace(is_picture=True, is_sound=False)
SOUND = SimpleNamespace(is_picture=False, is_sound=True, sample_rate_hz=8000)
OTHER = SimpleNamespace(is_picture=False, is_sound=False)


def test_the_most_confident_are_chosen_and_two_of_a_pair():
    p = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.95, 0.05, 0], [0.9, 0.1, 0], [0.1, 0.3, 0.6]])
    labels = np.array([1, 1, 1, 1, 0])
    # row 1 is right; of the three that take 1 for 0 the surest two, the first of equal ones
    assert most_confident(p, labels) == [2, 0, 4]
    assert most_confident(p, p.argmax(axis=1)) == []
    many = np.random.default_rng(0).random((500, 30))
    assert len(most_confident(many, np.zeros(500, int))) == MOST


def test_answers_that_are_no_numbers_come_last_and_break_nothing():
    p = np.array([[np.nan, np.nan], [0.9, 0.1]])
    assert most_confident(p, np.array([1, 1])) == [1, 0]
    assert json.loads(json.dumps(mistakes._share(float("nan")))) == 0.0


@pytest.mark.parametrize("shape, kind", [((28, 28, 1), "png"), ((224, 224, 3), "jpeg")])
def test_a_picture_is_small_enough_for_a_page(shape, kind):
    x = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    type_, content = mistakes._picture(x, PICTURE)
    image = Image.open(io.BytesIO(content))
    assert type_ == f"image/{kind}" and max(image.size) <= LONGEST_EDGE
    if kind == "png":  # its pixels as they are
        assert np.array_equal(np.asarray(image), x[..., 0])
    assert len(content) < 40_000


def test_a_map_of_sound_stands_upright_and_other_inputs_have_no_picture():
    x = np.zeros((16, 16, 1), np.float32)
    x[0] = 5.0  # the lowest band
    _, content = mistakes._picture(x, SOUND)
    drawn = np.asarray(Image.open(io.BytesIO(content)))
    assert drawn[-1].min() == 255 and drawn[:-1].max() == 0
    assert mistakes._picture(np.full((16, 16, 1), np.nan, np.float32), SOUND) is not None
    assert mistakes._picture(np.zeros((16, 16, 1), np.int32), OTHER) is None


def test_a_sound_is_its_first_seconds_where_it_is_a_file(tmp_path):
    samples = np.sin(np.arange(5 * 8000) / 9).astype(np.float32) / 2
    soundfile.write(tmp_path / "a.wav", samples, 8000)
    type_, content = mistakes._sound(SimpleNamespace(where=tmp_path / "a.wav"), SOUND)
    heard, rate = soundfile.read(io.BytesIO(content))
    assert type_ == "audio/flac" and (len(heard), rate) == (3 * 8000, 8000)
    assert np.allclose(heard, samples[:24_000], atol=1e-3)
    assert mistakes._sound(SimpleNamespace(where=7), SOUND) is None  # a stand-in's seed
    assert mistakes._sound(SimpleNamespace(where=tmp_path / "gone.wav"), SOUND) is None


def test_all_of_them_have_room_in_a_page(tmp_path):
    """Of noise at 48 kHz each sound is a third of a megabyte: the last ones keep their pictures."""
    spec = SimpleNamespace(is_picture=False, is_sound=True, sample_rate_hz=48_000)
    noise = np.random.default_rng(0).uniform(-1, 1, 3 * 48_000)
    soundfile.write(tmp_path / "a.wav", noise, 48_000)
    recording, room = SimpleNamespace(where=tmp_path / "a.wav"), MOST_BYTES
    shown = []
    for _ in range(6):
        one, room = mistakes._media(
            SimpleNamespace(spec=spec, text_of=None), recording, np.eye(9)[..., None], room
        )
        shown.append(sorted(one))
    assert room >= 0 and shown[0] == ["picture", "sound"] and shown[-1] == ["picture"]


def test_a_text_is_its_beginning_on_one_line():
    def shown(text):
        def text_of(recording):
            if text is None:
                raise InputError("it cannot be read")
            return text

        return mistakes._media(SimpleNamespace(spec=OTHER, text_of=text_of), None, None, 0)[0]

    mistakes_of = {"a\n\n b\x07\u202e\t<b>": "a b\\x07\u202e <b>", "w" * 281: f"{'w' * 280}..."}
    for text, expected in mistakes_of.items():
        assert shown(text) == {"text": expected}
    assert shown("w" * 280) == {"text": "w" * 280} and shown(None) == {}


def test_a_run_stores_what_it_got_wrong(smoke_bundle):
    results = json.loads((smoke_bundle / "results.json").read_text(encoding="utf-8"))
    content = (smoke_bundle / FILE).read_bytes()
    assert results["mistakes"]["sha256"] == hashlib.sha256(content).hexdigest()
    with np.load(smoke_bundle / "predictions.npz") as stored:
        wrong = int((stored["fused_top1"] != stored["labels"]).sum())
    found = json.loads(content)["mistakes"]
    assert 0 < len(found) <= min(MOST, wrong)
    shares = [one["share"] for one in found]
    assert shares == sorted(shares, reverse=True)
    for one in found:
        assert one["named"] != one["label"] and one["share"] >= one["label_share"]
        assert [said["name"] for said in one["members"]] == ["submodel-00", "submodel-01"]
        Image.open(io.BytesIO(base64.b64decode(one["picture"]["content"]))).verify()


def test_they_can_be_stored_again_from_the_data(smoke_bundle, tmp_path):
    """By the files of the sub-models, on these few inputs alone: the same as the run's."""
    bundle = shutil.copytree(smoke_bundle, tmp_path / "bundle")
    (bundle / FILE).unlink()
    count = add_mistakes(bundle, None)
    again = json.loads((bundle / FILE).read_text(encoding="utf-8"))["mistakes"]
    first = json.loads((smoke_bundle / FILE).read_text(encoding="utf-8"))["mistakes"]
    assert len(again) == count > 0
    for one, other in zip(again, first, strict=True):
        for a, b in zip(one.pop("members"), other.pop("members"), strict=True):
            assert a.pop("share") == pytest.approx(b.pop("share"), abs=1e-3) and a == b
    assert again == first

    (bundle / "predictions.npz").unlink()
    with pytest.raises(BundleError, match="no answers of fused"):
        add_mistakes(bundle, None)
