"""How right a fleet is where each of its workers hears through a microphone of its own.

    python -m tests.sensor_figures BUNDLE DATA

The test recordings of a bundle of Speech Commands, DATA/WORD/*.wav, as microphones of one room
would have them: late, fainter, or with noise. No wire: sub-models and fusion are run here.

    one for all      one microphone, late, faint or noisy as the row says
    a worker each    a microphone for each worker; delay and gain grow in equal steps from none at
                     the first to the row's at the last; noise is as strong at each, and its own
    one of them bad  a microphone for each worker, one of them as the row says; the mean over which
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from edvit_tf.device.model.bundle import Bundle, open_bundle
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.model.decode_sound import decode_audio
from edvit_tf.device.model.runtime import load
from edvit_tf.watch.windows import wav_bytes

Sound = np.ndarray  # float32 (n,)
Change = Callable[[Sound, float, np.random.Generator], Sound]


def late(sound: Sound, samples: float, rng: np.random.Generator) -> Sound:
    """What a window has of a sound that comes so many samples later."""
    count = round(samples)
    return np.concatenate([np.zeros(count, sound.dtype), sound])[: len(sound)]


def faint(sound: Sound, decibels: float, rng: np.random.Generator) -> Sound:
    return sound * 10 ** (-decibels / 20)


def noisy(sound: Sound, snr_db: float, rng: np.random.Generator) -> Sound:
    """White noise, by the power of the whole window."""
    power = float(np.square(sound, dtype=np.float64).mean()) / 10 ** (snr_db / 10)
    return sound + rng.normal(0, np.sqrt(power), sound.shape)


class Fleet:
    """The files of a bundle, run here."""

    def __init__(self, bundle: Bundle) -> None:
        self.rule = bundle_input(bundle)
        self._entries = bundle.sub_models
        self._models = [load(bundle.path / entry.file) for entry in bundle.sub_models]
        self._fusion = load(bundle.path / bundle.fusion.file)

    def __len__(self) -> int:
        return len(self._models)

    def features(self, place: int, sounds: list[Sound]) -> np.ndarray:
        """(n, d) of one sub-model, each sound as a worker gets it."""
        found = []
        for sound in sounds:
            x = self.rule.from_file(wav_bytes(sound, self.rule.spec.sample_rate_hz))
            x = self._entries[place].view.applied(x)
            found.append(self._models[place].run(**{self.rule.name: x})["features"][0])
        return np.array(found)

    def right(self, features: list[np.ndarray], labels: np.ndarray) -> float:
        """The share of answers that are right."""
        joined = np.concatenate(features, axis=1)  # (n, sum d)
        present = np.ones((1, len(self)), np.float32)
        said = [
            self._fusion.run(features=row[None], present=present)["probabilities"].argmax()
            for row in joined
        ]
        return float(np.mean(np.array(said) == labels))


def recordings(bundle: Bundle, data: Path, most: int) -> tuple[list[Sound], np.ndarray]:
    """(a window of each recording, labels (n,)) of the test split, spread over the classes."""
    splits = json.loads((bundle.path / "splits.json").read_text(encoding="utf-8"))
    names = splits["test"]
    size = bundle_input(bundle).spec.window_samples
    sounds, labels = [], []
    for name in names[:: max(1, len(names) // most)][:most]:
        samples, _ = decode_audio(next(data.glob(f"{name}.*")))
        window = np.zeros(size, np.float32)
        window[: min(size, len(samples))] = samples[:size]
        sounds.append(window)
        labels.append(bundle.labels.index(name.partition("/")[0]))
    return sounds, np.array(labels)


def rows(rate: int) -> dict[str, tuple[Change, list[float], float]]:
    """Name: (what is done, to each degree of it, the degree at which nothing is)."""
    return {
        "late by {:g} ms": (
            lambda sound, ms, rng: late(sound, ms * rate / 1e3, rng),
            [5, 20, 100, 300],
            0.0,
        ),
        "fainter by {:g} dB": (faint, [6, 12], 0.0),
        "noise, SNR {:g} dB": (noisy, [20, 10, 5], np.nan),
    }


def table(fleet: Fleet, sounds: list[Sound], labels: np.ndarray) -> Iterator[str]:
    """A line of Markdown for each degree."""
    rng = np.random.default_rng(0)
    every = range(len(fleet))
    clean = [fleet.features(place, sounds) for place in every]
    share = 100 * fleet.right(clean, labels)
    yield "| What the microphones hear | one for all | a worker each | one of them bad |"
    yield "|---|---|---|---|"
    yield f"| as recorded | {share:.1f} % | {share:.1f} % | {share:.1f} % |"

    for name, (change, degrees, nothing) in rows(fleet.rule.spec.sample_rate_hz).items():
        for degree in degrees:
            same = [change(sound, degree, rng) for sound in sounds]
            whole = [fleet.features(place, same) for place in every]
            one = fleet.right(whole, labels)

            own = []
            for place in every:
                part = degree
                if not np.isnan(nothing):  # by degrees
                    part = nothing + (degree - nothing) * place / max(1, len(fleet) - 1)
                heard = [change(sound, part, rng) for sound in sounds]
                own.append(fleet.features(place, heard))

            bad = [
                fleet.right([*clean[:place], whole[place], *clean[place + 1 :]], labels)
                for place in every
            ]
            shares = (one, fleet.right(own, labels), float(np.mean(bad)))
            cells = " | ".join(f"{100 * share:.1f} %" for share in shares)
            yield f"| {name.format(degree)} | {cells} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path, help="folder of the words' folders")
    parser.add_argument("--most", type=int, default=10_000, help="recordings")
    args = parser.parse_args()
    bundle = open_bundle(args.bundle)
    fleet = Fleet(bundle)
    sounds, labels = recordings(bundle, args.data, args.most)
    kinds = ", ".join(str(entry.name) for entry in bundle.sub_models)
    print(f"{len(sounds)} recordings; {kinds}", flush=True)
    for line in table(fleet, sounds, labels):
        print(line, flush=True)


if __name__ == "__main__":
    main()
