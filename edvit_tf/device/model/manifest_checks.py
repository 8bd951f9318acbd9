"""What the values of a manifest must say together, so that the bundle can serve.

A manifest may come from anybody. Its types are right by then (`manifest.py`); here the numbers get
their limits, and what stands in two places must agree. What only the files can show is looked at
when they are tried (`golden.py`).
"""

import math
import re
import unicodedata

from edvit_tf.device.model.manifest import Manifest, SubModelEntry
from edvit_tf.device.model.manifest_object import ManifestError

# As many as there are classes; the largest data set of the recipes has 257.
MAX_SUB_MODELS = 1024
# Of one input: 2048 x 2048 grey, or seven pictures of 784 x 784 in colour. A golden input, a
# request and the unit's memory follow from it.
MAX_INPUT_VALUES = 1 << 22
MAX_FEATURES = 1 << 20  # of all sub-models together; ViT-Huge has 1280 in each

# Numbers as a model's input may be; named as numpy writes them.
_DTYPES = ("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")

# Of a spiking net's golden answers, mean |a - b| / mean |b|. What another file answers is off by
# about 1.
JUMPS_MOST = 0.25

# Names become folders, log lines and labels of metrics.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

# Unicode's categories of what would break a line, a terminal or a file: control characters (tabs
# and escapes among them), the separators of lines and of paragraphs, lone surrogates. All else is
# a letter somewhere: Persian needs a joiner of no width, Japanese has its own space.
_NO_TEXT = ("Cc", "Zl", "Zp", "Cs")


def check_manifest(manifest: Manifest) -> None:
    """Raises ManifestError for a manifest whose bundle could not serve."""
    _check_labels(manifest)
    _check_sub_models(manifest)

    widths = manifest.fusion.widths
    if min(widths) < 1 or sum(widths) > MAX_FEATURES:
        raise ManifestError(
            f"fusion.widths is {_short(list(widths))}; each must be 1 or more, and the sum at most "
            f"{MAX_FEATURES}"
        )

    shape = manifest.input.shape
    if not shape or min(shape) < 1 or math.prod(shape) > MAX_INPUT_VALUES:
        raise ManifestError(
            f"input.shape is {_short(list(shape))}; it must hold 1 to {MAX_INPUT_VALUES} values"
        )

    if manifest.input.dtype not in _DTYPES:
        raise ManifestError(
            f"input.dtype is {_short(manifest.input.dtype)}; it must be one of {', '.join(_DTYPES)}"
        )

    _check_views(manifest)
    _check_files(manifest)


def _check_views(manifest: Manifest) -> None:
    for entry in manifest.sub_models:
        try:
            entry.view.check(manifest.input.shape)
        except ValueError as error:
            raise ManifestError(f"sub_models[{entry.index}].view: {error}") from error


def _check_files(manifest: Manifest) -> None:
    for name, entry in manifest.files.items():
        if not _NAME.fullmatch(name):
            raise ManifestError(
                f"files names {_short(name)}, which leaves the bundle's folder or is no plain "
                "name; files lie in the folder itself"
            )
        if entry.bytes < 0:
            raise ManifestError(f"files.{name}.bytes is {entry.bytes}; it must be 0 or more")


def is_plain_text(label: str) -> bool:
    """Whether a label is one line of text that can be stored and shown. Folders are held to it
    before their classes are trained.
    """
    return all(unicodedata.category(character) not in _NO_TEXT for character in label)


def _check_labels(manifest: Manifest) -> None:
    if not manifest.labels:
        raise ManifestError("labels is empty")
    for label in manifest.labels:
        if not is_plain_text(label):
            raise ManifestError(
                f"labels holds {_short(label)}; it must be one line without control characters"
            )


def _check_sub_models(manifest: Manifest) -> None:
    count = len(manifest.sub_models)
    # before each is looked at: a list of a million is refused at once
    if count > MAX_SUB_MODELS:
        raise ManifestError(f"sub_models has {count} entries; at most {MAX_SUB_MODELS} are served")

    names = set()
    for position, entry in enumerate(manifest.sub_models):
        place = f"sub_models[{position}]"
        if entry.index != position:
            raise ManifestError(f"{place}.index is {entry.index}; it must be its place")
        if not _NAME.fullmatch(entry.name):
            raise ManifestError(
                f"{place}.name is {_short(entry.name)}; it must be letters, digits, '.', '_', '-'"
            )
        if entry.name in names:
            raise ManifestError(f"{place}.name is {entry.name}, as of another; each has its own")

        names.add(entry.name)
        _check_classes(entry, place, manifest.labels)
        _check_tolerances(entry, place)


def _check_classes(entry: SubModelEntry, place: str, labels: tuple[str, ...]) -> None:
    if not entry.classes or len(set(entry.classes)) < len(entry.classes):
        raise ManifestError(
            f"{place}.classes is {_short(list(entry.classes))}; it must hold each class once, and "
            "one at least"
        )

    for index in entry.classes:
        if not 0 <= index < len(labels):
            raise ManifestError(
                f"{place}.classes holds {index}; there are {len(labels)} labels, 0 to "
                f"{len(labels) - 1}"
            )

    # by count alone: who renames a class does so in `labels`
    if len(entry.labels) != len(entry.classes):
        raise ManifestError(
            f"{place}.labels has {len(entry.labels)} names, for {len(entry.classes)} classes"
        )


def _check_tolerances(entry: SubModelEntry, place: str) -> None:
    for flavour, listed in entry.flavours.items():
        value = listed.golden_tolerance
        if value is not None and not 0 < value <= JUMPS_MOST:
            raise ManifestError(
                f"{place}.flavours.{flavour}.golden_tolerance is {_short(value)}; it must be over "
                f"0, and {JUMPS_MOST} at most: with more no wrong file would be found"
            )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
