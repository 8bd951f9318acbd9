"""Sound files -> arrays: WAV, AU and FLAC by soundfile, 16-bit WAV by the standard library alone.

soundfile is optional on a device, so it is imported inside the function that needs it. A file that
is shorter than its header says is an error, not a shorter recording.
"""

import io
import struct
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from edvit_tf.device.errors import DecoderMissing, InputError
from edvit_tf.device.model.input_spec import Source, file_bytes, unreadable

# A WAV or AU writer that cannot seek back (a pipe) leaves this in place of the number of bytes.
UNKNOWN_LENGTH = 0xFFFFFFFF
# Of PCM, float, A-law, mu-law and extensible WAV the frames are bytes / block.
WAV_TAGS = (1, 3, 6, 7, 0xFFFE)
# Encoding of an AU file -> bytes a sample.
AU_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}


@dataclass(frozen=True)
class _Header:
    """Where the samples of a sound file are, and how many bytes a frame takes."""

    start: int
    length: int  # bytes of samples, or UNKNOWN_LENGTH
    block: int  # bytes a frame
    rate: int


def probe_audio(source: Source) -> tuple[int, int]:
    """(frames, sample_rate_hz) from the header of a WAV, AU or FLAC file (path or bytes), decoding
    nothing.

    InputError on another format, no samples, or a file cut shorter than its header says (FLAC: seen
    at decoding only).
    """
    if isinstance(source, bytes):
        return _probe(io.BytesIO(source), len(source))
    try:
        with open(source, "rb") as file:
            return _probe(file, Path(source).stat().st_size)
    except OSError as error:
        raise InputError(unreadable(error)) from error


def _probe(file: BinaryIO, size: int) -> tuple[int, int]:
    """probe_audio on an open file of `size` bytes."""
    # the first 42 bytes: FLAC's marker and STREAMINFO; WAV and AU need fewer
    head = file.read(42)
    try:
        if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
            header = _wav_header(file)
        elif head[:4] == b".snd":
            header = _au_header(head)
        elif head[:4] == b"fLaC" and len(head) == 42:
            header = _flac_header(head)
            size = max(size, header.length)  # compressed: bytes say nothing about frames
        else:
            raise InputError(
                f"Not a WAV, AU or FLAC file: it starts with {head[:4]!r}. Convert it to one of "
                "these."
            )
    except struct.error:
        raise InputError(
            f"Audio header cut off after {size} bytes; get a complete copy of the file."
        ) from None

    # a writer that could not seek back: the samples go on to the end of the file
    if header.length == UNKNOWN_LENGTH:
        frames = (size - header.start) // header.block
    else:
        frames = header.length // header.block
        if header.start + header.length > size:
            held = max(0, size - header.start) // header.block
            raise InputError(
                f"Truncated audio: the header says {frames} frames, the file holds {held}. "
                "Get a complete copy of the file."
            )

    if frames < 1 or header.rate < 1:
        raise InputError(
            f"Audio with {frames} frames at {header.rate} Hz; it must hold sound. Record it again."
        )

    return frames, header.rate


def _wav_header(file: BinaryIO) -> _Header:
    """Walks the chunks (4 bytes of name, 4 of length, padded to an even length) to the data."""
    block = rate = None
    # behind "RIFF", its length and "WAVE"
    offset = 12
    while True:
        file.seek(offset)
        name, length = struct.unpack("<4sI", file.read(8))
        if name == b"data":
            break
        if name == b"fmt ":
            tag, _, rate, _, block = struct.unpack("<HHIIH", file.read(14))
            if tag not in WAV_TAGS or not block:
                raise InputError(f"WAV with format tag {tag}; convert it to 16-bit PCM.")

        offset += 8 + length + length % 2

    if block is None or rate is None:
        raise InputError("WAV without a fmt chunk before its data; write the file again.")

    return _Header(offset + 8, length, block, rate)


def _au_header(head: bytes) -> _Header:
    start, length, encoding, rate, channels = struct.unpack(">5I", head[4:24])
    width = AU_WIDTHS.get(encoding)
    if width is None or not channels:
        raise InputError(
            f"AU with encoding {encoding}, {channels} channels; PCM, float or mu-law are read."
        )

    return _Header(start, length, width * channels, rate)


def _flac_header(head: bytes) -> _Header:
    """A frame counts as a byte here: what is compressed has no block."""
    # STREAMINFO: 20 bits of rate, 3 of channels, 5 of bits a sample, 36 of samples
    packed = int.from_bytes(head[18:26], "big")
    return _Header(0, packed & (2**36 - 1), 1, packed >> 44)


def decode_audio(source: Source) -> tuple[np.ndarray, int]:
    """WAV, AU or FLAC (path or bytes) -> (float32 mono samples (n,), -1..1; sample_rate_hz).
    Channels are averaged.

    InputError if damaged or truncated; DecoderMissing if soundfile is missing and the file is not a
    16-bit PCM WAV.
    """
    data = file_bytes(source)
    frames, rate = probe_audio(data)
    samples = _decode_channels(data)
    # of FLAC, the header alone did not show that the end is missing
    if len(samples) < frames:
        raise InputError(
            f"Truncated audio: the header says {frames} frames, {len(samples)} could be decoded. "
            "Get a complete copy of the file."
        )

    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    if not np.isfinite(mono).all():
        raise InputError(
            "Audio holds NaN or infinite samples; they must be finite. Record it again."
        )

    return np.ascontiguousarray(mono, np.float32), rate


def _decode_channels(data: bytes) -> np.ndarray:
    """(n, channels) float32, by soundfile where it is installed."""
    try:
        import soundfile
    except (ImportError, OSError) as missing:  # OSError: the package is there, libsndfile is not
        return _decode_pcm16(data, missing)

    try:
        samples, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, ValueError, TypeError) as error:
        raise InputError(f"Damaged audio ({error}); get a complete copy of the file.") from error

    return samples


def _decode_pcm16(data: bytes, missing: Exception) -> np.ndarray:
    """(n, channels) float32 of a 16-bit PCM WAV, by the standard library alone; `missing` says why
    soundfile is not there.
    """
    try:
        with wave.open(io.BytesIO(data)) as file:
            channels = file.getnchannels()
            width = file.getsampwidth()
            raw = file.readframes(file.getnframes())
    except (wave.Error, EOFError):
        width = None

    if width != 2:
        raise DecoderMissing(
            f"Decoding FLAC, AU or WAV other than 16-bit PCM needs soundfile ({missing}); "
            "`pip install soundfile`, or send 16-bit PCM WAV."
        ) from missing

    # whole frames, and from 16 bits to -1..1
    whole = len(raw) // (2 * channels) * 2 * channels
    return np.frombuffer(raw[:whole], "<i2").reshape(-1, channels).astype(np.float32) / 32768
