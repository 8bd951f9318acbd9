"""`edvit watch` against a real hub: what is asked, what is told, and how it ends."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.watch.hub import Hub
from edvit_tf.watch.windows import wav_bytes
from tests.support.aggregator_process import aggregator, all_ready, wait_ready, with_one_device
from tests.support.commands import ROOT, run_command
from tests.support.fleet_process import Place
from tests.support.forked import DEVICE, Forked
from tests.support.ports import free_port
from tests.support.watch_process import PATIENT, Watching, picture, watching
from tests.support.worker_process import wait_for, worker

RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def hub(tiny_bundle, tmp_path_factory):
    """An aggregator with its only worker."""
    with with_one_device(tiny_bundle, tmp_path_factory.mktemp("fleet")) as (one, _):
        yield one


def test_a_hub_says_what_its_bundle_takes_and_tells_apart(hub, tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    asked = Hub(hub.address, None, 30.0)
    try:
        assert asked.labels == bundle.labels
        assert asked.spec.to_dict() == dict(bundle.input.spec)
        assert asked.is_ready()
    finally:
        asked.close()


def words(one: Watching) -> list[str]:
    return [event["words"] for event in one.events("notice")]


def test_a_folder_s_files_are_asked_once_as_they_come_and_a_broken_one_is_said(hub, tmp_path):
    folder = tmp_path / "frames"
    (folder / "inner").mkdir(parents=True)
    picture(folder / "old.png")
    with watching(tmp_path, hub.address, "--insecure", "--folder", folder, "--existing") as one:
        assert one.wait("answer", 1)[0]["source"] == "old.png"
        (folder / "broken.png").write_bytes(b"\x89PNG, and no more")
        (folder / ".hidden.png").write_bytes(b"nothing")
        one.wait("notice", 1)
        picture(folder / "inner" / "new.png")
        one.wait("answer", 2)
        picture(folder / "old.png")  # written anew
        told = one.wait("answer", 3)
        summary = one.end()

    assert [event["source"] for event in told] == ["old.png", "inner/new.png", "old.png"]
    assert sum(told[0]["probabilities"]) == pytest.approx(1, abs=1e-3)
    refused = [line for line in words(one) if "is refused" in line]
    assert len(refused) == 1 and refused[0].startswith("broken.png is refused, going on")
    counts = [summary[name] for name in ("asked", "answered", "failed", "dropped", "degraded")]
    assert counts == [4, 3, 1, 0, 0]


def test_it_ends_after_so_many_answers_and_without_older_files_by_default(hub, tmp_path):
    for place in range(5):
        picture(tmp_path / f"{place}.png")
    arguments = ["watch", hub.address, "--insecure", "--folder", tmp_path]
    code, out, err = run_command([*arguments, "--existing", "--count", "3", "--in-flight", "1"])
    assert code == 0 and len(out.splitlines()) == 3
    assert out.startswith("0.png: ") and "3 answered" in err and "files in " in err

    code, out, err = run_command([*arguments, "--for", "0.8"])
    assert (code, out) == (0, "") and "0 asked, 0 answered" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_summary(hub, tmp_path, number):
    with watching(tmp_path, hub.address, "--insecure", "--folder", tmp_path) as one:
        assert one.end(number)["unit"] == "files"


def test_a_hub_that_restarts_is_waited_for_and_no_file_is_lost(tiny_bundle, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    with worker(tiny_bundle, tmp_path) as device:
        listen = ["--listen", f"127.0.0.1:{free_port()}"]
        with aggregator(tiny_bundle, tmp_path, [device.address], "--insecure", *listen) as first:
            wait_for(lambda: all_ready(first, 1))
            one = Watching(tmp_path, first.address, "--insecure", "--folder", folder)
            one.wait("watching", 1)
            picture(folder / "a.png")
            one.wait("answer", 1)
            first.stop(signal.SIGKILL)
        try:
            picture(folder / "b.png")
            one.wait("notice", 1)
            with aggregator(tiny_bundle, tmp_path, [device.address], "--insecure", *listen):
                told = one.wait("answer", 2)
                one.wait("notice", 2)
                summary = one.end()
        finally:
            one.process.kill()
            one.process.wait()

    assert [event["source"] for event in told] == ["a.png", "b.png"]
    of_b = [line for line in words(one) if "b.png" in line]
    assert of_b[0].startswith("no answer from b.png on, going on: ")
    assert of_b[1].startswith("answers again at b.png, after ")
    assert len(of_b) == 2 and (summary["answered"], summary["failed"]) == (2, 0)


@pytest.mark.parametrize("both", [False, True])
def test_a_full_disk_under_standard_output_is_said_once_and_the_stream_goes_on(hub, tmp_path, both):
    for place in range(4):
        picture(tmp_path / f"{place}.png")
    command = [sys.executable, "-m", "edvit_tf.cli", "watch", hub.address, "--insecure"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "wb") as full:
        process = subprocess.Popen(
            [*command, "--folder", str(tmp_path), "--existing", "--count", "4"],
            cwd=ROOT,
            env=buffered,
            stdout=full,
            stderr=full if both else subprocess.PIPE,
        )
        err = process.communicate(timeout=100)[1]
    # nothing is tried again at the end, where it would make this 120
    assert process.returncode == 0
    if not both:
        assert err.decode().count("going on without it") == 1
        assert b"4 answered" in err and b"4 lines found no room" in err


def test_a_reader_that_leaves_ends_it_quietly(hub, tmp_path):
    picture(tmp_path / "a.png")
    command = [sys.executable, "-m", "edvit_tf.cli", "watch", hub.address, "--insecure"]
    with Forked(
        [*command, "--folder", str(tmp_path), "--existing"],
        modules=DEVICE,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        err = process.stderr.read().decode()
        assert process.wait(60) == 141
    assert "Traceback" not in err


def test_what_cannot_be_watched_is_one_error(hub, tmp_path):
    def code_and_words(*arguments):
        code, _, err = run_command(["watch", *arguments])
        return code, err

    code, err = code_and_words(hub.address, "--insecure", "--folder", tmp_path / "none")
    assert code == 27 and "is no folder" in err
    code, err = code_and_words("127.0.0.1:1", "--insecure", "--folder", tmp_path)
    assert code == 19 and "127.0.0.1:1" in err
    code, err = code_and_words("http://x:1", "--insecure", "--folder", tmp_path)
    assert code == 3 and "HUB is 'http://x:1'" in err
    assert code_and_words("h:1", "--folder", tmp_path)[0] == 2
    assert code_and_words("h:1", "--insecure")[0] == 2
    code, err = code_and_words("--insecure", "--microphone", "hub:8000")
    assert code == 3 and "'hub:8000' was taken as the DEVICE of --microphone" in err
    assert code_and_words("--insecure", "--folder", tmp_path)[0] == 3


def test_a_hub_with_another_bundle_is_gone_on_with(bundles, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    address = f"127.0.0.1:{free_port()}"
    listen = ["--listen", address]
    one = None
    try:
        for bundle, count in zip(bundles, (1, 2), strict=True):
            with (
                worker(bundle, tmp_path) as device,
                aggregator(bundle, tmp_path, [device.address], "--insecure", *listen) as serving,
            ):
                wait_for(lambda serving=serving: all_ready(serving, 1))
                if one is None:
                    one = Watching(tmp_path, address, "--insecure", "--folder", folder)
                    one.wait("watching", 1)
                picture(folder / f"{count}.png")
                told = one.wait("answer", count)
        one.end()
    finally:
        one.process.kill()
        one.process.wait()
    assert told[0]["label"] in {"ant", "bee", "cat", "dog"}
    assert told[1]["label"] in {"eel", "fox", "gnu", "hen"}
    assert any("serves the bundle" in line for line in words(one))


def test_of_a_video_at_its_own_rate_the_newest_frame_is_asked(hub, tmp_path):
    av = pytest.importorskip("av")
    file = tmp_path / "door.mp4"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(30):
            noise = RNG.integers(0, 256, (48, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode())

    arguments = ["watch", hub.address, "--insecure", *PATIENT, "--json", "--camera", file]
    for rate, fast in ((["--rate", "5"], []), ([], ["--fast"])):
        code, out, err = run_command([*arguments, *rate, *fast])
        assert code == 0, err
        events = [json.loads(line) for line in out.splitlines()]
        frames = [event["frame"] for event in events if event["event"] == "answer"]
        summary = events[-1]
        assert summary["unit"] == "frames"
        assert summary["asked"] == summary["answered"] + summary["failed"]
        assert summary["asked"] + summary["dropped"] == 30 and len(frames) == summary["answered"]
        assert frames == sorted(frames)
        if fast:
            assert frames == list(range(30))
        else:
            assert summary["asked"] <= 1 + 5 * summary["seconds"] + 0.1  # five a second


def test_a_pipe_of_sound_is_asked_window_by_window(tiny_mel_bundle, tmp_path):
    seconds, rate = 2, 8000
    samples = RNG.uniform(-1, 1, seconds * rate)
    with (
        worker(tiny_mel_bundle, tmp_path) as device,
        aggregator(tiny_mel_bundle, tmp_path, [device.address]) as sound_hub,
        sound_hub.channel() as channel,
    ):
        wait_ready(channel)
        with watching(
            *(tmp_path, sound_hub.address, "--insecure", "--microphone", "-"),
            stdin=subprocess.PIPE,
        ) as one:
            one.end()  # nothing ever came
            one.process.stdin.close()

        arguments = ["--insecure", "--microphone", "-", "--fast", "--hop", "0.25"]
        with watching(tmp_path, sound_hub.address, *arguments, stdin=subprocess.PIPE) as one:
            one.process.stdin.write(wav_bytes(samples, rate))
            one.process.stdin.close()
            assert one.process.wait(60) == 0, one.err.read_text()
            told = one.events("answer")

        assert [event["start_seconds"] for event in told] == [0.25 * place for place in range(7)]
        assert [event["windows"] for event in told] == [1] * 7

        # the same as `predict` says of the same window in a file
        (tmp_path / "first.wav").write_bytes(wav_bytes(samples[: rate // 2], rate))
        server = ["--server", sound_hub.address, "--insecure"]
        code, out, err = run_command(["predict", *server, "--json", tmp_path / "first.wav"])
        assert code == 0, err
        assert json.loads(out)["probabilities"] == pytest.approx(told[0]["probabilities"], abs=1e-6)

        code, _, err = run_command(["watch", sound_hub.address, "--insecure", "--camera", "0"])
        assert code == 3 and "--camera gives pictures, and this fleet takes recordings" in err


def test_a_device_that_is_killed_and_back_leaves_degraded_answers_between(tiny_bundle, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    kept = Place(tiny_bundle, tmp_path, [0]).start()
    killed = Place(tiny_bundle, tmp_path, [1]).start()
    addresses = [kept.address, killed.address]
    try:
        with (
            aggregator(
                tiny_bundle, tmp_path, addresses, "--insecure", "--min-submodels", "1"
            ) as hub,
            watching(tmp_path, hub.address, "--insecure", "--folder", folder) as one,
        ):
            wait_for(lambda: all_ready(hub, 2))
            count = 0

            def next_answer(is_degraded: bool):
                nonlocal count
                count += 1
                picture(folder / f"{count}.png")
                answer = one.wait("answer", count)[count - 1]
                return answer["parameters"]["degraded"] is is_degraded

            wait_for(lambda: next_answer(False), 60)
            killed.end()
            wait_for(lambda: next_answer(True), 60)
            killed.start()
            wait_for(lambda: next_answer(False), 60)
            summary = one.end()
    finally:
        kept.close()
        killed.close()
    assert summary["answered"] == count and 0 < summary["degraded"] < count
