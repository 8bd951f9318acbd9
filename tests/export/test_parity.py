"""The gate between Keras and .tflite: what a correct export may differ by, and what it may not."""

import numpy as np
import pytest

from edvit_tf.export.parity import compare
from edvit_tf.pipeline.checks import check_parity

COUNT = 200


def answers(seed: int = 0) -> dict[str, np.ndarray]:
    """Features and logits of 200 samples, as a Keras model would give them."""
    rng = np.random.default_rng(seed)
    return {
        "features": rng.normal(2, 1, (COUNT, 6)).astype(np.float32),
        "logits": rng.normal(0, 3, (COUNT, 4)).astype(np.float32),
    }


def changed(outputs: dict, name: str, rows: int, factor: float) -> dict:
    """The outputs with the first rows of one of them multiplied."""
    other = {key: value.copy() for key, value in outputs.items()}
    other[name][:rows] *= np.float32(factor)
    return other


def test_logits_that_happen_to_lie_near_zero_are_no_fault():
    """Two logits near zero, as sub-models of one class have: each relative error explodes, and the
    answers are the same.
    """
    keras_out = answers()
    keras_out["logits"] = keras_out["logits"][:, :2]
    keras_out["logits"][:40] *= 1e-4
    tflite_out = {name: value + np.float32(1.7e-4) for name, value in keras_out.items()}

    own = np.abs(tflite_out["logits"] - keras_out["logits"]).max(1)
    assert np.quantile(own / np.abs(keras_out["logits"]).max(1), 0.95) > 0.1  # the old measure
    figures = compare(keras_out, tflite_out, top="logits")
    assert figures["ok"] and figures["max_relative_error"] < 2e-4


@pytest.mark.parametrize("target", ["portable", "litert"])
@pytest.mark.parametrize("name", ["features", "logits"])
@pytest.mark.parametrize("rows", [1, 9])
def test_no_sample_may_be_another(target, name, rows):
    """Up to 4.95 of 100 samples lie beyond the 95th percentile, and are looked at all the same."""
    keras_out = answers()
    figures = compare(keras_out, changed(keras_out, name, rows, 3.0), top="logits", target=target)
    assert figures["p95_relative_error"] <= figures["tolerance"]
    assert not figures["ok"]


def test_saturated_answers_hide_no_fault():
    """Logits of 40 give probabilities of 1 and 0, tripled or not."""
    keras_out = {"logits": np.where(np.eye(4)[np.arange(COUNT) % 4], 40.0, -40.0)}
    figures = compare(keras_out, changed(keras_out, "logits", 3, 3.0), top="logits")
    assert figures["max_probability_error"] < 1e-12 and not figures["ok"]


def test_a_few_samples_may_magnify_rounding_a_fault_moves_all():
    keras_out = answers()
    for rows, ok in ((9, True), (20, False)):
        tflite_out = {name: value.copy() for name, value in keras_out.items()}
        tflite_out["features"][:rows] += np.float32(5e-3)
        figures = compare(keras_out, tflite_out, top="logits", target="litert")
        assert figures["ok"] == ok
        assert figures["max_relative_error"] == pytest.approx(5e-3, rel=0.1)


def test_probabilities_are_compared_as_they_are():
    """The fused answer: a small probability that doubles is no error of 100 %."""
    p = np.tile([[0.9, 0.0999, 0.0001]], (COUNT, 1))
    q = np.tile([[0.9, 0.0998, 0.0002]], (COUNT, 1))
    figures = compare({"probabilities": p}, {"probabilities": q}, top="probabilities")
    assert figures["ok"] and figures["max_relative_error"] is None
    assert figures["p95_probability_error"] == pytest.approx(1e-4)

    q[5] = [0.6, 0.3999, 0.0001]  # the same answer, and much less sure
    assert not compare({"probabilities": p}, {"probabilities": q}, top="probabilities")["ok"]


def test_ties_are_counted_apart():
    keras_out = {"logits": np.array([[1.0, 2.0], [1.0, 1.0 + 1e-9], [3.0, 1.0]])}
    tflite_out = {"logits": np.array([[1.0, 2.0], [1.0 + 1e-9, 1.0], [0.0, 1.0]])}
    figures = compare(keras_out, tflite_out, top="logits")
    assert (figures["ties"], figures["differing_top1"], figures["ok"]) == (1, 1, False)


def test_one_sample_and_equal_answers_have_no_spread():
    for keras_out in ({"logits": np.array([[1.0, 2.0]])}, {"logits": np.ones((5, 3))}):
        same = {"logits": keras_out["logits"] * (1 + 1e-7)}
        assert compare(keras_out, same, top="logits")["ok"]
        assert not compare(keras_out, {"logits": keras_out["logits"] * 3}, top="logits")["ok"]
    assert compare({"logits": np.zeros((3, 2))}, {"logits": np.zeros((3, 2))}, top="logits")["ok"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("side", ["keras", "tflite"])
def test_numbers_that_are_none_are_no_parity(side, value):
    good = {"logits": np.array([[1.0, 2.0]])}
    bad = {"logits": np.array([[value, 2.0]])}
    pair = (bad, good) if side == "keras" else (good, bad)
    figures = compare(*pair, top="logits")
    assert not figures["ok"]
    assert figures["max_relative_error"] == float("inf")


def test_what_may_not_be_published_is_told_with_its_figures():
    from edvit_tf.errors import ExportError

    keras_out = answers()
    part = compare(keras_out, changed(keras_out, "features", 3, 3.0), top="logits")
    with pytest.raises(ExportError, match=r"submodel-03 .*features and logits .*No bundle"):
        check_parity({"parity": {"submodel-03": part}}, "portable")
