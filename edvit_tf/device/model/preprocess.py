"""What the sensor gives -> what the model takes: pictures resized, sound as log-mel decibels. numpy
alone.

Training and devices share this one implementation, so that there is no skew between them. Reading
order: the specs (they travel in the bundle's manifest), `resize`, images, sound,
`inputs_from_file`; decode.py opens the files. Errors are ValueError: value seen, rule broken, next
thing to do.
"""

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .decode import decode_audio, decode_image

RESIZE_METHODS = ("bilinear", "bicubic")


def _check_fields(spec) -> None:
    """Types and ranges of a spec's fields; ValueError names the field."""
    for field in dataclasses.fields(spec):
        value, name = getattr(spec, field.name), f"{type(spec).__name__}.{field.name}"
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (
            number
            if field.type is float
            else isinstance(value, field.type) and number == (field.type is int)
        ):
            raise ValueError(f"{name} is {value!r}; it must be of type {field.type.__name__}.")
        if number and not (value > 0 or (field.name == "fmin_hz" and value == 0)):
            raise ValueError(f"{name} is {value!r}; it must be positive.")
    if spec.resize not in RESIZE_METHODS:
        raise ValueError(
            f"{type(spec).__name__}.resize is {spec.resize!r}; choose from "
            f"{', '.join(RESIZE_METHODS)}."
        )


@dataclass(frozen=True)
class ImageSpec:
    """A picture, stretched as a whole to (height, width, channels), uint8 0..255."""

    height: int
    width: int
    channels: int  # 1 (grey) or 3 (RGB)
    resize: str = "bilinear"
    antialias: bool = True

    def __post_init__(self) -> None:
        _check_fields(self)
        if self.channels not in (1, 3):
            raise ValueError(
                f"ImageSpec.channels is {self.channels}; it must be 1 (grey) or 3 (RGB)."
            )

    def to_dict(self) -> dict:
        """Plain dictionary of JSON types, with its kind."""
        return {"kind": "image", **dataclasses.asdict(self)}


@dataclass(frozen=True)
class MelSpec:
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

    def __post_init__(self) -> None:
        _check_fields(self)
        if self.frames > 1 + self.window_samples // self.hop_length:
            raise ValueError(
                f"MelSpec.frames is {self.frames}; {self.window_samples} samples at hop "
                f"{self.hop_length} give {1 + self.window_samples // self.hop_length}. Ask for "
                "fewer."
            )
        if not self.fmin_hz < self.fmax_hz <= self.sample_rate_hz / 2:
            raise ValueError(
                f"MelSpec.fmin_hz, fmax_hz are {self.fmin_hz}, {self.fmax_hz}; they must rise and "
                "end at "
                f"or below half the sample rate, {self.sample_rate_hz / 2}."
            )

    def to_dict(self) -> dict:
        """Plain dictionary of JSON types, with its kind."""
        return {"kind": "mel", **dataclasses.asdict(self)}


