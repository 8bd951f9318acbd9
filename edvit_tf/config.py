"""Frozen dataclasses that say what a run is to do: data, model, fits, cuts, devices. No TensorFlow.

Each checks its own types and ranges when it is made, so that a wrong value is found where it was
written.
"""

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edvit_tf.checked import Checked

# digits: 2; pictures; log-mel; keras-cv's
AUGMENTS = ("none", "shift", "affine", "shift_flip", "mask", "randaugment")
OPTIMIZERS = ("adamw", "muon", "adam")
MIXES = ("none", "mixup", "cutmix")
# auto: bfloat16 where the machine multiplies it faster
PRECISIONS = ("float32", "bfloat16", "auto")
EPOCHS = ("group", "all")  # of a class group's own fit
SCORES = ("linearised", "fisher", "exact", "magnitude", "random")
RESIDUAL = ("channels", "directions", "scored_directions")
HEADS = ("merge", "whole", "keep")
STRATEGIES = ("random", "similar", "dissimilar")  # of grouping classes
# of sub-models to devices: one a device first; the paper's Algorithm 3; the best by a solver
ASSIGNMENTS = ("spread", "greedy", "optimal")
FUSIONS = ("tower", "joint", "average", "linear", "low_rank", "auto")
# of a device's size; the same without distillation; of all files' size
BASELINES = ("single", "plain", "total")
FLAVOURS = ("float32", "float16", "int8")  # of weights in .tflite files
INT8_MIN_VALUES = 1024  # TFLite leaves smaller matrices in float32
# of the exported graph: for both runtimes, or the forms best in ai-edge-litert
TARGETS = ("portable", "litert")

# of what a fleet is made: a class group each (the paper's); one model of all classes, each device
# with another view of the input; members of all classes, trained on together from that model; or
# what the run chooses once it knows that model
FLEETS = ("classes", "copies", "joint", "auto")
# of members that are trained together: the one model, its cut before any fit, or cuts in which each
# keeps other units of the base
FLEET_STARTS = ("model", "cut", "units")
VIEWS = ("none", "auto")  # of its input that each sub-model gets: as it is; chosen on validation


@dataclass(frozen=True)
class DeviceSpec(Checked):
    """What one device offers to the plan: bytes of model files, and MACs it may spend (E_i of Eq.
    1).

    A reserve is for memory alone: bytes kept free for others of a budget that is known. For
    compute, write less.
    """

    name: str
    memory_bytes: int | None = None  # None: no limit of its own
    compute_macs: int | None = None  # E_i, in MACs; None: no limit
    reserve_bytes: int = 0  # of memory_bytes, kept free

    def check(self) -> None:
        self._require(bool(self.name), "name", "it must not be empty")
        for name in ("memory_bytes", "compute_macs"):
            value = getattr(self, name)
            self._require(
                value is None or value > 0, name, "it must be positive, or left out for no limit"
            )
        self._require(self.reserve_bytes >= 0, "reserve_bytes", "it must be 0 or more")
        self._require(
            self.reserve_bytes == 0 or self.memory_bytes is not None,
            "reserve_bytes",
            f"{self.name} has no memory limit to keep it free of: give memory_bytes too",
        )
        self._require(
            self.memory_bytes is None or self.reserve_bytes < self.memory_bytes,
            "reserve_bytes",
            f"it must be less than the {self.memory_bytes} bytes of memory of {self.name}",
        )

    @property
    def usable_bytes(self) -> int | None:
        """Bytes that model files may take: memory less reserve; None: no limit."""
        return None if self.memory_bytes is None else self.memory_bytes - self.reserve_bytes


