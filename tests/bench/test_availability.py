"""Availability of planned fleets: the closed form against every choice there is, and the simulation
against the closed form; and the paper estimate for very many devices.
"""

import itertools
import json
import math
from pathlib import Path

import pytest

from edvit_tf.bench.availability import (
    bench_availability,
    by_chance,
    exact,
    placed,
    units_of,
)
from edvit_tf.bench.many import (
    ANSWER_MS,
    CPU_MS_A_WORKER,
    OUT_BYTES,
    PROBE_MS,
    RELAY_ANSWER_MS,
    estimate,
    estimate_text,
)
from edvit_tf.cli.main import main
from edvit_tf.errors import ConfigError

TRIALS = 2000
# Standard errors that a simulation may be off; the seeds are fixed.
ERRORS = 5


def near(simulated: float, chance: float) -> bool:
    spread = math.sqrt(chance * (1 - chance) / TRIALS)
    return abs(simulated - chance) <= ERRORS * spread + 1e-12


@pytest.mark.parametrize("devices, replicas", [(6, 1), (7, 2), (9, 3), (8, 4), (7, 3)])
def test_the_closed_form_counts_every_choice(devices, replicas):
    placement = placed(devices, replicas)
    # no device holds two, and what is left over holds none
    flat = [i for chosen in placement for i in chosen]
    assert len(set(flat)) == len(flat) == replicas * (devices // replicas)

    for failed in range(devices + 1):
        left = []
        for down in itertools.combinations(range(devices), failed):
            left.append(sum(not set(chosen) <= set(down) for chosen in placement))
        for least in range(len(placement) + 1):
            share = sum(covered >= least for covered in left) / len(left)
            found = exact(devices, len(placement), replicas, failed, least)
            assert found == pytest.approx(share, abs=1e-12)


def test_the_simulation_agrees_with_the_closed_form():
    rows = bench_availability((10, 100, 1000), (1, 2, 3), (1, 2, 5, 20), trials=TRIALS, seed=0)
    assert len(rows) == 9 + 2 * 12
    for row in rows:
        assert near(row.all_simulated, row.all_exact), row
        assert near(row.least_simulated, row.least_exact), row
        # as many down as there are copies lose one at the earliest
        assert (row.all_exact == 1) == (row.failed < row.replicas), row
    by = {(row.devices, row.replicas, row.failed): row for row in rows}
    # 2 of 10: one of nine others is the copy of what is down
    assert by[10, 2, 2].all_exact == pytest.approx(8 / 9)
    assert by[100, 1, 5].least_exact == 1 and by[100, 1, 20].least_exact == 0


def test_devices_that_are_down_by_chance():
    rows = by_chance((10, 100), (1, 2), 0.1, trials=TRIALS, seed=1)
    for row in rows:
        assert near(row.all_simulated, row.all_exact) and near(row.least_simulated, row.least_exact)
    assert rows[0].all_exact == pytest.approx(0.9**10)
    assert rows[1].all_exact == pytest.approx(0.99**5)
    with pytest.raises(ConfigError, match="p is 1.5; it is a share of the time"):
        by_chance((10,), (1,), 1.5)


def test_copies_in_one_rack_go_with_it_and_copies_apart_do_not():
    arguments = ((100,), (2,), (1, 2))
    together = bench_availability(*arguments, trials=200, rack=10)
    apart = bench_availability(*arguments, trials=200, rack=10, apart=True)
    assert [row.all_simulated for row in together] == [0, 0]
    assert apart[0].all_simulated == 1 and 0 < apart[1].all_simulated < 1
    assert {row.all_exact for row in (*together, *apart)} == {None}
    assert {row.racks for row in together} == {10}
    for units in (units_of(23, 5), units_of(23, 5, apart=True)):
        assert sorted(i for unit in units for i in unit) == list(range(23)) and len(units) == 5


def test_two_racks_of_a_hundred_as_the_page_of_faults_counts_them():
    rack_of = {}
    for rack, unit in enumerate(units_of(1000, 10, apart=True)):
        rack_of.update((int(device), rack) for device in unit)
    # a sub-model is lost where both racks of its copies are down
    pairs = {frozenset(rack_of[i] for i in copies) for copies in placed(1000, 2)}
    assert {len(pair) for pair in pairs} == {2} and len(pairs) == 50
    share = 1 - len(pairs) / math.comb(100, 2)
    page = (Path(__file__).parents[2] / "docs/figures/faults.md").read_text(encoding="utf-8")
    assert f"Two of a hundred leave {100 * share:.2f} % with two copies" in page

    (row,) = bench_availability((1000,), (2,), (2,), trials=TRIALS, rack=10, apart=True)
    assert near(row.all_simulated, share) and abs(row.all_simulated - share) < 0.005


def test_the_command_prints_both_tables(capsys):
    arguments = ["bench", "availability", "--devices", "10", "--trials", "50", "--p", "0.1"]
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    # of the failed devices that are asked for those that 10 can have
    assert {row["failed"] for row in result["failed"]} == {1, 2, 5}
    assert [row["p"] for row in result["chance"]] == [0.1] * 3
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "88.89" in text and "each down %" in text and "--min-submodels" in text
    assert main([*arguments, "--failed", "10"]) == 3
    assert "failed is (10,); it must be fewer than the devices" in capsys.readouterr().err
    assert main([*arguments, "--least", "0"]) == 3


def test_ten_thousand_devices_on_paper(capsys):
    flat = estimate(10_000)
    (level,) = flat.levels
    assert level.cpu_ms == pytest.approx(10_000 * CPU_MS_A_WORKER)
    assert flat.bytes_out == level.bytes_out == 10_000 * OUT_BYTES
    assert level.idle_ms == pytest.approx(10_000 * PROBE_MS)
    # a tree spreads what goes out, and every answer passes all of its levels
    tree = estimate(10_000, 100)
    assert [one.aggregators for one in tree.levels] == [1, 100]
    assert [one.asked for one in tree.levels] == [100, 100]
    top = tree.levels[0]
    assert top.answers == 10_000 and top.idle_ms == pytest.approx(100 * PROBE_MS)
    send_ms = CPU_MS_A_WORKER - ANSWER_MS
    assert top.cpu_ms == pytest.approx(100 * send_ms + 10_000 * ANSWER_MS)
    relays = 10_000 * (send_ms + RELAY_ANSWER_MS)
    assert tree.cpu_ms == pytest.approx(top.cpu_ms + relays)
    assert tree.bytes_out == 10_100 * OUT_BYTES
    assert tree.answers_a_link == pytest.approx(100 * flat.answers_a_link)
    # levels until one asks all; none asks more than it may
    deep = estimate(1234, 10)
    assert deep.levels[0].aggregators == 1 and all(one.asked <= 10 for one in deep.levels)
    assert [one.aggregators for one in deep.levels] == [1, 2, 13, 124]
    small = {"cpu_ms": 0.75, "answer_ms": 0.5, "relay_answer_ms": 1.0}
    arithmetic = estimate_text(estimate(10, 5, **small), **small)
    assert "level 0: 1 x asks 2: 2 x 0.25 + 10 x 0.5 = 5.5 ms of CPU" in arithmetic
    assert "level 1: 2 x asks 5: 5 x 0.25 + 5 x 1 = 6.2 ms of CPU" in arithmetic
    assert main(["bench", "many", "--fan-out", "100"]) == 0
    assert "on paper, nothing of this has run" in capsys.readouterr().out
    assert main(["bench", "many", "--fan-out", "1"]) == 3
    assert "fan_out is 1; it must be 2 or more" in capsys.readouterr().err


@pytest.mark.parametrize("cpu_ms", ["0", "-1", "nan", "inf"])
def test_cpu_that_is_no_time_is_refused_in_words(cpu_ms, capsys):
    with pytest.raises(SystemExit) as refused:
        main(["bench", "many", f"--cpu-ms={cpu_ms}"])
    assert refused.value.code == 2
    assert f"'{cpu_ms}' must be a number above 0" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="cpu_ms is .*; it must be a number of milliseconds"):
        estimate(10, cpu_ms=float(cpu_ms))


def test_an_answer_that_takes_more_than_all_is_refused(capsys):
    assert main(["bench", "many", "--cpu-ms", "0.5", "--answer-ms", "0.6"]) == 3
    assert "answer_ms is 0.6; it must be 0 to 0.5" in capsys.readouterr().err
