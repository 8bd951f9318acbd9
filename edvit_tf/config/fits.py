"""How one model is trained and how it is cut: TrainConfig, PruneConfig, and what they may choose
from. No TensorFlow.
"""

from dataclasses import dataclass

from edvit_tf.checked import Checked

# digits: 2; pictures; log-mel; keras-cv's
AUGMENTS = ("none", "shift", "affine", "shift_flip", "mask", "randaugment")
OPTIMIZERS = ("adamw", "muon", "adam")
MIXES = ("none", "mixup", "cutmix")
# auto: bfloat16 where the machine multiplies it faster
PRECISIONS = ("float32", "bfloat16", "auto")
BACKENDS = ("tensorflow", "jax")  # of Keras, for fits and answers
EPOCHS = ("group", "all", "fixed")  # of a class group's own fit
# apoz: values that are not zero after ReLU, or spikes (of architectures that have them)
SCORES = ("linearised", "fisher", "exact", "magnitude", "random", "apoz")
RESIDUAL = ("channels", "directions", "scored_directions")
HEADS = ("merge", "whole", "half", "keep")
ATTENTION = ("dims", "directions")


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
    # the rest for "other", drawn anew ("group") or once, as EC-SNN resamples ("fixed"); or all
    # there are, the group's so often that they are half.
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

    # "linearised", "fisher", "exact" (KL scores), "magnitude", "random"; "apoz"
    score: str = "linearised"
    # "channels" (the paper), "directions" (principal), "scored_directions"
    residual: str = "directions"
    rounds: int = 1  # channels go in so many rounds, scored anew before each
    # "keep" (all heads, narrower), "merge" (UP-ViT), "whole" (the best heads as they are), "half"
    # (twice as many as whole, of half of their dims)
    heads: str = "keep"
    # of a head that stays: its "dims" of the highest scores, or "directions" of low rank, which a
    # BERT and merged heads do not have
    attention: str = "dims"

    repair: bool = True  # least-squares repair of what follows each cut
    ridge: float = 1e-2  # of the repair, relative to the mean square of the activations
    # in repairs and directions, as much as all patch tokens together
    class_token_counts_as_all: bool = True

    # With score = "apoz", percent: filters of more zeros go, at most so many as a device's memory
    # asks for, in the place of the same share of every layer (NNFacet: 56, EC-SNN: 95)
    zeta: float | None = None
    # with zeta, to the letter of EC-SNN's code: filters go in the order of their index; biases,
    # normalisation and head start anew
    their_way: bool = False

    def check(self) -> None:
        for name, choices in (
            ("score", SCORES),
            ("residual", RESIDUAL),
            ("heads", HEADS),
            ("attention", ATTENTION),
        ):
            self._one_of(name, choices)

        self._require(self.rounds >= 1, "rounds", "it must be at least 1")
        self._require(
            self.rounds == 1 or self.residual == "channels",
            "rounds",
            'more than one round is for residual = "channels"',
        )

        self._require(self.ridge > 0, "ridge", "it must be positive")
        self._require(
            self.zeta is None or (0 <= self.zeta <= 200 and self.score == "apoz"),
            "zeta",
            'it is a percentage of zeros, 0 to 200, and needs score = "apoz"',
        )
        self._require(
            not self.their_way or self.score == "apoz",
            "their_way",
            'it is the letter of a published code, whose score is "apoz"',
        )
