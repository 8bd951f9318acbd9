"""Workers that announce themselves, by real multicast on loopback; and what hostile ones get into a
devices.toml.
"""

import contextlib
import hashlib
import signal
import ssl
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from edvit_tf.aggregate.devices import fleet_devices
from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.rpc.announcement import SERVICE, ranges
from edvit_tf.operate import certs
from edvit_tf.operate.discover import Found, _found, proposal
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


def announced(name="pi", addresses=("10.0.0.1",), port=8001, **properties):
    info = SimpleNamespace(
        name=f"{name}.{SERVICE}",
        port=port,
        properties={key.encode(): value.encode() for key, value in properties.items()},
    )
    return _found(info, addresses)


def test_of_several_addresses_the_nearest_to_use_comes_first():
    found = announced(addresses=["fe80::1%2", "169.254.0.9", "2001:db8::7", "10.0.0.1", "10.0.0.1"])
    assert found.addresses == ("10.0.0.1", "2001:db8::7", "169.254.0.9", "fe80::1%2")
    assert announced(addresses=["fe80::1%2"]).addresses == ("fe80::1%2",)
    assert announced(addresses=["0.0.0.0", "ff02::1", "nonsense"]) is None
    assert announced(port=0) is None


def test_an_entry_of_ipv6_is_read_as_one(tmp_path):
    (tmp_path / "devices.toml").write_text(proposal([announced(addresses=["2001:db8::7"])], 5))
    (device,) = fleet_devices(str(tmp_path / "devices.toml"))
    assert (device.name, device.address) == ("pi", "[2001:db8::7]:8001")


def test_one_address_is_one_entry_and_names_are_unique(tmp_path):
    found = [
        Found("pi", ("10.0.0.1",), 8001),
        Found("pi", ("10.0.0.2",), 8001),
        Found("twin", ("10.0.0.1",), 8001),
        Found("pi-2", ("10.0.0.3",), 8001),
        Found(announced(name=HOSTILE).name, ("10.0.0.4",), 8001),
        Found(announced(name="\u732b").name, ("10.0.0.5",), 8001),
    ]
    text = proposal(found, 5)
    (tmp_path / "devices.toml").write_text(text)
    devices = fleet_devices(str(tmp_path / "devices.toml"))
    assert len(devices) == 5 and "# announced 2 times: twin too" in text
    assert len({device.name for device in devices}) == 5


@pytest.mark.parametrize(
    ("indices", "text"),
    [([], ""), ([3], "3"), ([2, 0, 1, 1, 5], "0-2,5"), ([1, 3, 4], "1,3-4")],
)
def test_sub_models_are_said_as_ranges(indices, text):
    assert ranges(indices) == text


def test_a_long_list_fits_a_record():
    said = ranges(range(0, 2000, 2))
    assert len(said) <= 200 and not said.endswith(",")


def test_what_is_missing_is_said(monkeypatch, tiny_bundle):
    monkeypatch.setitem(sys.modules, "zeroconf", None)
    code, _, err = run_command(["discover"])
    assert code == 3 and "pip install '.[discover]'" in err

    from edvit_tf.device.errors import RuntimeMissing
    from edvit_tf.device.worker.announce import check_zeroconf

    with pytest.raises(RuntimeMissing, match=r"pip install '.\[device,discover\]'"):
        check_zeroconf()


def test_an_interface_that_is_not_here_is_said():
    # in a process of its own: zeroconf leaves its socket to the garbage collector then
    words = ["discover", "--seconds", "1", "--interface", "192.0.2.1"]
    done = run_host("-m", "edvit_tf.cli", *words)
    assert done.returncode == 3 and "--interface" in done.stderr


def test_the_unit_of_a_worker_that_announces_itself_may_ask_for_its_addresses(tiny_bundle):
    from edvit_tf.device.worker.server import WorkerOptions
    from edvit_tf.device.worker.systemd_unit import unit

    options = dict(bundle=tiny_bundle, listen="127.0.0.1:8001", identity=None)
    for announce in (False, True):
        text = unit(WorkerOptions(**options, announce=announce))
        assert (" --announce" in text) is announce and ("AF_NETLINK" in text) is announce
