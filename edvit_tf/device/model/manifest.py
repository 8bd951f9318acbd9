"""What stands in a bundle's manifest.json, as types: `manifest_from_dict` reads and checks it.

Keys that came later have a default, so that older manifests of the same schema can be read; keys
that nobody knows are left alone. The configuration of a sub-model belongs to its architecture, the
input's spec to its kind, and `run` and `data` to the host, so these stay as they were written.
"""

import math
from dataclasses import dataclass
from typing import Any

from edvit_tf.device.model.answer_ranges import AnswerRanges, TensorRange

SCHEMA_VERSION = 1


class ManifestError(ValueError):
    """A value of a manifest is missing or of another type; the message names its place."""


@dataclass(frozen=True)
class FileEntry:
    """What a file of the bundle must be."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class FlavourEntry:
    """A .tflite file of a sub-model, and the runtimes that take it."""

    file: str
    target: str  # what it was written for: "portable", or "litert"
    runtimes: tuple[str, ...]


@dataclass(frozen=True)
class SubModelEntry:
    """A sub-model: its files, its classes, what it costs, and who is to hold it."""

    index: int
    name: str
    file: str  # .tflite, float32
    keras: str
    flavours: dict[str, FlavourEntry]
    classes: tuple[int, ...]
    labels: tuple[str, ...]
    kept: int | None  # its share: k of the base's n (a ViT's heads)
    other: bool  # whether its head has a class "other" as well
    config: dict[str, Any]  # of its architecture
    params: int
    macs: int
    macs_full: int
    weight_bytes: int
    devices: tuple[str, ...]
    ranges: AnswerRanges | None = None  # of its answers to real inputs; None in older bundles


@dataclass(frozen=True)
class FusionEntry:
    """The model that joins the features: its files, and how wide each sub-model's features are."""

    kind: str
    file: str
    keras: str
    hidden_factor: float  # lambda: the hidden layer's width, over the sum of `widths`
    widths: tuple[int, ...]


@dataclass(frozen=True)
class InputEntry:
    """The tensor that every sub-model takes, and the spec by which a file becomes it."""

    name: str
    dtype: str
    shape: tuple[int, ...]  # without the batch axis
    spec: dict[str, Any]
    files: tuple[str, ...]  # that preparing an input takes, e.g. mel_filters.npy


@dataclass(frozen=True)
class PlanEntry:
    """What the plan was made for."""

    devices: tuple[dict[str, Any], ...]
    budget_bytes: int | None
    strategy: str
    assignment: str
    samples: int
    replicas: int
    flavour: str


@dataclass(frozen=True)
class Manifest:
    """A whole manifest."""

    name: str
    task: str
    labels: tuple[str, ...]
    input: InputEntry
    sub_models: tuple[SubModelEntry, ...]
    fusion: FusionEntry
    plan: PlanEntry
    data: dict[str, Any]
    run: dict[str, Any]
    seed: int
    versions: dict[str, str]
    files: dict[str, FileEntry]


def manifest_from_dict(values: dict[str, Any]) -> Manifest:
    """The types of a manifest as JSON has it; raises ManifestError."""
    top = _Object(values, "")
    sub_models = tuple(_sub_model(entry) for entry in top.objects("sub_models"))
    fusion = _fusion(top.object("fusion"))

    if not sub_models:
        raise ManifestError("sub_models is empty")
    # by the widths the fusion's input is divided: one for each sub-model
    if len(fusion.widths) != len(sub_models):
        raise ManifestError(
            f"fusion.widths has {len(fusion.widths)} values, for {len(sub_models)} sub-models"
        )

    return Manifest(
        name=top.text("name", ""),
        task=top.text("task", ""),
        labels=top.texts("labels"),
        input=_input(top.object("input")),
        sub_models=sub_models,
        fusion=fusion,
        plan=_plan(top.object("plan")),
        data=top.mapping("data"),
        run=top.mapping("run"),
        seed=top.integer("seed"),
        versions=top.mapping("versions", {}),
        files=_files(top.object("files")),
    )


def _sub_model(entry: "_Object") -> SubModelEntry:
    kept = "kept"
    if kept not in entry.values:
        kept = "kept_heads"  # as bundles up to 0.2 say it

    return SubModelEntry(
        index=entry.integer("index"),
        name=entry.text("name"),
        file=entry.text("file"),
        keras=entry.text("keras"),
        flavours=_flavours(entry.object("flavours")),
        classes=entry.integers("classes"),
        labels=entry.texts("labels"),
        kept=entry.integer(kept, None),
        other=entry.flag("other"),
        config=entry.mapping("config"),
        params=entry.integer("params"),
        macs=entry.integer("macs"),
        macs_full=entry.integer("macs_full"),
        weight_bytes=entry.integer("weight_bytes"),
        devices=entry.texts("devices"),
        ranges=_ranges(entry),
    )


def _ranges(entry: "_Object") -> AnswerRanges | None:
    if "ranges" not in entry.values:
        return None

    found = entry.object("ranges")
    return AnswerRanges(
        samples=found.integer("samples"),
        features=_tensor_range(found.object("features")),
        logits=_tensor_range(found.object("logits")),
    )


