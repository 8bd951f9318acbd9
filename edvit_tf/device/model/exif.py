"""How a camera held a picture: the orientation in its EXIF data, read by itself.

Cameras and editors write EXIF data with faults of many kinds, and a parser of the whole meets them
all. Here one number is looked for; whatever else stands there, true or not, does not matter.
Source: Exif 2.32, 4.6; TIFF 6.0, section 2.
"""

import re
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

_ORIENTATION = 0x0112
# TIFF types of a whole number -> code of struct: BYTE, SHORT, LONG.
_WHOLE = {1: "B", 3: "H", 4: "I"}
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')


def orientation(info: Mapping[str, Any]) -> int:
    """1 to 8 from Pillow's `info` of a picture; 1, upright, where nothing readable says otherwise.

    XMP data are asked where the EXIF data have none, as Pillow does.
    """
    found = _from_exif(_exif_bytes(info))
    if found is None:
        found = _from_xmp(info)
    return found or 1


def upright(pixels: np.ndarray, turn: int) -> np.ndarray:
    """(H, W, ...) of a picture with this orientation -> the view that stands upright."""
    # 5 to 8 lie on their side
    if turn >= 5:
        pixels = pixels.swapaxes(0, 1)

    # rows and columns that then run backwards
    if turn in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]

    return pixels


def _exif_bytes(info: Mapping[str, Any]) -> bytes:
    """The TIFF structure, without what comes before it."""
    data = info.get("exif")
    if not isinstance(data, bytes):
        data = _raw_profile(info)

    while data.startswith(b"Exif\0\0"):
        data = data[6:]
    return data


def _raw_profile(info: Mapping[str, Any]) -> bytes:
    """EXIF data as ImageMagick writes them into a PNG: three lines, then hexadecimal digits."""
    text = info.get("Raw profile type exif")
    if not isinstance(text, str):
        return b""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return b""


def _from_exif(data: bytes) -> int | None:
    """From the entries of the first directory, 12 bytes each."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        return None

    start = struct.unpack_from(f"{order}I", data, 4)[0]
    if start + 2 > len(data):
        return None

    count = struct.unpack_from(f"{order}H", data, start)[0]
    # the count may be a lie
    held = (len(data) - start - 2) // 12
    found = None
    for i in range(min(count, held)):
        entry = start + 2 + 12 * i
        tag, kind, values = struct.unpack_from(f"{order}HHI", data, entry)
        if tag != _ORIENTATION or kind not in _WHOLE or values != 1:
            continue

        value = struct.unpack_from(order + _WHOLE[kind], data, entry + 8)[0]
        if 1 <= value <= 8:
            found = value

    return found


def _from_xmp(info: Mapping[str, Any]) -> int | None:
    text = info.get("XML:com.adobe.xmp") or info.get("xmp") or b""
    data = text.encode("utf-8", "replace") if isinstance(text, str) else bytes(text)
    match = _XMP.search(data)
    return int(match[1]) if match else None