@dataclass(frozen=True)
class TrainConfig(Checked):
    """One fit: AdamW or Muon with linear warm-up and cosine decay, or the paper's Adam decaying
    from 1e-4.
    """

    epochs: int
    batch_size: int = 64
    learning_rate: float = 1e-4

    # "adamw", "muon" (both: cosine) or "adam" (the paper's: exponential decay)
    optimizer: str = "adamw"
    weight_decay: float = 0.05
    warmup_fraction: float = 0.1
    label_smoothing: float = 0.0

    distillation: float = 0.5  # weight of the teacher's cross-entropy against the labels'
    # weight of the distance between the base's features and a linear map of ours
    feature_distillation: float = 0.0

    augment: str = "none"  # one of AUGMENTS, see edvit_tf.training.batches
    mix: str = "none"  # pairs of samples in one: "mixup" or "cutmix"
    # share of the patch tokens that a training step leaves out (Liu et al. 2022)
    patch_dropout: float = 0.0

    # momentum of the average of the weights over the steps, which is kept; 0: the last weights
    ema: float = 0.0
    # of the products and activations, one of PRECISIONS; weights stay float32
    precision: str = "float32"
    # What an epoch of a class group's own fit sees, one of EPOCHS: the group's samples and some of
    # the rest for "other", or all there are, the group's so often that they are half.
    epoch: str = "group"
    # of "other" in the former: 1.0 is as many as one class of the group has
    other_weight: float = 1.0

    def check(self) -> None:
        self._require(self.epochs >= 0, "epochs", "it must be 0 or more")
        self._require(self.batch_size >= 1, "batch_size", "it must be at least 1")
        self._require(self.learning_rate > 0, "learning_rate", "it must be positive")

        self._one_of("optimizer", OPTIMIZERS)
        self._one_of("augment", AUGMENTS)
        self._one_of("mix", MIXES)
        self._require(
            self.feature_distillation >= 0, "feature_distillation", "it must be 0 or more"
        )
        self._require(0 <= self.patch_dropout < 1, "patch_dropout", "it must be in [0, 1)")
        self._require(0 <= self.ema < 1, "ema", "it must be in [0, 1)")
        self._one_of("precision", PRECISIONS)
        self._one_of("epoch", EPOCHS)
        self._require(
            0 < self.other_weight < float("inf"), "other_weight", "it must be positive and finite"
        )

        self._require(0 <= self.distillation <= 1, "distillation", "it must be between 0 and 1")
        self._require(0 <= self.label_smoothing < 1, "label_smoothing", "it must be in [0, 1)")
        self._require(0 <= self.warmup_fraction < 1, "warmup_fraction", "it must be in [0, 1)")


@dataclass(frozen=True)
class PruneConfig(Checked):
    """How units are scored, chosen and repaired (edvit_tf.pruning); the defaults are what measured
    best.
    """

    score: str = "linearised"  # "linearised", "fisher", "exact" (KL scores), "magnitude", "random"
    # "channels" (the paper), "directions" (principal), "scored_directions"
    residual: str = "directions"
    rounds: int = 1  # channels go in so many rounds, scored anew before each
    # "keep" (all heads, narrower), "merge" (UP-ViT), "whole" (the best heads as they are)
    heads: str = "keep"

    repair: bool = True  # least-squares repair of what follows each cut
    ridge: float = 1e-2  # of the repair, relative to the mean square of the activations
    # in repairs and directions, as much as all patch tokens together
    class_token_counts_as_all: bool = True

    def check(self) -> None:
        for name, choices in (("score", SCORES), ("residual", RESIDUAL), ("heads", HEADS)):
            self._one_of(name, choices)

        self._require(self.rounds >= 1, "rounds", "it must be at least 1")
        self._require(
            self.rounds == 1 or self.residual == "channels",
            "rounds",
            'more than one round is for residual = "channels"',
        )

        self._require(self.ridge > 0, "ridge", "it must be positive")


@dataclass(frozen=True)
class DataConfig(Checked):
    """Which data set, at which size; `options` go to `edvit_tf.data.load` as they are."""

    name: str
    image_size: tuple[int, int]  # (H, W) of the model's input
    options: Mapping = field(default_factory=dict)  # e.g. {"window_seconds": 3.0}
    # without data, a synthetic stand-in is used (and announced) in the place of an error
    stand_in: bool = False


