"""Where devices are, which of them is which, and what each may be asked for."""

import asyncio
import contextlib
import gc
import signal
import socket
import threading

import numpy as np
import pytest

from edvit_tf.aggregate.devices import Device, checked_address, fleet_devices
from edvit_tf.aggregate.own_thread import OwnThread
from edvit_tf.aggregate.pins import Pins
from edvit_tf.device.errors import AddressError
from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.rpc.ports import split_address
from edvit_tf.errors import ConfigError
from tests.support.aggregator_process import aggregator, all_ready, device_states, infer
from tests.support.fake_device import fake_device, good
from tests.support.fleet_process import health
from tests.support.worker_process import wait_for, worker

X = np.random.default_rng(1).integers(0, 256, (1, 16, 16, 1), np.uint8)
METRICS = ("--metrics", "127.0.0.1:0")

# As a name server that is away: some names take two minutes to fail.
SLOW_NAMES = """
import socket, time
known = socket.getaddrinfo

def slow(host, *more, **options):
    if str(host).startswith("gone-"):
        time.sleep(120)
        raise socket.gaierror(-2, "Name or service not known")
    return known(host, *more, **options)

socket.getaddrinfo = slow
"""


@pytest.mark.parametrize("text", ["127.0.0.1:8001:8001", "[127.0.0.1:80]:8001", "pi:80:8001"])
def test_a_port_that_is_given_twice_is_no_ipv6(text):
    with pytest.raises(AddressError, match="has a colon and is not IPv6.*port once"):
        split_address(text)


@pytest.mark.parametrize(
    "host",
    ["h h", " h", "h\t", "h\n", "h\u200b", "me@h", "h/v2", "a..b", ".h", ".", "..", "h#1", "h["],
)
def test_what_can_never_be_a_host_is_no_device_that_is_down(host):
    with pytest.raises(AddressError, match="is no name of a host.*HOST:PORT alone"):
        split_address(f"{host}:8001")
    with pytest.raises(ConfigError, match="device a: .*is no name of a host"):
        checked_address(f"{host}:8001", "device a")


@pytest.mark.parametrize("host", ["pi", "pi-1.local", "my_pi", "pi.example.", "größe.local", "1"])
def test_names_of_hosts_are_addresses(host):
    assert split_address(f"{host}:8001") == (host, 8001)


def test_ipv6_is_an_address():
    assert split_address("[::1]:8001") == ("::1", 8001)
    assert split_address("[fe80::1%eth0]:8001") == ("fe80::1%eth0", 8001)


def test_a_devices_toml_with_a_port_in_the_host_is_refused(tmp_path):
    file = tmp_path / "devices.toml"
    file.write_text('[[device]]\nname = "a"\nhost = "127.0.0.1:8001"\n')
    with pytest.raises(ConfigError, match="device a: .*'127.0.0.1:8001'.*port once"):
        fleet_devices(str(file))


def test_pins_are_of_devices_toml_else_of_the_plan_by_both_names(tiny_bundle):
    pins = Pins(open_bundle(tiny_bundle).sub_models)  # submodel-0J was placed on pi-J
    both = {"submodel-00", "submodel-01"}
    assert pins.allowed(Device("192.0.2.1:8001", "192.0.2.1:8001"), None) == both
    assert pins.allowed(Device("pi-1", "a:1"), None) == {"submodel-01"}
    assert pins.allowed(Device("192.0.2.1:8001", "a:1"), "pi-0") == {"submodel-00"}
    assert pins.allowed(Device("pi-1", "a:1"), "shared-name") == {"submodel-01"}
    # the certificate of another device, at this one's address
    assert pins.allowed(Device("pi-1", "a:1"), "pi-0") == set()
    # what the operator says goes before
    assert pins.allowed(Device("pi-1", "a:1", (0, 1)), "pi-0") == both
    with pytest.raises(ConfigError, match="submodels has 2; the bundle has 0 to 1"):
        pins.check(Device("pi-1", "a:1", (0, 2)))


