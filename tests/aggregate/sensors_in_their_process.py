"""Workers with sensors of their own: each sub-model gets its own input, and one answer is fused."""

import contextlib
import dataclasses
import io
import json
import time
import types

import numpy as np
import pytest

from edvit_tf.aggregate.sensors import SensorFleet
from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.rpc import messages
from edvit_tf.errors import ConfigError, RequestFailed
from tests.support.aggregator_process import outputs
from tests.support.commands import run_python
from tests.support.fake_device import fake_device, good
from tests.support.worker_process import worker

RNG = np.random.default_rng(4)
NAMES = ("submodel-00", "submodel-01")
SEEN = {name: RNG.integers(0, 256, (1, 16, 16, 1), np.uint8) for name in NAMES}


@pytest.fixture(scope="module")
def workers(copies_bundle, tmp_path_factory):
    """A worker for each sub-model."""
    with contextlib.ExitStack() as stack:
        started = {}
        for index, name in enumerate(NAMES):
            folder = tmp_path_factory.mktemp(name)
            arguments = ("--insecure", "--submodel", str(index))
            started[name] = stack.enter_context(worker(copies_bundle, folder, *arguments))
        yield started


@contextlib.contextmanager
def connected(bundle, addresses, **options):
    fleet = SensorFleet(open_bundle(bundle), addresses, None, **options)
    try:
        yield fleet
    finally:
        fleet.close()


@pytest.fixture
def fleet(copies_bundle, workers):
    addresses = {name: one.address for name, one in workers.items()}
    with connected(copies_bundle, addresses, timeout_seconds=10) as made:
        yield made


def expected(folder, seen: dict[str, np.ndarray]) -> np.ndarray:
    """Probabilities (classes,) of what each sensor saw, by the files alone."""
    bundle = open_bundle(folder)
    features, present = [], []
    for entry, width in zip(bundle.sub_models, bundle.widths, strict=True):
        present.append(entry.name in seen)
        if entry.name in seen:
            x = {"image": entry.view.applied(seen[entry.name])}
            features.append(outputs(folder / entry.file, x)["features"])
        else:
            features.append(np.zeros((1, width), np.float32))

    inputs = {
        "features": np.concatenate(features, axis=1),
        "present": np.array([present], np.float32),
    }
    return outputs(folder / bundle.fusion.file, inputs)["probabilities"][0]


def test_each_worker_answers_what_its_own_sensor_saw(copies_bundle, fleet):
    answer = fleet.ask(SEEN)
    np.testing.assert_array_equal(answer["probabilities"], expected(copies_bundle, SEEN))
    assert answer["label"] == fleet.bundle.labels[int(answer["probabilities"].argmax())]
    assert answer["probability"] == answer["probabilities"].max()
    assert not answer["parameters"]["degraded"]
    assert all(answer["parameters"][f"{name}.compute_ms"] > 0 for name in NAMES)

    # the other way round it is another scene
    swapped = {name: SEEN[other] for name, other in zip(NAMES, reversed(NAMES), strict=True)}
    assert not np.array_equal(fleet.ask(swapped)["probabilities"], answer["probabilities"])


def test_a_process_that_has_tensorflow_asks_as_well(copies_bundle, workers, tmp_path):
    """A notebook that has trained."""
    np.savez(tmp_path / "seen.npz", **SEEN)
    code = """
import json, sys
import numpy as np, tensorflow
from edvit_tf.aggregate.sensors import SensorFleet
from edvit_tf.device.model.bundle import open_bundle
fleet = SensorFleet(open_bundle(sys.argv[1]), json.loads(sys.argv[2]), None, 10)
print(json.dumps(fleet.ask(dict(np.load(sys.argv[3])))["probabilities"].tolist()))
fleet.close()
"""
    addresses = json.dumps({name: one.address for name, one in workers.items()})
    done = run_python("-c", code, copies_bundle, addresses, tmp_path / "seen.npz")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(told, expected(copies_bundle, SEEN), atol=1e-5)


