"""`edvit deploy` to a machine with a real systemd (`systemd_machine.py`), and whether the units do
there what the docs say of them: kills, limits, hang-ups, a power cut.

Over this machine's own disk, or the tree of another release that $EDVIT_SYSTEMD_TREE names. Tried
so on systemd 252, 257 and 262.
"""

import contextlib
import json
import re
import time

import numpy as np
import pytest
from PIL import Image

from edvit_tf.operate import certs
from tests.support.commands import run_device
from tests.support.deploy_fleet import devices_toml
from tests.support.forked import ROOT
from tests.support.pi_wheels import requirements, wheels
from tests.support.systemd_machine import systemd_machine

pytestmark = pytest.mark.network

WORKER, HUB = "edvit-worker.service", "edvit-aggregator.service"
DROP_IN = "/run/systemd/system/edvit-worker.service.d"


class Deployed:
    """One machine that is worker and aggregator, and the commands that a person types."""

    def __init__(self, folder, bundle, machine):
        self.folder, self.bundle, self.machine = folder, bundle, machine
        row = {"host": machine.address, "aggregator": True, "submodels": [0, 1]}
        self.devices = devices_toml(folder, {"pi-0": row})
        wanted = requirements("aggregator", machine.python, "x86_64")
        self.wheels = wheels(folder / "wheels", *wanted, python=machine.python, machine="x86_64")
        self.picture = folder / "a.png"
        Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(self.picture)

    def deploy(self, *more):
        command = ["-m", "edvit_tf.cli", "deploy", self.bundle, self.devices, "--json", "--no-tune"]
        command += ["--ssh-config", self.machine.ssh_config, "--wheels", self.wheels, *more]
        done = run_device(*command, XDG_CACHE_HOME=str(self.folder / "cache"), timeout=600)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout), done.stderr

    def answer(self):
        """What the machine answers, within a minute."""
        asked = ["-m", "edvit_tf.cli", "predict", "--server", f"{self.machine.address}:8000"]
        asked += ["--identity", self.folder / "fleet" / "client-me", "--bundle", self.bundle]
        end = time.monotonic() + 60
        while True:
            done = run_device(*asked, "--json", self.picture)
            if done.returncode == 0:
                answer = json.loads(done.stdout)
                if answer["parameters"]["missing"] == "":
                    return answer["probabilities"]
            assert time.monotonic() < end, done.stdout + done.stderr
            time.sleep(0.5)

    def until(self, unit, **wanted):
        """What systemd shows of a unit, once it is so; within two minutes."""
        end = time.monotonic() + 120
        while True:
            shown = self.machine.shows(unit)
            if all(shown[key] == value for key, value in wanted.items()):
                return shown
            assert time.monotonic() < end, (wanted, {key: shown[key] for key in wanted})
            time.sleep(0.2)

    def logged(self, unit, words):
        """Waits for a line of its log."""
        end = time.monotonic() + 120
        while words not in (log := self.machine.log(unit)):
            assert time.monotonic() < end, (words, log)
            time.sleep(0.2)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory, tiny_bundle):
    folder = tmp_path_factory.mktemp("systemd")
    (folder / "machine").mkdir()
    with systemd_machine(folder / "machine") as machine:
        print("\n" + machine.run("systemctl", "--version").splitlines()[0])
        made = Deployed(folder, tiny_bundle, machine)
        code, told, err = made.deploy()
        assert (code, told["failed"], told["said"]) == (0, {}, []), (told, err)
        assert set(told["machines"]["pi-0"].values()) == {"done"}
        yield made


def test_it_answers_and_the_second_run_does_nothing(deployed):
    assert deployed.answer()
    code, told, err = deployed.deploy()
    cells = told["machines"]["pi-0"]
    assert code == 0 and cells.pop("reach") == "done" and set(cells.values()) == {"same"}, err


def test_systemd_has_nothing_to_say_of_the_units(deployed):
    for unit in (WORKER, HUB):
        assert deployed.machine.run("systemd-analyze", "verify", unit) == ""
        said = deployed.machine.run("systemd-analyze", "security", "--no-pager", unit)
        [exposure] = re.findall(r"Overall exposure level for .*: ([\d.]+)", said)
        assert float(exposure) <= 1.5, said
        assert deployed.machine.run("systemctl", "is-enabled", unit) == "enabled"


def test_a_server_has_no_rights_and_no_other_sees_its_keys(deployed):
    for unit in (WORKER, HUB):
        pid = deployed.machine.shows(unit)["MainPID"]
        status = deployed.machine.run("cat", f"/proc/{pid}/status")
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert "0" not in fields["Uid"].split()
        assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
        assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")

        key = f"/run/credentials/{unit}/key.pem"
        assert deployed.machine.run("cat", key).startswith("-----BEGIN")
        refused = deployed.machine.run("runuser", "-u", "me", "--", "cat", key, check=False)
        assert "Permission denied" in refused


@pytest.mark.parametrize("unit", [WORKER, HUB])
def test_one_that_is_killed_comes_back_by_itself(deployed, unit):
    before = deployed.machine.shows(unit)
    deployed.machine.run("systemctl", "kill", "--signal=KILL", unit)
    count = str(int(before["NRestarts"]) + 1)
    after = deployed.until(unit, ActiveState="active", NRestarts=count)
    assert after["MainPID"] != before["MainPID"]
    deployed.answer()


def test_a_hang_up_while_it_starts_is_no_end(deployed):
    """Before it handles the signal, systemd would take it for a wanted end."""
    deployed.machine.run("systemctl", "restart", HUB)
    deployed.machine.run("systemctl", "kill", "--signal=HUP", HUB)
    deployed.until(HUB, ActiveState="active", NRestarts="1")
    deployed.answer()


