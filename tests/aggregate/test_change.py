"""When another fleet takes the place of the one that answers, and when what it had is closed."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from edvit_tf.aggregate import change
from edvit_tf.aggregate.devices import fleet_devices
from edvit_tf.aggregate.fleet import Fleet


class Watches:
    def __init__(self):
        self.ended = []

    async def end(self, links):
        self.ended += links


class Fusion:
    def __init__(self):
        self.executor, self.closed = self, False

    def close(self):
        self.closed = True


def fleet_of(links, fusion) -> Fleet:
    return Fleet(SimpleNamespace(fusion=fusion), SimpleNamespace(links=links), {}, None)


def test_two_changes_in_a_row_close_nothing_that_a_request_of_the_first_uses():
    async def check():
        watches, stays, old = Watches(), Fusion(), Fusion()
        first, second, third = (
            fleet_of(["y"], old),
            fleet_of(["y", "z"], old),
            fleet_of(["z"], stays),
        )
        with first.held():
            tasks = [asyncio.create_task(change.left(first, second, watches, []))]
            tasks += [asyncio.create_task(change.left(second, third, watches, tasks[:]))]
            # some looks of both
            _, waiting = await asyncio.wait(tasks, timeout=4 * change._LOOK_AGAIN_SECONDS)
            assert len(waiting) == 2 and watches.ended == [] and not old.closed
        await asyncio.gather(*tasks)
        assert watches.ended == ["y"] and old.closed and not stays.closed

    asyncio.run(check())


def identified(states: list[str], ca: bytes = b"ca") -> Fleet:
    links = [
        SimpleNamespace(
            state=state, device=SimpleNamespace(name=f"pi-{i}"), seen=SimpleNamespace(reason="why")
        )
        for i, state in enumerate(states)
    ]
    own = SimpleNamespace(pems=(ca, b"cert", b"key"))
    return Fleet(SimpleNamespace(own=own), SimpleNamespace(links=links), {}, None)


@pytest.mark.parametrize(
    "before, now, ca, lost, words",
    [
        (["ready", "ready"], ["ready", "ready"], b"other", [], None),
        # its replica answers for the same sub-model; the other goes on with the new one
        (["ready", "ready"], ["ready", "auth"], b"ca", ["pi-1"], None),
        (["ready", "ready"], ["ready", "unknown"], b"ca", ["pi-1"], None),
        (["ready", "down"], ["ready", "auth"], b"ca", ["pi-1"], None),
        (["ready", "down"], ["ready", "down"], b"ca", [], None),
        # nobody takes it
        (
            ["ready", "ready"],
            ["auth", "auth"],
            b"ca",
            ["pi-0", "pi-1"],
            "with it pi-0 is auth (why)",
        ),
        (["ready", "down"], ["auth", "down"], b"ca", ["pi-0"], "with it pi-0 is auth (why)"),
        # the certificate before has expired: nothing is lost
        (["auth", "auth"], ["ready", "auth"], b"ca", [], None),
        (["down", "down"], ["down", "unknown"], b"other", [], "no device can be asked"),
        (["down", "down"], ["down", "unknown"], b"ca", [], None),
    ],
)
def test_a_certificate_is_taken_for_the_devices_that_accept_it(before, now, ca, lost, words):
    old, new = identified(before), identified(now, ca)
    losing = change._lost(old, new)
    assert [link.device.name for link in losing] == lost
    why = change._why_not(old, new, losing)
    assert why is None if words is None else words in why


def test_a_devices_toml_that_is_written_meanwhile_is_read_once(tmp_path, monkeypatch):
    file = tmp_path / "devices.toml"
    file.write_text('[[device]]\nname = "pi"\nhost = "127.0.0.1"\n')
    read_text = Path.read_text

    def then_half(path, *args, **kwargs):
        text = read_text(path, *args, **kwargs)
        path.write_text("[[device]]\n")
        return text

    monkeypatch.setattr(Path, "read_text", then_half)
    (device,) = fleet_devices(str(file))
    assert device.name == "pi"


@pytest.mark.parametrize(
    "before, now, is_taken",
    [
        (5, 5, True),
        (5, 4, False),
        # one of five restarts: a file that is no more than begun must not take the other four away
        (4, 1, False),
        (4, 3, False),
        # and one that corrects an address, or adds a device, is no worse
        (4, 4, True),
        (0, 0, True),
        (0, 3, True),
        (4, 5, True),
    ],
)
def test_a_devices_toml_takes_nothing_away_that_can_be_asked(monkeypatch, before, now, is_taken):
    """Of five sub-models, all of which are needed."""
    old, new = able_to_ask(before, "old"), able_to_ask(now, "new")
    service = SimpleNamespace(fleet=old, put=lambda fleet: setattr(service, "fleet", fleet))
    dropped, refused = [], {}

    async def looked_at(service, parts):
        return new

    async def drop(service, fleet):
        dropped.append(fleet)

    monkeypatch.setattr(change, "_devices", lambda *_: new.parts.devices)
    monkeypatch.setattr(change, "_bundle", lambda *_: None)
    monkeypatch.setattr(change, "_with_devices", lambda *_: new.parts)
    monkeypatch.setattr(change, "_looked_at", looked_at)
    monkeypatch.setattr(change, "_dropped", drop)
    monkeypatch.setattr(change, "_tell", lambda before, now, said: refused.update(said))
    asyncio.run(change.reload(service, None))

    assert service.fleet is (new if is_taken else old) and dropped == ([] if is_taken else [new])
    assert list(refused) == ([] if is_taken else ["devices"])
    if refused:
        words = f"hold {now} of the 5 sub-models, those before {before}, and 5 are needed"
        assert words in refused["devices"]


def able_to_ask(count: int, devices: str) -> Fleet:
    names = [f"submodel-0{j}" for j in range(5)]
    fanout = SimpleNamespace(
        available=lambda: names[:count], expected=names, why_missing=lambda name: "down", links=[]
    )
    return Fleet(SimpleNamespace(devices=devices, least=5), fanout, {}, None)