def test_a_sensor_may_bring_a_file(copies_bundle, fleet):
    from PIL import Image

    stored = io.BytesIO()
    Image.fromarray(SEEN[NAMES[1]][0, :, :, 0]).save(stored, "PNG")
    answer = fleet.ask({**SEEN, NAMES[1]: stored.getvalue()})
    np.testing.assert_array_equal(answer["probabilities"], expected(copies_bundle, SEEN))


def test_a_sensor_without_a_picture_and_one_that_cannot_be_used_are_missing(copies_bundle, fleet):
    seen = {NAMES[0]: SEEN[NAMES[0]]}
    alone = expected(copies_bundle, seen)

    answer = fleet.ask(seen)
    assert answer["parameters"]["missing"] == NAMES[1] and answer["parameters"]["degraded"]
    assert answer["parameters"]["submodel-01.missing"] == "no input"
    np.testing.assert_array_equal(answer["probabilities"], alone)

    answer = fleet.ask({**SEEN, NAMES[1]: b"no picture"})
    assert "INVALID_ARGUMENT" in answer["parameters"]["submodel-01.missing"]
    np.testing.assert_array_equal(answer["probabilities"], alone)


def test_a_worker_that_is_away_is_missing(copies_bundle, workers):
    addresses = {NAMES[0]: workers[NAMES[0]].address, NAMES[1]: "127.0.0.1:1"}
    with connected(copies_bundle, addresses) as fleet:
        answer = fleet.ask(SEEN)
        assert answer["parameters"]["submodel-01.missing"].startswith("UNAVAILABLE")
        alone = expected(copies_bundle, {NAMES[0]: SEEN[NAMES[0]]})
        np.testing.assert_array_equal(answer["probabilities"], alone)

        with pytest.raises(RequestFailed, match="submodel-00: no input; submodel-01: UNAVAIL"):
            fleet.ask({NAMES[1]: SEEN[NAMES[1]]})


def test_a_worker_that_is_older_than_views_is_missing(copies_bundle):
    bundle = open_bundle(copies_bundle)

    def answer(request):
        return good(NAMES[0], bundle.digest, bundle.widths[0], request)

    with (
        fake_device(NAMES[0], bundle.digest, answer) as old,
        connected(copies_bundle, {NAMES[0]: old}) as fleet,
        pytest.raises(RequestFailed, match="wrong-view: .* and 'down 2, right -1' is wanted"),
    ):
        fleet.ask(SEEN)


def test_a_worker_that_is_slow_keeps_no_other_one_out(copies_bundle):
    """Neither what is asked of it, nor a look at the other for which no time would be left."""
    bundle = open_bundle(copies_bundle)

    def device(place, seconds):
        def answer(request):
            time.sleep(seconds)
            view = str(bundle.sub_models[place].view)
            return good(NAMES[place], bundle.digest, bundle.widths[place], request, view)

        return fake_device(NAMES[place], bundle.digest, answer)

    with device(0, 5.0) as slow, device(1, 0.1) as other:
        addresses = dict(zip(NAMES, (slow, other), strict=True))
        with connected(copies_bundle, addresses, timeout_seconds=2.5) as fleet:
            for _ in range(2):
                said = fleet.ask(SEEN)["parameters"]
                assert said["missing"] == NAMES[0]
                assert "deadline" in said["submodel-00.missing"].lower()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([[1, 2], [3, 4]], "submodel-01 is of the type list; give an array"),
        (None, "submodel-01 is of the type NoneType"),
        ("front.jpg", r"of the type str; .*read_bytes\(\)"),
        (np.array([["a"]]), "an array of <U1, which cannot be sent"),
        (np.array([[None]]), "an array of object"),
        (
            np.zeros((2, 16, 16, 1), np.uint8),
            r"shape \(2, 16, 16, 1\) .* one input at a time, \(1, 16, 16, 1\) of uint8",
        ),
        (np.zeros((1, 16, 16, 1), np.float32), "the type float32; the bundle takes"),
    ],
    ids=["a list", "nothing", "a path", "texts", "objects", "two inputs", "another type"],
)
def test_what_is_no_input_is_refused_before_anything_is_sent(copies_bundle, value, words):
    bundle = open_bundle(copies_bundle)
    asked = []
    with (
        fake_device(NAMES[0], bundle.digest, asked.append) as device,
        connected(copies_bundle, {NAMES[0]: device, NAMES[1]: "127.0.0.1:1"}) as fleet,
        pytest.raises(ConfigError, match=words),
    ):
        fleet.ask({**SEEN, NAMES[1]: value})
    assert asked == []