@dataclass(frozen=True, kw_only=True)
class PlanConfig(Checked):
    """What a plan is made from: devices, budget, class groups, and how heads are cut.

    A run is planned from its own RunConfig, which is one of these; `edvit plan` needs no more.
    """

    num_devices: int = 5
    devices: tuple[DeviceSpec, ...] | None = None  # None: num_devices equal ones without limits
    num_groups: int | None = None  # sub-models, 1 to the number of classes; None: one a device

    budget_bytes: int | None = None  # file bytes of all deployed copies, graphs included
    # of each sub-model at least, before budget and devices take any; None: ceil(h / N)
    start_heads: int | None = None

    strategy: str = "random"  # how classes are grouped, one of STRATEGIES
    assignment: str = "spread"  # of sub-models to devices, one of ASSIGNMENTS

    samples: int = 1  # L of Eq. 1
    replicas: int = 1  # devices that hold each sub-model

    fleet: str = "classes"  # one of FLEETS
    pruning: PruneConfig = PruneConfig()  # its `heads` decides the widths
    seed: int = 0  # of random groups, and of the whole run

    def check(self) -> None:
        self._require(self.num_devices >= 1, "num_devices", "it must be at least 1")
        # More groups than classes are refused by the planner, which knows the classes.
        self._require(
            self.num_groups is None or self.num_groups >= 1, "num_groups", "it must be at least 1"
        )
        self._require(
            self.budget_bytes is None or self.budget_bytes > 0,
            "budget_bytes",
            "it must be positive",
        )
        self._require(
            self.start_heads is None or self.start_heads >= 1,
            "start_heads",
            "it must be at least 1",
        )

        self._one_of("strategy", STRATEGIES)
        self._one_of("assignment", ASSIGNMENTS)
        self._one_of("fleet", FLEETS)

        self._require(self.samples >= 1, "samples", "it must be at least 1")
        self._require(self.replicas >= 1, "replicas", "it must be at least 1")
        self._require(self.seed >= 0, "seed", "it must be 0 or more")

    @property
    def device_specs(self) -> tuple[DeviceSpec, ...]:
        """The devices, or `num_devices` equal ones without limits of their own."""
        if self.devices is not None:
            return self.devices
        return tuple(DeviceSpec(name=f"device-{i:02d}") for i in range(self.num_devices))

    @property
    def group_count(self) -> int:
        """N, the number of sub-models: `num_groups`, or one a device."""
        return len(self.device_specs) if self.num_groups is None else self.num_groups

    def groups_of(self, num_classes: int) -> int:
        """Groups of a class split of so many classes, which the planner refuses if they are more
        than those. Where the class split is not the fleet, and only guides its widths, they are no
        more: of more devices each can hold a model of all classes.
        """
        if self.fleet == "classes" or len(self.device_specs) == 1:
            return self.group_count
        return min(self.group_count, num_classes)


