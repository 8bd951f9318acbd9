"""The widths of one VGG, and what a cut leaves of them. No TensorFlow."""

from dataclasses import dataclass
from typing import Self

from edvit_tf.checked import Checked
from edvit_tf.errors import ConfigError

CUTS = ("filters",)  # of all convolutions at once
SHORTCUTS = ()  # of leave-one-out: whole passes

TITLE = "a VGG, cut filter by filter (Split-CNN)"
SHARE_NAME = "shares of its filters"

# Fields that no layer of a Keras model shows: how a model is planned, cut and fitted.
UNSHOWN = ("shares", "min_filters", "fit_dense", "zeta")

# What tables show of a config: title -> field or property.
COLUMNS = {"filt": "num_filters", "F": "feature_dim"}


@dataclass(frozen=True)
class VGGConfig(Checked):
    """Widths of one VGG, base or sub-model: convolutions 3 x 3 (bias, batch normalisation, ReLU),
    a 2 x 2 pool after each block, then Dense layers without any activation between them.

    `features` are the flattened maps, F floats: a device sends them. Since nothing stands between
    the Dense layers, their product is one matrix. A sub-model has that one alone (`dense` is ());
    while it is fitted, `fit_dense` layers stand in its place (`heads.py`).
    """

    image_shape: tuple[int, int, int]  # (H, W, C)
    blocks: tuple[int, ...]  # convolutions before each pool
    filters: tuple[int, ...]  # of each convolution, in order
    dense: tuple[int, ...]  # widths of the Dense layers before the head
    num_classes: int  # rows of the head; a sub-model's last row is "other"
    fit_dense: tuple[int, ...] = (384, 192)  # NNFacet's and EC-SNN's head
    shares: int = 100  # n of "k of n kept": planning counts in hundredths of every width
    min_filters: int = 16  # that a cut leaves of a convolution, at least
    # percent: the threshold of the zeros by which its filters were chosen; None: by a share
    zeta: float | None = None
    input_mean: tuple[float, ...] = (127.5,)
    input_std: tuple[float, ...] = (127.5,)
    architecture: str = "vgg"  # of edvit_tf.models.ARCHITECTURES

    def check(self) -> None:
        self._require(self.architecture == "vgg", "architecture", 'a VGGConfig is of "vgg"')
        self._check_widths()

    def _check_widths(self) -> None:
        self._require(
            len(self.blocks) >= 1 and min(self.blocks) >= 1,
            "blocks",
            "each pool needs a convolution before it",
        )
        self._require(
            len(self.filters) == sum(self.blocks),
            "filters",
            f"it needs one width for each of the {sum(self.blocks)} convolutions of blocks",
        )
        for name in ("filters", "dense", "fit_dense"):
            self._require(
                min(getattr(self, name), default=1) >= 1, name, "every width must be at least 1"
            )
        for name in ("num_classes", "shares", "min_filters"):
            self._require(getattr(self, name) >= 1, name, "it must be at least 1")
        self._check_input()

    def _check_input(self) -> None:
        height, width, channels = self.image_shape
        least = 2 ** len(self.blocks)
        self._require(
            min(height, width) >= least and channels >= 1,
            "image_shape",
            f"each of the {len(self.blocks)} pools halves the picture: its sides must be at least "
            f"{least}, or the model one with fewer blocks",
        )
        for name in ("input_mean", "input_std"):
            self._require(
                len(getattr(self, name)) in (1, channels), name, f"it needs 1 or {channels} values"
            )
        self._require(min(self.input_std) > 0, "input_std", "every value must be positive")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(H, W, C)."""
        return self.image_shape

    @property
    def pooled(self) -> tuple[int, int]:
        """Rows and columns that are left of the maps after the last pool."""
        times = 2 ** len(self.blocks)
        return self.image_shape[0] // times, self.image_shape[1] // times

    @property
    def feature_dim(self) -> int:
        """F: the flattened maps."""
        height, width = self.pooled
        return height * width * self.filters[-1]

    @property
    def num_filters(self) -> int:
        """Of all convolutions."""
        return sum(self.filters)

    @property
    def steps(self) -> int:
        """Time steps for which the maps are computed: one."""
        return 1

    @property
    def has_biases(self) -> bool:
        """Of the layers before the head, which always has one."""
        return True

    def pruned(self, kept: int, num_classes: int, heads: str = "merge", /) -> Self:
        """The same share of every convolution's filters, `min_filters` at least; one matrix in the
        place of the Dense layers. `heads` says nothing to a VGG.

        Raises ConfigError if `kept` is not in 1..shares.
        """
        if not 1 <= kept <= self.shares:
            raise ConfigError(
                f"{kept} shares are to be kept; it must be between 1 and the base's {self.shares}. "
                "Ask for fewer devices or a larger base."
            )
        filters = tuple(
            max(min(width, self.min_filters), round(width * kept / self.shares))
            for width in self.filters
        )
        return self.replace(filters=filters, dense=(), num_classes=num_classes)

    def convolutions(self) -> list[tuple[int, int, int, bool]]:
        """Of each convolution: rows and columns of its maps, channels that it reads, whether a pool
        follows.
        """
        found = []
        height, width, read = self.image_shape
        number = 0
        for count in self.blocks:
            for place in range(count):
                found.append((height, width, read, place + 1 == count))
                read = self.filters[number]
                number += 1
            height, width = height // 2, width // 2
        return found


def conv_name(number: int) -> str:
    """Layer of a convolution; its batch normalisation is `norm_name`."""
    return f"conv_{number:02d}"


def norm_name(number: int) -> str:
    """Layer of a convolution's batch normalisation."""
    return f"norm_{number:02d}"


def dense_names(config: VGGConfig) -> list[str]:
    """The Dense layers from the features to the logits, the head last."""
    return [*(f"dense_{i}" for i in range(len(config.dense))), "head"]


def widths_after(base: VGGConfig, final: VGGConfig, cut: str) -> VGGConfig:
    """The widths after the one cut: the final ones. Raises ValueError for another cut."""
    check_cut(cut)
    return final


def is_cut(config: VGGConfig, cut: str, target: VGGConfig) -> bool:
    """True if the filters are as many as `target` has. Raises ValueError for another cut."""
    check_cut(cut)
    return config.filters == target.filters


def check_cut(cut: str) -> None:
    """Raises ValueError unless `cut` is one of CUTS."""
    if cut not in CUTS:
        raise ValueError(f"there is no pruning stage {cut!r}; the stages are {', '.join(CUTS)}.")


def kept_patches(config: VGGConfig, patch_dropout: float) -> None:
    """None: a convolution needs the whole picture. Raises ConfigError for a patch_dropout."""
    if patch_dropout:
        raise ConfigError(
            f"patch_dropout is {patch_dropout:g}; convolutions see the whole picture, so it must "
            "be 0. Change it where the configuration is built."
        )
