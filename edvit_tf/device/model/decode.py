"""Encoded files -> arrays: pictures by Pillow, WAV, AU and FLAC by soundfile, 16-bit WAV by the
standard library alone.

Pillow and soundfile are optional on a device, so they are imported inside the functions that need
them. A file that is shorter than its header says is an error, not a shorter recording. Errors are
ValueError: value seen, rule broken, next thing to do; RuntimeError when a decoder is missing.
"""

import io
import struct
import wave
from pathlib import Path

import numpy as np

# A WAV or AU writer that cannot seek back (a pipe) leaves this in place of the number of bytes.
UNKNOWN_LENGTH = 0xFFFFFFFF
WAV_BYTES_PER_SAMPLE_TAGS = (
    1,
    3,
    6,
    7,
    0xFFFE,
)  # PCM, float, A-law, mu-law, extensible: frames = bytes / block


def decode_image(source: str | Path | bytes, max_pixels: int | None = None) -> np.ndarray:
    """JPEG, PNG, ... (path or bytes) -> uint8 (H, W) grey or (H, W, 3) RGB, upright as its EXIF
    says.

    ValueError if it cannot be decoded, or if its header says more than `max_pixels` (None: Pillow's
    own limit), before anything is decoded; RuntimeError if Pillow is missing.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise RuntimeError(
            "Decoding pictures needs Pillow; `pip install pillow`, or send raw uint8 pixels."
        ) from error
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    try:
        with Image.open(io.BytesIO(data)) as opened:
            if max_pixels is not None and opened.width * opened.height > max_pixels:
                raise ValueError(
                    f"{opened.width} x {opened.height} pixels; {max_pixels} are the most. Make it "
                    "smaller"
                )
            picture = ImageOps.exif_transpose(opened)
            if picture.mode.startswith(
                "I"
            ):  # 16-bit grey: Pillow would clip it to 255, we keep the high byte
                return np.clip(np.asarray(picture).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
            return np.asarray(picture.convert("L" if picture.mode in ("1", "L", "LA") else "RGB"))
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
        Image.DecompressionBombError,
    ) as error:
        raise ValueError(
            f"Not a readable picture ({error}); a complete JPEG or PNG is needed."
        ) from error


def probe_audio(source: str | Path | bytes) -> tuple[int, int]:
    """(frames, sample_rate_hz) from the header of a WAV, AU or FLAC file (path or bytes), decoding
    nothing.

    ValueError on another format, no samples, or a file cut shorter than its header says (FLAC: seen
    at decoding only).
    """
    if isinstance(source, bytes):
        return _probe(io.BytesIO(source), len(source))
    with open(source, "rb") as file:
        return _probe(file, Path(source).stat().st_size)


def _probe(file, size: int) -> tuple[int, int]:
    """probe_audio on an open file of `size` bytes."""
    head = file.read(42)
    try:
        if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
            block = rate = None
            offset = 12
            while True:  # chunks: 4 bytes of name, 4 of length, padded to an even length
                file.seek(offset)
                name, length = struct.unpack("<4sI", file.read(8))
                if name == b"fmt ":
                    tag, _, rate, _, block = struct.unpack("<HHIIH", file.read(14))
                    if tag not in WAV_BYTES_PER_SAMPLE_TAGS or not block:
                        raise ValueError(f"WAV with format tag {tag}; convert it to 16-bit PCM.")
                if name == b"data":
                    start = offset + 8
                    break
                offset += 8 + length + length % 2
            if block is None:
                raise ValueError("WAV without a fmt chunk before its data; write the file again.")
        elif head[:4] == b".snd":
            start, length, encoding, rate, channels = struct.unpack(">5I", head[4:24])
            width = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}.get(encoding)
            if width is None or not channels:
                raise ValueError(
                    f"AU with encoding {encoding}, {channels} channels; PCM, float or mu-law are "
                    "read."
                )
            block = width * channels
        elif head[:4] == b"fLaC" and len(head) == 42:
            packed = int.from_bytes(
                head[18:26], "big"
            )  # STREAMINFO: 20 bits rate, 3 channels, 5 bits, 36 samples
            start, length, block, rate = 0, packed & (2**36 - 1), 1, packed >> 44
            size = max(size, length)  # compressed: bytes say nothing about frames
        else:
            raise ValueError(
                f"Not a WAV, AU or FLAC file: it starts with {head[:4]!r}. Convert it to one of "
                "these."
            )
    except struct.error:
        raise ValueError(
            f"Audio header cut off after {size} bytes; get a complete copy of the file."
        ) from None
    if length != UNKNOWN_LENGTH and start + length > size:
        raise ValueError(
            f"Truncated audio: the header says {length // block} frames, the file holds "
            f"{max(0, size - start) // block}. Get a complete copy of the file."
        )
    frames = (size - start if length == UNKNOWN_LENGTH else length) // block
    if frames < 1 or rate < 1:
        raise ValueError(
            f"Audio with {frames} frames at {rate} Hz; it must hold sound. Record it again."
        )
    return frames, rate


def decode_audio(source: str | Path | bytes) -> tuple[np.ndarray, int]:
    """WAV, AU or FLAC (path or bytes) -> (float32 mono samples (n,), -1..1; sample_rate_hz).
    Channels are averaged.

    ValueError if damaged or truncated; RuntimeError if soundfile is missing and the file is not a
    16-bit PCM WAV.
    """
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    frames, rate = probe_audio(data)
    try:
        import soundfile
    except (ImportError, OSError) as missing:  # OSError: the package is there, libsndfile is not
        samples = _decode_pcm16(data, missing)
    else:
        try:
            samples = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[
                0
            ]  # (n, channels)
        except (soundfile.SoundFileError, ValueError, TypeError) as error:
            raise ValueError(
                f"Damaged audio ({error}); get a complete copy of the file."
            ) from error
    if len(samples) < frames:
        raise ValueError(
            f"Truncated audio: the header says {frames} frames, {len(samples)} could be decoded. "
            "Get a complete copy of the file."
        )
    samples = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    if not np.isfinite(samples).all():
        raise ValueError(
            "Audio holds NaN or infinite samples; they must be finite. Record it again."
        )
    return np.ascontiguousarray(samples, np.float32), rate


def _decode_pcm16(data: bytes, missing: Exception) -> np.ndarray:
    """(n, channels) float32 of a 16-bit PCM WAV, by the standard library alone; `missing` says why
    soundfile is not.
    """
    try:
        with wave.open(io.BytesIO(data)) as file:
            channels, width, raw = (
                file.getnchannels(),
                file.getsampwidth(),
                file.readframes(file.getnframes()),
            )
    except (wave.Error, EOFError):
        width = None
    if width != 2:
        raise RuntimeError(
            f"Decoding FLAC, AU or WAV other than 16-bit PCM needs soundfile ({missing}); "
            "`pip install soundfile`, or send 16-bit PCM WAV."
        ) from missing
    raw = raw[: len(raw) // (2 * channels) * 2 * channels]
    return np.frombuffer(raw, "<i2").reshape(-1, channels).astype(np.float32) / 32768
