"""Sound files -> arrays: WAV, AU and FLAC by soundfile, 16-bit WAV by numpy alone.

soundfile is optional on a device, so it is imported inside the functions that need it. What the
header says is read by ourselves first (`sound_header.py`), and where its sizes are wrong a decoder
is given the right ones.
"""

import io
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edvit_tf.device.errors import DecoderMissing, InputError
from edvit_tf.device.model.input_spec import Source, file_bytes, unreadable
from edvit_tf.device.model.sound_header import Header, read_header

_BLOCK_FRAMES = 1 << 16  # that are decoded at a time
# Below this part of the channels' power (30 dB) their mean has lost the sound.
_CANCELLED = 1e-3
# A channel of this part of the loudest one's power has the sound.
_LOUD = 0.5


def probe_audio(source: Source, most_frames: int | None = None) -> tuple[int, int]:
    """(frames, sample_rate_hz) from the header of a WAV, AU or FLAC file (path or bytes), decoding
    nothing.

    The one exception is a FLAC whose header does not say how long it is: its frames are counted, up
    to `most_frames`. InputError on another format, no samples, or a file cut shorter than its
    header says (FLAC: seen at decoding only); DecoderMissing as `decode_audio`, where frames are
    counted.
    """
    if isinstance(source, bytes):
        header = read_header(io.BytesIO(source), len(source))
    else:
        try:
            with open(source, "rb") as file:
                header = read_header(file, Path(source).stat().st_size)
        except OSError as error:
            raise InputError(unreadable(error)) from error

    frames = header.frames
    if frames is None:
        frames = _counted(file_bytes(source), header, most_frames)
    return frames, header.rate


def decode_audio(source: Source) -> tuple[np.ndarray, int]:
    """WAV, AU or FLAC (path or bytes) -> (float32 mono samples (n,), -1..1; sample_rate_hz).
    Channels are averaged; where they cancel each other out, one that has the sound is taken.

    InputError if damaged or truncated; DecoderMissing if soundfile is missing and the file is not a
    16-bit PCM WAV.
    """
    data = file_bytes(source)
    header = read_header(io.BytesIO(data), len(data))
    samples = _decode_channels(data, header)
    # of FLAC, the header alone did not show that the end is missing
    if header.frames is not None and len(samples) < header.frames:
        raise InputError(
            f"Truncated audio: the header says {header.frames} frames, {len(samples)} could be "
            "decoded. Get a complete copy of the file."
        )

    mixed = mono(samples)
    if not np.isfinite(mixed).all():
        raise InputError(
            "Audio holds NaN or infinite samples; they must be finite. Record it again."
        )

    return np.ascontiguousarray(mixed, np.float32), header.rate


def mono(samples: np.ndarray) -> np.ndarray:
    """(n, channels) -> (n,): the mean; where they cancel each other out, the first of the loud
    channels.
    """
    if samples.shape[1] == 1:
        return samples[:, 0]

    mean = samples.mean(axis=1)
    # a microphone that is wired the wrong way round gives -x beside x, whose mean is silence
    powers = np.square(samples, dtype=np.float64).mean(axis=0)
    if float(np.square(mean, dtype=np.float64).mean()) < _CANCELLED * powers.mean():
        # the very loudest may be another in each block of a stream
        return samples[:, int((powers >= _LOUD * powers.max()).argmax())]
    return mean


def _decode_channels(data: bytes, header: Header) -> np.ndarray:
    """(n, channels) float32, by soundfile where it is installed."""
    try:
        import soundfile  # noqa: F401 (is it there?)
    except (ImportError, OSError) as missing:  # OSError: the package is there, libsndfile is not
        return _decode_pcm16(data, header, missing)

    blocks = list(_decoded_blocks(data, header))
    if not blocks:
        raise InputError("Audio with 0 frames; it must hold sound. Record it again.")
    return np.concatenate(blocks)


def _decoded_blocks(data: bytes, header: Header) -> Iterator[np.ndarray]:
    """(up to _BLOCK_FRAMES, channels) float32 after each other, to the end or to the frames that
    the header says.
    """
    import soundfile

    class Forward(soundfile.SoundFile):
        """Only read forward: soundfile would seek behind the end, of which not all files know."""

        def seekable(self) -> bool:
            return False

    left = header.frames
    try:
        with Forward(io.BytesIO(_mended(data, header))) as file:
            while left is None or left > 0:
                wanted = _BLOCK_FRAMES if left is None else min(left, _BLOCK_FRAMES)
                block = file.read(wanted, dtype="float32", always_2d=True)
                if len(block):
                    yield block
                if len(block) < wanted:
                    return
                left = None if left is None else left - wanted
    except (soundfile.SoundFileError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"Damaged audio ({error}); get a complete copy of the file.") from error


def _mended(data: bytes, header: Header) -> bytes:
    """The file with the sizes that are true, and without what stands before it."""
    is_bw64 = data.startswith(b"BW64", header.offset)
    if not header.sizes and not header.offset and not is_bw64:
        return data

    mended = bytearray(data)
    # the newer name of the same layout, which libsndfile does not know
    if is_bw64:
        mended[header.offset : header.offset + 4] = b"RF64"
    for place, code, value in header.sizes:
        struct.pack_into(code, mended, place, value)
    return bytes(mended[header.offset :])


def _counted(data: bytes, header: Header, most_frames: int | None) -> int:
    """Frames of a FLAC, by decoding it; not many more than `most_frames` are decoded."""
    try:
        import soundfile  # noqa: F401 (is it there?)
    except (ImportError, OSError) as missing:
        raise _decoder_missing(missing) from missing

    frames = 0
    for block in _decoded_blocks(data, header):
        frames += len(block)
        if most_frames is not None and frames > most_frames:
            break

    if not frames:
        raise InputError("Audio with 0 frames; it must hold sound. Record it again.")
    return frames


def _decode_pcm16(data: bytes, header: Header, missing: Exception) -> np.ndarray:
    """(n, channels) float32 of a 16-bit PCM WAV, by numpy alone; `missing` says why soundfile is
    not there.
    """
    if not header.is_pcm16 or header.frames is None:
        raise _decoder_missing(missing) from missing

    count = header.frames * header.channels
    values = np.frombuffer(data, "<i2", count, header.start)
    # from 16 bits to -1..1
    return values.reshape(-1, header.channels).astype(np.float32) / 32768


def _decoder_missing(missing: Exception) -> DecoderMissing:
    return DecoderMissing(
        f"Decoding FLAC, AU or WAV other than 16-bit PCM needs soundfile ({missing}); "
        "`pip install soundfile`, or send 16-bit PCM WAV."
    )
