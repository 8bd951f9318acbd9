"""The card of a bundle: what it says of members of all classes and of views."""

from edvit_tf.device.model.image import ImageSpec
from edvit_tf.export.card import card
from tests.support.made_figures import copies_figures, figures


def card_of(manifest: dict) -> str:
    manifest["data"] = {"name": "gtzan", "source": "genres", "synthetic": False}
    manifest["input"]["spec"] = ImageSpec(64, 64, 1).to_dict()
    manifest["files"] = {sub["file"]: {"bytes": 40_000} for sub in manifest["sub_models"]}
    return card(manifest)


def test_members_of_all_classes_have_views_and_no_other():
    text = card_of(copies_figures([0.6, 0.66, 0.7])[0])
    assert text.startswith("# demo: a Vision Transformer on 3 devices")
    assert "| submodel-02 | all | down 7 | 2 |" in text
    assert '"other" (not here: each sub-model knows all classes).' in text
    assert "moves, mirrors or crops the input" in text and "edvit advise THIS_FOLDER" in text


def test_a_class_split_has_its_classes_and_no_views():
    text = card_of(figures(count=2)[0])
    assert text.startswith("# demo: a Vision Transformer split over 2 devices")
    assert "| submodel-00 | rock, jazz | 2 |" in text
    assert 'the last logit is "other".' in text and "view" not in text


def test_data_of_one_s_own_are_named_once():
    manifest = figures(count=1)[0]
    assert "\nData: gtzan (genres), seed " in card_of(manifest)
    manifest["data"] = {"name": "birds", "source": "birds", "synthetic": False}
    assert "\nData: birds, seed " in card(manifest)


def test_one_sub_model_holds_all_classes():
    manifest = figures(count=1)[0]
    text = card_of(manifest)
    assert "(not here: one sub-model holds all classes)" in text
    assert "| submodel-00 | rock, pop & soul, jazz, folk | 2 |" in text


def test_of_hundreds_of_classes_the_first_are_named():
    labels = [f"character-{i:03d}" for i in range(242)]
    text = card_of(figures(count=2, labels=labels)[0])
    assert "242 classes: character-000, character-001, " in text
    assert ", ... (all: `labels.txt`)." in text and "character-241" not in text
    assert "| submodel-01 | 121 classes: character-001, character-003, " in text
    assert max(map(len, text.splitlines())) < 700