def test_a_device_is_asked_for_what_was_placed_there_alone(tiny_bundle, tmp_path):
    """The second claims both sub-models, and would answer ones for them."""
    bundle = open_bundle(tiny_bundle)
    asked = []

    def answer(request):
        asked.append(request.model_name)
        return good(request.model_name, bundle.digest, bundle.widths[0], request)

    with contextlib.ExitStack() as stack:
        first = stack.enter_context(worker(tiny_bundle, tmp_path, "--insecure", "--submodel", "0"))
        liar = stack.enter_context(fake_device("submodel-00", bundle.digest, answer))
        file = tmp_path / "devices.toml"
        text = ""
        for name, address in (("pi-0", first.address), ("pi-1", liar)):
            host, port = split_address(address)
            text += f'[[device]]\nname = "{name}"\nhost = "{host}"\nport = {port}\n'
        file.write_text(text)

        more = ("--min-submodels", "1", *METRICS)
        one = stack.enter_context(aggregator(tiny_bundle, tmp_path, [str(file)], *more))
        channel = stack.enter_context(one.channel())
        wait_for(lambda: device_states(one) == {"pi-0": "ready", "pi-1": "not-serving"})
        for _ in range(4):
            said = infer(channel, X)[1]
            assert said["missing"] == "submodel-01" and said["submodel-00.device"] == "pi-0"

        row = health(one)["devices"][1]
        assert row["state"] == "not-serving" and row["hosts"] == []
        assert "it has submodel-00 too" in row["reason"] and "submodels = [...]" in row["reason"]
        assert asked == []


def test_one_worker_under_two_addresses_is_one(tiny_bundle, tmp_path):
    with contextlib.ExitStack() as stack:
        device = stack.enter_context(worker(tiny_bundle, tmp_path))
        port = split_address(device.address)[1]
        addresses = [device.address, f"localhost:{port}"]
        one = stack.enter_context(aggregator(tiny_bundle, tmp_path, addresses, *METRICS))

        def states():
            return [row["state"] for row in health(one)["devices"]]

        wait_for(lambda: states() == ["ready", "duplicate"])
        reason = health(one)["devices"][1]["reason"]
        assert device.address in reason and "drop one" in reason


def test_no_proxy_of_the_environment_stands_before_the_devices(tiny_bundle, tmp_path):
    nowhere = "http://127.0.0.1:9"
    with contextlib.ExitStack() as stack:
        device = stack.enter_context(worker(tiny_bundle, tmp_path))
        one = stack.enter_context(
            aggregator(
                tiny_bundle, tmp_path, [device.address], http_proxy=nowhere, https_proxy=nowhere
            )
        )
        channel = stack.enter_context(one.channel())
        wait_for(lambda: all_ready(one, 1))
        assert not infer(channel, X)[1]["degraded"]


def test_names_that_do_not_resolve_hold_up_neither_a_device_nor_the_end(tiny_bundle, tmp_path):
    gone = [f"gone-{j}.test:8001" for j in range(12)]
    with contextlib.ExitStack() as stack:
        device = stack.enter_context(worker(tiny_bundle, tmp_path))
        addresses = [*gone, device.address]
        one = stack.enter_context(
            aggregator(tiny_bundle, tmp_path, addresses, *METRICS, prelude=SLOW_NAMES)
        )
        ready = wait_for(
            lambda: [e for e in one.events("device") if e["device"] == device.address], 60
        )
        assert ready[0]["state"] == "ready"
        wait_for(lambda: [row["state"] for row in health(one)["devices"]].count("down") == 12, 60)

        # before it waited for the names
        assert one.stop(signal.SIGTERM, 60) == 0


def test_a_call_that_blocks_is_given_up_and_not_repeated():
    over = threading.Event()

    async def talk():
        thread = OwnThread()
        assert await thread.run(lambda: 3, 5) == 3
        with pytest.raises(socket.gaierror):
            await thread.run(lambda: socket.getaddrinfo("", 0, flags=-1), 5)
        with pytest.raises(TimeoutError, match="no end of it within 0.01 s"):
            await thread.run(over.wait, 0.01)
        with pytest.raises(TimeoutError, match="an earlier look-up"):
            await thread.run(lambda: 3, 5)

        over.set()
        while thread._pending and not thread._pending.done():
            await asyncio.sleep(0.01)
        assert await thread.run(lambda: 4, 5) == 4

    asyncio.run(talk())


def test_a_look_up_that_fails_after_its_time_is_not_logged_as_never_retrieved():
    over = threading.Event()
    logged = []

    def fail():
        over.wait()
        raise socket.gaierror("no such name")

    async def talk():
        asyncio.get_running_loop().set_exception_handler(lambda _, told: logged.append(told))
        thread = OwnThread()
        with pytest.raises(TimeoutError):
            await thread.run(fail, 0.01)

        over.set()
        while not thread._pending.done():
            await asyncio.sleep(0.01)
        # only then it is forgotten
        assert await thread.run(lambda: 4, 5) == 4
        gc.collect()

    asyncio.run(talk())
    assert logged == []
