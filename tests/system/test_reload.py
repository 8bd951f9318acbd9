"""Certificates, devices.toml and the bundle are read again under load, and no answer is lost."""

import contextlib
import shutil
import signal
import ssl
import time

import numpy as np
import pytest

from edvit_tf.aggregate.client import Client
from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.rpc import tls
from edvit_tf.device.update import commands as update
from edvit_tf.errors import RequestFailed
from edvit_tf.operate import certs
from tests.support.aggregator_process import aggregator, all_ready
from tests.support.exchanged import exchanged
from tests.support.fleet_process import get, health, metric, oracle, places, states
from tests.support.traffic import Traffic
from tests.support.worker_process import wait_for, worker

HOSTS = ["127.0.0.1"]
# A prelude: files are looked at when a signal says so, and never a moment before it by themselves,
# which would say what the signal is to say.
BY_SIGNAL = "from edvit_tf.device.rpc import reload\nreload.LOOK_SECONDS = 3600.0\n"
PICTURES = np.random.default_rng(5).integers(0, 256, (8, 1, 16, 16, 1), np.uint8)


@pytest.fixture(scope="module")
def wanted(tiny_bundle):
    return oracle(tiny_bundle, PICTURES)


def hangs_up(one, count: int = 1) -> list[dict]:
    """What a server says of its reload after SIGHUP, `count` lines of it."""
    before = len(one.events("reload"))
    one.process.send_signal(signal.SIGHUP)
    wait_for(lambda: len(one.events("reload")) >= before + count, 60)
    return one.events("reload")[before:]


def answered_meanwhile(traffic: Traffic, count: int = 10) -> None:
    """Waits for so many requests that are sent from now on."""
    now = time.monotonic()
    wait_for(lambda: len(traffic.since(now)) >= count, 60)


def whole(traffic: Traffic) -> bool:
    """Whether every request was answered, rightly and by all sub-models."""
    assert traffic.wrong() == []
    assert [row for row in traffic.rows if not row.whole] == []
    return len(traffic.rows) > 20


# ---- certificates


def issued(authority, role, name, folder):
    return certs.issue(authority, role, name, [] if role == "client" else HOSTS, out=folder)


def replaced(authority, folder, role, name, tmp_path):
    """The files of an identity in `folder` are others from now on, of the same name."""
    new = issued(authority, role, name, tmp_path / f"new-{name}")
    for file in ("ca.pem", "cert.pem", "key.pem"):
        shutil.copy(new / file, folder / file)


def presented(address: str) -> str:
    """The certificate that a new connection to an address is shown."""
    host, _, port = address.rpartition(":")
    return ssl.get_server_certificate((host, int(port)), timeout=20).strip()


