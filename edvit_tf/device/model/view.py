"""How a sub-model sees an input: mirrored, moved a little, or cut and enlarged again.

The files of a bundle know nothing of views: whoever runs one applies its view before, to the input
as the model takes it, so that a tensor and a decoded file are seen alike. Devices that hold one
model err less together where each has a view of its own, as they would with cameras or microphones
of their own.
"""

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from edvit_tf.device.model.manifest_object import ManifestError, ManifestObject

# Inputs that are cut and enlarged at once: their float32 copies stay within a few MiB, however many
# there are.
_BATCH = 32


@dataclass(frozen=True)
class View:
    """First `crop` is cut off, then it is mirrored, then moved. View() changes nothing.

    Of a picture rows go down and columns to the right. Of a log-mel map (row 0 is the lowest band)
    `right` is later, and `down` is up in frequency; mirrored is backwards in time.
    """

    down: int = 0  # rows; below 0: up. The first row is repeated where nothing came from above
    right: int = 0  # columns; below 0: left
    mirrored: bool = False  # left to right
    crop: int = 0  # rows and columns cut off at every side, the rest enlarged (bilinear)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if type(value) is not field.type:
                wanted = "true or false" if field.type is bool else "a whole number"
                raise ValueError(f"View.{field.name} is {value!r}; it must be {wanted}.")

        if self.crop < 0:
            raise ValueError(f"View.crop is {self.crop}; it must be 0 or more.")

    def __str__(self) -> str:
        """E.g. "down 7, mirrored"; two views are the same where their words are."""
        words = []
        for name, value in self.to_dict().items():
            if value:
                words.append(name if value is True else f"{name} {value}")
        return ", ".join(words) or "as it is"

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary, as it stands in a manifest."""
        return dataclasses.asdict(self)

    def check(self, shape: Sequence[int]) -> None:
        """Raises ValueError where an input of `shape`, without the batch axis, has no such view."""
        if self == AS_IT_IS:
            return
        if len(shape) != 3:
            raise ValueError(
                f"A view of an input of shape {list(shape)}; rows, columns and channels are "
                "needed: pictures and sound have views, texts have none."
            )

        rows, columns, _ = shape
        for name, value, most in (
            ("down", abs(self.down), rows - 1),
            ("right", abs(self.right), columns - 1),
            ("crop", self.crop, (min(rows, columns) - 1) // 2),
        ):
            if value > most:
                raise ValueError(
                    f"View.{name} is {getattr(self, name)}, of an input of {rows} rows and "
                    f"{columns} columns; {most} at most leaves something to be seen."
                )

    def applied(self, x: np.ndarray) -> np.ndarray:
        """(n, H, W, C) of any real dtype -> the same shape and dtype; whole numbers are rounded.

        View() gives `x` itself. Raises ValueError as `check`.
        """
        if self == AS_IT_IS:
            return x
        self.check(x.shape[1:])

        _, height, width, channels = x.shape
        # float32 holds whole numbers of 16 bits; of longer ones float64 is made
        real = np.result_type(x.dtype, np.float32)
        rows = _axis(height, 1, self.down, False, self.crop, real)
        columns = _axis(width, channels, self.right, self.mirrored, self.crop, real)
        lines = x.reshape(*x.shape[:2], width * channels)  # (n, H, W C)

        if not self.crop:
            seen = lines.take(columns.low, axis=2).take(rows.low, axis=1)
        else:
            seen = np.empty_like(lines, order="C")
            for start in range(0, len(x), _BATCH):
                part = slice(start, start + _BATCH)
                enlarged = _enlarged(lines[part], rows, columns)
                # a mean lies between what it is of, so rounded it fits the type again
                seen[part] = np.rint(enlarged) if x.dtype.kind in "iu" else enlarged

        return seen.reshape(x.shape)


AS_IT_IS = View()


def view_from_dict(values: Any, place: str = "view") -> View:
    """The inverse of `View.to_dict`; a key may be left out. Raises ManifestError, which names
    `place`.
    """
    return view_from_object(ManifestObject(values, place))


def view_from_object(entry: ManifestObject) -> View:
    """As `view_from_dict`, of an object of a manifest."""
    # a view that this version cannot give must not be taken for one that it can
    known = [field.name for field in dataclasses.fields(View)]
    unknown = sorted(entry.values.keys() - set(known))
    if unknown:
        raise ManifestError(
            f"{entry.at(unknown[0])} is unknown; a view has {', '.join(known)}. Use the edvit_tf "
            "version that wrote the bundle"
        )

    crop = entry.integer("crop", 0)
    if crop < 0:
        raise ManifestError(f"{entry.at('crop')} is {crop}; it must be 0 or more")
    return View(
        entry.integer("down", 0), entry.integer("right", 0), entry.flag("mirrored", False), crop
    )


class _Axis(NamedTuple):
    """Of each place along an axis: the two places that it is made from, and the second's share."""

    low: np.ndarray
    high: np.ndarray
    share: np.ndarray
    rest: np.ndarray  # 1 - share


# Few sizes and few views: a device has one view a sub-model, a search some dozens.
@functools.lru_cache(maxsize=256)
def _axis(size: int, channels: int, moved: int, mirrored: bool, crop: int, real: np.dtype) -> _Axis:
    """Of `size` places with `channels` values side by side; shares are of the type `real`."""
    # backwards from what is seen: where it was before it was moved, mirrored, enlarged
    places = np.clip(np.arange(size) - moved, 0, size - 1)
    if mirrored:
        places = size - 1 - places

    # half-pixel centres, as `resize.py` has them; beyond the last centre the edge is repeated
    kept = size - 2 * crop
    centres = np.clip((places + 0.5) * (kept / size) - 0.5, 0, kept - 1)
    low = np.floor(centres).astype(np.intp)
    high = np.minimum(low + 1, kept - 1)
    share = np.repeat(centres - low, channels)

    def values(places: np.ndarray) -> np.ndarray:
        return ((crop + places)[:, np.newaxis] * channels + np.arange(channels)).ravel()

    return _Axis(values(low), values(high), share.astype(real), (1 - share).astype(real))


def _enlarged(lines: np.ndarray, rows: _Axis, columns: _Axis) -> np.ndarray:
    """(n, H, W C) -> the same, each value a mean of four; not rounded."""
    real = rows.share.dtype
    # rows first: they are copied whole, and as what was given, which may be bytes
    first = lines.take(rows.low, axis=1).astype(real)
    second = lines.take(rows.high, axis=1).astype(real)
    # not first + share * (second - first), which is no number between the largest ones
    first *= rows.rest[:, np.newaxis]
    second *= rows.share[:, np.newaxis]
    first += second

    # the places are right: "clip" only spares their check
    seen = first.take(columns.low, axis=2, mode="clip")
    np.take(first, columns.high, axis=2, out=second, mode="clip")
    seen *= columns.rest
    second *= columns.share
    seen += second
    return seen
