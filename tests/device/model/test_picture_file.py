"""A picture's file, from anybody: which formats are opened, what its EXIF data may do, how large it
may be.
"""

import io
import struct
import subprocess
import sys

import numpy as np
import pytest

from edvit_tf.device.errors import InputError, InputTooLarge
from edvit_tf.device.model import decode_picture
from edvit_tf.device.model.decode_picture import check_picture_size, decode_image
from edvit_tf.device.model.image import ImageSpec, image_input
from tests.support.commands import ROOT

Image = pytest.importorskip("PIL.Image")

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def encoded(picture, form: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("form", ["PNG", "BMP", "GIF", "WEBP", "JPEG"])
def test_the_formats_of_training_are_read(form):
    options = {"lossless": True} if form == "WEBP" else {}
    data = encoded(Image.fromarray(COLOURS), form, **options)
    pixels = decode_image(data)
    assert pixels.shape == (6, 8, 3)
    if form in ("PNG", "BMP", "WEBP"):
        np.testing.assert_array_equal(pixels, COLOURS)


@pytest.mark.parametrize("form", ["TIFF", "ICO", "PPM", "TGA", "PCX", "SGI", "JPEG2000", "EPS"])
def test_no_other_format_is_opened(form):
    """Pillow knows 43, among them one that starts Ghostscript, and libtiff, which writes to
    standard error by itself.
    """
    data = encoded(Image.fromarray(COLOURS), form)
    for decode in (decode_image, check_picture_size):
        with pytest.raises(InputError, match="none of JPEG, PNG, BMP, GIF or WebP"):
            decode(data)


def test_ghostscript_is_not_started(tmp_path):
    """By a command `gs` on the PATH that would say so."""
    mark = tmp_path / "started"
    fake = tmp_path / "gs"
    fake.write_text(f"#!/bin/sh\ntouch {mark}\n")
    fake.chmod(0o755)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n"
    code = (
        "from edvit_tf.device.model.decode_picture import decode_image\n"
        "from edvit_tf.device.errors import InputError\n"
        "import PIL.Image; PIL.Image.init()\n"  # another module may have had all formats loaded
        f"try: decode_image({eps!r})\n"
        "except InputError: print('refused')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "refused", done.stderr
    assert not mark.exists()


def entry(tag: int, kind: int, count: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}HHI", tag, kind, count) + value.ljust(4, b"\0")


def with_exif(entries: list[bytes], order: str = "<", count: int | None = None) -> bytes:
    """A JPEG of 30 x 20 with these entries of EXIF data."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    tiff = mark + struct.pack(f"{order}IH", 8, len(entries) if count is None else count)
    exif = b"Exif\0\0" + tiff + b"".join(entries) + bytes(4)
    plain = encoded(Image.new("RGB", (30, 20)), "JPEG")
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]


TURNED = entry(0x112, 3, 1, struct.pack("<H", 6))
LARGE = struct.pack("<I", 0xFFFFFF00)
ODD = {
    "text where a ratio belongs": [TURNED, entry(0x11A, 2, 4, b"72\0\0")],
    "a ratio where text belongs": [TURNED, entry(0x132, 5, 1, LARGE)],
    "a number where text belongs": [TURNED, entry(0x132, 4, 1, struct.pack("<I", 7))],
    "bytes where text belongs": [TURNED, entry(0x10F, 1, 4, b"abcd")],
    "shorts where text belongs": [TURNED, entry(0x10F, 3, 2, b"\1\0\2\0")],
    "a float where text belongs": [TURNED, entry(0x10F, 11, 1, struct.pack("<f", 1.5))],
    "undefined where a number belongs": [TURNED, entry(0x128, 7, 4, b"\1\2\3\4")],
    "a type that there is not": [entry(0x10F, 99, 1, b"x"), TURNED],
    "a value beyond the end, before": [entry(0x10F, 2, 500, LARGE), TURNED],
    "an offset beyond the end, of a directory": [TURNED, entry(0x8769, 4, 1, LARGE)],
    "a directory that is its own": [TURNED, entry(0x8769, 4, 1, struct.pack("<I", 8))],
    "a makernote of nonsense": [TURNED, entry(0x927C, 7, 60_000, LARGE)],
    "the orientation as LONG": [entry(0x112, 4, 1, struct.pack("<I", 6))],
}


@pytest.mark.parametrize("case", ODD)
def test_odd_exif_data_turn_the_picture_and_do_nothing_else(case):
    assert decode_image(with_exif(ODD[case])).shape == (30, 20, 3)


@pytest.mark.parametrize(
    "data",
    [
        with_exif([entry(0x112, 2, 2, b"6\0")]),
        with_exif([entry(0x112, 3, 1, b"\x09\0")]),
        with_exif([entry(0x112, 3, 0, b"\x06\0")]),
        with_exif([], count=60_000),
        with_exif([]),
    ],
    ids=["as text", "9", "no value", "entries that are not there", "empty"],
)
def test_without_a_readable_orientation_a_picture_is_upright(data):
    assert decode_image(data).shape == (20, 30, 3)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_all_orientations_are_those_of_pillow(turn, order):
    ops = pytest.importorskip("PIL.ImageOps")
    data = with_exif([entry(0x112, 3, 1, struct.pack(f"{order}H", turn), order)], order)
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x112] = turn
    with_pixels = encoded(Image.fromarray(noise), "PNG", exif=exif)
    for one in (data, with_pixels):
        with Image.open(io.BytesIO(one)) as opened:
            expected = np.asarray(ops.exif_transpose(opened))
        np.testing.assert_array_equal(decode_image(one), expected)


@pytest.mark.parametrize(
    ("width", "height", "message"),
    [
        (65_536, 1, "65536 x 1 pixels; expected sides of at most 16384"),
        (1, 65_536, "1 x 65536 pixels; expected sides of at most 16384"),
        (4096, 16, "4096 x 16 pixels; expected a longer side of at most 64 times the shorter"),
        (16_384, 1025, "16384 x 1025 pixels; expected at most 16777216"),
    ],
)
@pytest.mark.parametrize("form", ["PNG", "BMP"])
def test_sides_and_their_ratio_have_limits(width, height, message, form):
    data = encoded(Image.new("1", (width, height)), form)
    with pytest.raises(InputTooLarge, match=message):
        ImageSpec(16, 16, 3).probe(data)


def test_a_panorama_passes():
    ImageSpec(16, 16, 3).probe(encoded(Image.new("1", (16_384, 512)), "PNG"))


def test_a_jpeg_of_very_many_scans_is_refused():
    data = encoded(Image.fromarray(COLOURS), "JPEG", progressive=True)
    assert decode_image(data).shape == (6, 8, 3)
    scan = data.rindex(b"\xff\xda")
    many = data[:scan] + data[scan:-2] * decode_picture._MAX_SCANS + data[-2:]
    with pytest.raises(InputError, match="scans; at most 64"):
        decode_image(many)


SCANS_BY_CHANCE = b"\xff\xda\x00\x0c" * 200
# Of another maker: in an APP segment of 802 bytes.
HELD = b"\xff\xe5" + struct.pack(">H", 2 + len(SCANS_BY_CHANCE)) + SCANS_BY_CHANCE


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("where", ["a video behind it", "in a segment", "in a comment of it"])
def test_bytes_that_look_like_scans_are_none(where, progressive):
    """A motion photo has an MP4 behind the picture; cameras keep raw data in segments."""
    data = encoded(Image.fromarray(COLOURS), "JPEG", progressive=progressive)
    odd = {
        "a video behind it": data + b"\0\0\0\x18ftypmp42" + SCANS_BY_CHANCE,
        "in a segment": data[:2] + HELD + data[2:],
        "in a comment of it": data[:2] + HELD.replace(b"\xff\xe5", b"\xff\xfe") + data[2:],
    }
    np.testing.assert_array_equal(decode_image(odd[where]), decode_image(data))


def test_scans_behind_what_only_looks_like_an_end_are_counted():
    """The end in a segment is none, nor are marks of a restart, fillings and unknown markers."""
    data = encoded(Image.fromarray(COLOURS), "JPEG", progressive=True)
    scan = data.rindex(b"\xff\xda")
    many = data[scan:-2] * decode_picture._MAX_SCANS
    end = b"\xff\xe5\x00\x04\xff\xd9"
    for between in (end, b"\xff\xd0", b"\xff" * 9, b"\xff\x00", b"\xff\x01"):
        with pytest.raises(InputError, match="scans; at most 64"):
            decode_image(data[:2] + end + data[2:scan] + between + many + data[-2:])


@pytest.mark.parametrize(
    "filling", [b"\xff\xe5\x00\x02", b"\xff\xe5\x00\x00", b"\xff\xfe\x00\x03x"]
)
def test_a_jpeg_of_very_many_segments_is_refused(filling):
    data = encoded(Image.fromarray(COLOURS), "JPEG")
    with pytest.raises(InputError, match="more than 4096 segments"):
        decode_image(data[:2] + filling * (8 << 18) + data[2:])


@pytest.mark.parametrize("rest", [b"", b"\xff", b"\xff\xe5", b"\xff\xe5\xff", b"\xff\xe5\xff\xff"])
def test_a_jpeg_that_ends_early_is_the_decoder_s_to_judge(rest):
    with pytest.raises(InputError, match="Not a readable picture"):
        decode_image(b"\xff\xd8" + rest)


def photo(width: int, height: int) -> np.ndarray:
    """uint8 (H, W, 3): smooth forms with noise, as a camera's."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    noise = rng.integers(-8, 9, smooth.shape)
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("turn", [1, 6])
def test_a_large_jpeg_is_decoded_at_a_fraction(turn):
    """Of 1600 x 1200 for 224 x 224 a half is read, and the model's input is the same but for a
    level or two.
    """
    exif = Image.Exif()
    exif[0x112] = turn
    data = encoded(Image.fromarray(photo(1600, 1200)), "JPEG", quality=90, exif=exif)
    spec = ImageSpec(224, 224, 3)

    small = decode_image(data, (448, 448))
    assert small.shape == ((600, 800, 3) if turn == 1 else (800, 600, 3))
    whole = decode_image(data)
    assert whole.shape == ((1200, 1600, 3) if turn == 1 else (1600, 1200, 3))

    off = np.abs(spec.from_file(data, {})[0].astype(int) - image_input(whole, spec))
    assert off.mean() < 1 and off.max() <= 6, (off.mean(), off.max())


def test_without_antialias_and_for_small_pictures_all_pixels_are_read(monkeypatch):
    asked = []
    monkeypatch.setattr(
        decode_picture, "_draft", lambda picture, at_least: asked.append((picture.size, at_least))
    )
    data = encoded(Image.fromarray(photo(300, 200)), "JPEG")
    ImageSpec(224, 224, 3, antialias=False).from_file(data, {})
    assert asked == []
    monkeypatch.undo()
    np.testing.assert_array_equal(decode_image(data, (448, 448)), decode_image(data))


def test_what_pillow_warns_of_stays_out_of_the_log(capfd):
    """A palette with transparency by bytes, EXIF data that end in the middle."""
    corrupt = with_exif([entry(0x10F, 2, 500, LARGE)])
    assert decode_image(corrupt).shape == (20, 30, 3)
    picture = Image.fromarray(COLOURS).convert("P")
    assert decode_image(encoded(picture, "PNG", transparency=b"\1\2")).shape == (6, 8, 3)
    assert capfd.readouterr() == ("", "")
