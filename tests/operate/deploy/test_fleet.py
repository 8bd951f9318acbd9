"""The order of everything in `edvit deploy`, on machines that are a table: who fails alone, who
restarts when, and when nothing does.
"""

import io
import json
import re
import shlex

import pytest

from edvit_tf.operate.deploy import session, steps
from edvit_tf.operate.deploy.fleet import deploy
from edvit_tf.operate.deploy.session import StepFailed
from edvit_tf.operate.deploy.steps import AGGREGATOR, WORKER
from edvit_tf.operate.deploy.table import Table
from tests.support.deploy_fleet import devices_toml, seen_of, targets

ROWS = {
    "a": {"host": "a", "submodels": [0], "aggregator": True},
    "b": {"host": "b", "submodels": [1]},
    "c": {"host": "c", "submodels": [0, 1]},
}
HAS = {"machine": "aarch64", "bits": 64, "python": [3, 11], "systemd": True, "rsync": True}


class Machines:
    """Answers as machines would; `log` has what was restarted, in turn."""

    def __init__(self, found, bundle=None):
        self.targets = {target.machine.ssh: target for target in found}
        self.bundle = bundle  # of every store before
        self.active = bundle is not None
        self.unreachable: set[str] = set()
        self.broken: set[str] = set()  # machines whose server does not come back
        self.down: set[str] = set()  # as the aggregator finds them
        self.lost: set[str] = set()  # once they were restarted
        self.served = bundle  # by the aggregator that runs
        self.has: dict = {}  # in the place of what a look says
        self.at: dict[str, str] = {}  # where the aggregator that runs asks each
        self.old_authority = False
        self.noted: dict = {}
        self.asked_pages: list[str] = []
        self.log: list[str] = []
        self.free_bytes = 1 << 40
        self.complete = False
        self.commands: list = []

    def answer(self, host, command):
        if host in self.unreachable:
            raise StepFailed("not reached")
        *_, action, asked = shlex.split(command.words[-1])
        asked = json.loads(asked)
        if action == "look":
            return self._look(self.targets[host])
        if action == "unit":
            return {"changed": False, "sha256": "abc"}
        if action == "await":
            self.asked_pages.append(asked["health"])
            waiting = {name: "down" for name in asked["devices"] if name in self.down}
            return {"waiting": waiting, "addresses": self.at, "bundle_digest": self.served}
        assert action == "restart"
        self.log.append(f"{host} {asked['unit'].partition('.')[0].removeprefix('edvit-')}")
        if host in self.broken:
            raise StepFailed("it is failed and does not answer")
        self.down -= {host}
        self.down |= {host} & self.lost
        return {}

    def run(self, host, commands):
        self.commands += commands
        return ""

    def _look(self, target):
        if self.complete:
            return {**HAS, "free_bytes": 0, **seen_of(target), **self.has}
        active = "active" if self.active else "inactive"
        unit = {"active": active, "invocation": "1", "sha256": "abc"}
        return {
            **HAS,
            "free_bytes": self.free_bytes,
            "package": None,
            "stores": dict.fromkeys(target.stores, self.bundle),
            "identities": self._identities(target),
            "units": dict.fromkeys(target.units, unit),
            "state": self.noted,
            **self.has,
        }

    def _identities(self, target):
        found = seen_of(target)["identities"]
        if self.old_authority:
            for files in found.values():
                files["ca.pem"] = "of the old one"
        return found


@pytest.fixture
def fleet(tiny_bundle, tmp_path, monkeypatch):
    found = targets(tiny_bundle, devices_toml(tmp_path, ROWS))

    def get(bundle=None):
        machines = Machines(found, bundle)
        monkeypatch.setattr(session, "answer", machines.answer)
        monkeypatch.setattr(session, "run", machines.run)
        table, said = Table(list(ROWS), io.StringIO()), []
        return machines, table, said, lambda: deploy(found, table, said.append)

    return get


