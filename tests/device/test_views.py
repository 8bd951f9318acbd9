"""Views where a sub-model runs."""

from pathlib import Path

from tests.support.own_process import passes_alone


def test_views_where_a_sub_model_runs():
    passes_alone(Path(__file__).with_name("views_in_their_process.py"))
