"""`edvit deploy` to three machines by a real ssh (`ssh_pis.py` says what is real there): one down
half-way, the second run, certificates renewed under load, and what machines can have wrong.
"""

import contextlib
import json
import shutil
import threading
import time

import numpy as np
import pytest
from PIL import Image

from edvit_tf.aggregate.client import Client
from edvit_tf.device.rpc import tls
from edvit_tf.errors import RequestFailed
from tests.support.commands import run_device
from tests.support.deploy_fleet import devices_toml
from tests.support.machine_clock import Standstill, machine_seconds
from tests.support.ports import free_port
from tests.support.ssh_pis import make_pis

pytestmark = pytest.mark.network


class Fleet:
    """Three machines; pi-2 can stand in for each of the others."""

    def __init__(self, folder, bundle):
        self.folder, self.bundle = folder, bundle
        self.pis, self.ssh_config = make_pis(folder, 3)
        rows = {
            pi.name: {"host": "127.0.0.1", "port": pi.port, "ssh": pi.name, "submodels": held}
            for pi, held in zip(self.pis, ([0], [1], [0, 1]), strict=True)
        }
        rows["pi-0"]["aggregator"] = True
        self.devices = devices_toml(folder, rows)
        self.server = f"127.0.0.1:{free_port(1000)}"

    def deploy(self, *more, bundle=None):
        """Its exit code, what it printed as JSON, and its errors."""
        command = ["-m", "edvit_tf.cli", "deploy", bundle or self.bundle, self.devices, "--json"]
        # what is measured takes long where others work too; a test of `--tune` is elsewhere
        command += ["--ssh-config", self.ssh_config, "--listen", self.server, "--no-tune", *more]
        done = run_device(*command, XDG_CACHE_HOME=str(self.folder / "cache"), timeout=300)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout), done.stderr

    def predict(self, file):
        command = ["-m", "edvit_tf.cli", "predict", "--server", self.server, "--json", file]
        command += ["--identity", self.folder / "fleet" / "client-me", "--bundle", self.bundle]
        done = run_device(*command)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory, tiny_bundle):
    folder = tmp_path_factory.mktemp("deploy")
    made = Fleet(folder, tiny_bundle)
    try:
        for pi in made.pis[:2]:
            pi.start()
        yield made
    finally:
        for pi in made.pis:
            pi.end()


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    file = tmp_path_factory.mktemp("picture") / "a.png"
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(file)
    return file


def test_one_of_three_is_down_and_the_second_run_does_it_alone(fleet, picture):
    code, told, _ = fleet.deploy()
    assert code == 23 and list(told["failed"]) == ["pi-2"], told["failed"]
    assert "no ssh server there" in told["failed"]["pi-2"]
    for name in ("pi-0", "pi-1"):
        assert set(told["machines"][name].values()) == {"done"}
    assert fleet.predict(picture)["parameters"]["missing"] == ""
    before = [pi.pids() for pi in fleet.pis[:2]]
    assert [sorted(pids) for pids in before] == [
        ["edvit-aggregator.service", "edvit-worker.service"],
        ["edvit-worker.service"],
    ]

    fleet.pis[2].start()
    code, told, err = fleet.deploy()
    assert (code, told["failed"], told["said"]) == (0, {}, []), err
    assert set(told["machines"]["pi-2"].values()) == {"done"}
    for name in ("pi-0", "pi-1"):
        cells = told["machines"][name]
        assert cells.pop("reach") == "done" and set(cells.values()) == {"same"}
    assert [pi.pids() for pi in fleet.pis[:2]] == before


def test_certificates_are_renewed_and_no_answer_is_lost(fleet):
    """But those whose deadline, a second, passes while the machine stands still."""
    shutil.rmtree(fleet.folder / "fleet" / "worker-pi-1")
    shutil.rmtree(fleet.folder / "fleet" / "worker-pi-2")
    before = [pi.pids() for pi in fleet.pis]
    answers, stop = [], threading.Event()
    own = tls.identity(fleet.folder / "fleet" / "client-me")

    def ask():
        client = Client(fleet.server, own, 10.0)
        with contextlib.closing(client):
            while not stop.is_set():
                still = Standstill()
                late = True
                try:
                    answer = client.ask(np.zeros((1, 16, 16, 1), np.uint8))
                    said = str(answer["parameters"]["missing"])
                except RequestFailed as error:
                    # a certificate that is refused is lost by nobody but us
                    late = error.status == "DEADLINE_EXCEEDED" or " deadline" in str(error)
                    said = repr(error)
                answers.append("lost" if said and late and still.seconds() > 0 else said)
                time.sleep(0.02)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        code, told, err = fleet.deploy()
    finally:
        stop.set()
        thread.join(30)
    assert (code, told["failed"]) == (0, {}), err
    # each was given by both sub-models
    assert answers.count("") > 20 and set(answers) <= {"", "lost"}
    after = [pi.pids() for pi in fleet.pis]
    assert after[0] == before[0] and after[1] != before[1] and after[2] != before[2]


def test_another_bundle_does_not_take_over_unasked(fleet, tmp_path):
    other = shutil.copytree(fleet.bundle, tmp_path / "another bundle; true")
    before = [pi.pids() for pi in fleet.pis]
    code, told, _ = fleet.deploy(bundle=other)
    assert code == 23 and len(told["failed"]) == 3
    for words in told["failed"].values():
        assert "serves another bundle" in words and "--replace" in words
    assert [pi.pids() for pi in fleet.pis] == before


def test_what_machines_have_wrong_is_said_of_each(fleet, tmp_path):
    """Another host key, a sudo that asks, a full disk."""
    known = fleet.folder / "known_hosts"
    kept = known.read_text()
    first, second, third = fleet.pis
    lines = kept.splitlines()
    other = lines[1].split(maxsplit=1)[1]
    known.write_text("\n".join([f"[127.0.0.1]:{first.ssh_port} {other}", *lines[1:]]) + "\n")
    sudo = second.folder / "bin" / "sudo"
    program = sudo.read_text()
    sudo.write_text("#!/bin/sh\necho 'sudo: a password is required' >&2; exit 1\n")
    third.stop()
    third.start(disk="2m")
    try:
        began = machine_seconds()
        code, told, _ = fleet.deploy()
    finally:
        known.write_text(kept)
        sudo.write_text(program)
    assert code == 23 and machine_seconds() - began < 60
    assert "ssh-keygen -R pi-0" in told["failed"]["pi-0"]
    assert "NOPASSWD" in told["failed"]["pi-1"]
    assert "the disk is full" in told["failed"]["pi-2"], told["failed"]["pi-2"]
