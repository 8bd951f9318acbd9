"""Mean pairwise disagreement, against pairs counted by hand."""

import numpy as np
import pytest

from edvit_tf.evaluation.disagreement import disagreement


def says(classes: list[int], count: int) -> np.ndarray:
    """Logits (n, count) whose largest are these."""
    return np.eye(count, dtype=np.float32)[classes]


def test_members_of_all_classes_are_counted_pair_by_pair():
    members = [says(one, 3) for one in ([0, 1, 2, 0], [0, 1, 2, 1], [0, 2, 1, 1])]
    # of four inputs the pairs differ on 1, 3 and 2
    assert disagreement(members, [(0, 1, 2)] * 3) == pytest.approx((1 + 3 + 2) / 12)


def test_members_that_are_the_same_never_differ():
    one = np.random.default_rng(0).normal(size=(20, 4))
    assert disagreement([one, one + 1.0, 2 * one], [range(4)] * 3) == 0.0


def test_of_a_class_split_two_claims_are_a_quarrel_and_other_is_none():
    # groups (2, 0) and (1,); the last column is "other"
    first = says([0, 1, 2, 2], 3)  # 2, 0, other, other
    second = says([0, 1, 0, 1], 2)  # 1, other, 1, other
    assert disagreement([first, second], [(2, 0), (1,)]) == 0.25


@pytest.mark.parametrize("members, inputs", [(1, 5), (0, 5), (2, 0)])
def test_without_a_pair_or_an_input_there_is_nothing_to_tell(members, inputs):
    assert disagreement([np.zeros((inputs, 2))] * members, [(0, 1)] * members) is None