def test_new_certificates_count_for_new_connections_and_no_answer_is_lost(
    tiny_bundle, wanted, tmp_path
):
    authority = certs.init(tmp_path / "ca")
    folders = {
        role: issued(authority, role, role, tmp_path / role)
        for role in ("worker", "aggregator", "client")
    }
    own = tls.identity(folders["client"])
    with contextlib.ExitStack() as stack:
        secure = ("--identity", str(folders["worker"]))
        pair = places(tiny_bundle, tmp_path, [[0], [1]], *secure, prelude=BY_SIGNAL)
        devices = stack.enter_context(pair)
        options = ["--identity", folders["aggregator"], "--metrics", "127.0.0.1:0", "--https"]
        addresses = [place.address for place in devices]
        server = aggregator(tiny_bundle, tmp_path, addresses, *options, prelude=BY_SIGNAL)
        hub = stack.enter_context(server)
        wait_for(lambda: all_ready(hub, 2), 60)
        asked = [hub.address, hub.serving["metrics"], *addresses]
        first = [presented(address) for address in asked]

        with Traffic(hub.address, PICTURES, wanted, own=own, pause_seconds=0.005) as traffic:
            answered_meanwhile(traffic)
            for role in ("worker", "aggregator"):
                replaced(authority, folders[role], role, role, tmp_path)
            for one in (*(place.worker for place in devices), hub):
                (said, *_) = hangs_up(one)
                assert said["changed"] == ["certificate"]
            answered_meanwhile(traffic)

            second = [presented(address) for address in asked]
            assert all(new != old for new, old in zip(second, first, strict=True))
            files = [folders["aggregator"], folders["aggregator"], *[folders["worker"]] * 2]
            assert second == [(file / "cert.pem").read_text().strip() for file in files]

            # half of a copy: told, and what was read before stays
            (folders["aggregator"] / "cert.pem").write_text("-----BEGIN")
            refused, *_ = hangs_up(hub)
            assert refused["refused"] == "certificate" and "no usable identity" in refused["reason"]
            assert presented(hub.address) == second[0]
            answered_meanwhile(traffic)

            # one that no worker knows: the connections to them are kept
            other = certs.init(tmp_path / "other")
            replaced(other, folders["aggregator"], "aggregator", "aggregator", tmp_path / "x")
            refused, *_ = hangs_up(hub)
            assert refused["refused"] == "certificate" and "one authority" in refused["reason"]
            answered_meanwhile(traffic)

            # a device that restarts while the files are no good is found again
            assert whole(traffic)
            restart = time.monotonic()
            devices[0].end(signal.SIGTERM)
            devices[0].start()
            wait_for(lambda: hub.events("device")[-1]["state"] == "ready", 60)
            now = time.monotonic()
            wait_for(lambda: any(row.whole for row in traffic.since(now)), 60)
    assert traffic.wrong() == []
    lost = [row for row in traffic.rows if not row.whole]
    assert {row.code for row in lost} <= {"UNAVAILABLE"}, "of the restart alone"
    assert all(row.started + row.seconds > restart for row in lost)


def test_a_device_that_refuses_the_new_certificate_holds_up_no_other(tiny_bundle, tmp_path):
    """It is asked with the one before until it takes the new one. Of two authorities, one of the
    workers knows both.
    """
    first, second = certs.init(tmp_path / "first"), certs.init(tmp_path / "second")
    both = (first / "ca.pem").read_bytes() + (second / "ca.pem").read_bytes()
    knows, other = (issued(first, "worker", name, tmp_path / name) for name in ("knows", "other"))
    folder, client = (
        issued(first, role, "me", tmp_path / role) for role in ("aggregator", "client")
    )
    for one in (knows, client):
        (one / "ca.pem").write_bytes(both)

    with contextlib.ExitStack() as stack:
        started = [
            worker(
                tiny_bundle,
                tmp_path,
                "--submodel",
                str(i),
                "--identity",
                str(own),
                prelude=BY_SIGNAL,
            )
            for i, own in enumerate((knows, other))
        ]
        devices = [stack.enter_context(one) for one in started]
        addresses = [one.address for one in devices]
        options = ["--identity", folder]
        server = aggregator(tiny_bundle, tmp_path, addresses, *options, prelude=BY_SIGNAL)
        hub = stack.enter_context(server)
        wait_for(lambda: all_ready(hub, 2), 60)
        before = presented(hub.address)

        replaced(second, folder, "aggregator", "me", tmp_path)
        (folder / "ca.pem").write_bytes(both)
        hangs_up_until(hub, "certificate")
        assert presented(hub.address) != before
        asked_whole(hub, client)

        # still so, and nobody is lost
        hangs_up(hub)
        asked_whole(hub, client)

        (other / "ca.pem").write_bytes(both)
        hangs_up(devices[1])
        assert hangs_up_until(hub, "certificate")["devices"] == [addresses[1]]
        asked_whole(hub, client)

        # told once, however often it was tried
        said = [each for each in hub.events("reload") if "refused" in each and "devices" in each]
        assert [each["devices"] for each in said] == [[addresses[1]]]
        assert f"{addresses[1]} is " in said[0]["reason"] and "tried again" in said[0]["stays"]


def hangs_up_until(one, what: str) -> dict:
    """SIGHUP until a server says that it has changed this: on a busy machine a look at a device
    comes to no end, and the next one does.
    """
    before = len(one.events("reload"))
    for _ in range(20):
        hangs_up(one)
        for said in one.events("reload")[before:]:
            if what in said.get("changed", ()):
                return said
    raise AssertionError(one.events("reload"))


