"""Workers that announce themselves, by real multicast on loopback; and what hostile ones get into a
devices.toml.
"""

import contextlib
import hashlib
import itertools
import signal
import ssl
import sys
import threading
import time
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from edvit_tf.aggregate.devices import fleet_devices
from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.rpc.announcement import SERVICE
from edvit_tf.device.worker import announce
from edvit_tf.operate import certs
from edvit_tf.operate.discover import Heard, discover, proposal
from tests.support.commands import run_command, run_host
from tests.support.worker_process import wait_for, worker

zeroconf = pytest.importorskip("zeroconf")
const = pytest.importorskip("zeroconf.const")
LOOPBACK = ("--interface", "127.0.0.1")
HOSTILE = '"\n[[device]]\nname = "evil\x1b[2J\u202e'
ODD = '"] name = "evil\u202e'  # what zeroconf announces; control characters it would refuse
PRINT = "a" * 64


@pytest.fixture
def multicast():
    """A responder on loopback; skips where the kernel carries no multicast there."""
    try:
        network = zeroconf.Zeroconf(interfaces=["127.0.0.1"])
    except OSError as error:
        pytest.skip(f"no multicast on loopback: {error}")
    with network:
        yield network


def heard(*wanted: str, without: str = "") -> str:
    """What `edvit discover` prints, once all of this is in it. A responder answers no question of
    all twice within a second, so it takes a few.
    """

    def said() -> str | None:
        code, out, err = run_command(["discover", "--seconds", "3", *LOOPBACK])
        assert code in (0, 1), err
        fits = all(text in out for text in wanted) and not (without and without in out)
        return out if fits else None

    return wait_for(said, 120)


def port_of(address: str) -> str:
    return f"port = {address.rpartition(':')[2]}\n"


def pairs_of(identity: Path) -> str:
    """The fingerprint as openssl prints it."""
    end = "-----END CERTIFICATE-----\n"
    first = (identity / "cert.pem").read_text().partition(end)[0]
    sha256 = hashlib.sha256(ssl.PEM_cert_to_DER_cert(first + end)).hexdigest().upper()
    return ":".join(sha256[i : i + 2] for i in range(0, 64, 2))


def test_a_worker_that_announces_itself_is_proposed_and_one_that_ends_is_not(
    tiny_bundle, tmp_path, multicast
):
    identity = certs.issue(certs.init(tmp_path / "ca"), "worker", "pi-0", ["127.0.0.1"])
    pairs = pairs_of(identity)
    with worker(tiny_bundle, tmp_path, "--identity", str(identity), "--announce") as one:
        text = heard(port_of(one.address), pairs)
        digest = open_bundle(tiny_bundle).digest
        assert f"# says that it has bundle {digest[:16]}, sub-models 0-1\n" in text
        assert "compare its fingerprint" in text

        # as it is printed it is a devices.toml
        (tmp_path / "devices.toml").write_text(text)
        addresses = [device.address for device in fleet_devices(str(tmp_path / "devices.toml"))]
        assert one.address in addresses

        # another certificate while it runs
        again = certs.issue(tmp_path / "ca", "worker", "pi-1", ["127.0.0.1"])
        for name in ("cert.pem", "key.pem"):
            (again / name).replace(identity / name)
        one.process.send_signal(signal.SIGHUP)
        heard(port_of(one.address), pairs_of(identity), without=pairs)
        assert one.stop() == 0

    # another that is still there shows that the network is heard
    multicast.register_service(service("witness", 9))
    heard("port = 9\n", without=port_of(one.address))


def test_a_worker_says_nothing_unless_it_is_told_to(tiny_bundle, tmp_path, multicast):
    with (
        worker(tiny_bundle, tmp_path, "--insecure") as mute,
        worker(tiny_bundle, tmp_path, "--insecure", "--announce") as one,
    ):
        text = heard(port_of(one.address), "# no fingerprint: without TLS")
        assert port_of(mute.address) not in text
        assert one.events("announce") and not mute.events("announce")


@contextlib.contextmanager
def announcing(address: str, **properties):
    """An Announcement, in its thread as in a worker."""
    one = announce.Announcement(address, properties)
    thread = threading.Thread(target=one._keep)
    thread.start()
    try:
        yield one
    finally:
        one._end.set()
        one._news.set()
        thread.join()


