"""`edvit bench views`: a row for each kind of input and each view, in figures that add up."""

import json

from tests.support.commands import run_command


def test_every_kind_of_input_has_every_view():
    code, out, err = run_command(["bench", "views", "--size", "40", "--runs", "30", "--json"])
    assert code == 0, err
    rows = json.loads(out)
    assert len({(row["input"], row["view"]) for row in rows}) == len(rows) == 15
    for row in rows:
        assert 0 < row["least_ms"] <= row["median_ms"] <= row["p95_ms"]

    # to be left as it is costs least of all
    by_view = {row["view"]: row["least_ms"] for row in rows if row["input"] == rows[0]["input"]}
    assert min(by_view, key=by_view.__getitem__) == "as it is"


def test_the_table_has_a_line_a_row():
    code, out, _ = run_command(["bench", "views", "--size", "40", "--runs", "1"])
    assert code == 0 and len(out.splitlines()) == 16
    assert "down 2, right 2, mirrored, crop 2" in out


def test_an_input_of_which_nothing_can_be_cut_is_refused():
    code, _, err = run_command(["bench", "views", "--size", "18"])
    assert code == 3 and "--size is 18; give 19 or more" in err
