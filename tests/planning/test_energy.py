"""Joules: the published table, what it makes of a plan, and Eq. 1 in joules."""

import itertools
import json
from dataclasses import replace
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edvit_tf.cli.main import main
from edvit_tf.config import DeviceSpec
from edvit_tf.errors import ConfigError, PlanError
from edvit_tf.models import costs, preset
from edvit_tf.planning import optimal
from edvit_tf.planning.assign import place
from edvit_tf.planning.boards import Range, board_of, boards
from edvit_tf.planning.devices import load_devices
from edvit_tf.planning.energy import joules_of, moved_bytes, spent
from edvit_tf.planning.explain import explain
from edvit_tf.planning.placement import Joules, Problem, holders, make_problem, remaining
from edvit_tf.planning.plan import plan

BASE = preset("vit_base", (224, 224, 3), 10)


def test_every_figure_has_a_source_and_a_date():
    assert list(boards()) == ["pi3b+", "pi4b", "pi5", "zero2w"]
    for board in boards().values():
        for one in (*board.power, *board.speed, *([board.wifi] if board.wifi else [])):
            assert one.source.startswith("https://") and one.date[:2] == "20"
        for power in board.power:
            assert 0 < power.idle < power.loaded
        # the spread of sources is told, and the estimate is inside
        for found in (board.idle_watts, board.working_watts, board.macs_per_second):
            assert 0 < found.low <= found.middle <= found.high


def test_the_published_vit_is_counted_as_ours_are():
    macs = costs(preset("vit_base", (384, 384, 3), 1000, patch_size=32))["macs_full"]
    assert {s.macs for b in boards().values() for s in b.speed if "ViT" in s.said} == {macs}


def test_joules_are_watts_times_seconds():
    device = DeviceSpec("a", board="pi4b")
    found = spent(device, [BASE])
    macs = costs(BASE)["macs_full"]
    assert found.seconds.middle == pytest.approx(macs / board_of("pi4b").macs_per_second.middle)
    # the fastest source and the least watts make the least joules
    assert found.computing_joules.low == pytest.approx(3.06 * macs / (569e6 / 0.06117))
    assert found.computing_joules.high == pytest.approx(3.7 * found.seconds.high)
    assert found.network_joules == pytest.approx(moved_bytes(BASE) * 8 / 108e6 * 3.7)
    assert moved_bytes(BASE) == 224 * 224 * 3 + 4 * 768

    # a measured speed takes the place of the published one, and has no range
    own = spent(device.replace(macs_per_second=10**10), [BASE])
    assert own.seconds == Range(macs / 1e10, macs / 1e10, macs / 1e10)
    # two sub-models on one device: one after the other
    assert spent(device, [BASE, BASE]).seconds.middle == pytest.approx(2 * found.seconds.middle)

    assert spent(DeviceSpec("a"), [BASE]) is None
    assert spent(DeviceSpec("a", board="zero2w"), [BASE]).network_joules is None
    with pytest.raises(ConfigError, match="no board 'pi9'; .* are: pi3b"):
        spent(DeviceSpec("a", board="pi9"), [BASE])


def test_devices_name_their_board_speed_and_energy(tmp_path):
    path = tmp_path / "devices.toml"
    path.write_text(
        '[[device]]\nname = "a"\nboard = "pi5"\nspeed = "20 GMAC"\nenergy = "2 Wh"\n', "utf-8"
    )
    (spec,) = load_devices(path)
    assert (spec.board, spec.macs_per_second, spec.energy_joules) == ("pi5", 20 * 10**9, 7200)
    for line, said in (
        ('board = "pi6"', "board is 'pi6'; those with published figures are: pi3b"),
        ("energy = 20", 'energy is 20; it must be a string with a unit, such as "20 kJ"'),
        ('energy = "0 J"', "energy is '0 J'; it must be positive"),
        ('speed = "fast"', "speed is 'fast'; it must be a number and a unit"),
    ):
        path.write_text(f'[[device]]\nname = "a"\n{line}\n', "utf-8")
        with pytest.raises(ConfigError) as error:
            load_devices(path)
        assert said in str(error.value)


# Two devices that may spend as many MACs, of which one takes twice the joules for each.
UNLIKE = [DeviceSpec("thirsty", board="pi3b+"), DeviceSpec("frugal", board="pi5")]


@pytest.mark.parametrize(
    "assignment, count, by_macs, by_joules",
    [("greedy", 5, [3, 2], [2, 3]), ("optimal", 4, [2, 2], [1, 3])],
)
def test_joules_and_macs_place_differently(assignment, count, by_macs, by_joules):
    groups = [(j,) for j in range(count)]
    for objective, expected in (("macs", by_macs), ("joules", by_joules)):
        made = plan(BASE, groups, UNLIKE, assignment=assignment, objective=objective)
        assert [len(made.held_by(device.name)) for device in UNLIKE] == expected
        assert made.objective == objective


def test_a_limit_in_joules_holds_and_says_what_is_short():
    groups, devices = [(j,) for j in range(4)], list(UNLIKE)
    one = spent(devices[0], [BASE.pruned(3, 2)]).computing_joules.middle
    devices[0] = devices[0].replace(energy_joules=0.9 * one)
    made = plan(BASE, groups, devices, objective="joules")
    assert not made.held_by("thirsty") and made.idle == ("thirsty",)

    both = [device.replace(energy_joules=1e-6) for device in devices]
    with pytest.raises(PlanError, match=r"energy: sub-model 0 needs .* J on frugal, which may"):
        plan(BASE, groups, both, objective="joules")
    with pytest.raises(PlanError, match="thirsty may spend .* J, which objective 'macs' does not"):
        plan(BASE, groups, devices)
    with pytest.raises(PlanError, match="nothing says what b draws; each device needs a board of"):
        plan(BASE, groups, [devices[0], DeviceSpec("b")], objective="joules")