def entries(text: str) -> dict[str, str]:
    """Of what discover prints, each entry's text by its address. Other tests announce as well."""
    said = {}
    for part in text.split("[[device]]")[1:]:
        (device,) = tomllib.loads(f"[[device]]{part}")["device"]
        said[f"{device.get('host')}:{device.get('port')}"] = part
    return said


def test_two_pis_of_one_host_name_are_two_entries_each_with_its_own(monkeypatch, multicast):
    monkeypatch.setattr(announce.socket, "gethostname", lambda: "raspberrypi")
    monkeypatch.setattr(announce, "_where", lambda host: ([host], ["127.0.0.1"]))
    with (
        announcing("127.0.0.1:8001", sha256="a" * 64),
        announcing("127.0.0.2:8001", sha256="b" * 64),
    ):
        places = ["127.0.0.1:8001", "127.0.0.2:8001"]
        said = entries(heard(*(f'host = "{place[:9]}"\nport = 8001\n' for place in places)))
        one, other = (said[place] for place in places)
        assert "AA:AA" in one and "also at" not in one
        assert "BB:BB" in other and "also at" not in other
        assert 'name = "raspberrypi-8001' in one
        # the host's own name is avahi's
        assert not multicast.cache.entries_with_name("raspberrypi.local.")


def test_other_addresses_are_announced_without_a_restart(monkeypatch, multicast):
    monkeypatch.setattr(announce, "_LOOK_SECONDS", 0.2)
    addresses = ["127.0.0.3"]
    monkeypatch.setattr(announce, "_where", lambda host: (list(addresses), ["127.0.0.1"]))
    with announcing("127.0.0.1:8003"):
        heard('host = "127.0.0.3"\nport = 8003')
        addresses[:] = ["127.0.0.4"]
        text = heard('host = "127.0.0.4"\nport = 8003', without='host = "127.0.0.3"')
        assert "127.0.0.3" not in entries(text)["127.0.0.4:8003"]


def test_news_while_nothing_can_be_announced_cost_no_more_tries(monkeypatch):
    tries = []

    def fails(self) -> None:
        tries.append(time.monotonic())
        raise OSError("this machine has no address in a network yet")

    monkeypatch.setattr(announce, "_RETRY_SECONDS", 0.5)
    monkeypatch.setattr(announce.Announcement, "_announce", fails)
    with announcing("0.0.0.0:8001") as one:
        wait_for(lambda: tries)
        one.say({"submodels": "1"})
        wait_for(lambda: len(tries) >= 4)
    assert all(after - before > 0.4 for before, after in itertools.pairwise(tries))


def adapter(name: str, *addresses):
    return SimpleNamespace(name=name, ips=[SimpleNamespace(ip=each) for each in addresses])


@pytest.fixture
def interfaces(tmp_path, monkeypatch):
    """Says which there are: name -> what is under it, or "" for hardware."""

    def are(**lower: str) -> None:
        for name, below in lower.items():
            (tmp_path / name / (f"lower_{below}" if below else "device")).mkdir(parents=True)
        monkeypatch.setattr(announce, "_INTERFACES", tmp_path)

    return are


def test_addresses_of_containers_and_vpns_are_not_announced(interfaces, monkeypatch):
    import ifaddr

    interfaces(wlan0="", eth0="", br0="eth0", docker0="veth7", virbr0="vnet0")
    adapters = [
        adapter("lo", "127.0.0.1"),
        adapter("docker0", "172.17.0.1"),
        adapter("virbr0", "192.168.122.1"),
        adapter("tun0", "10.8.0.2"),
        adapter("br0", "192.168.1.20"),
        adapter("wlan0:1", "192.168.2.20", ("fd00::2", 0, 0)),
    ]
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: adapters)
    assert announce._where("0.0.0.0")[0] == ["192.168.1.20", "192.168.2.20"]
    assert announce._where("::")[0] == ["192.168.1.20", "192.168.2.20", "fd00::2"]

    # before the network is up
    del adapters[4:]
    with pytest.raises(OSError, match="no address"):
        announce._where("0.0.0.0")


def test_in_a_container_its_virtual_interface_is_announced(interfaces, monkeypatch):
    import ifaddr

    interfaces(lo="nothing", eth0="nothing")
    monkeypatch.setattr(
        ifaddr, "get_adapters", lambda: [adapter("lo", "127.0.0.1"), adapter("eth0", "172.17.0.5")]
    )
    assert announce._where("0.0.0.0")[0] == ["172.17.0.5"]