def test_a_machine_fails_alone(fleet):
    machines, table, _, go = fleet()
    machines.unreachable = {"b"}
    assert go() == {"b": "reach: not reached"}
    assert table.cells["b"] == {"reach": "FAILED"} and table.cells["c"]["restart"] == "done"
    # all workers together, then the aggregator
    assert sorted(machines.log[:2]) == ["a worker", "c worker"]
    assert machines.log[2:] == ["a aggregator"]
    rows = table.text().splitlines()
    assert rows[0].split()[1:] == list(steps.STEPS) and rows[2].split()[:3] == ["b", "FAILED", "-"]


def test_machines_that_have_everything_are_left_alone(fleet):
    machines, table, said, go = fleet()
    machines.complete = True
    assert go() == {} and said == [] and machines.log == []
    for cells in table.cells.values():
        assert cells.pop("reach") == "done" and set(cells.values()) == {"same"}
    # the list of devices, which the aggregator reads at its start alone
    assert [command.shown for command in machines.commands] == ["devices.toml"]


def test_a_full_disk_is_said_before_anything_is_sent(fleet):
    machines, _, _, go = fleet()
    machines.free_bytes = 5 << 20
    failed = go()
    assert len(failed) == 3 and machines.log == []
    assert "reach: the disk is full: 5 MiB are free" in failed["a"]


def test_replicas_take_turns(fleet, tiny_bundle):
    """Of the same bundle, c stands in for a and b, and they for c."""
    machines, _, said, go = fleet(targets_digest(tiny_bundle))
    assert go() == {} and said == []
    assert sorted(machines.log[:2]) == ["a worker", "b worker"]
    assert machines.log[2:] == ["c worker", "a aggregator"]


def test_a_new_bundle_goes_by_halves(fleet):
    machines, _, _, go = fleet("another")
    assert go() == {}
    assert sorted(machines.log[:2]) == ["a worker", "b worker"]
    assert machines.log[2:] == ["a aggregator", "c worker"]


def test_a_store_may_have_what_the_aggregator_does_not_serve_yet(fleet, tiny_bundle):
    """The run before brought the bundle, and then restarted nothing."""
    machines, _, _, go = fleet(targets_digest(tiny_bundle))
    machines.served = "another"
    assert go() == {}
    assert machines.log[2:] == ["a aggregator", "c worker"]

    machines, _, said, go = fleet(targets_digest(tiny_bundle))
    machines.served, machines.unreachable = "another", {"b", "c"}
    go()
    assert machines.log == [] and "Nothing was restarted" in said[0]


def test_a_new_authority_goes_by_halves(fleet, tiny_bundle):
    machines, _, _, go = fleet(targets_digest(tiny_bundle))
    machines.old_authority = True
    assert go() == {}
    assert machines.log[2:] == ["a aggregator", "c worker"]

    # brought by a run before: what the aggregator was started with counts
    machines, _, _, go = fleet(targets_digest(tiny_bundle))
    started = {"key": "k", "invocation": "1", "authority": "of the old one"}
    machines.noted = {f"serves {AGGREGATOR}": started}
    assert go() == {}
    assert machines.log[2:] == ["a aggregator", "c worker"]


def test_an_aggregator_is_asked_where_it_listens_now(fleet, tiny_bundle):
    machines, _, _, go = fleet(targets_digest(tiny_bundle))
    before = "http://127.0.0.1:9777/healthz"
    machines.noted = {f"serves {AGGREGATOR}": {"key": "k", "invocation": "1", "health": before}}
    assert go() == {}
    *waves, last = machines.asked_pages
    assert set(waves) == {before} and last == "http://127.0.0.1:9000/healthz"
    assert machines.log[2:] == ["c worker", "a aggregator"]


def test_who_is_not_found_again_keeps_its_stand_in_running(fleet, tiny_bundle):
    machines, table, _, go = fleet(targets_digest(tiny_bundle))
    machines.lost = {"b"}
    assert go() == {"b": "restart: the aggregator does not find it again"}
    assert table.cells["b"]["restart"] == "FAILED" and table.cells["c"]["restart"] == "left"
    assert "c worker" not in machines.log and "a aggregator" not in machines.log


