"""What results.json says of one thing each, as types: a model, a fit, a loss, a comparison.

Accuracies are shares 0..1, times milliseconds, sizes bytes, MACs the paper's (without attention
products) unless they are called full. What came later has a default.
"""

from dataclasses import dataclass, field
from typing import Any

# What a comparison can come to.
BETTER = "better"
WORSE = "worse"
LEVEL = "cannot be told apart"


@dataclass(frozen=True)
class Accuracy:
    """By window, and by recording: the mean over its windows."""

    window: float
    windows: int
    recording: float
    recordings: int


@dataclass(frozen=True)
class Milliseconds:
    """Of one input, over all runs."""

    median: float
    p95: float


@dataclass(frozen=True)
class Process:
    """What ran a .tflite file over the test split, in a process of its own."""

    runtime: str
    threads: int
    load_ms: float
    peak_rss_bytes: int
    invoke_ms: Milliseconds


@dataclass(frozen=True)
class Parity:
    """How far a .tflite file lies from its Keras model (`edvit_tf.export.parity`)."""

    samples: int
    tolerance: float
    differing_top1: int
    ties: int
    ok: bool
    max_relative_error: float | None = None
    p95_relative_error: float | None = None
    max_probability_error: float | None = None  # None: of a version that did not gate on them
    p95_probability_error: float | None = None


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error, and negative log-likelihood in nats, by recording."""

    ece: float
    nll: float


@dataclass(frozen=True)
class History:
    """What a fit took: training samples seen, and MACs; and how it went, epoch by epoch."""

    samples: int = 0
    macs: int = 0
    loss: tuple[float | None, ...] = ()  # None: no number
    accuracy: tuple[
        float | None, ...
    ] = ()  # on the training data as they were augmented; shares 0..1


@dataclass(frozen=True)
class Shares:
    """Balanced validation accuracy over the group's classes and "other", and over the group's own
    classes alone (None: no samples).
    """

    all: float | None
    group: float | None


@dataclass(frozen=True)
class Step:
    """A cut and the fit after it; `accuracy` is by "before", "cut", "repair", "fit"."""

    stage: str = ""
    history: History = History()
    accuracy: dict[str, Shares] | None = None  # None: of a version that did not store it so
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """The unsplit base, or a rival: one model that answers for all classes."""

    params: int
    macs: int
    macs_full: int
    weight_bytes: int
    keras: Accuracy | None = None
    tflite: Accuracy | None = None  # None, as the three below, where it has no file
    file_bytes: int | None = None
    process: Process | None = None
    parity: Parity | None = None
    temperature: float | None = None  # of its probabilities, as the fleet's
    bound: float | None = None  # of the search, where the temperature stopped there
    calibration: Calibration | None = None  # at that temperature
    validation: Accuracy | None = None
    given: str | None = None  # where a base comes from that was not trained in this run
    training: History = History()
    stages: tuple[Step, ...] = ()

    @property
    def accuracy(self) -> Accuracy:
        """Of its file, or of the Keras model where there is no file."""
        found = self.tflite or self.keras
        assert found is not None
        return found

    @property
    def deployed_bytes(self) -> int:
        """Of its file, or of its weights where there is no file."""
        return self.weight_bytes if self.file_bytes is None else self.file_bytes


@dataclass(frozen=True)
class Spikes:
    """What a spiking net's neurons do in an inference, all steps together, on a few test inputs."""

    spikes: float  # mean number of an inference
    rate: float  # share of neurons and steps that fire
    flip_rate: float  # share that the .tflite file and the Keras model have otherwise


@dataclass(frozen=True)
class SubModel:
    """A sub-model of the fleet."""

    name: str
    labels: tuple[str, ...]
    devices: tuple[str, ...]
    params: int
    macs: int
    macs_full: int
    weight_bytes: int
    file_bytes: int
    process: Process
    stages: tuple[Step, ...]
    kept_heads: int | None = None
    spikes: Spikes | None = None  # of a spiking net


@dataclass(frozen=True)
class ValidationCalibration:
    """Before and after the temperature."""

    samples: int  # windows
    before: Calibration
    after: Calibration
    recordings: int | None = None  # by which it is; None: by window, of a version up to 0.3.0


