"""What each machine is given, by what was seen of it; every word quoted for the other shell."""

import argparse
import dataclasses
import json
import shlex
import shutil
import subprocess
import time

import pytest

from edvit_tf.cli.deploy import _next
from edvit_tf.errors import ConfigError, PushFailed
from edvit_tf.operate.deploy import commands, steps, wheel
from edvit_tf.operate.deploy.commands import AGENT, Ssh, copies
from edvit_tf.operate.deploy.session import why
from edvit_tf.operate.deploy.steps import AGGREGATOR, STEPS, WORKER
from tests.support.commands import run_command
from tests.support.deploy_fleet import devices_toml, seen_of, small_wheel, targets


@pytest.fixture
def fleet(tiny_bundle, tmp_path):
    rows = {
        "pi-0": {"host": "10.0.0.7", "ssh": "me@pi-0.local", "submodels": [0], "aggregator": True},
        "pi 1": {"host": "10.0.0.8", "port": 8003, "submodels": [1]},
    }
    return targets(tiny_bundle, devices_toml(tmp_path, rows))


def test_a_machine_that_has_everything_is_left_alone(fleet):
    for target in fleet:
        seen = seen_of(target)
        assert steps.package(target, seen, True) == steps.identity(target, seen) == []
        assert steps.bundle(target, seen, True) == steps.tune(target, seen) == []
        assert steps.check(target, seen, changed=False) == []
        assert len(steps.check(target, seen, changed=True)) == 2
        assert steps.runs(seen, WORKER, steps.start_key(target, WORKER, "abc"))


def test_only_what_differs_is_done(fleet):
    """What is remembered does not count where something else is found."""
    hub, _ = fleet
    seen = seen_of(hub)
    seen["package"] = "another"
    (*_, install) = steps.package(hub, seen, True)
    assert f"{hub.environment}/bin/pip" in install.words[-1] and "[aggregator]" in install.words[-1]

    seen = seen_of(hub)
    seen["stores"][hub.hub_store] = None
    text = " ".join(command.text() for command in steps.bundle(hub, seen, True))
    assert f"{hub.hub_store} install" in text and f"{hub.store} install" not in text

    seen = seen_of(hub)
    next(iter(seen["identities"].values()))["key.pem"] = "changed"
    (command,) = steps.identity(hub, seen)
    assert "/opt/edvit-identity/worker" in command.words[-1]

    # somebody restarted it by hand, or it is down: nobody knows what it was started with
    seen = seen_of(hub)
    key = steps.start_key(hub, WORKER, "abc")
    for change in ({"invocation": "18"}, {"active": "failed"}):
        seen["units"][WORKER] = {"active": "active", "invocation": "17", **change}
        assert not steps.runs(seen, WORKER, key)
    assert not steps.runs({}, WORKER, key)


def test_the_units_are_those_of_the_roles(fleet):
    hub, other = fleet
    assert hub.units == (WORKER, AGGREGATOR) and other.units == (WORKER,)
    words = hub.unit_words(AGGREGATOR)
    assert words[1:6] == ["-P", "-m", "edvit_tf.cli", "serve", f"{hub.hub_store}/current"]
    assert other.unit_words(WORKER)[-6:] == [
        "0.0.0.0:8003",
        "--identity",
        "/opt/edvit-identity/worker",
        "--metrics",
        "127.0.0.1:9003",
        "--print-unit",
    ]
    for target in fleet:
        for unit in target.units:
            if unit == AGGREGATOR:
                from edvit_tf.cli.main import _parser
            else:
                from edvit_tf.device.__main__ import _parser
            given = target.unit_words(unit)[4:]
            assert _parser().parse_args(given).print_unit