def asked_whole(hub, client) -> None:
    """Waits for an answer of all sub-models."""

    def is_whole() -> bool:
        try:
            return asking.ask(PICTURES[0])["parameters"]["missing"] == ""
        except RequestFailed:
            return False

    asking = Client(hub.address, tls.identity(client), 30.0)
    try:
        wait_for(is_whole, 60)
    finally:
        asking.close()


def test_a_renewed_certificate_counts_without_a_signal(tiny_bundle, tmp_path):
    """As programs renew them, which tell nobody."""
    authority = certs.init(tmp_path / "ca")
    folder = issued(authority, "worker", "pi", tmp_path / "pi")
    often = "from edvit_tf.device.rpc import reload\nreload.LOOK_SECONDS = 0.1\n"
    arguments = ("--identity", str(folder))
    with worker(tiny_bundle, tmp_path, *arguments, prelude=often) as one:
        shutil.copy(folder / "cert.pem", tmp_path / "kept.pem")
        (folder / "cert.pem").write_text("half")
        wait_for(lambda: one.events("reload"), 60)
        replaced(authority, folder, "worker", "pi", tmp_path)
        wait_for(lambda: len(one.events("reload")) == 2, 60)
        refused, changed = one.events("reload")
        assert presented(one.address) == (folder / "cert.pem").read_text().strip()
    assert refused["refused"] == "certificate", "once, however often it was looked at"
    assert changed["changed"] == ["certificate"]


def test_a_certificate_of_another_role_is_refused(tiny_bundle, tmp_path):
    authority = certs.init(tmp_path / "ca")
    folder = issued(authority, "worker", "pi", tmp_path / "pi")
    arguments = ("--identity", str(folder))
    with worker(tiny_bundle, tmp_path, *arguments, prelude=BY_SIGNAL) as one:
        first = presented(one.address)
        replaced(authority, folder, "client", "me", tmp_path)
        (refused,) = hangs_up(one)
        assert "has the role client; this server is a worker" in refused["reason"]
        assert presented(one.address) == first


# ---- devices.toml


def write_devices(file, **addresses: str) -> None:
    text = ""
    for name, address in addresses.items():
        host, _, port = address.rpartition(":")
        text += f'[[device]]\nname = "{name}"\nhost = "{host}"\nport = {port}\n'
    file.write_text(text)


def test_devices_join_and_leave_under_load(tiny_bundle, wanted, tmp_path):
    file = tmp_path / "devices.toml"
    with contextlib.ExitStack() as stack:
        a, b, c = stack.enter_context(places(tiny_bundle, tmp_path, [[0], [1], [0]]))
        write_devices(file, a=a.address, b=b.address)
        options = ["--metrics", "127.0.0.1:0"]
        hub = stack.enter_context(aggregator(tiny_bundle, tmp_path, [str(file)], *options))
        wait_for(lambda: all_ready(hub, 2), 60)

        with Traffic(hub.address, PICTURES, wanted, pause_seconds=0.005) as traffic:
            answered_meanwhile(traffic)
            write_devices(file, a=a.address, b=b.address, c=c.address)
            (said,) = hangs_up(hub)
            assert said["changed"] == ["devices"] and said["devices"] == ["a", "b", "c"]
            wait_for(lambda: [state[1] for state in states(hub)] == ["ready"] * 3, 60)

            # the first leaves: the other with its sub-model goes on
            write_devices(file, b=b.address, c=c.address)
            (said,) = hangs_up(hub)
            assert said["devices"] == ["b", "c"]
            a.end(signal.SIGKILL)
            answered_meanwhile(traffic)

            # nothing is told of it any more, once what it was asked is over
            assert 'device="b"' in get(hub, "/metrics")
            wait_for(lambda: 'device="a"' not in get(hub, "/metrics"), 60)

            # the same worker by another name of its machine
            write_devices(file, b=b.address, c=c.address.replace("127.0.0.1", "localhost"))
            assert hangs_up(hub)[0]["changed"] == ["devices"]
            answered_meanwhile(traffic, 100)

            # one that is no more than begun: with it too few could be asked
            write_devices(file, b=b.address)
            said, refused = hangs_up(hub, 2)
            assert said["changed"] == [] and said["devices"] == ["b", "c"]
            assert "1 of the 2 sub-models, those before 2, and 2 are needed" in refused["reason"]
            assert refused["refused"] == "devices" and refused["stays"] == "the one before"

            # a file that is none, one that names a device twice, and one that has gone
            for text in ("[[device]", None, ""):
                if text is None:
                    write_devices(file, b=b.address, b2=b.address)
                else:
                    file.write_text(text)
                said, refused = hangs_up(hub, 2)
                assert said["changed"] == [] and said["devices"] == ["b", "c"]
                assert refused["refused"] == "devices" and refused["stays"] == "the one before"
            file.unlink()
            assert hangs_up(hub, 2)[1]["refused"] == "devices"
            answered_meanwhile(traffic)
            names = [device["device"] for device in health(hub)["devices"]]
    assert whole(traffic) and names == ["b", "c"]
    # who stayed was never another connection, which is found anew
    assert len([event for event in hub.events("device") if event["device"] == "b"]) == 1