def test_where_all_together_take_too_much_the_nearest_device_is_named():
    problem = Problem((1,) * 3, (1,) * 3, (DeviceSpec("a"), DeviceSpec("b")), 1)
    problem = problem._replace(joules=Joules((10**12,) * 3, (1, 2), (10**12, 2 * 10**12)))
    assert place(problem, "greedy") is None
    assert "energy: it needs" in explain(problem, "greedy")


small = st.fixed_dictionaries(
    {
        "subs": st.lists(
            st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
            min_size=1,
            max_size=4,
        ),
        "devices": st.lists(
            st.tuples(
                st.none() | st.integers(1, 20),  # bytes
                st.none() | st.integers(1, 20),  # MACs
                st.none() | st.integers(1, 60),  # picojoules
                st.integers(1, 6),  # picojoules a MAC
            ),
            min_size=1,
            max_size=3,
        ),
        "replicas": st.integers(1, 2),
    }
)


def drawn(values) -> Problem | None:
    sizes, macs, work = zip(*values["subs"], strict=True)
    devices = [DeviceSpec(f"d{i}", m, c) for i, (m, c, _, _) in enumerate(values["devices"])]
    if values["replicas"] > len(devices):
        return None
    limits = tuple(limit for _, _, limit, _ in values["devices"])
    per_mac = tuple(weight for _, _, _, weight in values["devices"])
    joules = Joules(work, per_mac, limits)
    return make_problem(sizes, macs, devices, replicas=values["replicas"], joules=joules)


def holds(problem: Problem, placement) -> bool:
    for i, device in enumerate(problem.devices):
        held = [j for j, chosen in enumerate(placement) if i in chosen]
        for limit, taken in (
            (device.usable_bytes, sum(problem.sizes[j] for j in held)),
            (device.compute_macs, sum(problem.demands[j] for j in held)),
            (problem.joules.limits[i], sum(problem.spent(j, i) for j in held)),
        ):
            if limit is not None and taken > limit:
                return False
    return True


@settings(max_examples=40, deadline=None, derandomize=True)
@given(small)
def test_the_solver_finds_what_exhaustive_search_finds_in_joules(values):
    problem = drawn(values)
    if problem is None:
        return
    choices = list(itertools.combinations(range(len(problem.devices)), problem.replicas))
    placements = itertools.product(choices, repeat=len(problem.sizes))
    best = max((remaining(problem, one) for one in placements if holds(problem, one)), default=None)
    # a machine that stands still for seconds is not to end the search
    with patch.multiple(optimal, SECONDS=600.0, LATER_SECONDS=600.0):
        found = place(problem, "optimal")
    assert (found is None) == (best is None)
    if found is not None:
        assert holds(problem, found) and remaining(problem, found) == best
        assert holders(problem)
    quick = place(problem, "greedy")
    if quick is not None:
        assert holds(problem, quick) and remaining(problem, quick) <= best


def test_samples_multiply_what_is_spent():
    one = joules_of([BASE], [DeviceSpec("a", board="pi4b")], 1)
    assert joules_of([BASE], [DeviceSpec("a", board="pi4b")], 7).work == (7 * one.work[0],)


def test_a_plan_tells_joules_where_a_board_is_named(capsys):
    assert main(["plan", "--devices", "3", "--json"]) == 0
    assert "energy" not in json.loads(capsys.readouterr().out)
    assert main(["plan", "--devices", "3", "--board", "pi4b", "--json"]) == 0
    energy = json.loads(capsys.readouterr().out)["energy"]
    assert [one["board"] for one in energy["devices"]] == ["pi4b"] * 3
    each = [one["spent"]["computing_joules"]["middle"] for one in energy["devices"]]
    assert energy["computing_joules"]["middle"] == pytest.approx(sum(each))
    assert main(["plan", "--devices", "3", "--board", "zero2w"]) == 0
    text = capsys.readouterr().out
    assert "Raspberry Pi Zero 2 W" in text and "nobody has put a meter on a Pi" in text
    assert main(["plan", "--board", "pi9"]) == 3
    assert "there is no board 'pi9'" in capsys.readouterr().err


@pytest.mark.parametrize("objective, what", [("macs", "compute"), ("joules", "energy")])
def test_a_warning_says_what_optimal_leaves(objective, what):
    devices = [DeviceSpec("a", board="pi4b"), DeviceSpec("b", board="pi4b")]
    made = plan(BASE, [(0, 1), (2, 3)], devices, objective=objective)
    on_one = tuple(replace(sub, devices=("a",)) for sub in made.sub_models)
    warning = replace(made, sub_models=on_one, assignment="optimal").warning
    assert warning.startswith("WARNING: b idle while a holds 2 sub-models: that leaves most ")
    assert f"most {what} where there is least" in warning


def test_old_plans_are_in_macs():
    made = plan(BASE, [(0, 1), (2, 3)], [DeviceSpec("a"), DeviceSpec("b")])
    values = made.to_dict()
    del values["objective"]
    for device in values["devices"]:
        for name in ("board", "macs_per_second", "energy_joules"):
            del device[name]
    assert type(made).from_dict(values) == made == replace(made, objective="macs")
