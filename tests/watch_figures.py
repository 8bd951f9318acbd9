"""What `edvit watch` does on this machine, with a real hub and a worker for each sub-model.

    python -m tests.watch_figures video BUNDLE    frames a second and drops of a video at 30 Hz
    python -m tests.watch_figures words BUNDLE    labels of 20 words by espeak-ng, one a second

A bundle of pictures, and one of Speech Commands (16 kHz). Needs the [watch] extra.
"""

import argparse
import contextlib
import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.decode_sound import decode_audio
from edvit_tf.watch.windows import wav_bytes
from tests.support.aggregator_process import aggregator, all_ready
from tests.support.fleet_process import places
from tests.support.watch_process import watching
from tests.support.worker_process import wait_for

RATE = 30  # frames a second of the video
WORDS = 20


@contextlib.contextmanager
def fleet(bundle: Path, folder: Path) -> Iterator[tuple[str, int]]:
    """(address of the hub, number of workers), all of them ready."""
    count = len(open_bundle(bundle).sub_models)
    with (
        places(bundle, folder, [[j] for j in range(count)]) as made,
        aggregator(bundle, folder, [place.address for place in made]) as hub,
    ):
        wait_for(lambda: all_ready(hub, count), 120)
        yield hub.address, count


def watched(folder: Path, hub: str, *arguments: str | Path) -> list[dict]:
    """The events of a stream that ends by itself."""
    with watching(folder, hub, "--insecure", *arguments) as one:
        code = one.process.wait(600)
        assert code == 0, one.err.read_text()
        return [json.loads(line) for line in one.out.read_text().splitlines()]


def video(bundle: Path, seconds: int, folder: Path) -> None:
    """Frames of moving bars, 640 x 480, played at their own rate."""
    import av

    file = folder / "bars.mp4"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        bars = np.indices((480, 640, 3))[1] * 255 // 640
        for number in range(seconds * RATE):
            pixels = np.roll(bars, 4 * number, axis=1).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())

    with fleet(bundle, folder) as (hub, count):
        for in_flight in (1, 2, 4):
            events = watched(folder, hub, "--camera", file, "--in-flight", str(in_flight))
            said = events[-1]
            print(
                f"{count} workers, {said['asked'] + said['dropped']} frames at {RATE} Hz, "
                f"{in_flight} in flight: {said['answered']} answered "
                f"({said['answers_per_second']:.1f}/s), {said['dropped']} dropped, "
                f"{said['failed']} failed",
                flush=True,
            )


def words(bundle: Path, folder: Path) -> None:
    """Each word in the middle of a second, in turn through the labels, at espeak-ng's own rate."""
    labels = open_bundle(bundle).labels
    spoken = [labels[place % len(labels)] for place in range(WORDS)]
    seconds = []
    for place, word in enumerate(spoken):
        file = folder / "word.wav"
        voice = "en-us" if place < len(labels) else "en-us+f3"
        subprocess.run(["espeak-ng", "-v", voice, "-w", str(file), word], check=True)
        samples, rate = decode_audio(file)
        slot = np.zeros(rate, np.float32)
        start = max(0, (rate - len(samples)) // 2)
        slot[start : start + len(samples)] = samples[: rate - start]
        seconds.append(slot)
    recording = folder / "words.wav"
    recording.write_bytes(wav_bytes(np.concatenate(seconds), rate))

    with fleet(bundle, folder) as (hub, _):
        events = watched(folder, hub, "--microphone", recording)
    heard = {event["start_seconds"]: event for event in events if event["event"] == "answer"}
    right = 0
    for place, word in enumerate(spoken):
        event = heard.get(float(place))
        if event is None:
            print(f"{place:2d} s  {word:6s} dropped")
            continue
        right += event["label"] == word
        print(f"{place:2d} s  {word:6s} heard as {event['label']:6s} {event['probability']:.2f}")
    said = events[-1]
    print(f"{right} of {WORDS} right; {said['answered']} answered, {said['dropped']} dropped")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("video", "words"))
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=int, default=10, help="of video (default 10)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.what == "video":
            video(args.bundle, args.seconds, Path(folder))
        else:
            words(args.bundle, Path(folder))


if __name__ == "__main__":
    main()
