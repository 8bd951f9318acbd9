"""Sound from standard input: cut as a recording is, answered while it comes, and every bad end of
it named.
"""

import contextlib
import io
import json
import struct
import subprocess
import sys
import wave

import numpy as np
import pytest

from edvit_tf.aggregate.client import RequestFailed
from edvit_tf.aggregate.framing import hop_samples, pcm_windows
from edvit_tf.device.model.sound import mel_input, windows
from edvit_tf.errors import ConfigError
from tests.support import forked, made_bundle
from tests.support.aggregator_process import aggregator, fused, wait_ready
from tests.support.forked import DEVICE, ROOT, Forked
from tests.support.worker_process import worker

SPEC = made_bundle.MEL  # 8000 Hz, windows of half a second
SOUND = np.random.default_rng(3).integers(-20000, 20000, 5 * SPEC.window_samples).astype("<i2")


def cut(samples: np.ndarray, window: int, hop: int) -> list[tuple[int, np.ndarray]]:
    return list(pcm_windows(io.BytesIO(samples.tobytes()), window, hop))


@pytest.mark.parametrize("length", [1, 3, 9, 10, 11, 14, 15, 16, 20, 24, 25, 99, 100])
def test_with_a_hop_of_a_window_a_stream_is_cut_as_a_recording(length):
    samples = SOUND[:length]
    found = cut(samples, 10, 10)
    assert tuple(start for start, _ in found) == windows(length, 10)
    for start, values in found:
        np.testing.assert_array_equal(
            values, samples[start : start + 10].astype(np.float32) / 32768
        )


@pytest.mark.parametrize(
    "length, hop, starts",
    [
        (20, 5, [0, 5, 10]),
        (22, 5, [0, 5, 10]),
        (23, 5, [0, 5, 10, 13]),
        (10, 1, [0]),
        (12, 1, [0, 1, 2]),
        (13, 7, [0]),
        (14, 7, [0, 4]),
        (9, 4, [0]),
    ],
)
def test_a_hop_is_the_way_from_window_to_window(length, hop, starts):
    found = cut(SOUND[:length], 10, hop)
    assert [start for start, _ in found] == starts
    for start, values in found:
        np.testing.assert_array_equal(
            values, SOUND[start : min(start + 10, length)].astype(np.float32) / 32768
        )


@pytest.mark.parametrize("hop", [0.00001, 0.51, 30.0])
def test_a_hop_that_cannot_be_is_refused(hop):
    with pytest.raises(ConfigError, match="Give a number between"):
        hop_samples(SPEC, hop)


@pytest.mark.parametrize(
    "data, words",
    [
        (b"", "ended without a sample"),
        (b"a", "within a sample, after 1 bytes"),
        (SOUND.tobytes()[:-1], f"within a sample, after {2 * len(SOUND) - 1} bytes"),
        (b"RIFF" + bytes(99), "a WAV file"),
    ],
)
def test_a_stream_that_is_no_pcm_is_named(data, words):
    with pytest.raises(RequestFailed, match=words):
        list(pcm_windows(io.BytesIO(data), 4000, 4000))


@pytest.fixture(scope="module")
def fleet(tiny_mel_bundle, tmp_path_factory):
    """An aggregator of sound over one worker."""
    folder = tmp_path_factory.mktemp("sound")
    with contextlib.ExitStack() as stack:
        both = stack.enter_context(worker(tiny_mel_bundle, folder))
        one = stack.enter_context(aggregator(tiny_mel_bundle, folder, [both.address]))
        wait_ready(stack.enter_context(one.channel()))
        yield one


def command(one, *arguments) -> list[str]:
    return [
        sys.executable,
        "-m",
        "edvit_tf.cli",
        "predict",
        "--server",
        one.address,
        "--insecure",
        "--timeout-ms",
        "60000",  # the first sound loads decoders, on a busy machine for longer than 5 s
        *map(str, arguments),
    ]


def streamed(one, data: bytes, *arguments) -> subprocess.CompletedProcess:
    return forked.run(command(one, *arguments), modules=DEVICE, cwd=ROOT, input=data, timeout=180)