@dataclass(frozen=True)
class RunConfig(PlanConfig):
    """A whole run, as a recipe builds it. Saved, resolved, with the run's stages and in the
    manifest.
    """

    name: str
    data: DataConfig
    model: str  # a preset of an architecture (edvit_tf.models.presets)

    base_training: TrainConfig
    stage_training: TrainConfig  # after each of the three pruning stages
    fusion_training: TrainConfig
    patch_size: int | None = None  # None: the preset's
    # of one all-class model, where sub-models start; None: no such
    shared_training: TrainConfig | None = None

    # "tower" (MLP over frozen sub-models), "joint" (trained on with them), "average" (no MLP),
    # "linear" (one matrix), "low_rank" (two thin ones), or "auto": the smallest of all but "joint"
    # that is as good as the best on validation data
    fusion: str = "tower"
    joint_training: TrainConfig | None = None  # of fusion = "joint", after the tower's own fit
    fusion_lambda: float = 0.5  # hidden width = ceil(lambda * sum of d_j)
    missing_rate: float = 0.1  # share of sub-models dropped at random while the fusion is trained
    # copies of the training inputs, augmented as in stage_training, on which it is fitted too:
    # sub-models know the inputs themselves by heart
    fusion_views: int = 0

    calibration_samples: int = 256  # on which the importance scores are taken, per class group
    # on which repairs are fitted and directions found; None: the calibration samples
    repair_samples: int | None = None
    # of the base's answers that are distilled, one of PRECISIONS
    teacher_precision: str = "float32"

    # of the exported files; fusion and plans count float32
    flavours: tuple[str, ...] = ("float32",)
    # of the exported graphs: "portable", or "litert" (best in ai-edge-litert)
    target: str = "portable"

    views: str = "none"  # one of VIEWS
    # of fleet = "joint", for each member, after the one model's own; None: as stage_training says
    fleet_training: TrainConfig | None = None
    fleet_start: str = "model"  # one of FLEET_STARTS
    own_weight: float = 0.1  # of the members' own losses in it, beside the fused one's
    fleet_missing_rate: float = 0.3  # share of members dropped at random in it
    # of the one model and the fleet together, in epochs of the one model ("16e") or in minutes
    # ("90m"); None: the fits as they are configured
    training_budget: str | None = None

    min_accuracy: float | None = None  # A_re of Eq. 1, on validation data after fusion, 0..1
    # models of all classes beside the fleet, any of BASELINES
    baselines: tuple[str, ...] = ("single",)

    def check(self) -> None:
        super().check()

        self._require(self.fusion_lambda > 0, "fusion_lambda", "it must be positive")
        self._require(0 <= self.missing_rate < 1, "missing_rate", "it must be in [0, 1)")
        self._require(self.fusion_views >= 0, "fusion_views", "it must be 0 or more")
        self._require(
            self.fusion_views == 0 or self.stage_training.augment != "none",
            "fusion_views",
            'the stage_training has augment = "none": copies would be the inputs themselves',
        )
        self._require(self.calibration_samples >= 1, "calibration_samples", "it must be at least 1")
        self._require(
            self.repair_samples is None or self.repair_samples >= 1,
            "repair_samples",
            "it must be at least 1",
        )
        self._one_of("teacher_precision", PRECISIONS)

        self._check_fleet()
        self._one_of("fusion", FUSIONS)
        self._require(
            (self.joint_training is not None) == (self.fusion == "joint"),
            "joint_training",
            'it is given with fusion = "joint" and only then',
        )
        for name in ("fusion_training", "joint_training"):
            fit = getattr(self, name)
            self._require(
                fit is None or fit.optimizer != "muon",
                name,
                'optimizer = "muon" is for fits of one ViT; here it must be "adamw" or "adam"',
            )
            self._require(fit is None or fit.epochs >= 1, name, "its epochs must be 1 or more")

        for name, off in (
            ("label_smoothing", 0),
            ("feature_distillation", 0),
            ("patch_dropout", 0),
            ("ema", 0),
            ("augment", "none"),
            ("mix", "none"),
        ):
            self._require(
                getattr(self.fusion_training, name) == off,
                "fusion_training",
                f"its {name} must be {off!r}: the MLP is fitted on stored features and labels, "
                "without it",
            )

        self._require(
            self.min_accuracy is None or 0 < self.min_accuracy <= 1,
            "min_accuracy",
            "it must be in (0, 1]",
        )
        self._require(
            self.flavours[:1] == ("float32",) and _each_once(self.flavours, FLAVOURS),
            "flavours",
            f"it must be float32 and then any of {', '.join(FLAVOURS[1:])}, each once",
        )
        self._require(
            _each_once(self.baselines, BASELINES),
            "baselines",
            f"it must be any of {', '.join(BASELINES)}, each once",
        )
        self._one_of("target", TARGETS)

    def _check_fleet(self) -> None:
        self._one_of("views", VIEWS)
        self._one_of("fleet_start", FLEET_STARTS)
        self._require(
            self.fleet_start != "units" or self.pruning.heads != "whole",
            "fleet_start",
            "units are dealt out within each head, which says nothing of whole heads (--cut-heads)",
        )
        self._require(0 <= self.own_weight <= 1, "own_weight", "it must be between 0 and 1")
        self._require(
            0 <= self.fleet_missing_rate < 1, "fleet_missing_rate", "it must be in [0, 1)"
        )
        self._require(
            self.fleet_training is None or self.fleet_training.epochs >= 1,
            "fleet_training",
            "its epochs must be 1 or more",
        )
        self._require(
            self.training_budget is None or bool(_BUDGET.fullmatch(self.training_budget)),
            "training_budget",
            'it must be epochs of the one model, like "16e", or minutes, like "90m"',
        )


# a positive number, and what it counts
_BUDGET = re.compile(r"(?!0+(\.0*)?[em])\d+(\.\d+)?[em]")


def _each_once(chosen: tuple[str, ...], choices: tuple[str, ...]) -> bool:
    return set(chosen) <= set(choices) and len(set(chosen)) == len(chosen)


# What stood here before there was a second architecture; imports from here go on working.
_MOVED = {
    "ViTConfig": ("edvit_tf.models.vit.config", "ViTConfig"),
    "STAGES": ("edvit_tf.models.vit.config", "CUTS"),
    "SubModelPlan": ("edvit_tf.planning.plan", "SubModelPlan"),
    "Plan": ("edvit_tf.planning.plan", "Plan"),
}


def __getattr__(name: str) -> Any:
    """Finds a name of _MOVED where it is now (PEP 562)."""
    if name not in _MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, there = _MOVED[name]
    return getattr(importlib.import_module(module), there)
