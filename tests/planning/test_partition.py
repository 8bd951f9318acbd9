"""Class groups: balanced, complete, deterministic, and sensitive to the similarity."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edvit_tf.config import STRATEGIES
from edvit_tf.errors import PlanError
from edvit_tf.planning.partition import partition


@settings(deadline=None)  # a busy machine is not slow code
@given(
    st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))),
    st.sampled_from(STRATEGIES),
    st.integers(0, 2**31),
)
def test_groups_are_balanced_sorted_and_hold_each_class_once(counts, strategy, seed):
    num_classes, num_groups = counts
    similarity = np.random.default_rng(seed).random((num_classes, num_classes))
    groups = partition(num_classes, num_groups, strategy, seed, similarity)
    assert sorted(c for group in groups for c in group) == list(range(num_classes))
    assert len(groups) == num_groups
    assert max(map(len, groups)) - min(map(len, groups)) <= 1
    assert all(group == tuple(sorted(group)) for group in groups)
    assert all(type(c) is int for group in groups for c in group)
    assert groups == partition(num_classes, num_groups, strategy, seed, similarity)


def test_the_seed_changes_random_groups():
    assert len({partition(10, 5, seed=seed) for seed in range(5)}) > 1


def test_similar_finds_blocks_and_dissimilar_breaks_them():
    block = np.arange(9) % 3  # classes 0, 3, 6 resemble each other, and so on
    similarity = (block[:, None] == block[None]).astype(float)
    assert set(partition(9, 3, "similar", similarity=similarity)) == {
        (0, 3, 6),
        (1, 4, 7),
        (2, 5, 8),
    }
    for group in partition(9, 3, "dissimilar", similarity=similarity):
        assert sorted(block[list(group)]) == [0, 1, 2]


def test_similarity_is_symmetrised_and_its_diagonal_ignored():
    confusions = np.diag([1e6, 0.0, 0.0, 1e6])
    confusions[0, 2], confusions[3, 1] = 5.0, 5.0  # one direction only
    assert set(partition(4, 2, "similar", similarity=confusions)) == {(0, 2), (1, 3)}


@pytest.mark.parametrize("num_groups", [0, -1, 11])
def test_a_number_of_groups_out_of_range_is_named(num_groups):
    with pytest.raises(PlanError, match=rf"{num_groups} groups .* 10 classes.*1 to 10 groups"):
        partition(10, num_groups)


@pytest.mark.parametrize(
    "strategy, similarity, message",
    [
        ("alphabetic", None, "'alphabetic'.*random, similar, dissimilar"),
        ("similar", None, r"no similarity.*\(3, 3\)"),
        ("dissimilar", np.ones((2, 3)), r"shape \(2, 3\).*\(3, 3\)"),
        ("similar", [[0, 1, 2], [1, 0, float("nan")], [2, 1, 0]], r"similarity\[1, 2\] is nan"),
    ],
)
def test_a_wrong_strategy_or_similarity_is_named(strategy, similarity, message):
    with pytest.raises(PlanError, match=message):
        partition(3, 2, strategy, similarity=similarity)