def expected(bundle, starts) -> np.ndarray:
    """Probabilities (n, classes) of windows of SOUND, by the files alone."""
    filters = np.load(bundle / "mel_filters.npy")
    return fused(
        bundle,
        np.stack(
            [
                mel_input(SOUND[s : s + 4000].astype(np.float32) / 32768, SPEC, filters)
                for s in starts
            ]
        ),
    )


def test_each_window_of_a_stream_has_its_answer(fleet, tiny_mel_bundle):
    done = streamed(
        fleet,
        SOUND.tobytes(),
        "--stream",
        "pcm",
        "--bundle",
        tiny_mel_bundle,
        "--hop",
        "0.25",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    starts = range(0, 16001, 2000)
    assert [answer["start_seconds"] for answer in answers] == [start / 8000 for start in starts]
    np.testing.assert_allclose(
        [answer["probabilities"] for answer in answers],
        expected(tiny_mel_bundle, starts),
        rtol=1e-6,
    )


def test_a_stream_answers_as_the_recording_does(fleet, tiny_mel_bundle, tmp_path):
    length = 2 * 4000 + 2100  # a rest that gives one more window
    with wave.open(str(tmp_path / "same.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(SOUND[:length].tobytes())
    recording = streamed(fleet, b"", tmp_path / "same.wav", "--bundle", tiny_mel_bundle, "--json")
    stream = streamed(
        fleet, SOUND[:length].tobytes(), "--stream", "pcm", "--bundle", tiny_mel_bundle, "--json"
    )
    parts = [json.loads(line)["probabilities"] for line in stream.stdout.splitlines()]
    whole = json.loads(recording.stdout)
    assert whole["windows"] == len(parts) == 3
    np.testing.assert_allclose(np.mean(parts, axis=0), whole["probabilities"], rtol=1e-6)


def test_an_answer_comes_while_the_stream_goes_on(fleet, tiny_mel_bundle):
    with Forked(
        command(fleet, "--stream", "pcm", "--bundle", tiny_mel_bundle),
        modules=DEVICE,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        for place in range(2):
            process.stdin.write(SOUND[4000 * place : 4000 * (place + 1)].tobytes())
            process.stdin.flush()
            assert process.stdout.readline().decode().startswith(f"{place / 2:.3f} s: ")
        process.stdin.close()
        assert process.stdout.read() == b"" and process.wait(20) == 0


def test_what_was_whole_is_answered_before_a_bad_end(fleet, tiny_mel_bundle):
    done = streamed(
        fleet, SOUND[:8000].tobytes() + b"x", "--stream", "pcm", "--bundle", tiny_mel_bundle
    )
    assert done.returncode == 19 and b"ended within a sample, after 16001 bytes" in done.stderr
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.parametrize(
    "arguments, code, words",
    [
        (["--stream", "pcm"], 3, "--stream pcm needs --bundle"),
        (["--stream", "pcm", "--bundle", "SOUND", "--hop", "3"], 3, "--hop is 3 s"),
        (["--stream", "pcm", "--bundle", "SOUND", "--hop", "-1"], 2, "must be a number above 0"),
        (["--stream", "pcm", "--bundle", "PICTURES"], 3, "the bundle takes pictures"),
        (["--stream", "mp3"], 2, "invalid choice"),
        (["--stream", "--hop", "0.1"], 3, "--hop goes with --stream pcm"),
        (["x.wav", "--stream", "pcm", "--bundle", "SOUND"], 3, "one of the two"),
        (["x.wav", "--bundle", "PICTURES"], 3, "Give the bundle that is served"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    fleet, tiny_mel_bundle, tiny_bundle, arguments, code, words
):
    named = {"SOUND": tiny_mel_bundle, "PICTURES": tiny_bundle}
    done = streamed(fleet, SOUND.tobytes(), *(named.get(word, word) for word in arguments))
    assert (
        done.returncode == code
        and words in done.stderr.decode()
        and b"Traceback" not in done.stderr
    ), done.stderr
    assert done.stdout == b""


def test_a_wav_file_in_the_pipe_is_not_heard_as_samples(fleet, tiny_mel_bundle):
    header = struct.pack("<4sI4s", b"RIFF", 36, b"WAVE")
    done = streamed(fleet, header + SOUND.tobytes(), "--stream", "pcm", "--bundle", tiny_mel_bundle)
    assert (
        done.returncode == 19 and b"the stream is a WAV file" in done.stderr and done.stdout == b""
    )
