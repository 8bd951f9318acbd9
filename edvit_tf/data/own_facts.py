"""What the header of a picture or a recording says, decoding nothing: size, colour, time, length;
of a text, which is read, its number of words.

Thousands of large files are looked at in seconds, and in the memory of one header or text.
"""

import itertools
import struct
import warnings
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from edvit_tf.device.errors import InputError
from edvit_tf.device.model.decode_picture import FORMATS
from edvit_tf.device.model.text import MAX_TEXT_BYTES, text_of
from edvit_tf.device.model.wordpiece import words

from .audio import COMPRESSED, SUFFIXES, check_rate, probe_sound
from .dataset import Skipped, check_skipped, report_skipped
from .folders import no_picture, unusable
from .names import one_form
from .own_files import PICTURES, SOUND, OwnFile, OwnFiles

# Decoding takes a few bytes a pixel, one picture at a time: a header beyond this is an accident.
MOST_PIXELS = 100_000_000
LONGEST_SECONDS = 3600  # of one recording, which is decoded whole

_EXIF_FOLDER = 0x8769
_TAKEN = 0x9003  # DateTimeOriginal, in the Exif folder
_CHANGED = 0x0132  # DateTime
# what Pillow raises on EXIF data with faults
_BAD_EXIF = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, OSError, SyntaxError),
    *(OverflowError, ZeroDivisionError, struct.error),
)


@dataclass(frozen=True)
class Picture:
    """Of a picture's header."""

    width: int
    height: int
    is_grey: bool
    taken: datetime | None  # None: its EXIF data do not say


@dataclass(frozen=True)
class Sound:
    """Of a recording's header."""

    frames: int
    rate: int  # Hz

    @property
    def seconds(self) -> float:
        return self.frames / self.rate


@dataclass(frozen=True)
class Text:
    """Of a whole text."""

    num_words: int  # MOST_WORDS at most
    digest: bytes  # of what it says, whatever the encoding, accents, spaces and line ends


MOST_WORDS = 512  # that are counted: no more are read of a text, as a rule

Facts = dict[Path, Picture | Sound | Text]


def facts_of(own: OwnFiles, skipped: list[Skipped]) -> Facts:
    """The facts of each file that can be used; the others are named and added to `skipped`.
    DataError if they are too many.
    """
    look = {PICTURES: _picture, SOUND: _sound}.get(own.kind)
    facts: Facts = {}
    problems: list[Skipped] = []
    for file in own.files:
        try:
            facts[file.path] = look(file.path) if look else _text(file)
        except InputError as error:
            problems.append(Skipped(f"{own.place.shown}/{file.key}", str(error)))

    # first: of a folder of HEIC pictures the error says it all, and not a line each
    check_skipped([*skipped, *problems], len(own.files), own.place.shown)
    for problem in problems:
        report_skipped(skipped, problem.path, problem.reason)
    return facts


def usable(own: OwnFiles, facts: Facts) -> list[OwnFile]:
    """The files of which there are facts, in their order."""
    return [file for file in own.files if file.path in facts]


def _picture(path: Path) -> Picture:
    problem = no_picture(path)
    if problem is not None:
        raise InputError(problem)

    from PIL import Image, WebPImagePlugin  # noqa: F401 (what opens the FORMATS)

    Image.preinit()
    formats = [name for name in FORMATS if name in Image.OPEN]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of oddities, and of many pixels: judged below
        try:
            with Image.open(path, formats=formats) as picture:
                width, height = picture.size
                is_grey = picture.mode in ("1", "L", "LA") or picture.mode.startswith("I")
                exif = picture.info.get("exif")
        # which exceptions a decoder has depends on the file
        except Exception as error:
            words = f"{type(error).__name__}: {error}".split(" <_io")[0]
            raise InputError(f"not a readable picture ({words})") from error

    if width * height > MOST_PIXELS:
        raise InputError(
            f"{width} x {height} pixels; at most {MOST_PIXELS // 10**6} megapixels are decoded"
        )
    return Picture(width, height, is_grey, taken_at(exif))


def taken_at(exif: object) -> datetime | None:
    """When a picture was taken, by its EXIF data (the bytes)."""
    if not isinstance(exif, bytes):
        return None

    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read = Image.Exif()
            read.load(exif)
            said = read.get_ifd(_EXIF_FOLDER).get(_TAKEN) or read.get(_CHANGED)
        return datetime.strptime(str(said).strip("\0 "), "%Y:%m:%d %H:%M:%S")
    except _BAD_EXIF:
        return None


def _sound(path: Path) -> Sound:
    problem = unusable(path)
    if problem is not None:
        raise InputError(problem)
    if path.suffix.lower() not in (*SUFFIXES, *COMPRESSED):
        raise InputError(f"not a {', '.join((*SUFFIXES, *COMPRESSED))} file")

    frames, rate = probe_sound(path)
    check_rate(rate)
    if frames > LONGEST_SECONDS * rate:
        raise InputError(
            f"{frames / rate / 60:.0f} minutes long; at most {LONGEST_SECONDS // 60} are decoded. "
            "Cut it into parts (and keep them together with --group-by)"
        )
    return Sound(frames, rate)


def read_text(file: OwnFile) -> str:
    """A text of a file or a table. InputError for what is no text, and for one that a device would
    refuse.
    """
    if file.text is not None:
        size = len(file.text.encode("utf-8", "surrogatepass"))
    else:
        problem = unusable(file.path)
        if problem is not None:
            raise InputError(problem)
        size = file.path.stat().st_size
    if size > MAX_TEXT_BYTES:
        raise InputError(
            f"{size:,} bytes of text; at most {MAX_TEXT_BYTES:,} are read. Cut it into parts (and "
            "keep them together with --group-by)"
        )
    return file.text if file.text is not None else text_in(file.path)


def text_in(path: Path) -> str:
    """The text of a file; InputError for what is none."""
    try:
        return text_of(path.read_bytes())
    except OSError as error:
        raise InputError(f"it cannot be read: {error.strerror}") from error


def _text(file: OwnFile) -> Text:
    text = read_text(file)
    count = sum(1 for _ in itertools.islice(words(text), MOST_WORDS))
    if not count:
        raise InputError("no word in it" if text.strip() else "it is empty")
    # an accented letter may be one character or two, as macOS writes it
    said = one_form(" ".join(text.split()).casefold())
    return Text(count, sha256(said.encode("utf-8", "surrogatepass")).digest())