@pytest.mark.parametrize("prefix", ["/opt", "/opt/a b", "/opt/$(reboot);'x\"", "/opt/é&|"])
def test_every_word_arrives_as_it_was(tiny_bundle, tmp_path, prefix):
    """The remote shell would take each text apart into the words that were meant."""
    rows = {"pi-0": {"host": "a", "submodels": [0, 1], "aggregator": True}}
    (target,) = targets(tiny_bundle, devices_toml(tmp_path, rows), prefix=prefix)
    for command in [steps.look(target), *steps.units(target)[1:]]:
        words = shlex.split(command.words[-1])
        # nothing in the home of who logs in is imported by root
        assert words[:2] == ["sudo", "-n"] and words[-5:-2] == ["python3", "-I", "-"]
        asked = words[-1]
        assert prefix in json.dumps(json.loads(asked), ensure_ascii=False).replace('\\"', '"')
    check, _ = steps.check(target, {}, True)
    assert [target.python, "-P", "-m"] == shlex.split(check.words[-1])[9:12]
    scripts = [*steps.identity(target, {}), steps.package(target, {}, True)[-1]]
    for command in scripts:
        script = shlex.split(command.words[-1])[-1]
        places = [target.environment, *target.identities]
        inner = shlex.split(script.replace(";", " ; "))
        if ";" not in prefix:
            assert any(place in word for word in inner for place in places)


def test_nothing_asks_and_nothing_waits_for_ever(fleet):
    for target in fleet:
        every = [steps.look(target), *steps.units(target), *steps.bundle(target, {}, False)]
        for command in every:
            assert 0 < command.seconds <= 1800 and "BatchMode=yes" in command.text()
            if command.words[0] == "ssh" and "sudo" in command.words[-1]:
                assert command.words[-1].startswith(f"sudo -n timeout {command.seconds:g} flock -n")


def test_what_is_broken_off_is_not_met_by_the_next(tmp_path, monkeypatch):
    """By the real flock and timeout: a second command waits for none, and none runs for ever."""
    monkeypatch.setattr(commands, "_LOCK", str(tmp_path / "lock"))
    ssh = Ssh("root@pi")
    held = tmp_path / "held"
    script = f"touch {held}; sleep 60"
    text = commands.as_root(ssh, ["sh", "-c", script], 8).words[-1]
    with subprocess.Popen(["sh", "-c", text]) as first:
        while not held.exists():
            time.sleep(0.02)
        second = commands.as_root(ssh, ["true"], 60).words[-1]
        code = subprocess.run(["sh", "-c", second], check=False).returncode
        assert "another `edvit deploy` is at work there" in why("pi", "ssh", code, "")
        assert "not done in its time" in why("pi", "ssh", first.wait(30), "")


@pytest.mark.parametrize("rsync", [True, False])
def test_an_address_of_ipv6_is_in_brackets_where_files_are_copied(tmp_path, rsync):
    copied = copies(Ssh("me@fd00::7"), [tmp_path / "a"], "folder", 60, rsync)[-1]
    assert copied.words[-1] == "me@[fd00::7]:folder/"
    assert copies(Ssh("fd00::7"), [tmp_path], "a", 60, rsync)[-1].words[-1] == "[fd00::7]:a/"
    assert commands.as_root(Ssh("me@fd00::7"), ["true"], 60).words[-2] == "me@fd00::7"


def test_the_question_that_is_told_has_an_address_that_can_be_asked(fleet, tmp_path):
    hub, other = fleet
    machine = dataclasses.replace(hub.machine, hosts=("fd00::7",))
    args = argparse.Namespace(listen="0.0.0.0:8000", bundle="x")
    told = _next(args, tmp_path, [dataclasses.replace(hub, machine=machine), other])
    assert "--server '[fd00::7]:8000'" in told


def test_root_needs_no_sudo_and_without_rsync_scp_does(tmp_path):
    ssh = Ssh("root@pi", tmp_path / "my config", accept_new=True)
    assert ssh.sudo == [] and "StrictHostKeyChecking=accept-new" in ssh.options
    made, copied = copies(ssh, [tmp_path / "a b"], "folder", 60, rsync=False)
    assert made.words[-1] == "mkdir -p folder"
    assert copied.words[0] == "scp" and copied.words[-1] == "root@pi:folder/"
    (synced,) = copies(ssh, [tmp_path / "a b"], "folder", 60, rsync=True)
    assert shlex.split(synced.words[synced.words.index("-e") + 1])[:3] == [
        "ssh",
        "-F",
        str(tmp_path / "my config"),
    ]


