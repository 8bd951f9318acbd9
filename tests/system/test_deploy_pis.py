"""`edvit deploy` to three emulated 64-bit Raspberry Pis (`emulated_pis.py` says what is real there)
and an aggregator on this machine: one is down half-way, the next run does it and nothing else.

Needs what test_arm64.py and test_network.py need. It prints what was typed, and the seconds:

    python -m pytest -q -s -m 'arm64 and network' tests/system/test_deploy_pis.py

Emulation is slow, so the seconds are far more than a Pi's.
"""

import json
import shlex
import sys
import time

import numpy as np
import pytest
from PIL import Image

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.bundle_input import bundle_input
from tests.support.aggregator_process import fused
from tests.support.commands import run_device
from tests.support.deploy_fleet import devices_toml
from tests.support.emulated_pis import ended, make_emulated_pis
from tests.support.netlab import network
from tests.support.pi_wheels import requirements, wheels
from tests.support.ports import free_port
from tests.support.ssh_pis import openssh_and_rsync
from tests.support.worker_process import server, wait_for

pytestmark = [pytest.mark.arm64, pytest.mark.network]

HELD = ([0], [1], [0, 1])  # sub-models of each


class Fleet:
    """Three Pis and the commands that a person types."""

    def __init__(self, folder, root, bundle):
        self.folder, self.bundle = folder, bundle
        self.pis, self.ssh_config = make_emulated_pis(folder, root, len(HELD))
        rows = {
            pi.name: {"host": pi.address, "ssh": f"root@{pi.address}", "submodels": held}
            for pi, held in zip(self.pis, HELD, strict=True)
        }
        self.devices = devices_toml(folder, rows)
        wanted = requirements("device", "3.11", "aarch64")
        self.wheels = wheels(folder / "wheels", *wanted, python="3.11")
        self.port = free_port(1000)

    def deploy(self, what):
        """Its exit code, what it printed as JSON, and its errors."""
        command = ["deploy", self.bundle, self.devices, "--ssh-config", self.ssh_config]
        command += ["--wheels", self.wheels, "--listen", f"127.0.0.1:{self.port}", "--json"]
        # what emulation measures is of no use
        command.append("--no-tune")
        began = time.monotonic()
        done = run_device(
            "-m",
            "edvit_tf.cli",
            *command,
            XDG_CACHE_HOME=str(self.folder / "cache"),
            timeout=1200,
        )
        seconds = time.monotonic() - began
        assert done.stdout, done.stderr
        told = json.loads(done.stdout)
        by_pi = {name: round(own) for name, own in told["seconds"].items()}
        print(f"\n{what}: 1 command, {seconds:.0f} s (each Pi: {by_pi})")
        return done.returncode, told, done.stderr

    def cells(self, told, name):
        """What each step did, but for the look, which is always done."""
        cells = dict(told["machines"][name])
        assert cells.pop("reach") == "done", told
        return set(cells.values())


@pytest.fixture(scope="module")
def fleet(tmp_path_factory, pi_root, tiny_bundle):
    openssh_and_rsync()
    root = pi_root("bookworm")
    with network(len(HELD), "none", 0):
        made = Fleet(tmp_path_factory.mktemp("deploy"), root, tiny_bundle)
        with ended(made.pis):
            yield made


def test_one_of_three_is_down_and_the_next_run_does_it_and_nothing_else(fleet):
    first, second, third = fleet.pis
    first.start()
    second.start()
    code, told, err = fleet.deploy("two Pis, and one that is down")
    assert (code, list(told["failed"])) == (23, [third.name]), (told, err)
    assert "no ssh server there" in told["failed"][third.name]
    assert fleet.cells(told, first.name) == fleet.cells(told, second.name) == {"done"}
    before = [pi.started() for pi in (first, second)]
    assert before[0] == before[1] and before[0].count("restart edvit-worker.service") == 1

    third.start()
    code, told, err = fleet.deploy("the third, which is back")
    assert (code, told["failed"], told["said"]) == (0, {}, []), err
    assert fleet.cells(told, third.name) == {"done"}
    assert third.started() == before[0]

    code, told, err = fleet.deploy("again")
    assert (code, told["failed"]) == (0, {}), err
    for pi in fleet.pis:
        assert fleet.cells(told, pi.name) == {"same"}
        restarts = [line for line in pi.started() if line.startswith("restart")]
        assert restarts == ["restart edvit-worker.service"]


def test_a_request_is_answered_by_the_pis_as_it_is_here(fleet):
    """The aggregator's command is the one that `edvit deploy` prints for this machine."""
    file = fleet.folder / "a.png"
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(file)
    command = ["serve", fleet.bundle, "--devices", fleet.devices, "--identity"]
    command += [fleet.folder / "fleet" / "aggregator-hub", "--listen", f"127.0.0.1:{fleet.port}"]
    command += ["--deadline-ms", "20000"]
    with server([sys.executable, "-m", "edvit_tf.cli", *map(str, command)], fleet.folder) as hub:
        ready = {}

        def all_ready():
            ready.update({e["device"]: e["state"] for e in hub.events("device")})
            return set(ready.values()) == {"ready"} and len(ready) == 3

        wait_for(all_ready, 120)
        asked = ["predict", "--server", f"127.0.0.1:{fleet.port}", "--json", file]
        asked += ["--identity", fleet.folder / "fleet" / "client-me", "--bundle", fleet.bundle]
        print(f"\n+ edvit {shlex.join(map(str, command))}\n+ edvit {shlex.join(map(str, asked))}")
        done = run_device("-m", "edvit_tf.cli", *asked)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["parameters"]["missing"] == ""
    x = bundle_input(open_bundle(fleet.bundle)).from_file(file.read_bytes())
    np.testing.assert_allclose(
        answer["probabilities"], fused(fleet.bundle, x)[0], rtol=1e-4, atol=1e-6
    )
