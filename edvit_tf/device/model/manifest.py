"""What stands in a bundle's manifest.json, as types: `manifest_from_dict` reads and checks it.

Keys that came later have a default, so that older manifests of the same schema can be read; keys
that nobody knows are left alone. The configuration of a sub-model belongs to its architecture, the
input's spec to its kind, and `run` and `data` to the host, so these stay as they were written.
"""

from dataclasses import dataclass
from typing import Any

from edvit_tf.device.model.answer_ranges import AnswerRanges, TensorRange
from edvit_tf.device.model.manifest_object import ManifestError, ManifestObject
from edvit_tf.device.model.view import AS_IT_IS, View, view_from_object

SCHEMA_VERSION = 1


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
    # of a spiking net: how far its golden answers may be off, on the mean; None: as of any file
    golden_tolerance: float | None = None


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
    view: View = AS_IT_IS  # of each input, that it sees; its files know nothing of it


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

    name: str  # of the run, as gtzan
    task: str
    labels: tuple[str, ...]  # of the classes, in the order of the answer
    input: InputEntry
    sub_models: tuple[SubModelEntry, ...]
    fusion: FusionEntry
    plan: PlanEntry
    data: dict[str, Any]  # where they come from, whether they are a stand-in, how many
    run: dict[str, Any]  # the configuration that made it
    seed: int
    versions: dict[str, str]  # of Python, TensorFlow, Keras, numpy and edvit_tf
    files: dict[str, FileEntry]  # every file but the manifest and its signature, by name


def manifest_from_dict(values: dict[str, Any]) -> Manifest:
    """The types of a manifest as JSON has it; raises ManifestError."""
    top = ManifestObject(values, "")
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


def _sub_model(entry: ManifestObject) -> SubModelEntry:
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
        view=_view(entry),
    )


def _view(entry: ManifestObject) -> View:
    return view_from_object(entry.object("view")) if "view" in entry.values else AS_IT_IS


def _ranges(entry: ManifestObject) -> AnswerRanges | None:
    if "ranges" not in entry.values:
        return None

    found = entry.object("ranges")
    return AnswerRanges(
        samples=found.integer("samples"),
        features=_tensor_range(found.object("features")),
        logits=_tensor_range(found.object("logits")),
    )


def _tensor_range(entry: ManifestObject) -> TensorRange:
    return TensorRange(
        values=entry.interval("values"), rms=entry.interval("rms"), spread=entry.interval("spread")
    )


def _flavours(entries: ManifestObject) -> dict[str, FlavourEntry]:
    found = {}
    for name in entries.values:
        entry = entries.object(name)
        found[name] = FlavourEntry(
            file=entry.text("file"),
            target=entry.text("target", "portable"),
            runtimes=entry.texts("runtimes"),
            golden_tolerance=_number(entry, "golden_tolerance"),
        )

    return found


def _number(entry: ManifestObject, name: str) -> float | None:
    return entry.number(name) if name in entry.values else None


def _fusion(entry: ManifestObject) -> FusionEntry:
    return FusionEntry(
        kind=entry.text("kind", "tower"),
        file=entry.text("file"),
        keras=entry.text("keras"),
        hidden_factor=entry.number("lambda"),
        widths=entry.integers("widths"),
    )


def _input(entry: ManifestObject) -> InputEntry:
    filters = entry.values.get("mel_filters")  # how bundles up to 0.2 name their one input file
    old = [] if filters is None else [filters]
    return InputEntry(
        name=entry.text("name"),
        dtype=entry.text("dtype"),
        shape=entry.integers("shape"),
        spec=entry.mapping("spec"),
        files=entry.texts("files", old),
    )


def _plan(entry: ManifestObject) -> PlanEntry:
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


def _files(entries: ManifestObject) -> dict[str, FileEntry]:
    found = {}
    for name in entries.values:
        entry = entries.object(name)
        found[name] = FileEntry(bytes=entry.integer("bytes"), sha256=entry.text("sha256"))

    return found
