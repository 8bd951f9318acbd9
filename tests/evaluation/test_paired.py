"""Two models on the same recordings: McNemar's test and the paired interval against figures worked
out by hand and by scipy; the three states; predictions.npz.
"""

import zipfile

import numpy as np
import pytest

from edvit_tf.device.errors import BundleError
from edvit_tf.evaluation.paired import mcnemar, paired, paired_interval
from edvit_tf.evaluation.predictions import Predictions, stored_probabilities, stored_top1
from edvit_tf.report.entries import BETTER, LEVEL, WORSE, Comparison


def test_mcnemar_is_a_fair_coins_two_tails():
    assert mcnemar(0, 6) == mcnemar(6, 0) == 2 / 2**6
    assert mcnemar(1, 5) == 2 * (1 + 6) / 2**6
    assert mcnemar(0, 0) == mcnemar(4, 4) == 1
    assert mcnemar(4000, 4200) == pytest.approx(0.0279, abs=2e-4)  # where factorials overflow


@pytest.mark.parametrize("counts", [(3, 9), (17, 40), (250, 300)])
def test_mcnemar_is_scipys_binomial_test(counts):
    from scipy.stats import binomtest

    assert mcnemar(*counts) == pytest.approx(binomtest(counts[0], sum(counts)).pvalue, rel=1e-9)


def test_the_interval_by_hand_and_without_any_discordance():
    # (11/102 - 4/102) -+ 1.96 sqrt((15/102 - (7/102)^2) / 102)
    low, high = paired_interval(10, 3, 100)
    assert (low, high) == pytest.approx((-0.00459, 0.14185), abs=1e-5)
    # Equal answers to ten recordings are no proof of equal models.
    low, high = paired_interval(0, 0, 10)
    assert low == -high and 0.2 < high < 0.3
    assert paired_interval(0, 0, 0) == (-1, 1)


def test_what_the_exact_test_calls_sure_is_outside_the_interval_too():
    for count in (50, 300):
        for more in range(50):
            for fewer in range(min(more, 50 - more) + 1):
                if mcnemar(more, fewer) < 0.05:
                    assert paired_interval(more, fewer, count)[0] > 0, (more, fewer)


def test_a_small_difference_that_is_always_on_one_side_is_told_where_accuracies_would_not():
    """66 against 60 of 100: as independent samples nothing, by recording six to none."""
    from edvit_tf.report.figures import difference

    labels = np.zeros(100, int)
    fleet = np.where(np.arange(100) < 66, 0, 1)
    single = np.where(np.arange(100) < 60, 0, 1)
    found = paired(fleet, single, labels)
    assert (found["first_only"], found["second_only"]) == (6, 0)
    assert found["difference"] == pytest.approx(0.06) and found["p_value"] == 0.03125
    assert Comparison(**found).state == BETTER
    assert Comparison(**paired(single, fleet, labels)).state == WORSE

    low, high = difference(0.66, 0.60, 100)
    assert low < 0 < high
    assert Comparison(100, 0.06, low, high).state == LEVEL
    assert Comparison(**paired(fleet, fleet, labels)).state == LEVEL


def test_answers_are_stored_by_recording(tmp_path):
    """Three recordings, the second of three windows: their mean, in the order of the split."""
    labels = np.array([1, 0, 0, 0, 1])
    recordings = np.array([4, 7, 7, 7, 9])
    fused = np.array([[0.2, 0.8], [0.1, 0.9], [0.9, 0.1], [0.8, 0.2], [0.6, 0.4]])
    predictions = Predictions(labels, recordings)
    predictions.add("fused", fused)
    predictions.add("single", fused[:, ::-1])
    found = predictions.comparisons()
    assert list(found) == ["single"]
    assert (found["single"]["first_only"], found["single"]["second_only"]) == (2, 1)

    ids = [f"track-{i}" for i in range(12)]
    told = predictions.store(tmp_path, ids)
    assert (tmp_path / told["file"]).stat().st_size == told["bytes"]
    with np.load(tmp_path / "predictions.npz", allow_pickle=False) as stored:
        assert stored["ids"].tolist() == ["track-4", "track-7", "track-9"]
        assert stored["labels"].tolist() == [1, 0, 1]
        assert stored["fused_top1"].tolist() == [1, 0, 0]
        assert stored["single_top1"].tolist() == [0, 1, 1]
        np.testing.assert_allclose(
            stored["fused_probabilities"], [[0.2, 0.8], [0.6, 0.4], [0.6, 0.4]], rtol=1e-6
        )

    predictions.store(tmp_path, None)  # a split whose ids follow a rule
    with np.load(tmp_path / "predictions.npz", allow_pickle=False) as stored:
        assert "ids" not in stored.files and stored["recordings"].tolist() == [4, 7, 9]


def test_a_damaged_file_of_answers_is_one_error(tmp_path):
    header = b"\x93NUMPY\x01\x00\x10\x00" + b"{'descr': (((((("
    with zipfile.ZipFile(tmp_path / "predictions.npz", "w") as archive:
        for name in ("labels", "fused_top1", "fused_probabilities"):
            archive.writestr(f"{name}.npy", header)
    with pytest.raises(BundleError, match="predictions.npz cannot be read"):
        stored_top1(tmp_path)
    with pytest.raises(BundleError, match="predictions.npz has no answers of fused"):
        stored_probabilities(tmp_path, "fused")

    # compressed bytes that are none
    np.savez_compressed(tmp_path / "predictions.npz", labels=np.arange(1000))
    whole = bytearray((tmp_path / "predictions.npz").read_bytes())
    start = whole.index(b"labels.npy") + len("labels.npy") + 20
    whole[start : start + 40] = b"\xff" * 40
    (tmp_path / "predictions.npz").write_bytes(whole)
    with pytest.raises(BundleError, match="predictions.npz cannot be read"):
        stored_top1(tmp_path)
