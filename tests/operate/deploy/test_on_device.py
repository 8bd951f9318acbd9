"""What is read on a device, from the disk itself."""

import json
import os
import shlex
import shutil
import zipfile

import pytest

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.operate.deploy import on_device, steps
from edvit_tf.operate.deploy.wheel import read_wheel
from tests.support.deploy_fleet import devices_toml, small_wheel, targets


def test_a_store_has_a_bundle_by_its_files_and_not_by_what_is_said(store, tiny_bundle, tmp_path):
    """As the update installed it: without the flavours that this machine does not run."""
    rows = {"a": {"host": "a", "submodels": [0], "aggregator": True}, "b": {"host": "b"}}
    rows["b"]["submodels"] = [1]
    hub, _ = targets(tiny_bundle, devices_toml(tmp_path, rows))
    digest = open_bundle(tiny_bundle).digest
    files = hub.files()
    for wanted in files.values():
        assert on_device._bundle(store, wanted) == digest
    assert on_device._bundle(tmp_path / "no store", files[hub.store]) is None

    current = store / "current"
    flavours = [current / name for name in files[hub.store]["groups"][0]]
    kept = shutil.copytree(store, tmp_path / "kept", symlinks=True)
    for file in flavours:
        file.unlink(missing_ok=True)
    assert on_device._bundle(store, files[hub.store]) is None
    content = (kept / "current" / "golden.npz").read_bytes()
    (kept / "current" / "golden.npz").write_bytes(content[:-1])
    assert on_device._bundle(kept, files[hub.store]) is None


def test_a_package_is_known_by_its_files_once_it_is_whole(tmp_path):
    wheel = read_wheel(small_wheel(tmp_path))
    environment = tmp_path / "environment"
    packages = environment / "lib" / "python3.11" / "site-packages"
    with zipfile.ZipFile(wheel.file) as archive:
        archive.extractall(packages)
    assert on_device._package(environment) is None
    (environment / on_device.MARKER).write_text("{}")
    (packages / "edvit_tf" / "__pycache__").mkdir()
    (packages / "edvit_tf" / "__pycache__" / "a.pyc").write_bytes(b"1")
    assert on_device._package(environment) == wheel.digest
    (packages / "edvit_tf" / "__init__.py").write_text("changed")
    assert on_device._package(environment) != wheel.digest


def test_what_was_done_is_remembered_and_a_spoilt_file_is_nothing(tmp_path):
    on_device._note(tmp_path, {"check": "1"})
    on_device._note(tmp_path, {"tune": "2"})
    assert on_device._state(tmp_path) == {"check": "1", "tune": "2"}
    file = on_device._state_file(tmp_path)
    for text in ("", "[]", "{"):
        file.write_text(text)
        assert on_device._state(tmp_path) == {}


def test_environments_but_this_and_the_one_before_go(tmp_path):
    for number, name in enumerate(["oldest", "old", "before", "this"]):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (number, number))
    state = {"tune": "2", "serves edvit-worker.service": {"environment": str(tmp_path / "this")}}
    # started by a version that did not note from where
    on_device._tidy(tmp_path / "this", {**state, "serves edvit-aggregator.service": {}})
    assert len(list(tmp_path.iterdir())) == 4
    # the aggregator was not restarted for long
    started = {"environment": str(tmp_path / "oldest")}
    on_device._tidy(tmp_path / "this", {**state, "serves edvit-aggregator.service": started})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["before", "oldest", "this"]
    on_device._tidy(tmp_path / "this", state)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["before", "this"]


@pytest.mark.parametrize("replace", [False, True])
def test_another_fleet_is_refused_by_the_first_look(
    tiny_bundle, tmp_path, monkeypatch, capsys, replace
):
    """Its unit, or its keys; a % of ours is doubled in a unit."""
    place = tmp_path / "50%"
    rows = {"a": {"host": "a", "submodels": [0, 1]}}
    (target,) = targets(
        tiny_bundle, devices_toml(tmp_path, rows), prefix=str(place), replace=replace
    )
    asked = json.loads(shlex.split(steps.look(target).words[-1])[-1])
    monkeypatch.setattr(on_device, "_UNITS", tmp_path)
    (folder, source), unit = *target.identities.items(), tmp_path / steps.WORKER
    shutil.copytree(source, folder)
    unit.write_text(f"ExecStart=python {target.store}/current\n".replace("%", "%%"))
    assert on_device.look(asked)["identities"][folder]

    (place / "edvit-identity" / "worker" / "ca.pem").write_text("another")
    unit.write_text("ExecStart=python /opt/another/current\n")
    if replace:
        assert on_device.look(asked)["identities"][folder]
        return
    with pytest.raises(SystemExit) as ended:
        on_device.look(asked)
    assert ended.value.code == on_device.REFUSED
    said = capsys.readouterr().err
    assert "serves another bundle (ExecStart=python /opt/another/current)" in said
    assert "an identity of another authority" in said and "--replace" in said


def test_the_question_is_json_that_a_shell_leaves_alone(tiny_bundle, tmp_path):
    rows = {"a": {"host": "a", "submodels": [0, 1]}}
    (target,) = targets(tiny_bundle, devices_toml(tmp_path, rows))
    asked = json.loads(shlex.split(steps.look(target).words[-1])[-1])
    assert set(asked["stores"][target.store]) == {"sha256", "groups"}