def service(name: str, port: int, **properties):
    return zeroconf.ServiceInfo(
        SERVICE,
        f"{name}.{SERVICE}",
        port=port,
        properties=properties,
        server=f"host-{port}.local.",
        parsed_addresses=["127.0.0.1"],
    )


def packet(name: str, port: int):
    """An answer that no library of good manners would send."""
    out = zeroconf.DNSOutgoing(const._FLAGS_QR_RESPONSE | const._FLAGS_AA)
    seconds, kind = 120, const._CLASS_IN
    pointer = zeroconf.DNSPointer(SERVICE, const._TYPE_PTR, kind, seconds, name)
    service = zeroconf.DNSService(
        name, const._TYPE_SRV, kind, seconds, 0, 0, port, "\x1b[31m.local."
    )
    for record in (
        pointer,
        service,
        zeroconf.DNSText(name, const._TYPE_TXT, kind, seconds, b"\xff"),
    ):
        out.add_answer_at_time(record, 0)
    return out


@contextlib.contextmanager
def repeated(network, out):
    """Sent again and again."""
    over = threading.Event()

    def send() -> None:
        while not over.wait(0.2):
            network.send(out)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_hostile_announcement_is_escaped_and_hides_no_other(multicast, tmp_path):
    record = {"bundle": HOSTILE, "submodels": "0\n# x", "sha256": b"\xff\x00" * 32}
    multicast.register_service(service(ODD, 1, **record))
    record = {"bundle": "0123456789abcdef", "submodels": "0-3,7", "sha256": PRINT}
    multicast.register_service(service("good", 2, **record))
    with repeated(multicast, packet(f"{HOSTILE}.{SERVICE}", 3)):
        text = heard("port = 1\n", "port = 2\n")
    assert "bundle 0123456789abcdef, sub-models 0-3,7" in text
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert "bundle ?, sub-models ?" in text and "evil = " not in text
    (tmp_path / "devices.toml").write_text(text)
    found = {device.address for device in fleet_devices(str(tmp_path / "devices.toml"))}
    assert {"127.0.0.1:1", "127.0.0.1:2"} <= found


class Flood(zeroconf.ServiceBrowser):
    """Hears hundreds of names that lead nowhere, and then the network."""

    def __init__(self, network, kind, handlers) -> None:
        added = zeroconf.ServiceStateChange.Added
        for number in range(600):
            handlers[0](network, kind, f"flood-{number}.{SERVICE}", added)
        super().__init__(network, kind, handlers=handlers)


def test_a_flood_hides_no_other_and_is_said(monkeypatch, multicast):
    multicast.register_service(service("genuine", 4))
    monkeypatch.setattr(zeroconf, "ServiceBrowser", Flood)

    def found() -> Heard | None:
        said = discover(2, ["127.0.0.1"])
        return said if 4 in [one.port for one in said.found] else None

    said = wait_for(found, 120)
    assert said.is_flooded and "floods this network" in proposal(said, 2)
    assert len(said.found) < 500  # none of those that lead nowhere
    assert "floods" not in proposal(Heard(said.found), 2)


def test_what_is_missing_is_said(monkeypatch, tiny_bundle):
    monkeypatch.setitem(sys.modules, "zeroconf", None)
    code, _, err = run_command(["discover"])
    assert code == 3 and "pip install '.[discover]'" in err

    from edvit_tf.device.errors import RuntimeMissing
    from edvit_tf.device.worker.announce import check_zeroconf

    with pytest.raises(RuntimeMissing, match=r"pip install '.\[device,discover\]'"):
        check_zeroconf()


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_an_interface_that_is_not_here_is_said(address):
    # in a process of its own: zeroconf leaves its socket to the garbage collector then
    words = ["discover", "--seconds", "1", "--interface", address]
    done = run_host("-m", "edvit_tf.cli", *words)
    assert done.returncode == 3 and "--interface" in done.stderr
    assert "Traceback" not in done.stderr


def test_longer_than_an_hour_is_refused():
    code, _, err = run_command(["discover", "--seconds", "1e10"])
    assert code == 2 and "3600 at most" in err


def test_the_unit_of_a_worker_that_announces_itself_may_ask_for_its_addresses(tiny_bundle):
    from edvit_tf.device.worker.server import WorkerOptions
    from edvit_tf.device.worker.systemd_unit import unit

    options = dict(bundle=tiny_bundle, listen="127.0.0.1:8001", identity=None)
    for told in (False, True):
        text = unit(WorkerOptions(**options, announce=told))
        assert (" --announce" in text) is told and ("AF_NETLINK" in text) is told