def _tensor_range(entry: "_Object") -> TensorRange:
    return TensorRange(
        values=entry.interval("values"), rms=entry.interval("rms"), spread=entry.interval("spread")
    )


def _flavours(entries: "_Object") -> dict[str, FlavourEntry]:
    found = {}
    for name in entries.values:
        entry = entries.object(name)
        found[name] = FlavourEntry(
            file=entry.text("file"),
            target=entry.text("target", "portable"),
            runtimes=entry.texts("runtimes"),
        )

    return found


def _fusion(entry: "_Object") -> FusionEntry:
    return FusionEntry(
        kind=entry.text("kind", "tower"),
        file=entry.text("file"),
        keras=entry.text("keras"),
        hidden_factor=entry.number("lambda"),
        widths=entry.integers("widths"),
    )


def _input(entry: "_Object") -> InputEntry:
    filters = entry.values.get("mel_filters")  # how bundles up to 0.2 name their one input file
    old = [] if filters is None else [filters]
    return InputEntry(
        name=entry.text("name"),
        dtype=entry.text("dtype"),
        shape=entry.integers("shape"),
        spec=entry.mapping("spec"),
        files=entry.texts("files", old),
    )


def _plan(entry: "_Object") -> PlanEntry:
    budget = None
    if entry.values.get("budget_bytes") is not None:
        budget = entry.integer("budget_bytes")

    return PlanEntry(
        devices=tuple(device.values for device in entry.objects("devices")),
        budget_bytes=budget,
        strategy=entry.text("strategy"),
        assignment=entry.text("assignment"),
        samples=entry.integer("samples", 1),
        replicas=entry.integer("replicas", 1),
        flavour=entry.text("flavour", "float32"),
    )


def _files(entries: "_Object") -> dict[str, FileEntry]:
    found = {}
    for name in entries.values:
        entry = entries.object(name)
        found[name] = FileEntry(bytes=entry.integer("bytes"), sha256=entry.text("sha256"))

    return found


_REQUIRED: Any = object()


class _Object:
    """A JSON object whose values are taken out by key, each of one type."""

    def __init__(self, values: Any, place: str) -> None:
        if not isinstance(values, dict):
            raise ManifestError(f"{place or 'it'} is {_short(values)}; it must be an object")
        self.values = values
        self._place = place

    def text(self, key: str, default: Any = _REQUIRED) -> str:
        return self._take(key, str, "a text", default)

    def integer(self, key: str, default: Any = _REQUIRED) -> int:
        return self._take(key, int, "a whole number", default)

    def number(self, key: str) -> float:
        return self._take(key, (int, float), "a number", _REQUIRED)

    def flag(self, key: str) -> bool:
        return self._take(key, bool, "true or false", _REQUIRED)

    def mapping(self, key: str, default: Any = _REQUIRED) -> dict[str, Any]:
        return self._take(key, dict, "an object", default)

    def object(self, key: str) -> "_Object":
        return _Object(self._take(key, dict, "an object", _REQUIRED), self._at(key))

    def objects(self, key: str) -> list["_Object"]:
        listed = self._take(key, list, "a list of objects", _REQUIRED)
        return [_Object(value, f"{self._at(key)}[{i}]") for i, value in enumerate(listed)]

    def texts(self, key: str, default: Any = _REQUIRED) -> tuple[str, ...]:
        return self._list(key, str, "a list of texts", default)

    def integers(self, key: str) -> tuple[int, ...]:
        return self._list(key, int, "a list of whole numbers", _REQUIRED)

    def interval(self, key: str) -> tuple[float, float]:
        """Two finite numbers, the least first."""
        found = self._list(key, (int, float), "the least and the most, two numbers", _REQUIRED)
        if len(found) != 2 or not all(map(_is_finite, found)) or found[0] > found[1]:
            raise ManifestError(
                f"{self._at(key)} is {_short(list(found))}; it must be the least and the most, two "
                "finite numbers"
            )

        return float(found[0]), float(found[1])

    def _list(self, key: str, kind: Any, words: str, default: Any) -> tuple:
        listed = self._take(key, list, words, default)
        for value in listed:
            if not _is(value, kind):
                raise ManifestError(f"{self._at(key)} holds {_short(value)}; it must be {words}")

        return tuple(listed)

    def _take(self, key: str, kind: Any, words: str, default: Any) -> Any:
        if key not in self.values:
            if default is _REQUIRED:
                raise ManifestError(f"{self._place or 'it'} lacks {key!r}")
            return default

        value = self.values[key]
        if not _is(value, kind):
            raise ManifestError(f"{self._at(key)} is {_short(value)}; it must be {words}")
        return value

    def _at(self, key: str) -> str:
        return f"{self._place}.{key}" if self._place else key


def _is(value: Any, kind: Any) -> bool:
    """As isinstance, but true and false are no numbers."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, kind)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that is no float
        return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