def test_a_file_may_come_as_any_bytes(copies_bundle, fleet):
    from PIL import Image

    stored = io.BytesIO()
    Image.fromarray(SEEN[NAMES[1]][0, :, :, 0]).save(stored, "PNG")
    for kind in (bytearray, memoryview):
        answer = fleet.ask({**SEEN, NAMES[1]: kind(stored.getvalue())})
        np.testing.assert_array_equal(answer["probabilities"], expected(copies_bundle, SEEN))


def test_a_call_that_cannot_be_made_leaves_no_other_one_running(copies_bundle, fleet, monkeypatch):
    cancelled = []

    class Stub:
        def __init__(self, channel, method):
            self.works = channel is fleet._channels[NAMES[0]]

        def future(self, request, timeout):
            if not self.works:
                raise ValueError("Cannot invoke RPC on closed channel!")
            return types.SimpleNamespace(cancel=lambda: cancelled.append(request.model_name))

    monkeypatch.setattr(messages, "stub", Stub)
    with pytest.raises(ValueError, match="closed"):
        fleet.ask(SEEN)
    assert cancelled == [NAMES[0]]


def test_names_that_the_bundle_does_not_have_are_refused(copies_bundle, fleet):
    with pytest.raises(ConfigError, match=r"inputs are of \['front'\]; the bundle has submodel-00"):
        fleet.ask({"front": SEEN[NAMES[0]]})
    with pytest.raises(ConfigError, match="inputs are of the type list; give them by"):
        fleet.ask([SEEN[NAMES[0]]])
    with pytest.raises(ConfigError, match="workers are of no sub-model"):
        SensorFleet(open_bundle(copies_bundle), {}, None)


@pytest.mark.parametrize(
    ("addresses", "words"),
    [
        (("pi-0.local", "pi-1:8001"), "submodel-00: 'pi-0.local' is no address; write HOST:PORT"),
        (("pi-0:8001", "pi-1:0"), "submodel-01: 'pi-1:0' has port 0"),
        (("pi-0:8001", "pi-1:80:80"), "worker of submodel-01: .* Write the port once"),
        (("pi-0:8001", ""), "worker of submodel-01: '' is no address"),
        (("pi-0:8001", ("pi-1", 8001)), "of the type tuple; write HOST:PORT"),
        (("pi-0:8001", " pi-0:8001"), "the same address pi-0:8001, and no device .* holds both"),
    ],
)
def test_an_address_is_held_against_the_rules_of_an_aggregator(copies_bundle, addresses, words):
    with pytest.raises(ConfigError, match=words):
        SensorFleet(open_bundle(copies_bundle), dict(zip(NAMES, addresses, strict=True)), None)


def test_a_device_that_holds_two_sub_models_may_be_asked_for_both(copies_bundle):
    bundle = open_bundle(copies_bundle)
    both = [dataclasses.replace(entry, devices=("one",)) for entry in bundle.sub_models]
    manifest = dataclasses.replace(bundle.manifest, sub_models=tuple(both))
    bundle = dataclasses.replace(bundle, manifest=manifest)
    SensorFleet(bundle, dict.fromkeys(NAMES, "[::1]:8001"), None).close()


@pytest.mark.parametrize(
    "seconds", [0, -1.0, float("nan"), float("inf"), 1e30, 3601, True, None, "1"]
)
def test_a_timeout_that_is_no_time_is_refused(copies_bundle, seconds):
    with pytest.raises(ConfigError, match=r"timeout_seconds is .*above 0 and at most 3600"):
        SensorFleet(open_bundle(copies_bundle), {NAMES[0]: "pi-0:8001"}, None, seconds)
