"""Sound files -> mel windows: the spec, the mel filter bank (librosa), header probes, and the
reader.

librosa is slow to import: only the filter bank needs it.
"""

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edvit_tf.device.errors import InputError
from edvit_tf.device.model.decode_sound import decode_audio, mono, probe_audio
from edvit_tf.device.model.sound import MEL_FILTERS, MelSpec, mel_windows, window_count
from edvit_tf.device.terminal import are, counted
from edvit_tf.errors import DataError

from .caches import provide_caches
from .dataset import Skipped, check_skipped, report_skipped
from .folders import unusable

SUFFIXES = (".wav", ".au", ".flac")
# What is meant as a recording and is not read: named, where a README.txt is merely left out.
OTHER_SOUNDS = (
    *(".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".wma", ".aif", ".aiff", ".aifc", ".caf"),
    *(".amr", ".3gp", ".webm", ".mp4", ".snd"),
)
# Of those, what libsndfile decodes. A device does not, so the data sets of recipes have none.
COMPRESSED = (".mp3", ".ogg", ".oga", ".opus")
SIGNATURES = (b"RIFF", b"RF64", b"fLaC", b".snd", b"ID3", b"OggS")
# Of a header: outside of these it is damaged. Resampled from 1 Hz, a minute would be hours long.
LOWEST_RATE_HZ = 1_000
HIGHEST_RATE_HZ = 768_000


def mel_spec(settings, sample_rate_hz: int, window_seconds: float, extra_frame: bool) -> MelSpec:
    """The spec of a data set's options; frames = window // hop, plus one for the centred last frame
    if asked.
    """
    window_samples = round(window_seconds * sample_rate_hz)
    frames = window_samples // settings["hop_length"] + extra_frame
    try:
        return MelSpec(
            sample_rate_hz=sample_rate_hz,
            window_samples=window_samples,
            n_fft=settings["n_fft"],
            hop_length=settings["hop_length"],
            n_mels=settings["n_mels"],
            frames=frames,
            fmin_hz=0.0,
            fmax_hz=sample_rate_hz / 2,
            height=settings.image_size[0],
            width=settings.image_size[1],
        )
    except ValueError as error:
        raise DataError(
            f"{settings.name}: {error} Change window_seconds, n_fft, hop_length or n_mels."
        ) from error


@functools.lru_cache(maxsize=8)
def mel_filters(spec: MelSpec) -> np.ndarray:
    """float32 (n_mels, 1 + n_fft // 2): Slaney's mel scale and area norm, as librosa's defaults
    are.
    """
    provide_caches()
    import librosa

    filters = librosa.filters.mel(
        sr=spec.sample_rate_hz,
        n_fft=spec.n_fft,
        n_mels=spec.n_mels,
        fmin=spec.fmin_hz,
        fmax=spec.fmax_hz,
        htk=False,
        norm="slaney",
        dtype=np.float32,
    )
    filters.setflags(write=False)  # cached: shared by all callers
    return filters


def input_files(spec: MelSpec) -> dict[str, np.ndarray]:
    """What a bundle holds beside the spec, so that a device needs no librosa."""
    return {MEL_FILTERS: mel_filters(spec)}


def sounds(paths: Sequence[Path], others: list[Path]) -> list[Path]:
    """Those that are meant as recordings, by their suffix or by what they hold; what else people
    keep beside them is added to `others`.
    """
    found = []
    for path in paths:
        meant = path.suffix.lower() in (*SUFFIXES, *OTHER_SOUNDS)
        if meant or unusable(path) or starts_as_sound(path):
            found.append(path)
        else:
            others.append(path)
    return found


def starts_as_sound(path: Path) -> bool:
    """Whether a file of another suffix is sound by its first bytes, or may not be looked at."""
    try:
        with open(path, "rb") as file:
            return file.read(4).startswith(SIGNATURES)
    except OSError:
        return True


@dataclass(frozen=True)
class Scan:
    """What the headers say: windows of each readable file, and what a reader of the results should
    know.
    """

    num_windows: dict[Path, int]
    padded: int
    notes: list[str]


def scan(
    files: Iterable[tuple[str, Path]],
    spec: MelSpec,
    skipped: list[Skipped],
    what: str,
    suffixes: Sequence[str] = SUFFIXES,
) -> Scan:
    """Probes the header of each (shown name, path); unreadable files, and those of other
    `suffixes`, are named and counted in `skipped`.
    """
    num_windows: dict[Path, int] = {}
    rates: Counter[int] = Counter()
    padded = 0
    total = 0

    for shown, path in files:
        total += 1
        try:
            if path.suffix.lower() not in suffixes:
                raise InputError(f"not a {', '.join(suffixes)} file")
            problem = unusable(path)
            if problem is not None:
                raise InputError(problem)
            frames, rate = probe_sound(path)
            check_rate(rate)
        except InputError as error:
            report_skipped(skipped, shown, str(error))
            continue

        rates[rate] += 1

        # At the rate that the samples will have.
        frames = _resampled_length(frames, rate, spec.sample_rate_hz)
        padded += frames < spec.window_samples
        num_windows[path] = window_count(frames, spec.window_samples)

    check_skipped(skipped, total, what)

    notes = []
    for rate, n in sorted(rates.items()):
        if rate != spec.sample_rate_hz:
            some = f"{counted(n, 'recording')} of {rate} Hz {are(n)}"
            notes.append(f"{some} resampled to {spec.sample_rate_hz} Hz")
    if padded:
        notes.append(
            f"{padded} of {counted(len(num_windows), 'recording')} {are(padded)} shorter than the "
            f"window of {spec.window_samples / spec.sample_rate_hz:g} s and padded with silence"
        )
    return Scan(num_windows, padded, notes)


def reader(spec: MelSpec) -> Callable[[Sequence], np.ndarray]:
    """`Dataset.read` for recordings whose `where` is a Path: (n windows, height, width, 1)
    float32.
    """
    # Once: librosa is slow to load, and its filters are the same for every file.
    filters = mel_filters(spec)

    def read(recordings: Sequence) -> np.ndarray:
        inputs = []
        for recording in recordings:
            samples = load_samples(recording.where, spec.sample_rate_hz)
            inputs.append(mel_windows(samples, spec, filters))
        return np.concatenate(inputs)

    return read


def decoded_windows(path: Path, spec: MelSpec) -> np.ndarray:
    """(n windows, height, width, 1) float32 of any file of SUFFIXES or COMPRESSED, at any rate."""
    samples = load_samples(path, spec.sample_rate_hz)
    return mel_windows(samples, spec, mel_filters(spec))


def load_samples(path: Path, sample_rate_hz: int) -> np.ndarray:
    """Mono float32 samples of a file, resampled if it has another rate (host only: a device
    refuses).
    """
    samples, rate = _decoded(path)
    if rate == sample_rate_hz:
        return samples

    # as librosa.resample does, which first compiles much else: a minute on a busy machine
    import soxr

    wanted = _resampled_length(len(samples), rate, sample_rate_hz)
    samples = soxr.resample(samples, rate, sample_rate_hz, quality="HQ")[:wanted]
    # A resampler may be a sample off what the windows were counted by.
    return np.pad(samples, (0, wanted - len(samples)))


def probe_sound(path: Path) -> tuple[int, int]:
    """(frames, sample_rate_hz) by the header of a file of SUFFIXES or COMPRESSED; InputError."""
    if path.suffix.lower() not in COMPRESSED:
        return probe_audio(path)

    import soundfile

    try:
        found = soundfile.info(path)
    except (soundfile.SoundFileError, ValueError, RuntimeError) as error:
        raise InputError(f"not a readable recording ({error})") from error
    if not found.frames:
        raise InputError("a recording of 0 frames; record it again")
    return found.frames, found.samplerate


def _decoded(path: Path) -> tuple[np.ndarray, int]:
    """(mono samples float32, sample_rate_hz), of as many frames as `probe_sound` says."""
    if path.suffix.lower() not in COMPRESSED:
        return decode_audio(path)

    import soundfile

    frames, _ = probe_sound(path)
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, ValueError, RuntimeError) as error:
        raise InputError(f"damaged audio ({error}); get a complete copy of the file") from error

    # what is cut off in the middle; the padding of a last block may be missing
    if len(samples) < frames - rate // 10:
        raise InputError(f"truncated audio: {len(samples)} of {frames} frames could be decoded")
    found = np.zeros(frames, np.float32)
    mixed = mono(samples[:frames])
    found[: len(mixed)] = mixed
    return found, rate


def check_rate(rate: int) -> None:
    """InputError for a sample rate that no recording has."""
    if not LOWEST_RATE_HZ <= rate <= HIGHEST_RATE_HZ:
        raise InputError(
            f"its header says {rate} Hz; sound has {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz. "
            "Correct the header, or record it again."
        )


def _resampled_length(frames: int, rate: int, target: int) -> int:
    return math.ceil(frames * target / rate)
