"""What a stage's line says of its figures."""

from edvit_tf.pipeline.titles import figures


def test_views_say_what_those_that_were_taken_come_to():
    rows = [{"accuracy": 0.5}, {"accuracy": 0.75}, {"accuracy": 0.625}]
    found = {"views": [None, None, None], "validation": rows}
    assert figures({**found, "useful": 1}) == {"validation": 0.5}
    assert figures({**found, "useful": 2}) == {"validation": 0.75}


def test_a_result_without_such_a_figure_says_none():
    assert figures({"validation": {"window": 0.5}}) == figures({}) == {}