@pytest.mark.parametrize(
    ("has", "words"),
    [
        ({"machine": "armv7l", "bits": 32}, "has 32 bits, on armv7l; .*Install Raspberry Pi OS"),
        # a kernel of 64 bits under a system of 32, as Raspberry Pi OS (32-bit) on a Pi 4
        ({"bits": 32}, "has 32 bits, on aarch64"),
        ({"machine": "riscv64"}, "has 64 bits, on riscv64; the packages are for"),
        ({"python": [3, 9]}, "python3 there is 3.9; edvit_tf needs 3.11"),
        ({"systemd": False}, "there is no systemctl"),
        ({"python": None}, "its answer has no python, or not as it is to be"),
        ({"free_bytes": "much", "units": []}, "its answer has no free_bytes, units"),
    ],
)
def test_a_machine_that_cannot_be_one_is_said_before_anything_is_sent(fleet, has, words):
    machines, table, _, go = fleet()
    machines.has = has
    failed = go()
    assert set(failed) == set(ROWS)
    for said in failed.values():
        assert re.search(words, said), said
    assert machines.commands == [] and machines.log == []
    assert {cells["reach"] for cells in table.cells.values()} == {"FAILED"}


def test_who_got_another_address_is_found_after_the_aggregator(fleet, tiny_bundle, monkeypatch):
    """The one that runs asks at the old one: that it finds nobody there is no failure."""
    machines, _, said, go = fleet(targets_digest(tiny_bundle))
    machines.at = {"a": "a:8001", "b": "old:8001", "c": "c:8001"}
    machines.lost = {"b"}
    found = machines.answer

    def restarted(host, command):
        told = found(host, command)
        if machines.log and machines.log[-1] == "a aggregator":
            machines.down, machines.at = set(), {}
        return told

    monkeypatch.setattr(session, "answer", restarted)
    assert go() == {} and said == []
    assert sorted(machines.log) == ["a aggregator", "a worker", "b worker", "c worker"]


def test_nothing_goes_over_where_less_would_answer(fleet):
    machines, table, said, go = fleet("another")
    machines.unreachable = {"b", "c"}
    # the aggregator reaches them all the same
    assert set(go()) == {"b", "c"} and machines.log == []
    assert table.cells["a"]["restart"] == "left" and "Nothing was restarted" in said[0]

    # but where those are down, too little answered before: there is nothing to lose
    machines, _, _, go = fleet("another")
    machines.unreachable = machines.down = {"b", "c"}
    go()
    assert machines.log == ["a worker", "a aggregator"]


def test_who_does_not_come_back_keeps_its_stand_in_running(fleet, tiny_bundle):
    machines, table, said, go = fleet(targets_digest(tiny_bundle))
    machines.broken = {"b"}
    assert list(go()) == ["b"]
    assert "c worker" not in machines.log and table.cells["c"]["restart"] == "left"
    assert any("did not come back" in sentence for sentence in said)


def test_what_a_device_alone_has_is_said(fleet, tiny_bundle):
    machines, _, said, go = fleet(targets_digest(tiny_bundle))
    machines.down = {"c"}
    go()
    # c answers for nothing yet, and then it stands in
    assert machines.log[0] == "c worker" and not any("alone" in one for one in said)

    machines, _, said, go = fleet(targets_digest(tiny_bundle))
    machines.down = {"a", "c"}
    machines.unreachable = {"c"}
    go()
    assert "One device alone has submodel-01" in said[0]


def test_a_row_takes_one_line_of_a_narrow_terminal():
    stream = io.StringIO()
    stream.isatty = lambda: True
    Table(["a"], stream).begin("a", "reach")
    assert re.fullmatch(r"\x1b\[\?7l(.|\n)+\n\x1b\[\?7h", stream.getvalue())


def targets_digest(bundle):
    from edvit_tf.device.model.bundle import open_bundle

    return open_bundle(bundle).digest


def test_the_units_have_the_names_that_docs_tell():
    assert (WORKER, AGGREGATOR) == ("edvit-worker.service", "edvit-aggregator.service")
