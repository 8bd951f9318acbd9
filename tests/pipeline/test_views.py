"""Views are chosen by what the mean of one model's answers gains by each."""

from types import SimpleNamespace

import numpy as np
import pytest

from edvit_tf.device.model.view import AS_IT_IS, View
from edvit_tf.pipeline.stage import Run
from edvit_tf.pipeline.views import Seen, candidates, good_alone, greedy, seen, useful

ONE = np.arange(40)  # each window a recording of its own


def answers(right: list[set[int]], sure: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (V, 40, 2) that name class 0 for the windows in `right[v]`, surely, and else
    class 1, hardly; and labels, all 0.
    """
    p = np.full((len(right), 40), 0.45)
    for v, windows in enumerate(right):
        p[v, list(windows)] = sure
    return np.stack([p, 1 - p], axis=-1), np.zeros(40, int)


def test_the_next_view_is_the_one_that_adds_most():
    low, high, most = set(range(10)), set(range(10, 20)), set(range(25))
    p, labels = answers([low, low, high, most])
    chosen, figures = greedy(p, labels, ONE, most=3)
    assert chosen[0] == 0 and chosen[1] == 3  # the first view stays the input as it is
    assert [one["devices"] for one in figures] == [1, 2, 3]
    assert figures[0]["accuracy"] == 10 / 40 and figures[1]["accuracy"] == 25 / 40
    assert figures[1]["nll"] < figures[0]["nll"]


def test_there_are_no_more_views_than_candidates_and_fewer_are_taken_of_equals():
    p, labels = answers([set(range(30))] * 3)
    chosen, figures = greedy(p, labels, ONE, most=10)
    assert chosen == [0, 1, 2] and useful(figures) == 1
    rows = [{"accuracy": a, "p_value": 0.01} for a in (0.5, 0.7, 0.7)]
    assert useful([{"devices": n + 1} | row for n, row in enumerate(rows)]) == 2


def test_a_gain_that_may_be_luck_is_not_worth_a_device():
    """Of 40 recordings: two more are chance, ten more are not."""
    low = set(range(10))
    for more, taken, chance in ((2, 1, 0.5), (10, 2, 2 / 2**10)):
        p, labels = answers([low, low | set(range(10, 10 + more))])
        chosen, figures = greedy(p, labels, ONE, most=2)
        assert chosen == [0, 1] and figures[1]["accuracy"] == (10 + more) / 40
        assert figures[1]["p_value"] == chance and useful(figures) == taken


def test_a_view_that_is_poor_alone_is_not_offered():
    """Of a hundred recordings the first view names all, the second one 96, the third one 60."""
    labels = np.arange(100) % 2
    p = np.stack([np.eye(2)[labels]] * 3)
    p[1, :4] = 1 - p[1, :4]
    p[2, :40] = 1 - p[2, :40]
    assert good_alone(p, labels, np.arange(100)) == [0, 1]


def test_windows_of_a_recording_are_one_answer():
    p, labels = answers([{0, 1, 2}, {3}], sure=0.99)
    _, figures = greedy(p, labels, ONE // 4, most=2)
    assert [one["accuracy"] for one in figures] == [1 / 10, 1 / 10]


def test_candidates_suit_the_input():
    pictures = candidates((98, 98, 3), is_picture=True)
    assert pictures[0] == AS_IT_IS and len(set(pictures)) == len(pictures) == 28
    # what was measured on CIFAR-10: flips, shifts of 5 and 7 of 98 pixels, a crop of 5
    assert {View(0, 7), View(-7, 0, True), View(5, -5, True), View(crop=5)} <= set(pictures)

    sounds = candidates((64, 101, 1), is_picture=False)
    assert sounds[0] == AS_IT_IS and not any(one.mirrored or one.crop for one in sounds)
    assert {abs(one.down) for one in sounds} == {0, 1, 2} and View(0, 8) in sounds
    # what leaves nothing to see is no candidate
    assert all(abs(one.down) < 2 for one in candidates((2, 40, 1), is_picture=False))


def test_inputs_are_seen_slice_by_slice_without_being_copied_whole():
    x = np.random.default_rng(0).integers(0, 256, (7, 6, 5, 2)).astype(np.uint8)
    view = View(down=1, mirrored=True)
    assert seen(x, AS_IT_IS) is x
    lazy = seen(x, view)
    assert isinstance(lazy, Seen) and (lazy.shape, lazy.dtype, len(lazy)) == (x.shape, x.dtype, 7)
    np.testing.assert_array_equal(lazy[2:5], view.applied(x)[2:5])
    np.testing.assert_array_equal(lazy[np.array([6, 0])], view.applied(x)[[6, 0]])


@pytest.mark.parametrize("useful, ways", [(1, {"plain"}), (2, {"plain", "views"})])
def test_a_class_split_of_one_useful_view_is_one_without_views(useful, ways):
    other = View(mirrored=True)
    chosen = {"views": [AS_IT_IS.to_dict(), other.to_dict()], "useful": useful}
    run = Run(
        SimpleNamespace(result=lambda _: chosen), SimpleNamespace(views="auto", fusion="tower")
    )
    vars(run).update(
        kind="classes",
        splits_classes=True,
        sub_models=(1, 2, 3),
        members=(SimpleNamespace(kind="single"),),
    )
    # as many features and fits of the fusion as there are ways
    assert set(run.tried_views) == ways
    assert set(run.tried_views["plain"]) == {AS_IT_IS}
