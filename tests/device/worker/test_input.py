"""Bad input to a real worker: each is named and refused, and the next good request is answered as
if nothing was.
"""

import socket
import struct
import wave
from io import BytesIO

import grpc
import numpy as np
import pytest

from edvit_tf.device.model.decode_sound import decode_audio
from edvit_tf.device.model.sound import mel_input
from edvit_tf.device.rpc import messages, tensors
from tests.support import made_bundle
from tests.support.worker_process import ask, wait_for, worker

PICTURE = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
MEL = np.linspace(-80, 0, 256, dtype=np.float32).reshape(1, 16, 16, 1)
INVALID, EXHAUSTED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.fixture(scope="module")
def pictures(tiny_bundle, tmp_path_factory):
    with worker(tiny_bundle, tmp_path_factory.mktemp("pictures")) as one, one.channel() as channel:
        yield one, channel


@pytest.fixture(scope="module")
def sound(tiny_mel_bundle, tmp_path_factory):
    with worker(tiny_mel_bundle, tmp_path_factory.mktemp("sound")) as one, one.channel() as channel:
        yield one, channel


def good(channel, name="image", x=PICTURE) -> list[bytes]:
    return list(ask(channel, tensors.infer_request("submodel-00", {name: x})).raw_output_contents)


def refused(channel, request) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as error:
        ask(channel, request)
    return error.value.code(), error.value.details()


def request(image=PICTURE, model="submodel-00", **changes):
    made = tensors.infer_request(model, {"image": image})
    for field, value in changes.items():
        setattr(made, field, value)
    return made


def changed(change):
    made = request()
    change(made)
    return made


def png(width: int, height: int) -> bytes:
    from PIL import Image

    file = BytesIO()
    Image.new("L", (width, height)).save(file, "PNG")
    return file.getvalue()


BAD = {
    "garbage": (b"\xff\xfe\xfd" * 50, INVALID, "150 bytes that are no protobuf message"),
    "empty": (b"", INVALID, "model_name: got ''; expected one of ['submodel-00', 'submodel-01']"),
    "wrong model": (
        request(model="submodel-77"),
        INVALID,
        "model_name: got 'submodel-77'; expected one of",
    ),
    "wrong version": (
        request(model_version="2"),
        INVALID,
        "version of submodel-00: got '2'; expected '1'",
    ),
    "no input": (
        tensors.infer_request("submodel-00", {}),
        INVALID,
        "inputs: got []; expected ['image']",
    ),
    "wrong name": (
        tensors.infer_request("submodel-00", {"picture": PICTURE}),
        INVALID,
        "got ['picture']",
    ),
    "one too many": (
        tensors.infer_request("submodel-00", {"image": PICTURE, "x": PICTURE}),
        INVALID,
        "'x']; expected",
    ),
    "wrong shape": (
        request(PICTURE.reshape(1, 16, 4, 4)),
        INVALID,
        "got [1, 16, 4, 4]; expected [1, 16, 16, 1]",
    ),
    "no batch": (request(PICTURE[0]), INVALID, "got [16, 16, 1]"),
    "batch 2": (
        request(np.repeat(PICTURE, 2, 0)),
        INVALID,
        "got [2, 16, 16, 1]; expected [1, 16, 16, 1]; the",
    ),
    "wrong type": (
        request(PICTURE.astype(np.float32)),
        INVALID,
        "datatype: got FP32; expected UINT8",
    ),
    "unknown type": (
        changed(lambda r: setattr(r.inputs[0], "datatype", "U8")),
        INVALID,
        "got 'U8'",
    ),
    "byte count": (
        changed(lambda r: r.raw_input_contents.__setitem__(0, b"abc")),
        INVALID,
        "3 bytes; expected 256",
    ),
    "output": (
        changed(lambda r: r.outputs.add(name="probabilities")),
        INVALID,
        "outputs: got 'probabilities'",
    ),
    "empty file": (request(b""), INVALID, "got 1 elements of [0] bytes; expected one encoded file"),
    "no picture": (request(b"no picture"), INVALID, "10 bytes: Not a readable picture"),
    "cut picture": (request(png(200, 200)[:90]), INVALID, "Not a readable picture"),
    "huge picture": (
        request(png(5000, 5000)),
        INVALID,
        "got 5000 x 5000 pixels; expected at most 16777216",
    ),
    "picture of one line": (
        request(png(65_536, 1)),
        INVALID,
        "got 65536 x 1 pixels; expected sides of at most 16384",
    ),
    "oversize": (request(bytes(9 << 20)), EXHAUSTED, "larger than max (9437"),
}


@pytest.mark.parametrize("case", BAD)
def test_it_is_named_and_the_next_request_is_answered(pictures, case):
    _, channel = pictures
    before = good(channel)
    sent, code, text = BAD[case]
    got = refused(channel, sent)
    assert got[0] is code and text in got[1], got
    assert good(channel) == before


