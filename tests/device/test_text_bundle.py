"""A bundle for texts: a worker and an aggregator answer a text and its numbers alike, and
`edvit predict` takes a text itself.
"""

import contextlib
import json
import shutil

import grpc
import numpy as np
import pytest

from edvit_tf.device.errors import BundleError
from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.model.text import MAX_TEXT_BYTES
from edvit_tf.device.rpc import tensors
from tests.support import tiny_bert
from tests.support.aggregator_process import aggregator, all_ready, fused, infer, wait_ready
from tests.support.commands import rewrite_manifest, run_command, run_device
from tests.support.worker_process import ask, wait_for, worker

TEXT = "W3, w25 and nothing else; w9 w9 w9!"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bert.write_bundle(tmp_path_factory.mktemp("texts") / "texts")


@pytest.fixture(scope="module")
def fleet(bundle, tmp_path_factory):
    """(aggregator, channel to it, channel to its only worker)."""
    folder = tmp_path_factory.mktemp("fleet")
    with contextlib.ExitStack() as stack:
        device = stack.enter_context(worker(bundle, folder))
        hub = stack.enter_context(aggregator(bundle, folder, [device.address]))
        channel = stack.enter_context(hub.channel())
        wait_ready(channel)
        yield hub, channel, stack.enter_context(device.channel())


def numbers(bundle, text: str = TEXT) -> np.ndarray:
    return bundle_input(open_bundle(bundle)).from_file(text.encode())


def test_the_bundle_says_what_it_takes(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["task"] == "text-classification"
    assert manifest["input"] == {
        "name": "text",
        "dtype": "int32",
        "shape": [12],
        "spec": {"kind": "text", "length": 12, "vocab_size": 30, "lower_case": True},
        "files": ["vocab.txt"],
    }
    assert "a text (int32, numbers of its WordPieces" in (bundle / "README.md").read_text()
    # none of the inputs that the ranges are of is zeros: an answer to nothing is seen
    assert min(sub["ranges"]["features"]["rms"][0] for sub in manifest["sub_models"]) > 0


def test_a_worker_answers_a_text_and_its_numbers_alike(bundle, fleet):
    def answer(value):
        request = tensors.infer_request("submodel-01", {"text": value})
        return tensors.arrays(ask(fleet[2], request))

    by_text, by_numbers = answer(TEXT.encode()), answer(numbers(bundle))
    for name in ("features", "logits"):
        np.testing.assert_array_equal(by_text[name], by_numbers[name])

    beyond = numbers(bundle)
    beyond[0, 1] = 30
    with pytest.raises(grpc.RpcError, match="numbers 1 to 30; expected 0 to 29"):
        answer(beyond)


def test_an_aggregator_makes_the_numbers_and_asks_for_them(bundle, fleet):
    expected = fused(bundle, numbers(bundle))
    for value in (TEXT.encode(), numbers(bundle)):
        outputs, said, _ = infer(fleet[1], value, name="text")
        np.testing.assert_array_equal(outputs["probabilities"], expected)
        assert said["degraded"] is False


@pytest.mark.parametrize(
    "value, message",
    [
        (b"", "got 1 elements of [0] bytes; expected one encoded file"),
        (b" \n\t", "a text of 3 characters without a word"),
        (b"w1 w2\0", "a zero byte (character 5): no text, or one in UTF-16 without its signature"),
        ("\u16a0\u16a2".encode(), "of which the vocabulary knows no piece"),
        (b"caf\xe9", "no text in UTF-8 (byte 3 is 0xe9)"),
        (b"w1 " * (MAX_TEXT_BYTES // 3 + 1), "got a text of 1048578 bytes; expected at most"),
    ],
    ids=["empty", "no word", "zero byte", "no known script", "latin-1", "too long"],
)
def test_what_is_no_text_is_refused_before_any_device(fleet, value, message):
    with pytest.raises(grpc.RpcError) as error:
        infer(fleet[1], value, name="text")
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert message in error.value.details()


def test_a_megabyte_is_answered(fleet):
    outputs, _, _ = infer(fleet[1], b"w1 " * (MAX_TEXT_BYTES // 3), name="text")
    assert np.isfinite(outputs["probabilities"]).all()


def test_predict_takes_texts_and_files(bundle, fleet, tmp_path):
    (tmp_path / "x.txt").write_text(TEXT)
    server = ["--server", fleet[0].address, "--insecure", "--timeout-ms", "30000", "--json"]
    code, out, err = run_command(["predict", *server, TEXT, tmp_path / "x.txt"])
    assert code == 0, err
    expected = fused(bundle, numbers(bundle))[0]
    said = [json.loads(line) for line in out.splitlines()]
    assert [one["file"] for one in said] == ["x.txt", TEXT]
    for one in said:
        np.testing.assert_allclose(one["probabilities"], expected, rtol=1e-6)

    done = run_device("-m", "edvit_tf.device", bundle, "--predict", tmp_path / "x.txt", "--json")
    assert done.returncode == 0, done.stderr
    probabilities = list(json.loads(done.stdout)["probabilities"].values())
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5)


def test_texts_are_answered_without_a_device_that_is_down(bundle, tmp_path):
    """Two workers, a sub-model each as devices hold them; one is killed, then it is back."""
    with contextlib.ExitStack() as stack:
        devices = []
        for name in ("submodel-00", "submodel-01"):
            only = ("--insecure", "--submodel", name[-1])
            devices.append(stack.enter_context(worker(bundle, tmp_path, *only)))
        addresses = [device.address for device in devices]
        least = ("--min-submodels", "1")
        hub = stack.enter_context(aggregator(bundle, tmp_path, addresses, *least))
        channel = stack.enter_context(hub.channel())
        wait_for(lambda: all_ready(hub, 2))  # one is enough for an answer, and these are of both

        outputs, said, _ = infer(channel, TEXT.encode(), name="text")
        assert said["degraded"] is False
        np.testing.assert_array_equal(outputs["probabilities"], fused(bundle, numbers(bundle)))

        devices[1].process.kill()
        server = ["--server", hub.address, "--insecure", "--timeout-ms", "30000", "--json"]

        def degraded():
            code, out, _ = run_command(["predict", *server, TEXT])
            answer = json.loads(out) if code == 0 else {"parameters": {"degraded": False}}
            return answer if answer["parameters"]["degraded"] else None

        answer = wait_for(degraded, 60)
        assert answer["parameters"]["missing"] == "submodel-01"
        expected = fused(bundle, numbers(bundle), missing=(1,))[0]
        np.testing.assert_allclose(answer["probabilities"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda m: m["input"]["spec"].update(vocab_size=31), "vocab.txt has 30 pieces; the models"),
        (lambda m: m["input"].update(files=[]), r"lacks vocab\.txt"),
        (lambda m: m["sub_models"][0].update(view={"right": 1}), "texts have none"),
    ],
)
def test_a_bundle_that_cannot_be_right_is_refused(bundle, tmp_path, change, message):
    copy = shutil.copytree(bundle, tmp_path / "copy")
    rewrite_manifest(copy, change)
    with pytest.raises(BundleError, match=message):
        bundle_input(open_bundle(copy))
