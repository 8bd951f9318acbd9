"""What a fusion says when sub-models are lost, and which of them are."""

import numpy as np
import pytest

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.errors import ExportError
from edvit_tf.evaluation import answers as module
from edvit_tf.evaluation.answers import Answers, fuse, fuse_without, losses
from edvit_tf.export.process import run_in_process


@pytest.fixture(scope="module")
def five(five_bundle):
    """A bundle of five sub-models, and made-up answers of them to seven windows."""
    bundle, rng = open_bundle(five_bundle), np.random.default_rng(0)
    features = [rng.normal(size=(7, width)).astype(np.float32) for width in bundle.widths]
    return bundle, Answers(tuple(features), (), ())


def test_sets_of_lost_sub_models_are_fused_in_one_process_as_one_by_one(five, monkeypatch):
    """Without the features of the lost ones taken out: the file's own mask does it, bit for bit."""
    bundle, answers = five
    lost = losses(5, seed=0)
    started = []

    def counted(*arguments, **options):
        started.append(arguments)
        return run_in_process(*arguments, **options)

    monkeypatch.setattr(module, "run_in_process", counted)
    together = fuse_without(bundle, answers, lost)
    assert len(lost) == len(together) == 30 and len(started) == 1
    for missing, p in list(zip(lost, together, strict=True))[::7]:
        np.testing.assert_array_equal(p, fuse(bundle, answers, missing)[0])
    assert fuse_without(bundle, answers, []) == [] and len(started) == 6


def test_a_shorter_input_is_gone_through_again(five):
    bundle, answers = five
    model, present = bundle.path / "fusion.tflite", np.ones((14, 5), np.float32)
    features = np.concatenate(answers.features, axis=1)
    out, report = run_in_process(model, {"present": present, "features": features})
    assert report["samples"] == 14
    np.testing.assert_array_equal(out["probabilities"][:7], out["probabilities"][7:])
    with pytest.raises(ExportError, match="present"):
        run_in_process(model, {"present": present[:, :4], "features": features})
