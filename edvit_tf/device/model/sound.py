"""Sound: a recording -> windows of log-mel decibels, as librosa would give them, in numpy alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edvit_tf.device.errors import InputError, InputTooLarge
from edvit_tf.device.model.decode_sound import decode_audio, probe_audio
from edvit_tf.device.model.input_spec import Files, InputSpec, Source, smooth_map
from edvit_tf.device.model.resize import check_method, resize

MEL_FILTERS = (
    "mel_filters.npy"  # in a bundle: (n_mels, 1 + n_fft // 2), so that no device needs librosa
)
_SAMPLE_BYTES = 2 * 4  # of an encoded recording: two channels of float32 at most
# Of a value of all frames: float64 times Hann, the complex spectrum of half as many, its power.
_FRAME_BYTES = 8 + 8 + 4
# That decoding may take: 20 times what GTZAN's half minute does. A spec beyond it is a mistake.
_MAX_DECODING_BYTES = 1 << 30


@dataclass(frozen=True)
class MelSpec(InputSpec):
    """One window of sound as (n_mels, frames) decibels (row 0 = lowest band), resized to (height,
    width, 1) float32.
    """

    sample_rate_hz: int
    window_samples: int
    n_fft: int
    hop_length: int
    n_mels: int
    frames: int  # columns kept of the 1 + window_samples // hop_length
    fmin_hz: float
    fmax_hz: float
    height: int
    width: int
    top_db: float = 80.0
    amin: float = 1e-10
    resize: str = "bilinear"
    antialias: bool = True

    kind = name = "mel"
    dtype = "float32"
    modality = "audio"
    item = "recording"
    described = "log-mel spectrogram (float32, decibels)"
    is_sound = True
    largest_file = "encoded recording of one window"
    files = (MEL_FILTERS,)
    may_be_zero = ("fmin_hz",)

    def __post_init__(self) -> None:
        self.check_fields()
        check_method(self.resize, "MelSpec.resize")
        most = 1 + self.window_samples // self.hop_length
        if self.frames > most:
            raise ValueError(
                f"MelSpec.frames is {self.frames}; {self.window_samples} samples at hop "
                f"{self.hop_length} give {most}. Ask for fewer."
            )

        if not self.fmin_hz < self.fmax_hz <= self.sample_rate_hz / 2:
            raise ValueError(
                f"MelSpec.fmin_hz, fmax_hz are {self.fmin_hz}, {self.fmax_hz}; they must rise and "
                f"end at or below half the sample rate, {self.sample_rate_hz / 2}."
            )

        if self.decoding_bytes > _MAX_DECODING_BYTES:
            raise ValueError(
                f"MelSpec of {self.window_samples} samples, n_fft {self.n_fft} and hop "
                f"{self.hop_length} takes {self.decoding_bytes >> 20} MiB; at most "
                f"{_MAX_DECODING_BYTES >> 20} are allowed. Take a shorter window or a longer hop."
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, 1)."""
        return self.height, self.width, 1

    @property
    def largest_file_bytes(self) -> int:
        """One and a half windows: with less than half a window more there is still one."""
        return self.window_samples * 3 // 2 * _SAMPLE_BYTES

    @property
    def decoding_bytes(self) -> int:
        """The file and a copy, its samples of eight channels, and the spectrum of one window."""
        frames = 1 + self.window_samples // self.hop_length
        return 6 * self.largest_file_bytes + frames * self.n_fft * _FRAME_BYTES

    def probe(self, source: Source) -> None:
        """InputTooLarge for more than one window; InputError for what is no recording, or has
        another sample rate.
        """
        frames, rate = probe_audio(source, 2 * self.window_samples)
        # first: at another rate it has another number of windows
        self._check_rate(rate)
        count = window_count(frames, self.window_samples)
        if count > 1:
            raise InputTooLarge(
                f"{frames} samples, {count} windows",
                f"one window of {self.window_samples}; send each window by itself",
            )

    def from_file(self, source: Source, files: Files) -> np.ndarray:
        """A recording -> float32 (n windows, height, width, 1); errors as `decode_audio`.

        InputError if it has another sample rate: a device does not resample.
        """
        samples, rate = decode_audio(source)
        self._check_rate(rate)

        return mel_windows(samples, self, files[MEL_FILTERS])

    def _check_rate(self, rate: int) -> None:
        if rate != self.sample_rate_hz:
            raise InputError(
                f"The recording has {rate} Hz; the model takes {self.sample_rate_hz} Hz and "
                f"nothing is resampled here. Record at {self.sample_rate_hz} Hz, or convert the "
                "file beforehand."
            )

    def from_samples(self, samples: np.ndarray, files: Files) -> np.ndarray:
        """One window of sound, -1..1 -> float32 (1, height, width, 1)."""
        return mel_input(samples, self, files[MEL_FILTERS])[np.newaxis]

    def golden_sample(self, seed: int, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
        """float32 (1, height, width, 1)."""
        return smooth_map(self.shape, seed, mean, std).astype(np.float32)[np.newaxis]


def windows(num_samples: int, window_samples: int) -> tuple[int, ...]:
    """Starts of a recording's windows, side by side; a rest of half a window or more gives one
    more, right-aligned.

    A smaller rest is dropped; a recording shorter than the window has one window at 0, to be
    padded.
    """
    full, rest = divmod(num_samples, window_samples)
    if full == 0:
        return (0,)

    starts = [i * window_samples for i in range(full)]
    if 2 * rest >= window_samples:
        starts.append(num_samples - window_samples)

    return tuple(starts)


def window_count(num_samples: int, window_samples: int) -> int:
    """How many `windows` there are; a header may say any number of samples, so none is listed."""
    full, rest = divmod(num_samples, window_samples)
    if full == 0:
        return 1
    return full + int(2 * rest >= window_samples)


def mel_windows(samples: np.ndarray, spec: MelSpec, mel_filters: np.ndarray) -> np.ndarray:
    """A whole recording -> float32 (n windows, height, width, 1)."""
    inputs = []
    for start in windows(len(samples), spec.window_samples):
        window = samples[start : start + spec.window_samples]
        inputs.append(mel_input(window, spec, mel_filters))

    return np.stack(inputs)


def mel_input(samples: np.ndarray, spec: MelSpec, mel_filters: np.ndarray) -> np.ndarray:
    """One window of sound -> float32 (height, width, 1), decibels."""
    decibels = log_mel(samples, spec, mel_filters)[..., None]  # (n_mels, frames, 1)
    return resize(decibels, spec.height, spec.width, spec.resize, spec.antialias)


def log_mel(samples: np.ndarray, spec: MelSpec, mel_filters: np.ndarray) -> np.ndarray:
    """Log-mel decibels of one window, float32 (n_mels, frames); a shorter window is padded with
    silence.

    samples: float (at most window_samples,), -1..1. mel_filters: (n_mels, 1 + n_fft // 2). Centred
    STFT over zero padding, periodic Hann, power 2, then 10 log10(max(amin, .)) cut at top_db below
    the peak, then the frames kept: what librosa.feature.melspectrogram and power_to_db(ref=1.0)
    give for the same parameters.
    """
    # double: numpy 1 and 2 then agree, and quiet bands keep their digits
    samples = np.asarray(samples, np.float64)
    _check_window(samples, spec, mel_filters)

    half = spec.n_fft // 2
    padded = np.zeros(spec.window_samples + 2 * half)
    padded[half : half + samples.size] = samples

    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(spec.n_fft) / spec.n_fft)  # periodic, (n_fft,)
    every = np.lib.stride_tricks.sliding_window_view(padded, spec.n_fft)
    frames = every[:: spec.hop_length]  # (T, n_fft)
    spectrum = np.fft.rfft(frames * hann, axis=1)
    power = spectrum.real**2 + spectrum.imag**2  # (T, 1 + n_fft // 2)
    mel = power @ np.asarray(mel_filters, np.float64).T  # (T, n_mels)

    # amin keeps silence finite; row 0 of what comes out is the lowest band
    decibels = 10 * np.log10(np.maximum(spec.amin, mel))
    decibels = np.maximum(decibels, decibels.max() - spec.top_db)

    return np.ascontiguousarray(decibels.T[:, : spec.frames], dtype=np.float32)


def _check_window(samples: np.ndarray, spec: MelSpec, mel_filters: np.ndarray) -> None:
    if samples.ndim != 1 or samples.size > spec.window_samples:
        raise ValueError(
            f"Sound of shape {samples.shape}; one window is at most ({spec.window_samples},). "
            "Cut it at the starts that `windows` gives."
        )

    wanted = (spec.n_mels, 1 + spec.n_fft // 2)
    if mel_filters is None or np.shape(mel_filters) != wanted:
        raise ValueError(
            f"mel_filters of shape {np.shape(mel_filters)}; the spec needs {wanted}. "
            "Take the ones stored with the spec."
        )

    if not np.isfinite(samples).all():
        raise ValueError(
            "Sound holds NaN or infinite samples; they must be finite. Check the recording."
        )
