"""Where the samples of a sound file are, by its header alone: WAV (RF64 too), AU and FLAC.

The sizes in a header are often wrong where the sound is right: who writes into a pipe or is killed
cannot put them in afterwards. So the samples are taken to the end of the file where the header does
not know better, and a file that is cut off, by two sizes that agree, is an error and no shorter
recording.
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO

from edvit_tf.device.errors import InputError

# PCM, float, A-law, mu-law: a frame is a sample of each channel. Extensible WAV says which of them
# it is.
_PCM = 1
_WAV_WIDTHS = {_PCM: (1, 2, 3, 4), 3: (4, 8), 6: (1,), 7: (1,)}  # bytes a sample
_LAWS = (6, 7)  # of eight bits, whatever the header says
_EXTENSIBLE = 0xFFFE
# Encoding of an AU file -> bytes a sample.
_AU_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}

# What pipes leave in the place of a size: ffmpeg 0xFFFFFFFF, sox 0x7FFFF000, arecord 0x7FFFFF00
# and the like, with or without a header's bytes. A file of that size does not fit a device.
_OF_A_PIPE = 0x7FFF0000
# A size that is too large by a header or some padding is a slip of its writer.
_SLIP_BYTES = 128
# Before the samples: a broadcast recorder has about ten.
_MAX_CHUNKS = 1000
_MAX_TAGS = 8  # ID3 tags before the sound


@dataclass(frozen=True)
class Header:
    """Where the samples are in the file, and what they are."""

    kind: str  # "WAV", "AU" or "FLAC"
    offset: int  # of the header itself, behind ID3 tags
    start: int  # of the samples
    rate: int  # Hz
    frames: int | None  # None: of a FLAC that does not say
    channels: int
    is_pcm16: bool  # little-endian 16-bit integers, which numpy reads
    sizes: tuple[tuple[int, str, int], ...] = ()  # what stands wrong: offset, struct code, value


def read_header(file: BinaryIO, size: int) -> Header:
    """The header of a file of `size` bytes; InputError on another format, no samples, or a file cut
    shorter than its header says.
    """
    try:
        offset = _behind_tags(file)
        file.seek(offset)
        # FLAC's marker and STREAMINFO; WAV and AU need fewer
        head = file.read(42)
        if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
            header = _wav(file, offset, size)
        elif head[:4] == b".snd":
            header = _au(head, offset, size)
        elif head[:4] == b"fLaC" and len(head) == 42:
            header = _flac(head, offset)
        else:
            raise InputError(
                f"Not a WAV, AU or FLAC file: it starts with {head[:4]!r}. Convert it to one of "
                "these."
            )
    except struct.error:
        raise InputError(
            f"Audio header cut off after {size} bytes; get a complete copy of the file."
        ) from None

    if header.frames == 0 or header.rate < 1:
        raise InputError(
            f"Audio with {header.frames} frames at {header.rate} Hz; it must hold sound. Record it "
            "again."
        )

    return header


def _behind_tags(file: BinaryIO) -> int:
    """Where the sound file begins: some programs put ID3 tags, of MP3, before any file."""
    offset = 0
    for _ in range(_MAX_TAGS):
        file.seek(offset)
        head = file.read(10)
        if head[:3] != b"ID3" or len(head) < 10:
            break

        # four times seven bits; a footer repeats the header
        length = 0
        for byte in head[6:10]:
            length = length << 7 | byte & 0x7F
        offset += 10 + length + (10 if head[5] & 0x10 else 0)

    return offset


def _wav(file: BinaryIO, offset: int, size: int) -> Header:
    """Walks the chunks (4 bytes of name, 4 of length, padded to an even length) to the data."""
    file.seek(offset)
    form, riff = struct.unpack("<4sI", file.read(8))
    is_long = form != b"RIFF"
    sound = None
    long_sizes = None  # of ds64: RIFF's and the data's
    # behind "RIFF", its length and "WAVE"
    at = offset + 12
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        if name == b"data":
            break
        if name == b"fmt ":
            sound = _wav_format(file, length)
        elif name == b"ds64" and is_long:
            long_sizes = struct.unpack("<QQ", file.read(16))
            long_at = at + 8

        at += 8 + length + length % 2
    else:
        raise InputError(f"WAV with {_MAX_CHUNKS} chunks and no data; write the file again.")

    if sound is None:
        raise InputError("WAV without a fmt chunk before its data; write the file again.")

    rate, channels, block, is_pcm16 = sound
    start = at + 8
    if long_sizes is not None:
        riff, length = long_sizes

    held = _held_bytes(file, start, length, riff + 8 + offset, size, block)
    sizes: tuple[tuple[int, str, int], ...] = ()
    # for decoders, which read the header again
    if held != length:
        if long_sizes is not None:
            sizes = ((long_at, "<Q", start + held - 8), (long_at + 8, "<Q", held))
        else:
            sizes = ((offset + 4, "<I", start + held - 8), (start - 4, "<I", held))

    return Header("WAV", offset, start, rate, held // block, channels, is_pcm16, sizes)


def _wav_format(file: BinaryIO, length: int) -> tuple[int, int, int, bool]:
    """(rate, channels, bytes a frame, whether they are 16-bit integers) of a fmt chunk.

    The bytes a frame that stand in the header are often wrong (of stereo, in a mono file); they
    follow from the bits of a sample, which decoders go by too.
    """
    tag, channels, rate, _, _, bits = struct.unpack("<HHIIHH", file.read(16))
    if tag == _EXTENSIBLE and length >= 26:
        # the true tag begins the identifier behind four fields
        file.read(8)
        (tag,) = struct.unpack("<H", file.read(2))

    if tag not in _WAV_WIDTHS:
        raise InputError(f"WAV with format tag {tag}; convert it to 16-bit PCM.")
    width = 1 if tag in _LAWS else (bits + 7) // 8
    if width not in _WAV_WIDTHS[tag] or not channels:
        raise InputError(
            f"WAV with {bits} bits a sample (format tag {tag}) and {channels} channels, which "
            "nothing reads; convert it to 16-bit PCM."
        )
    return rate, channels, width * channels, tag == _PCM and bits == 16


def _au(head: bytes, offset: int, size: int) -> Header:
    start, length, encoding, rate, channels = struct.unpack(">5I", head[4:24])
    width = _AU_WIDTHS.get(encoding)
    if width is None or not channels:
        raise InputError(
            f"AU with encoding {encoding}, {channels} channels; PCM, float or mu-law are read."
        )

    start += offset
    block = width * channels
    # an AU has one size alone: nothing says that the file is whole
    held = _held_bytes(None, start, length, start + length, size, block)
    sizes = () if held == length else ((offset + 8, ">I", held),)
    return Header("AU", offset, start, rate, held // block, channels, False, sizes)


def _flac(head: bytes, offset: int) -> Header:
    # STREAMINFO: 20 bits of rate, 3 of channels, 5 of bits a sample, 36 of samples
    packed = int.from_bytes(head[18:26], "big")
    frames = packed & (2**36 - 1)
    channels = (packed >> 41 & 7) + 1
    # an encoder that writes into a pipe leaves 0, which means unknown
    return Header("FLAC", offset, offset, packed >> 44, frames or None, channels, False)


def _held_bytes(
    file: BinaryIO | None, start: int, length: int, end: int, size: int, block: int
) -> int:
    """Bytes of samples, of which the header says `length`, and of the whole file that it ends at
    `end`.
    """
    held = max(0, size - start)
    if 0 < length <= held:
        return length
    if length == 0:
        is_empty = file is not None and _are_chunks(file, start, end, size)
        return 0 if is_empty else held

    missing = length - held
    is_whole = end <= size + 1  # the other size says so; a last odd byte may lack its padding
    if length >= _OF_A_PIPE or missing <= _SLIP_BYTES or is_whole:
        return held

    raise InputError(
        f"Truncated audio: the header says {length // block} frames, the file holds "
        f"{held // block}. Get a complete copy of the file."
    )


def _are_chunks(file: BinaryIO, start: int, end: int, size: int) -> bool:
    """Whether what follows an empty data chunk is another chunk, in a file whose size is right."""
    if abs(end - size) > 1 or size - start < 8:
        return abs(end - size) <= 1 and size == start
    file.seek(start)
    name, length = struct.unpack("<4sI", file.read(8))
    return name.isascii() and name.decode("latin-1").isprintable() and start + 8 + length <= size
