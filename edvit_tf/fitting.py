"""How a model is trained and how it is cut: frozen dataclasses, given on by `edvit_tf.config`. No TensorFlow."""

from dataclasses import dataclass

from edvit_tf.checked import Checked

AUGMENTS = ("none", "shift", "affine", "shift_flip", "mask", "randaugment")  # digits: 2; pictures; log-mel; keras-cv's
OPTIMIZERS = ("adamw", "muon", "adam")
MIXES = ("none", "mixup", "cutmix")
PRECISIONS = ("float32", "bfloat16", "auto")  # auto: bfloat16 where the machine multiplies it faster
STAGES = ("residual", "attention", "ffn")  # of pruning, in this order (Appendix B)
SCORES = ("linearised", "fisher", "exact", "magnitude", "random")
RESIDUAL = ("channels", "directions", "scored_directions")
HEADS = ("merge", "whole", "keep")


@dataclass(frozen=True)
class TrainConfig(Checked):
    """One fit: AdamW or Muon with linear warm-up and cosine decay, or the paper's Adam decaying from 1e-4."""

    epochs: int
    batch_size: int = 64
    learning_rate: float = 1e-4
    optimizer: str = "adamw"  # "adamw", "muon" (both: cosine) or "adam" (the paper's: exponential decay)
    weight_decay: float = 0.05
    warmup_fraction: float = 0.1
    label_smoothing: float = 0.0
    distillation: float = 0.5  # weight of the teacher's cross-entropy against the labels'
    feature_distillation: float = 0.0  # weight of the distance between the base's features and a linear map of ours
    augment: str = "none"  # one of AUGMENTS, see edvit_tf.training.batches
    mix: str = "none"  # pairs of samples in one: "mixup" or "cutmix"
    patch_dropout: float = 0.0  # share of the patch tokens that a training step leaves out (Liu et al. 2022)
    ema: float = 0.0  # momentum of the average of the weights over the steps, which is kept; 0: the last weights
    precision: str = "float32"  # of the products and activations, one of PRECISIONS; weights stay float32
    other_weight: float = 1.0  # of "other" among an epoch's samples: 1.0 is as many as one class of the group has

    def check(self) -> None:
        self._require(self.epochs >= 0, "epochs", "it must be 0 or more")
        self._require(self.batch_size >= 1, "batch_size", "it must be at least 1")
        self._require(self.learning_rate > 0, "learning_rate", "it must be positive")
        self._require(self.optimizer in OPTIMIZERS, "optimizer", f"it must be one of {', '.join(OPTIMIZERS)}")
        self._require(self.augment in AUGMENTS, "augment", f"it must be one of {', '.join(AUGMENTS)}")
        self._require(self.mix in MIXES, "mix", f"it must be one of {', '.join(MIXES)}")
        self._require(self.feature_distillation >= 0, "feature_distillation", "it must be 0 or more")
        self._require(0 <= self.patch_dropout < 1, "patch_dropout", "it must be in [0, 1)")
        self._require(0 <= self.ema < 1, "ema", "it must be in [0, 1)")
        self._require(self.precision in PRECISIONS, "precision", f"it must be one of {', '.join(PRECISIONS)}")
        self._require(0 < self.other_weight < float("inf"), "other_weight", "it must be positive and finite")
        self._require(0 <= self.distillation <= 1, "distillation", "it must be between 0 and 1")
        self._require(0 <= self.label_smoothing < 1, "label_smoothing", "it must be in [0, 1)")
        self._require(0 <= self.warmup_fraction < 1, "warmup_fraction", "it must be in [0, 1)")


@dataclass(frozen=True)
class PruneConfig(Checked):
    """How units are scored, chosen and repaired (edvit_tf.pruning); the defaults are what measured best."""

    score: str = "linearised"  # "linearised", "fisher", "exact" (KL scores), "magnitude", "random"
    residual: str = "directions"  # "channels" (the paper), "directions" (principal), "scored_directions"
    rounds: int = 1  # channels go in so many rounds, scored anew before each
    heads: str = "keep"  # "keep" (all heads, narrower), "merge" (UP-ViT), "whole" (the best heads as they are)
    repair: bool = True  # least-squares repair of what follows each cut
    ridge: float = 1e-2  # of the repair, relative to the mean square of the activations
    class_token_counts_as_all: bool = True  # in repairs and directions, as much as all patch tokens together

    def check(self) -> None:
        for name, choices in (("score", SCORES), ("residual", RESIDUAL), ("heads", HEADS)):
            self._require(getattr(self, name) in choices, name, f"it must be one of {', '.join(choices)}")
        self._require(self.rounds >= 1, "rounds", "it must be at least 1")
        self._require(self.rounds == 1 or self.residual == "channels", "rounds",
                      'more than one round is for residual = "channels"')
        self._require(self.ridge > 0, "ridge", "it must be positive")
