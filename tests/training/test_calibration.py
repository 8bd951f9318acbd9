"""Expected calibration error and the temperature, against figures worked out by hand; averaging as
a graph.
"""

import numpy as np
import pytest

from edvit_tf.evaluation.answers import losses
from edvit_tf.training.calibrate import (
    best_temperature,
    bound_of,
    calibration_figures,
    expected_calibration_error,
    tempered,
)


def test_calibration_error_by_hand():
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.35, 0.65], [0.65, 0.35]])
    # two answers of 0.9, one right: |1.8 - 1|; two of 0.65, both right: |1.3 - 2|
    assert expected_calibration_error(p, np.array([0, 1, 1, 0])) == pytest.approx((0.8 + 0.7) / 4)
    sure = np.eye(3)[[0, 1, 2]]
    assert expected_calibration_error(sure, np.array([0, 1, 2])) == 0
    assert calibration_figures(p, np.array([0, 1, 1, 0]))["nll"] == pytest.approx(
        -np.log([0.9, 0.1, 0.65, 0.65]).mean()
    )


def test_the_temperature_that_spoilt_probabilities_is_found_again():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 5))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(5, p=row) for row in p])
    for spoilt in (0.5, 1.0, 3.0):
        assert best_temperature(tempered(p, 1 / spoilt), labels) == pytest.approx(spoilt, rel=0.08)
    assert (
        calibration_figures(p, labels)["ece"]
        < 0.03
        < calibration_figures(tempered(p, 0.3), labels)["ece"]
    )
    assert (tempered(p, 4.0).argmax(axis=1) == p.argmax(axis=1)).all()


def test_few_samples_without_an_error_make_no_answer_surer():
    p = np.tile([0.6, 0.4], (90, 1))
    assert best_temperature(p, np.zeros(90, int)) == pytest.approx(1.0)
    assert (
        best_temperature(p, np.r_[np.ones(1, int), np.zeros(89, int)]) < 0.5
    )  # one error, and a bound is none


def test_the_temperature_is_chosen_by_recording():
    """One long recording, named wrongly in all its 200 windows, is one of eleven: by window it
    would decide alone, and by recording the ten short ones do.
    """
    p = np.concatenate([np.tile([0.9, 0.1], (10, 1)), np.tile([0.9, 0.1], (200, 1))])
    labels = np.r_[np.zeros(10, int), np.ones(200, int)]
    recordings = np.r_[np.arange(10), np.full(200, 10)]
    assert best_temperature(p, labels) == pytest.approx(10, rel=1e-3)  # by window, at the bound
    # 10 of 11 right at one probability: the likeliest is 10/11
    found = best_temperature(p, labels, recordings)
    assert tempered(p[:1], found)[0, 0] == pytest.approx(10 / 11, abs=1e-4)
    assert bound_of(best_temperature(p, labels), p, labels) == 10
    assert bound_of(found, p, labels) is None
    assert bound_of(best_temperature(p[:10], labels[:10]), p[:10], labels[:10]) == 1


def test_losses_are_all_subsets_of_a_small_fleet_and_a_seeded_sample_of_a_large_one():
    assert losses(1, 0) == []
    assert losses(3, 0) == [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)]
    assert len(losses(5, 0)) == 2**5 - 2
    many = losses(10, 0)
    sizes = np.bincount([len(gone) for gone in many], minlength=10)
    assert sizes.tolist() == [0] + [10] * 9 and len(set(many)) == len(many)
    assert many == losses(10, 0) and many != losses(10, 1)


def test_the_average_as_a_model_answers_as_the_numpy_one():
    from edvit_tf.training.fuse import average, build_average, cooled

    rng = np.random.default_rng(0)
    groups, widths, classes = [(0, 2), (1,), (3, 4)], (4, 3, 5), 5
    heads = [
        (rng.normal(size=(w, len(g) + 1)), rng.normal(size=len(g) + 1))
        for w, g in zip(widths, groups, strict=True)
    ]
    features = [rng.normal(size=(6, w)) for w in widths]
    model = build_average(widths, groups, classes)
    model.get_layer("average").set_weights([*(part for head in heads for part in head), np.ones(1)])
    logits = [x @ kernel + bias for x, (kernel, bias) in zip(features, heads, strict=True)]
    inputs = np.concatenate(features, axis=1).astype(np.float32)
    for present in ((1, 1, 1), (0, 1, 1), (0, 0, 1)):
        expected = average(
            [part if there else None for part, there in zip(logits, present, strict=True)],
            groups,
            classes,
        )
        out = model({"features": inputs, "present": np.tile(np.float32(present), (6, 1))})
        np.testing.assert_allclose(out, expected, atol=1e-5)
    weights = {v.path.split("/")[-1]: v for v in model.weights}
    assert set(weights) == {
        "temperature",
        *(f"{part}_{j:02d}" for part in ("kernel", "bias") for j in range(3)),
    }
    hot = cooled({f"average.{n}": np.asarray(v) for n, v in weights.items()}, 2.0)
    model.get_layer("average").set_weights(
        [hot[f"average.{v.path.split('/')[-1]}"] for v in model.weights]
    )
    out = model({"features": inputs, "present": np.ones((6, 3), np.float32)})
    np.testing.assert_allclose(out, tempered(average(logits, groups, classes), 2.0), atol=1e-5)