def test_every_truncation_is_refused(pictures):
    _, channel = pictures
    whole = messages.serialise(request())
    for size in {*range(0, len(whole), 9), len(whole) - 1}:
        code, _ = refused(channel, whole[:size])
        assert code is INVALID, size
    assert good(channel)


def test_other_methods_refuse_garbage_too(pictures):
    _, channel = pictures
    for method in messages.METHODS.keys() - {"ModelInfer", "ModelStreamInfer", "Watch"}:
        with pytest.raises(grpc.RpcError) as error:
            messages.stub(channel, method)(b"\xff\xff", timeout=10)
        assert error.value.code() is INVALID and "no protobuf message" in error.value.details(), (
            method
        )
    with pytest.raises(grpc.RpcError) as error:
        messages.stub(channel, "ModelMetadata")(
            messages.new("ModelMetadataRequest", name="x" * 9999), timeout=10
        )
    assert error.value.code() is INVALID and len(error.value.details()) < 300


def test_bad_requests_leave_memory_and_descriptors_as_they_were(pictures):
    one, channel = pictures

    def storm(rounds: int, cases) -> tuple[int, int]:
        for _ in range(rounds):
            for case in cases:
                refused(channel, BAD[case][0])
        good(channel)
        return one.open_files(), one.resident_bytes()

    read = BAD.keys() - {"oversize"}
    files, memory = storm(20, read)
    files_after, memory_after = storm(40, read)
    assert files_after == files
    assert memory_after - memory < memory // 20, (memory, memory_after)
    # gRPC holds what it has read of a message until the refused stream ends: a few megabytes more
    # or less, no growth.
    files_after, memory_after = storm(40, ["oversize"])
    assert files_after == files and memory_after - memory < 64 << 20, (memory, memory_after)


def test_connections_that_break_leave_nothing_behind(pictures, tmp_path):
    """Peers that speak no HTTP/2, or leave in the middle."""
    one, channel = pictures
    good(channel)
    files = one.open_files()
    host, _, port = one.address.rpartition(":")
    for sent in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x09",
        b"",
    ):
        for _ in range(10):
            with socket.create_connection((host, int(port)), 5) as raw:
                raw.sendall(sent)
    wait_for(lambda: one.open_files() == files)
    assert good(channel)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(sound, value):
    _, channel = sound
    before = good(channel, "mel", MEL)
    spoilt = MEL.copy()
    spoilt[0, 3, 4, 0] = value
    typed = messages.new("ModelInferRequest", model_name="submodel-00")
    tensor = typed.inputs.add(name="mel", datatype="FP32", shape=MEL.shape)
    tensor.contents.fp32_contents.extend(spoilt.ravel().tolist())
    for sent in (tensors.infer_request("submodel-00", {"mel": spoilt}), typed):
        code, text = refused(channel, sent)
        assert (
            code is INVALID
            and "input 'mel': got 1 values that are NaN or Inf; expected finite numbers" in text
        )
    assert good(channel, "mel", MEL) == before


def wav(samples: np.ndarray, rate: int = made_bundle.MEL.sample_rate_hz) -> bytes:
    file = BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((samples * 32767).astype("<i2").tobytes())
    return file.getvalue()


def test_a_recording_is_decoded_as_training_does(sound, tiny_mel_bundle):
    _, channel = sound
    encoded = wav(np.sin(np.arange(4000) / 9) / 2)
    mel = mel_input(
        decode_audio(encoded)[0], made_bundle.MEL, np.load(tiny_mel_bundle / "mel_filters.npy")
    )
    assert good(channel, "mel", encoded) == good(channel, "mel", mel[np.newaxis])


@pytest.mark.parametrize(
    "encoded, text",
    [
        (
            wav(np.zeros(12000)),
            "got 12000 samples, 3 windows; expected one window of 4000; send each window by itself",
        ),
        (wav(np.zeros(4000), rate=44100), "44100 Hz"),
        (wav(np.zeros(4000))[:2000], "Truncated audio"),
        (b"RIFFnonsense", "Not a WAV"),
        (struct.pack(">4sIIIII", b".snd", 24, 0xFFFFFFFF, 3, 8000, 0), "0 channels"),
    ],
)
def test_recordings_that_cannot_be_used_are_named(sound, encoded, text):
    _, channel = sound
    code, details = refused(channel, tensors.infer_request("submodel-00", {"mel": encoded}))
    assert code is INVALID and text in details, details


def test_the_message_limit_follows_from_the_input(sound, pictures):
    """Sound: 1.5 windows of 4000 stereo float32 samples; pictures: 8 MiB; 64 KiB more for the rest
    of the message.
    """
    assert sound[0].serving["message_limit_bytes"] == 48_000 + 65_536
    assert pictures[0].serving["message_limit_bytes"] == (8 << 20) + 65_536
    code, text = refused(sound[1], tensors.infer_request("submodel-00", {"mel": bytes(120_000)}))
    assert code is EXHAUSTED and "120" in text and "113536" in text