@dataclass(frozen=True)
class TriedFusion:
    """A fusion on validation recordings, of those that a run chose from."""

    accuracy: float
    nll: float
    size_bytes: int | None = None  # of its weights


@dataclass(frozen=True)
class Fusion:
    """The fused fleet; `average` is the softmax average without the fusion."""

    tflite: Accuracy
    keras: Accuracy
    average: Accuracy
    file_bytes: int
    process: Process
    temperature: float | None = None
    calibration: Calibration | None = None
    validation_calibration: ValidationCalibration | None = None
    joint: History | None = None
    history: History | None = None  # of its own fit, where it has one
    bound: float | None = None  # of the search, where the temperature stopped there
    average_temperature: float | None = None
    average_bound: float | None = None
    average_calibration: Calibration | None = None
    kind: str = ""
    kinds_on_validation: dict[str, TriedFusion] | None = None  # by kind
    reason: str = ""  # why this kind of them
    left_out: dict[str, str] | None = None  # kinds that were not tried, and why
    seen: str = ""  # how the sub-models see the inputs, a key of the next
    seen_on_validation: dict[str, TriedFusion] | None = None


@dataclass(frozen=True)
class Comparison:
    """The fleet against another model: accuracies 0..1 of the one less the other's. `p_value` is of
    the exact McNemar test; None, as the two counts, where the answers by recording are not known.
    """

    recordings: int
    difference: float
    low: float  # of the 95 % interval
    high: float
    first_only: int | None = None  # recordings that the fleet alone names right
    second_only: int | None = None
    p_value: float | None = None

    @property
    def state(self) -> str:
        """One of BETTER, WORSE and LEVEL: interval and test have to agree that it is not chance."""
        if self.p_value is not None and self.p_value >= 0.05:
            return LEVEL
        if self.low > 0:
            return BETTER
        return WORSE if self.high < 0 else LEVEL


@dataclass(frozen=True)
class Floor:
    """A ridge classifier on pooled inputs, which every model has to stand above."""

    accuracy: Accuracy
    validation: Accuracy
    grid: tuple[int, ...]  # rows and columns that inputs are pooled to; of texts (1, pieces)
    features: int
    ridge: float
    weight_bytes: int
    macs: int
    base: Comparison  # the base against it


@dataclass(frozen=True)
class Turns:
    """Milliseconds of the files that are compared, in alternating passes: of each the median of
    every pass.
    """

    passes: int
    runs: int
    runtime: str
    models: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Flavour:
    """All sub-models in one flavour and runtime."""

    flavour: str
    runtime: str
    tflite: Accuracy
    file_bytes: int
    p95_relative_error: float
    median_ms: float
    paired: Comparison | None = None  # against the first one's answers


@dataclass(frozen=True)
class JudgedFlavour:
    """A smaller flavour against float32 on validation recordings, before it was published."""

    flavour: str
    runtime: str
    recordings: int
    float32_accuracy: float
    accuracy: float
    lost: int  # recordings that it names right less often
    may_lose: int
    ok: bool  # else it is left out of the bundle


@dataclass(frozen=True)
class Size:
    """A split, or one class of it."""

    recordings: int
    windows: int
    per_class: dict[str, "Size"] = field(default_factory=dict)


@dataclass(frozen=True)
class Data:
    """Where the data come from, how they were split, what was left out."""

    name: str
    synthetic: bool
    source: str
    seed: int
    labels: tuple[str, ...]
    splits: dict[str, Size]
    notes: tuple[str, ...]
    padded: int
    skipped: int
    skipped_files: tuple[str, ...]
    kind: str = ""
    item: str = ""  # what is counted as one

    @property
    def named(self) -> str:
        """Its name and where it was found, once where these are the same: a folder of one's own."""
        return self.name if self.source == self.name else f"{self.name}, {self.source}"

    @property
    def noun(self) -> str:
        """What is counted as one: a recording, with one or more windows, or a picture."""
        if self.item:
            return self.item
        return "recording" if self.kind == "audio" else "picture"  # versions up to 0.2


@dataclass(frozen=True)
class Machine:
    """What the figures were measured on."""

    cpu: str
    cores: int
    system: str
    machine: str


@dataclass(frozen=True)
class Planned:
    """Bytes of a plan: of each file once, of all copies, and the budget."""

    total_bytes: int
    deployed_bytes: int | None = None
    budget_bytes: int | None = None
