"""Stand-ins for runs without data: ten made-up classes of sound or pictures, made when read, never
stored.

Every recording follows from (seed, class, index). What differs between classes is rhythm, timbre,
harmony, formants or shape; loudness, key, pitch, place, colour and noise are random in each, so
that they tell nothing. Accuracies on them mean nothing but that the machinery works.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edvit_tf.device.model.image import ImageSpec, image_input
from edvit_tf.device.model.input_spec import Files, InputSpec
from edvit_tf.device.model.sound import mel_windows, windows

from .audio import input_files, mel_filters, mel_spec
from .dataset import Dataset, Recording
from .split import check_classes, split_recordings
from .synthetic_texts import TOPICS, text
from .texts import text_dataset

OPTIONS = {"synthetic_per_class": 60, "synthetic_seconds": 6.0}  # seconds: of a gtzan clip
NOTE = "synthetic stand-in, not real data: accuracies mean nothing"
FRACTIONS = {"test": 0.2, "validation": 0.1}
SPEAKERS = 20
# Of the pictures before they are resized, as the real ones: (height, width, channels).
PIXELS = {
    "mnist": (28, 28, 1),
    "cifar10": (32, 32, 3),
    "caltech256": (96, 128, 3),
    "caltech101": (96, 128, 3),
    "omniglot": (105, 105, 1),
    "digits": (8, 8, 1),
}
LOUDNESS_DB = (-48.0, -24.0)  # RMS below full scale, uniform: 24 dB of spread, and no clipping

# beats a minute, chord strokes a beat, decay of a stroke, chord (semitones), 1/h^p of its
# harmonics, step between harmonics (2: odd ones, hollow), register (Hz), kicks a beat, snare, hats
# a beat, colour of the noise (1/f^a)
GENRES = (
    (70, 1, 1.5, (0, 4, 7, 10), 1.6, 1, 110, 0.5, 0.2, 3, 1.0),
    (60, 2, 1.0, (0, 4, 7), 2.5, 1, 262, 0.0, 0.0, 0, 2.0),
    (105, 2, 4.0, (0, 4, 7), 1.0, 1, 196, 0.5, 0.1, 2, 0.5),
    (124, 2, 6.0, (0, 3, 7, 10), 0.8, 2, 220, 1.0, 0.4, 2, 0.0),
    (88, 0.5, 3.0, (0, 3), 2.0, 1, 55, 0.75, 1.0, 4, 1.5),
    (150, 1.5, 3.0, (0, 3, 6, 11), 1.8, 2, 165, 0.0, 0.1, 3, 0.5),
    (170, 4, 2.0, (0, 7, 12), 0.3, 1, 82, 2.0, 0.8, 4, 0.0),
    (116, 1, 5.0, (0, 4, 7, 14), 1.3, 2, 330, 1.0, 0.6, 1, 1.0),
    (76, 1, 9.0, (0, 5, 9), 1.2, 1, 131, 0.5, 0.5, 1, 2.0),
    (132, 2, 1.0, (0, 7), 0.6, 1, 123, 1.0, 0.9, 2, 0.5),
)
# Genres come in twos, made of the same tones and drums: the one of those that belong together, the
# other of tones of the one and drums of the other. Which of the two such pairs it is differs from
# clip to clip, so that tones alone say nothing and drums alone little: a linear classifier ends
# under a small ViT, which hears both.
RARER_PAIR = 0.4
# (F1, F2) in Hz at the start, middle and end; level of the noise before and after (s, f, ...), and
# its lowest Hz
WORDS = (
    (((300, 2300), (300, 2300), (300, 2300)), 0.0, 0.0, 0),
    (((750, 1200), (750, 1200), (750, 1200)), 0.0, 0.0, 0),
    (((300, 800), (300, 800), (300, 800)), 0.0, 0.0, 0),
    (((750, 1200), (500, 1700), (300, 2300)), 0.0, 0.0, 0),
    (((300, 2300), (500, 1700), (750, 1200)), 0.0, 0.0, 0),
    (((550, 1800), (550, 1800), (550, 1800)), 0.8, 0.0, 4500),
    (((500, 900), (500, 900), (500, 900)), 0.0, 0.8, 4500),
    (((300, 800), (500, 1500), (300, 2300)), 0.8, 0.0, 1500),
    (((700, 1100), (500, 900), (300, 700)), 0.0, 0.8, 1500),
    (((300, 2300), (750, 1200), (300, 2300)), 0.5, 0.5, 3000),
)
SHAPES = (
    "disc",
    "ring",
    "square",
    "cross",
    "triangle",
    "rows",
    "columns",
    "checks",
    "diagonals",
    "dots",
)


def _noise(
    rng: np.random.Generator, n: int, exponent: float, lowest_hz: float = 0.0, rate: int = 1
) -> np.ndarray:
    """(n,) noise of RMS 1 whose power falls as 1/f^exponent, without what lies below lowest_hz."""
    frequency = np.fft.rfftfreq(n, 1 / rate)
    white = np.fft.rfft(rng.standard_normal(n, np.float32))
    # The constant term has no frequency to divide by: it takes the next one's.
    spectrum = white / np.maximum(frequency, frequency[1]) ** (exponent / 2)
    spectrum[frequency < lowest_hz] = 0

    noise = np.fft.irfft(spectrum, n)
    return noise / np.sqrt(np.mean(noise**2))


def _sines(angle: np.ndarray, step: int) -> Iterator[np.ndarray]:
    """sin(angle), sin((1 + step) angle), ... by the recurrence, a tenth of the time of calling
    sin.
    """
    turn = 2 * np.cos(step * angle)
    before = np.sin((1 - step) * angle)
    now = np.sin(angle)
    # sin(a + b) = 2 cos(b) sin(a) - sin(a - b)
    while True:
        yield now
        before, now = now, turn * now - before


def _set_loudness(rng: np.random.Generator, samples: np.ndarray) -> np.ndarray:
    rms = np.sqrt(np.mean(samples**2))
    wanted = 10 ** (rng.uniform(*LOUDNESS_DB) / 20)
    return (samples / rms * wanted).clip(-1, 1).astype(np.float32)


def genre_clip(rng: np.random.Generator, label: int, rate: int, seconds: float) -> np.ndarray:
    """float32 (n,) of one of ten "genres", in a random key, at a random place in the bar."""
    tones, beats = label - label % 2, label
    # the other of two neighbours is the number with its last bit turned
    if rng.random() < RARER_PAIR:
        tones, beats = tones ^ 1, beats ^ 1
    _, strokes, decay, chord, rolloff, step, register, _, _, _, colour = GENRES[tones]
    bpm, *_, kicks, snare, hats, _ = GENRES[beats]

    t = np.arange(round(seconds * rate)) / rate  # (n,) seconds
    # The tempo varies by 5 %, and the clip begins anywhere in 16 beats.
    beat = t * bpm * rng.uniform(0.95, 1.05) / 60 + rng.uniform(0, 16)

    # A chord lasts four beats; its root goes through a cadence, in a random key.
    steps = np.array([0, 5, 7, rng.choice([3, 9])])[(beat // 4).astype(int) % 4]
    root = register * 2 ** ((steps + rng.uniform(-5, 5)) / 12)
    phase = 2 * np.pi * np.cumsum(root) / rate

    tone = np.zeros_like(t)
    for interval in chord:
        ratio = 2 ** (interval / 12)
        # Below half the sample rate alone: what lies above would alias.
        harmonics = range(1, min(8, int(rate / 2 / (ratio * root.max()))), step)
        angle = ratio * phase + rng.uniform(0, 6)
        for h, wave in zip(harmonics, _sines(angle, step), strict=False):
            tone += wave / h**rolloff

    # A stroke decays until the next one.
    tone *= np.exp(-decay * (beat * strokes % 1)) / np.sqrt(len(chord))

    # Kicks, a snare on every second beat, hats.
    drums = 2 * np.exp(-12 * (beat * kicks % 1)) * np.sin(2 * np.pi * 60 * t) * (kicks > 0)
    drums += snare * np.exp(-10 * ((beat / 2 + 0.5) % 1)) * _noise(rng, len(t), 0.5)
    hiss = _noise(rng, len(t), 0.0, 5000, rate)
    drums += 0.3 * np.exp(-15 * (beat * hats % 1)) * hiss * (hats > 0)

    noise = 10 ** (rng.uniform(-30, -15) / 20) * _noise(rng, len(t), colour)
    return _set_loudness(rng, tone + rng.uniform(0.6, 1.2) * drums + noise)


def word_clip(rng: np.random.Generator, label: int, rate: int, speaker: int) -> np.ndarray:
    """float32 (rate,): one second with one of ten "words" in it, in the speaker's pitch and size of
    throat.
    """
    formants, before, after, lowest_hz = WORDS[label]
    # The speaker's, the same in every word.
    voice = np.random.default_rng(speaker)
    pitch = voice.uniform(90, 240)
    size = voice.uniform(0.92, 1.1)

    n = round(rng.uniform(0.35, 0.55) * rate)
    place = np.linspace(0, 2, n)
    first = np.interp(place, (0, 1, 2), [f1 for f1, _ in formants]) * size
    second = np.interp(place, (0, 1, 2), [f2 for _, f2 in formants]) * size
    f0 = pitch * np.linspace(rng.uniform(0.9, 1.2), rng.uniform(0.8, 1.1), n)
    phase = 2 * np.pi * np.cumsum(f0) / rate

    # Each harmonic is as loud as the two formants let it through.
    voiced = np.zeros(n)
    for h, wave in zip(range(1, int(4000 / pitch)), _sines(phase, 1), strict=False):
        gain = 1 / (1 + ((h * f0 - first) / 90) ** 2) + 0.6 / (1 + ((h * f0 - second) / 120) ** 2)
        voiced += gain * wave

    voiced *= np.sin(np.linspace(0, np.pi, n)) ** 0.5
    voiced /= np.sqrt(np.mean(voiced**2))

    hiss = round(0.12 * rate)
    parts = [level * _noise(rng, hiss, 0.0, lowest_hz, rate) for level in (before, after)]
    word = np.concatenate([parts[0], voiced, parts[1]])

    samples = np.zeros(rate)
    start = rng.integers(0, rate - len(word) + 1)
    samples[start : start + len(word)] = word
    return _set_loudness(rng, samples + 10 ** (rng.uniform(-35, -20) / 20) * _noise(rng, rate, 1.0))


def picture(
    rng: np.random.Generator, label: int, height: int, width: int, channels: int
) -> np.ndarray:
    """uint8 (height, width, channels): one of ten shapes and textures, anywhere, in two colours at
    odds, with noise.
    """
    unit = min(height, width)
    y, x = np.mgrid[:height, :width] / unit
    radius = rng.uniform(0.22, 0.36)
    u = x - rng.uniform(radius, width / unit - radius)  # place of the shape's centre
    v = y - rng.uniform(radius, height / unit - radius)

    far = np.hypot(u, v)
    box = np.maximum(abs(u), abs(v))
    period = rng.uniform(0.18, 0.3)
    wave = [np.sin(2 * np.pi * a / period) > 0 for a in (v, u, (u + v) / 2**0.5)]

    shape = {
        "disc": far < radius,
        "ring": abs(far - 0.8 * radius) < 0.25 * radius,
        "square": box < 0.85 * radius,
        "cross": (np.minimum(abs(u), abs(v)) < 0.25 * radius) & (box < radius),
        "triangle": (v < 0.8 * radius) & (v > 2 * abs(u) - radius),
        "rows": wave[0],
        "columns": wave[1],
        "checks": wave[0] ^ wave[1],
        "diagonals": wave[2],
        "dots": np.hypot(u % period - period / 2, v % period - period / 2) < 0.3 * period,
    }[SHAPES[label]]

    ground = rng.uniform(0, 90, channels)
    colour = ground + rng.uniform(90, 160, channels)
    # Dark on light as often as light on dark.
    if channels == 3 and rng.random() < 0.5:
        ground, colour = colour, ground

    noise = rng.normal(0, 12, (height, width, channels))
    pixels = np.where(shape[..., None], colour, ground) + noise
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def make(settings) -> Dataset:
    """The stand-in of a data set, with its input spec and split fractions; DataError with under
    three a class.
    """
    if settings.name == "newsgroups":
        return _texts(settings)
    made = _pictures(settings) if settings.name in PIXELS else _sounds(settings)
    count = settings["synthetic_per_class"]
    seed = settings.seed

    def read(chosen: Sequence[Recording]) -> np.ndarray:
        inputs = []
        for recording in chosen:
            label, index = recording.where
            # Made from its own numbers: in which order they are read changes nothing.
            rng = np.random.default_rng((seed, label, index))
            inputs.append(made.inputs(rng, label, index))
        return np.concatenate(inputs)

    recordings = []
    for c, label in enumerate(made.labels):
        for i in range(count):
            recordings.append(
                Recording(
                    id=f"synthetic/{label}/{i:04d}",
                    label=c,
                    group=made.group(c, i),
                    num_windows=made.num_windows,
                    where=(c, i),
                )
            )

    splits = split_recordings(recordings, FRACTIONS, seed)
    notes = [NOTE]
    if made.too_short:
        notes.append(
            f"the clips are shorter than the window of {settings['window_seconds']:g} s and are "
            "padded with silence"
        )

    check_classes(splits, made.labels, "the synthetic stand-in", notes)
    return Dataset(
        settings.name,
        made.labels,
        made.spec,
        made.input_files,
        "synthetic stand-in",
        seed,
        splits,
        read,
        synthetic=True,
        padded=len(recordings) if made.too_short else 0,
        notes=notes,
    )


def _texts(settings) -> Dataset:
    """The stand-in of a data set of texts."""
    labels = tuple(f"topic-{topic}" for topic in range(TOPICS))
    recordings = []
    for topic, label in enumerate(labels):
        for i in range(settings["synthetic_per_class"]):
            key = f"synthetic/{label}/{i:04d}"
            recordings.append(Recording(key, topic, key, 1, (topic, i)))
    splits = split_recordings(recordings, FRACTIONS, settings.seed)
    notes = [NOTE]
    check_classes(splits, labels, "the synthetic stand-in", notes)

    def text_of(where: tuple[int, int]) -> str:
        return text(np.random.default_rng((settings.seed, *where)), where[0])

    return text_dataset(
        settings.name,
        labels,
        "synthetic stand-in",
        splits,
        text_of,
        settings,
        notes=notes,
        skipped=[],
        synthetic=True,
    )


@dataclass(frozen=True)
class _Made:
    """What differs between the stand-ins."""

    labels: tuple[str, ...]
    spec: InputSpec
    input_files: Files
    num_windows: int  # of a recording
    too_short: bool  # recordings are shorter than the window
    group: Callable[[int, int], str]  # of (label, index)
    inputs: Callable[[np.random.Generator, int, int], np.ndarray]  # (generator, label, index)


def _alone(label: int, index: int) -> str:
    return f"{label}/{index}"


def _speaker(label: int, index: int) -> str:
    """Speakers say every word, as in the real data."""
    return f"speaker-{index % SPEAKERS:02d}"


def _pictures(settings) -> _Made:
    source_height, source_width, channels = PIXELS[settings.name]
    height, width = settings.image_size
    spec = ImageSpec(height, width, channels)

    def inputs(rng: np.random.Generator, label: int, index: int) -> np.ndarray:
        made = picture(rng, label, source_height, source_width, channels)
        return image_input(made, spec)[np.newaxis]

    return _Made(SHAPES, spec, {}, 1, False, _alone, inputs)


def _sounds(settings) -> _Made:
    words = settings.name == "speech_commands"
    kind = "word" if words else "genre"
    rate = 16_000 if words else 22_050
    seconds = 1.0 if words else settings["synthetic_seconds"]
    spec = mel_spec(settings, rate, settings["window_seconds"], extra_frame=words)
    filters = mel_filters(spec)

    def inputs(rng: np.random.Generator, label: int, index: int) -> np.ndarray:
        if words:
            clip = word_clip(rng, label, rate, index % SPEAKERS)
        else:
            clip = genre_clip(rng, label, rate, seconds)
        return mel_windows(clip, spec, filters)

    length = round(seconds * rate)
    return _Made(
        labels=tuple(f"{kind}-{i}" for i in range(10)),
        spec=spec,
        input_files=input_files(spec),
        num_windows=len(windows(length, spec.window_samples)),
        too_short=length < spec.window_samples,
        group=_speaker if words else _alone,
        inputs=inputs,
    )
