"""A whole run: its data, base, fits, fleet and files. No TensorFlow."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from edvit_tf.checked import Checked
from edvit_tf.config.fits import BACKENDS, PRECISIONS, TrainConfig
from edvit_tf.config.plans import PlanConfig

FUSIONS = ("tower", "joint", "average", "linear", "low_rank", "deep_linear", "auto")
# of a device's size; the same without distillation; of all files' size
BASELINES = ("single", "plain", "total")
FLAVOURS = ("float32", "float16", "int8")  # of weights in .tflite files
INT8_MIN_VALUES = 1024  # TFLite leaves smaller matrices in float32
# of the exported graph: for both runtimes, or the forms best in ai-edge-litert
TARGETS = ("portable", "litert")

# of members that are trained together: the one model, its cut before any fit, or cuts in which each
# keeps other units of the base
FLEET_STARTS = ("model", "cut", "units")
VIEWS = ("none", "auto")  # of its input that each sub-model gets: as it is; chosen on validation


@dataclass(frozen=True)
class DataConfig(Checked):
    """Which data set, at which size; `options` go to `edvit_tf.data.load` as they are."""

    name: str
    image_size: tuple[int, int]  # (H, W) of the model's input
    options: Mapping = field(default_factory=dict)  # e.g. {"window_seconds": 3.0}
    # without data, a synthetic stand-in is used (and announced) in the place of an error
    stand_in: bool = False


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
    # "linear" (one matrix), "low_rank" (two thin ones), "deep_linear" (one matrix, fitted as four
    # layers without activation: NNFacet's, EC-SNN's), or "auto": the smallest that is as good as
    # the best on validation data, of tower, average, linear and low_rank, and of joint too where
    # joint_training is given
    fusion: str = "tower"
    # of sub-models and fusion together, after the tower's own fit
    joint_training: TrainConfig | None = None
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
    # of Keras, one of BACKENDS, for the fits of single models and for answers of models; what is
    # fused or trained together is fitted by TensorFlow, which scores, cuts and exports as well
    backend: str = "tensorflow"

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
    # In epochs of the one model ("16e") or in minutes ("90m"), of the one model and the fleet
    # together; where the members do not start from it, of each. None: the fits as configured.
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
        self._one_of("backend", BACKENDS)

        self._check_fleet()
        self._one_of("fusion", FUSIONS)
        self._require(
            self.fusion == "auto" or (self.joint_training is not None) == (self.fusion == "joint"),
            "joint_training",
            'it is given with fusion = "joint", may be with "auto", and is with no other',
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
            self.fleet_start != "units" or self.pruning.heads not in ("whole", "half"),
            "fleet_start",
            "units are dealt out within each head, which says nothing of whole heads or halves "
            "(--cut-heads)",
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