def spec_from_dict(values: dict) -> ImageSpec | MelSpec:
    """The inverse of `to_dict`; ValueError on an unknown kind, an unknown or missing key, or a
    wrong type.
    """
    kinds = {"image": ImageSpec, "mel": MelSpec}
    kind = values.get("kind") if isinstance(values, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise ValueError(
            f"Input spec of kind {kind!r}; the kinds are image and mel. Export the bundle again."
        )
    fields = {f.name: f for f in dataclasses.fields(kinds[kind])}
    given = {k: v for k, v in values.items() if k != "kind"}
    unknown = sorted(str(k) for k in set(given) - set(fields))
    missing = [k for k, f in fields.items() if f.default is dataclasses.MISSING and k not in given]
    if unknown or missing:
        raise ValueError(
            f"Input spec of kind {kind}: unknown keys {unknown}, missing keys {missing}; its keys "
            "are "
            f"{', '.join(fields)}. Use the edvit_tf version that wrote the bundle."
        )
    return kinds[kind](**given)


@functools.lru_cache(maxsize=64)
def _resize_weights(size_in: int, size_out: int, method: str, antialias: bool) -> np.ndarray:
    """(size_out, size_in) float32 rows of kernel weights at half-pixel centres, normalised inside
    the picture.
    """
    if method not in RESIZE_METHODS:
        raise ValueError(f"Resize method {method!r}; choose from {', '.join(RESIZE_METHODS)}.")
    # float32 as in TensorFlow's kernels: where a place rounds differs otherwise
    scale = np.float32(size_in) / np.float32(size_out)
    centre = (np.arange(size_out, dtype=np.float32)[:, None] + np.float32(0.5)) * scale
    if method == "bicubic" and not antialias:
        # tf.image.resize looks this kernel up in a table of 1024 steps a pixel; so do we, to agree
        # with it
        left = np.floor(centre - np.float32(0.5))
        centre = left + np.rint((centre - np.float32(0.5) - left) * 1024) / 1024 + 0.5
    t = np.abs(np.arange(size_in)[None, :] + 0.5 - centre) / (max(scale, 1.0) if antialias else 1.0)
    if method == "bilinear":
        weights = np.maximum(0.0, 1.0 - t)
    else:  # Keys 1981, a = -0.5
        weights = np.where(
            t < 1,
            (1.5 * t - 2.5) * t * t + 1,
            np.where(t < 2, ((-0.5 * t + 2.5) * t - 4) * t + 2, 0.0),
        )
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    weights.setflags(write=False)  # cached: shared by all callers
    return weights


def resize(
    x: np.ndarray, height: int, width: int, method: str = "bilinear", antialias: bool = True
) -> np.ndarray:
    """Resizes as tf.image.resize does: half-pixel centres, bilinear or bicubic (Keys), with or
    without antialias.

    x: (H, W, C) or (N, H, W, C), any real dtype. Returns float32 of the same rank; not rounded,
    bicubic may overshoot.
    """
    x = np.asarray(x, np.float32)
    if x.ndim not in (3, 4):
        raise ValueError(
            f"resize got an array of shape {x.shape}; it takes (H, W, C) or (N, H, W, C)."
        )
    batch = x.reshape((-1, *x.shape[-3:]))
    _, h, w, _ = batch.shape
    # the axis that shrinks more goes first: a spectrogram of 128 x 1291 costs half as much this way
    for axis in (1, 2) if height * w <= width * h else (2, 1):
        size_out = height if axis == 1 else width
        if batch.shape[axis] == size_out:
            continue
        weights = _resize_weights(batch.shape[axis], size_out, method, antialias)
        n, h, w, c = batch.shape
        if axis == 1:
            batch = np.matmul(weights, batch.reshape(n, h, w * c)).reshape(n, size_out, w, c)
        else:
            rows = np.ascontiguousarray(batch.transpose(0, 1, 3, 2)).reshape(
                -1, w
            )  # (N*H*C, W): one product
            batch = (rows @ weights.T).reshape(n, h, c, size_out).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(batch.reshape((*x.shape[:-3], height, width, x.shape[-1])))


def image_batch(pixels: np.ndarray, spec: ImageSpec) -> np.ndarray:
    """uint8 (N, H, W, C), C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA -> uint8 (N, height, width,
    channels).
    """
    pixels = np.asarray(pixels)
    if (
        pixels.dtype != np.uint8
        or pixels.ndim != 4
        or pixels.shape[-1] not in (1, 2, 3, 4)
        or 0 in pixels.shape[1:]
    ):
        raise ValueError(
            f"Pictures of shape {pixels.shape}, {pixels.dtype}; uint8 (N, H, W, 1 to 4) is needed. "
            "Decode the file first, or scale to 0..255."
        )
    colour = pixels[..., : 1 if pixels.shape[-1] <= 2 else 3]  # drops alpha
    if colour.shape[-1] == 1 and spec.channels == 3:
        colour = np.repeat(colour, 3, axis=-1)
    elif colour.shape[-1] == 3 and spec.channels == 1:
        colour = colour @ np.array([[0.299], [0.587], [0.114]], np.float32)  # ITU-R 601 luma
    if colour.shape[1:3] != (spec.height, spec.width):
        colour = resize(colour, spec.height, spec.width, spec.resize, spec.antialias)
    if colour.dtype != np.uint8:
        colour = np.clip(np.rint(colour), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(colour)


def image_input(pixels: np.ndarray, spec: ImageSpec) -> np.ndarray:
    """One picture, uint8 (H, W) or (H, W, C) -> uint8 (height, width, channels)."""
    pixels = np.asarray(pixels)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return image_batch(pixels[None], spec)[0]


def log_mel(samples: np.ndarray, spec: MelSpec, mel_filters: np.ndarray) -> np.ndarray:
    """Log-mel decibels of one window, float32 (n_mels, frames); a shorter window is padded with
    silence.

    samples: float (at most window_samples,), -1..1. mel_filters: (n_mels, 1 + n_fft // 2). Centred
    STFT over zero padding, periodic Hann, power 2, then 10 log10(max(amin, .)) cut at top_db below
    the peak, then the frames kept: what librosa.feature.melspectrogram and power_to_db(ref=1.0)
    give for the same parameters.
    """
    samples = np.asarray(
        samples, np.float64
    )  # double: numpy 1 and 2 then agree, and quiet bands keep their digits
    if samples.ndim != 1 or samples.size > spec.window_samples:
        raise ValueError(
            f"Sound of shape {samples.shape}; one window is at most ({spec.window_samples},). "
            "Cut it at the starts that `windows` gives."
        )
    if mel_filters is None or np.shape(mel_filters) != (spec.n_mels, 1 + spec.n_fft // 2):
        raise ValueError(
            f"mel_filters of shape {np.shape(mel_filters)}; the spec needs "
            f"{(spec.n_mels, 1 + spec.n_fft // 2)}. Take the ones stored with the spec."
        )
    if not np.isfinite(samples).all():
        raise ValueError(
            "Sound holds NaN or infinite samples; they must be finite. Check the recording."
        )
    half = spec.n_fft // 2
    padded = np.zeros(spec.window_samples + 2 * half)
    padded[half : half + samples.size] = samples
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(spec.n_fft) / spec.n_fft)
    frames = np.lib.stride_tricks.sliding_window_view(padded, spec.n_fft)[
        :: spec.hop_length
    ]  # (T, n_fft)
    spectrum = np.fft.rfft(frames * hann, axis=1)
    power = (spectrum.real**2 + spectrum.imag**2) @ np.asarray(
        mel_filters, np.float64
    ).T  # (T, n_mels)
    decibels = 10 * np.log10(np.maximum(spec.amin, power))
    decibels = np.maximum(decibels, decibels.max() - spec.top_db)
    return np.ascontiguousarray(decibels.T[:, : spec.frames], dtype=np.float32)


def mel_input(samples: np.ndarray, spec: MelSpec, mel_filters: np.ndarray) -> np.ndarray:
    """One window of sound -> float32 (height, width, 1), decibels."""
    return resize(
        log_mel(samples, spec, mel_filters)[..., None],
        spec.height,
        spec.width,
        spec.resize,
        spec.antialias,
    )


def windows(num_samples: int, window_samples: int) -> tuple[int, ...]:
    """Starts of a recording's windows, side by side; a rest of half a window or more gives one
    more, right-aligned.

    A smaller rest is dropped; a recording shorter than the window has one window at 0, to be
    padded.
    """
    full, rest = divmod(num_samples, window_samples)
    starts = tuple(i * window_samples for i in range(full))
    if not starts:
        return (0,)
    return starts + ((num_samples - window_samples,) if 2 * rest >= window_samples else ())


def mel_windows(samples: np.ndarray, spec: MelSpec, mel_filters: np.ndarray) -> np.ndarray:
    """A whole recording -> float32 (n windows, height, width, 1)."""
    starts = windows(len(samples), spec.window_samples)
    return np.stack(
        [mel_input(samples[s : s + spec.window_samples], spec, mel_filters) for s in starts]
    )


def inputs_from_file(
    source: str | Path | bytes,
    spec: ImageSpec | MelSpec,
    mel_filters: np.ndarray | None = None,
    max_pixels: int | None = None,
) -> np.ndarray:
    """An encoded file (path or bytes) -> (n, height, width, channels): 1 uint8 picture, or n
    float32 mel windows.

    ValueError if it cannot be decoded, or if the sound has another sample rate: a device does not
    resample. `max_pixels` as `decode_image`.
    """
    if isinstance(spec, ImageSpec):
        return image_input(decode_image(source, max_pixels), spec)[None]
    samples, rate = decode_audio(source)
    if rate != spec.sample_rate_hz:
        raise ValueError(
            f"The recording has {rate} Hz; the model takes {spec.sample_rate_hz} Hz and nothing is "
            f"resampled here. Record at {spec.sample_rate_hz} Hz, or convert the file beforehand."
        )
    return mel_windows(samples, spec, mel_filters)