# ---- the bundle


def test_another_bundle_is_served_when_devices_hold_it(tiny_bundle, wanted, tmp_path):
    new_bundle, store = exchanged(tiny_bundle, tmp_path / "new"), tmp_path / "store"
    wanted_new = oracle(new_bundle, PICTURES)
    digests = [open_bundle(path).digest for path in (tiny_bundle, new_bundle)]
    assert update.main([str(store), "install", str(tiny_bundle)]) == 0
    with contextlib.ExitStack() as stack:
        current = store / "current"
        first, second = stack.enter_context(places(current, tmp_path, [[0, 1], [0, 1]]))
        addresses = [first.address, second.address]
        options = ["--metrics", "127.0.0.1:0"]
        hub = stack.enter_context(aggregator(current, tmp_path, addresses, *options))
        wait_for(lambda: all_ready(hub, 2), 60)

        either = {"also": wanted_new, "pause_seconds": 0.005}
        with Traffic(hub.address, PICTURES, wanted, **either) as traffic:
            answered_meanwhile(traffic)
            assert update.main([str(store), "install", str(new_bundle)]) == 0
            said, refused = hangs_up(hub, 2)
            assert said["changed"] == [] and said["bundle_digest"] == digests[0]
            assert "devices hold 0 of the 2 sub-models" in refused["reason"]
            assert "wrong-bundle" in refused["reason"]
            answered_meanwhile(traffic)

            assert second.end(signal.SIGTERM) == 0
            second.start()
            wait_for(lambda: metric(hub, "edvit_device_state", state="wrong-bundle") == 1, 60)
            said, *_ = hangs_up(hub)
            assert said["changed"] == ["bundle"] and said["bundle_digest"] == digests[1]
            answered_meanwhile(traffic)
        with Traffic(hub.address, PICTURES, wanted_new, pause_seconds=0.005) as after:
            answered_meanwhile(after)
            assert first.end(signal.SIGTERM) == 0
            first.start()
            wait_for(lambda: [state[1] for state in states(hub)] == ["ready"] * 2, 60)
            assert metric(hub, "edvit_aggregator_info", bundle_digest=digests[1]) == 1
            answered_meanwhile(after)

            # a bundle that is damaged: the one that is served stays
            file = current.resolve() / "fusion.tflite"
            bad = shutil.copytree(tiny_bundle, tmp_path / "bad")
            (bad / "fusion.tflite").write_bytes(file.read_bytes()[:100])
            current.unlink()
            current.symlink_to(bad)
            said, refused = hangs_up(hub, 2)
            assert said["changed"] == [] and refused["refused"] == "bundle"
            answered_meanwhile(after)
    assert whole(traffic) and whole(after)
    kinds = {
        np.array_equal(wanted[frozenset()][row.picture], wanted_new[frozenset()][row.picture])
        for row in traffic.rows
    }
    assert kinds == {False}, "or a mixture would not be seen"
