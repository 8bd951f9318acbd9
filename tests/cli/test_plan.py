"""`edvit plan` and `edvit bench plan` as a user calls them, and the recipes' planning options."""

import json
import re

import pytest

from edvit_tf.cli.main import main
from tests.support.commands import run_command


def planned(capsys, *arguments) -> dict:
    assert main(["plan", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_papers_plan_as_a_table(capsys):
    assert main(["plan", "--devices", "10", "--budget", "180MiB"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(
        line.split()[:6] == [f"submodel-{j:02d}", "2", "128", "512", "9.59", "484.0"]
        for j, line in enumerate(lines[1:11])
    )
    assert lines[11].startswith("total 95.92 MiB of float32 files at most (budget 180.00 MiB)")


def test_the_other_ways_to_use_the_devices_are_told_of(capsys):
    arguments = ("--devices", "10", "--budget", "180MiB")
    ways = {way["key"]: way for way in planned(capsys, *arguments)["ways"]}
    assert list(ways) == ["single", "copies", "classes", "joint", "base"]
    # ViT-Base: 16.85 G MACs; two heads of twelve 484 M
    assert ways["base"]["device_macs"] == pytest.approx(16.85e9, rel=1e-3)
    assert ways["classes"]["answers"] == pytest.approx(16850 / 484.0, rel=1e-3)
    assert ways["single"]["answers"] == pytest.approx(10 * ways["copies"]["answers"])
    assert ways["single"]["total_bytes"] == 10 * ways["single"]["device_bytes"] <= 180 * 2**20
    assert ways["base"]["answers"] == 10

    assert main(["plan", *arguments]) == 0
    text = capsys.readouterr().out
    assert (
        "the whole base on each" in text and "more than the one model, which is known once" in text
    )
    assert "docs/lab_book/training.md" in text


def test_replicas_answer_in_turns(capsys):
    two = planned(capsys, "--devices", "4", "--groups", "2", "--replicas", "2")["ways"][2]
    one = planned(capsys, "--devices", "2", "--groups", "2")["ways"][2]
    assert two["answers"] == 2 * one["answers"]


def test_copies_and_a_joint_fleet_have_replicas_too(capsys):
    arguments = ("--devices", "4", "--groups", "2", "--replicas", "2")
    ways = {way["key"]: way for way in planned(capsys, *arguments)["ways"]}
    alone = ways["single"]["answers"] / 4
    assert ways["copies"]["answers"] == ways["joint"]["answers"] == pytest.approx(2 * alone)
    # fewer members than devices: each is on several, asked for or not
    ways = {way["key"]: way for way in planned(capsys, *arguments[:4])["ways"]}
    assert ways["copies"]["answers"] == pytest.approx(ways["single"]["answers"] / 2)


def test_devices_without_room_for_the_one_model_do_not_count(capsys, tmp_path):
    path = tmp_path / "devices.toml"
    tables = [f'[[device]]\nname = "pi-{i}"\nmemory = "40 MiB"\n' for i in range(2)]
    path.write_text("".join(tables) + '[[device]]\nname = "tiny"\nmemory = "1 MiB"\n', "utf-8")
    arguments = ("--devices", str(path), "--groups", "2")
    ways = {way["key"]: way for way in planned(capsys, *arguments)["ways"]}
    single = ways["single"]
    assert (single["fits"], single["devices"]) == (2, 3)
    assert single["total_bytes"] == 2 * single["device_bytes"]
    assert single["answers"] == pytest.approx(
        2 * ways["base"]["device_macs"] / single["device_macs"]
    )
    assert (ways["base"]["fits"], ways["base"]["answers"]) == (0, 0)

    assert main(["plan", *arguments]) == 0
    assert "the one model fits 2 of 3 devices" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["copies", "joint", "auto"])
def test_a_fleet_of_models_of_all_classes_needs_no_class_a_device(capsys, kind):
    result = planned(capsys, "--devices", "12", "--fleet", kind)
    assert result["fleet"] == kind and len(result["sub_models"]) == 12
    # two heads of twelve, as a class split on twelve devices would have
    assert {(len(s["classes"]), s["kept"], *s["devices"]) for s in result["sub_models"]} == {
        (10, 2, f"device-{i:02d}") for i in range(12)
    }
    single = result["ways"][0]
    held = {(s["size_bytes"], s["macs"]) for s in result["sub_models"]}
    assert held == {(single["device_bytes"], single["device_macs"])}
    split = result["ways"][2]
    assert (split["fits"], split["devices"]) == (10, 12)

    assert main(["plan", "--devices", "12", "--fleet", kind]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"fleet: {kind}, of one model of all classes with 2 of 12 heads" in text
    assert "on 12 devices" in text and "idle:" not in text
    assert "the class split uses 10 of 12 devices" in text
    said = " ".join(result["decided_later"])
    assert said in text.replace("decided later: ", "")
    assert ("Which these are is not known yet" in said) == (kind != "joint")
    assert ("none is a replica unless" in said) == (kind == "joint")
    assert ("The one model is trained first" in said) == (kind == "auto")


def test_devices_that_the_budget_leaves_without_a_copy_are_idle(capsys):
    # four class groups of one head fit; a copy names all ten classes and is larger by those
    assert main(["plan", "--devices", "4", "--fleet", "copies", "--budget", "10.82MB"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "idle: device-03" in text
    assert "on 3 devices (no room for it on the others, or in the budget)" in text


def test_one_device_holds_all_classes_whatever_fleet_is_asked_for(capsys):
    result = planned(capsys, "--devices", "1", "--fleet", "copies")
    assert result["decided_later"] == [] and result["sub_models"][0]["kept"] == 12
    assert main(["plan", "--devices", "1", "--fleet", "copies"]) == 0
    assert "fleet: classes, as planned above: there is one device" in capsys.readouterr().out


@pytest.mark.parametrize("fleet", ["classes", "copies", "joint", "auto"])
def test_no_line_of_a_plan_is_long(capsys, fleet):
    """Of hundreds of classes a row has how many and the first few; JSON has all."""
    arguments = ("--devices", "10", "--classes", "242", "--replicas", "5", "--fleet", fleet)
    result = planned(capsys, *arguments)
    assert sorted({c for s in result["sub_models"] for c in s["classes"]}) == list(range(242))
    assert main(["plan", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 118
    if fleet == "classes":
        assert re.search(
            r"5 devices: device-00, .*, \.\.\. +25 classes: \d+, .*, \.\.\.$", lines[1]
        )


def test_kept_heads_are_planned_by_their_own_widths(capsys):
    """12 heads of 64 // 6 = 10 values each: an attention of 120, where two merged heads have
    128.
    """
    keep = planned(capsys, "--devices", "10", "--budget", "180MiB", "--cut-heads", "keep")[
        "sub_models"
    ][0]
    merge = planned(capsys, "--devices", "10", "--budget", "180MiB")["sub_models"][0]
    assert (keep["config"]["num_heads"], keep["config"]["head_dim"]) == (12, 10)
    assert (merge["config"]["num_heads"], merge["config"]["head_dim"]) == (2, 64)
    assert (
        keep["size_bytes"] < merge["size_bytes"]
        and keep["config"]["mlp_dim"] == merge["config"]["mlp_dim"]
    )


def test_heterogeneous_devices_of_a_file(capsys, tmp_path):
    path = tmp_path / "devices.toml"
    small = "".join(
        f'[[device]]\nname = "small-{i}"\nmemory = "11 MiB"\nreserve = "1 MiB"\n'
        'compute = "0.5 GMAC"\n'
        for i in range(9)
    )
    path.write_text(
        small + '[[device]]\nname = "big"\nmemory = "30 MiB"\ncompute = "1.6 GMAC"\n', "utf-8"
    )
    arguments = ("--devices", str(path), "--budget", "180MiB")
    result = planned(capsys, *arguments)
    assert len({s["devices"][0] for s in result["sub_models"]}) == 10
    assert [(way["fits"], way["devices"]) for way in result["ways"]][::4] == [(10, 10), (0, 10)]
    assert planned(capsys, *arguments, "--spread") == result

    paper = (*arguments, "--assignment", "greedy")
    assert main(["plan", *paper, "--json"]) == 0
    shown = capsys.readouterr()
    held = [s["devices"] for s in json.loads(shown.out)["sub_models"]]
    assert held.count(["big"]) == 3
    assert shown.err.startswith("WARNING: small-7, small-8 idle while big holds 3 sub-models")
    assert main(["plan", *paper]) == 0
    shown = capsys.readouterr().out
    assert "\nidle: small-7, small-8\nWARNING: small-7" in shown
    assert "the whole base fits 0 of 10 devices" in shown


def test_groups_replicas_and_flavour(capsys):
    result = planned(
        capsys,
        "--devices",
        "4",
        "--groups",
        "6",
        "--classes",
        "12",
        "--replicas",
        "2",
        "--flavour",
        "int8",
    )
    assert (
        len(result["sub_models"]) == 6 and result["flavour"] == "int8" and result["replicas"] == 2
    )
    assert all(len(set(s["devices"])) == 2 for s in result["sub_models"])
    assert len(planned(capsys, "--devices", "12", "--groups", "10")["sub_models"]) == 10
    wide = planned(capsys, "--devices", "10", "--start-heads", "3")
    assert {s["kept"] for s in wide["sub_models"]} == {3}


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (
            ("--strategy", "similar"),
            5,
            "strategy is 'similar'.*confusions of a trained base.*recipe",
        ),
        (("--devices", "2", "--replicas", "3"), 5, "2 for 3 replicas"),
        (("--groups", "11"), 5, "11 groups .* 10 classes"),
        (("--devices", "11"), 5, "11 groups .* 10 classes.*--groups.*--fleet copies or joint"),
        (("--groups", "0"), 3, "num_groups is 0.*at least 1"),
        (("--start-heads", "13"), 3, "start_heads is 13.*12 heads"),
        (("--budget", "1MB"), 5, "budget: they take .* Give a budget of"),
        (("--budget", "1 megabyte"), 3, "KiB"),
    ],
)
def test_what_cannot_be_is_said(capsys, arguments, code, message):
    assert main(["plan", *arguments]) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert re.search(message, error), error


def test_bench_plan_counts_every_instance(capsys):
    small = [
        "bench",
        "plan",
        "--sub-models",
        "20",
        "--devices",
        "20",
        "--runs",
        "2",
        "--instances",
        "12",
    ]
    assert main([*small, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    gap = result["gap"]
    assert gap["both"] + gap["optimal_only"] == 12 and gap["equal"] <= gap["both"]
    assert 0 <= gap["median"] <= gap["worst"] <= 1 and 0 <= gap["mean"] <= gap["worst"]
    assert all(
        row["placed"] and 0 < row["min"] <= row["median"] <= row["max"]
        for row in result["scale"].values()
    )
    assert main(small) == 0
    text = capsys.readouterr().out
    assert (
        "20 sub-models on 20 devices" in text and "12 random instances" in text and "worst" in text
    )
    assert main(["bench", "plan", "--instances", "0"]) == 3
    assert "instances is 0" in capsys.readouterr().err


def test_bench_instances_come_from_the_seed_alone():
    from edvit_tf.bench.plan import bench_plan

    one, two, other = (bench_plan(5, 5, 1, 10, seed)["gap"] for seed in (3, 3, 4))
    for gap in (one, two, other):
        del gap["seconds"]
    assert one == two != other


def test_a_recipe_plans_as_its_options_say():
    options = "--devices 4 --groups 5 --replicas 2 --samples 3 --assignment optimal"
    options += " --strategy similar --budget 400MiB --other-weight 1.5 --start-heads 4"
    code, out, err = run_command(
        ["recipes/gtzan.py", "--dry-run", "--profile", "paper", *options.split()]
    )
    assert code == 0, err
    assert len(re.findall(r"^submodel-\d\d +4 +256 .*device-", out, re.M)) == 5
    rows = [line for line in out.splitlines() if line.startswith("submodel-") and "device-" in line]
    assert len(rows) == 5 and all(row.count("device-") == 2 for row in rows)
    assert "2 copies of each (budget 400.00 MiB)" in out and "assignment: optimal" in out
    assert "'other_weight': 1.5" in out

    code, _, err = run_command(
        ["recipes/gtzan.py", "--dry-run", "--devices", "2", "--replicas", "3"]
    )
    assert code == 5 and "2 for 3 replicas" in err


def test_the_former_name_of_cut_heads_still_works_and_says_so():
    new = run_command(["plan", "--cut-heads", "keep"])
    old = run_command(["plan", "--heads", "keep"])
    assert new == (0, new[1], "") and old[:2] == new[:2]
    assert old[2] == "note: --heads is called --cut-heads now; the old name still works here.\n"