def test_a_reload_reads_the_devices_again_in_the_same_process(deployed):
    file = "/opt/edvit-deploy/devices.toml"
    before = deployed.machine.shows(HUB)["MainPID"]
    more = '[[device]]\\nname = "far"\\nhost = "10.77.0.99"\\nsubmodels = [0]\\n'
    try:
        deployed.machine.run("sh", "-c", f"cp {file} /tmp/kept; printf '{more}' >> {file}")
        deployed.machine.run("systemctl", "reload", HUB)
        deployed.logged(HUB, '"devices": ["pi-0", "far"]')
    finally:
        deployed.machine.run("sh", "-c", f"cat /tmp/kept > {file}; systemctl reload {HUB}")
    assert deployed.machine.shows(HUB)["MainPID"] == before
    # the keys of a unit are those of its start
    assert "systemctl restart" in deployed.machine.log(HUB)
    deployed.answer()


def test_new_keys_count_at_a_reload_where_systemd_hands_them_over(deployed):
    """By the drop-in of docs/howto/certificates.md, from version 260 on."""
    version = int(deployed.machine.run("systemctl", "--version").split()[1])
    if version < 260:
        pytest.skip(f"systemd {version} hands keys over when a unit starts")
    block = (ROOT / "docs/howto/certificates.md").read_text(encoding="utf-8")
    [text] = re.findall(r"```text\n\[Service\]\n(RefreshOnReload.*?)```", block, re.S)

    with dropped_in(deployed, text):
        # it handles the signal by then
        deployed.answer()
        before = deployed.machine.shows(WORKER)["MainPID"]
        made = certs.issue(
            deployed.folder / "fleet",
            "worker",
            "pi-0",
            [deployed.machine.address],
            out=deployed.folder / "new",
        )
        for name in ("cert.pem", "key.pem"):
            content = (made / name).read_text()
            target = f"/opt/edvit-identity/worker/{name}"
            deployed.machine.run("sh", "-c", f"printf %s '{content}' > {target}")
        deployed.machine.run("systemctl", "reload", WORKER)
        deployed.logged(WORKER, '"changed": ["certificate"]')
        assert deployed.machine.shows(WORKER)["MainPID"] == before
        deployed.answer()


def test_what_a_restart_cannot_mend_is_not_started_again(deployed):
    """A file that was changed, exit code 7; a stuck inference, 18, is."""
    folder = deployed.machine.run("readlink", "-f", f"/opt/{deployed.bundle.name}/current")
    file = f"{folder}/submodel-00.tflite"
    deployed.machine.run("sh", "-c", f"cp {file} /tmp/whole; printf x >> {file}")
    try:
        deployed.machine.run("systemctl", "restart", WORKER)
        shown = deployed.until(WORKER, ActiveState="failed")
        assert (shown["ExecMainStatus"], shown["NRestarts"]) == ("7", "0")
        assert "submodel-00.tflite" in deployed.machine.log(WORKER)
    finally:
        deployed.machine.run("sh", "-c", f"cat /tmp/whole > {file}")

    with dropped_in(deployed, "ExecStart=\nExecStart=/bin/sh -c 'exit 18'\n"):
        deployed.until(WORKER, NRestarts="1")
    deployed.answer()


def test_its_memory_has_the_limit_of_the_unit(deployed):
    unit = deployed.machine.run("cat", f"/etc/systemd/system/{WORKER}")
    [limit] = re.findall(r"^MemoryMax=(\d+)M$", unit, re.M)
    assert deployed.machine.shows(WORKER)["MemoryMax"] == str(int(limit) << 20)
    found = deployed.machine.run(
        "sh",
        "-c",
        f"cat /sys/fs/cgroup/memory/system.slice/{WORKER}/memory.limit_in_bytes "
        f"/sys/fs/cgroup/system.slice/{WORKER}/memory.max 2> /dev/null",
        check=False,
    )
    if not found:
        pytest.skip("this machine has no memory controller for it")
    assert found == str(int(limit) << 20)

    # one that takes more ends, and comes back
    with dropped_in(deployed, "MemoryMax=12M\n"):
        deployed.until(WORKER, NRestarts="1")
        assert "code=killed, status=9/KILL" in deployed.machine.log(WORKER)
    deployed.answer()


def test_a_stop_drains_and_is_a_success(deployed):
    deployed.machine.run("systemctl", "stop", WORKER, HUB)
    for unit in (WORKER, HUB):
        shown = deployed.machine.shows(unit)
        assert (shown["ActiveState"], shown["Result"]) == ("inactive", "success")
        log = deployed.machine.log(unit)
        assert log.rfind('"event": "stopped"') > log.rfind('"event": "serving"') > 0
    deployed.machine.run("systemctl", "start", WORKER, HUB)
    deployed.answer()


def test_after_a_power_cut_it_answers_by_itself(deployed):
    expected = deployed.answer()
    before = deployed.machine.shows(WORKER)["InvocationID"]
    deployed.machine.power_cut()
    assert deployed.answer() == expected
    assert deployed.machine.shows(WORKER)["InvocationID"] != before


@contextlib.contextmanager
def dropped_in(deployed, text):
    """The worker with a part of its unit replaced, as `systemctl edit --runtime` does."""
    run = deployed.machine.run
    write = f"mkdir -p {DROP_IN}; cat > {DROP_IN}/test.conf << 'END'\n[Service]\n{text}END\n"
    run("sh", "-c", f"{write}systemctl daemon-reload")
    run("systemctl", "restart", WORKER, check=False)
    try:
        yield
    finally:
        run("sh", "-c", f"rm -r {DROP_IN}; systemctl daemon-reload")
        run("systemctl", "reset-failed", WORKER, check=False)
        run("systemctl", "restart", WORKER)