def test_a_dry_run_copies_no_key(tiny_bundle, tmp_path, monkeypatch):
    """The authority's key lies in one place alone, whatever its folder has."""
    devices = devices_toml(tmp_path, {"a": {"host": "a", "submodels": [0, 1]}})
    copied = []
    monkeypatch.setattr(shutil, "copytree", lambda *words, **more: copied.append(words))
    (tmp_path / "fleet").mkdir()
    given = ["--wheel", small_wheel(tmp_path), "--dry-run"]
    code, _, err = run_command(["deploy", tiny_bundle, devices, *given])
    assert (code, copied, list((tmp_path / "fleet").iterdir())) == (0, [], []), err


def test_a_wheel_that_takes_too_long_is_one_error(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(wheel, "_BUILD_SECONDS", 0.01)
    said = []
    with pytest.raises(PushFailed, match=r"not built after 0\.01 s.*--wheel FILE"):
        wheel.build_wheel(said.append)
    assert "Building a wheel" in said[0] and not list(tmp_path.rglob("*.whl"))


def test_a_dry_run_prints_every_step_and_makes_no_key(tiny_bundle, tmp_path):
    rows = {"pi-0": {"host": "a", "submodels": [0, 1]}, "pi-1": {"host": "b", "submodels": [1]}}
    devices, wheel = devices_toml(tmp_path, rows), small_wheel(tmp_path)
    before = sorted(tmp_path.iterdir())
    command = ["deploy", tiny_bundle, devices, "--wheel", wheel, "--aggregator", "pi-1"]
    code, out, err = run_command([*command, "--dry-run"])
    assert code == 0, err
    for name in rows:
        for step in STEPS[:-1]:
            assert f"# {name}: {step}\n" in out
    assert "# restart, together: pi-0, pi-1" in out and "# pi-1: restart the aggregator" in out
    for line in out.splitlines():
        if line and not line.startswith("#"):
            assert shlex.split(line)[0] in ("ssh", "rsync", "scp")
    assert sorted(tmp_path.iterdir()) == before and AGENT.is_file()


@pytest.mark.parametrize(
    "rows, words",
    [
        ({"x": {"host": "a"}}, "Give the device one of these names"),
        ({"x": {"host": "a", "submodels": [0]}}, "has no device for"),
        ({"x": {"host": "a", "ssh": "-oProxyCommand=true"}}, "ssh is '-oProxyCommand=true'"),
        ({"x": {"host": "a", "aggregator": "yes"}}, "aggregator is 'yes'"),
        (
            {
                "x": {"host": "a", "submodels": [0]},
                "y": {"host": "a", "port": 8002, "submodels": [1]},
            },
            "are both at a",
        ),
        (
            {
                "a b": {"host": "a", "submodels": [0]},
                "a-b": {"host": "b", "submodels": [1]},
            },
            "same name in their certificates",
        ),
        (
            {
                "x": {"host": "A", "ssh": "one@pi", "submodels": [0]},
                "y": {"host": "b", "ssh": "two@Pi", "submodels": [1]},
            },
            "are both at pi",
        ),
        (
            {"Pi": {"host": "a", "submodels": [0]}, "pi": {"host": "b", "submodels": [1]}},
            "same name in their certificates",
        ),
        (
            {
                "x": {"host": "a", "submodels": [0], "aggregator": True},
                "y": {"host": "b", "submodels": [1], "aggregator": True},
            },
            "x and y have aggregator = true",
        ),
    ],
)
def test_a_list_that_cannot_be_deployed_says_why(tiny_bundle, tmp_path, rows, words):
    devices, wheel = devices_toml(tmp_path, rows), small_wheel(tmp_path)
    code, _, err = run_command(["deploy", tiny_bundle, devices, "--wheel", wheel, "--dry-run"])
    assert code == ConfigError.exit_code and words in err


@pytest.mark.parametrize(
    "name, aggregator, words",
    [
        ("pi-0", "me@Pi-0.local", "Say --aggregator pi-0;"),
        ("hub", "me@desk", "a device is named 'hub'"),
    ],
)
def test_an_aggregator_is_no_device_a_second_time(tiny_bundle, tmp_path, name, aggregator, words):
    devices = devices_toml(tmp_path, {name: {"host": "pi-0.local", "submodels": [0, 1]}})
    with pytest.raises(ConfigError, match=words):
        targets(tiny_bundle, devices, aggregator)
