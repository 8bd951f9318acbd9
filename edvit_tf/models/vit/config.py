"""The widths of one Vision Transformer, and what the cuts leave of them. No TensorFlow."""

from dataclasses import dataclass

from edvit_tf.checked import Checked
from edvit_tf.errors import ConfigError

CUTS = ("residual", "attention", "ffn")  # in this order (Appendix B)

TITLE = "a Vision Transformer"
SHARE_NAME = "heads"  # what planning's shares of a base are called

# What tables show of a config: title -> field.
COLUMNS = {"heads": "num_heads", "d": "hidden_dim", "c": "mlp_dim"}

# The fields that each cut changes.
_CUT_FIELDS = {
    "residual": ("hidden_dim", "pool"),
    "attention": ("num_heads", "head_dim"),
    "ffn": ("mlp_dim",),
}


@dataclass(frozen=True)
class ViTConfig(Checked):
    """Widths of one Vision Transformer (Dosovitskiy et al. 2021), base or sub-model.

    head_dim is a field of its own: between the pruning stages hidden_dim (d), num_heads * head_dim
    and mlp_dim (c) shrink independently. The input is 0..255 for images or log-mel decibels for
    audio; the model itself computes (x - input_mean) / input_std, per channel.
    """

    image_shape: tuple[int, int, int]  # (H, W, C)
    patch_size: int
    num_layers: int
    hidden_dim: int  # d
    num_heads: int  # h
    head_dim: int
    mlp_dim: int  # c
    num_classes: int  # rows of the head; a sub-model's last row is "other"
    # "cls", or "cls_mean": class token beside the mean of the patch tokens (a base only)
    pool: str = "cls"
    layer_norm_epsilon: float = 1e-6
    input_mean: tuple[float, ...] = (127.5,)
    input_std: tuple[float, ...] = (127.5,)
    architecture: str = "vit"  # of edvit_tf.models.ARCHITECTURES; files of old name none

    def check(self) -> None:
        self._require(self.architecture == "vit", "architecture", 'a ViTConfig is of "vit"')
        for name in (
            "patch_size",
            "num_layers",
            "hidden_dim",
            "num_heads",
            "head_dim",
            "mlp_dim",
            "num_classes",
        ):
            self._require(getattr(self, name) >= 1, name, "it must be at least 1")

        self._require(min(self.image_shape) >= 1, "image_shape", "(H, W, C) must be positive")
        height, width, channels = self.image_shape
        self._require(
            height % self.patch_size == 0 and width % self.patch_size == 0,
            "image_shape",
            f"height and width must be multiples of patch_size = {self.patch_size}",
        )

        self._require(self.pool in ("cls", "cls_mean"), "pool", 'it must be "cls" or "cls_mean"')
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
    def shares(self) -> int:
        """h: a sub-model keeps k of h shares of every width."""
        return self.num_heads

    @property
    def feature_dim(self) -> int:
        """Columns of the head: d, or 2 d where the mean of the patch tokens stands beside the class
        token.
        """
        return self.hidden_dim * (2 if self.pool == "cls_mean" else 1)

    @property
    def num_patches(self) -> int:
        """Patch tokens, the class token not counted."""
        return (self.image_shape[0] // self.patch_size) * (self.image_shape[1] // self.patch_size)

    @property
    def num_tokens(self) -> int:
        """T: patch tokens and the class token."""
        return self.num_patches + 1

    @property
    def attention_dim(self) -> int:
        """h * head_dim: width of q, k and v."""
        return self.num_heads * self.head_dim

    def pruned(self, kept: int, num_classes: int, heads: str = "merge") -> "ViTConfig":
        """The sub-model's widths: d' = s d, k heads of the same head_dim, c' = s c, with s = k / h
        (Appendix B).

        With heads="keep" all h heads stay, each of s head_dim (rounded down); with "half" 2 k of
        them, or h if they are fewer, of as many dims in all. Raises ConfigError if `kept` is not in
        1..num_heads.
        """
        if not 1 <= kept <= self.num_heads:
            raise ConfigError(
                f"{kept} heads are to be kept; it must be between 1 and the base's "
                f"{self.num_heads}. Ask for fewer devices or a larger base."
            )

        num_heads = kept
        head_dim = self.head_dim
        if heads in ("keep", "half"):
            num_heads = self.num_heads if heads == "keep" else min(2 * kept, self.num_heads)
            head_dim = max(1, self.head_dim * kept // num_heads)

        return self.replace(
            hidden_dim=max(1, round(self.hidden_dim * kept / self.num_heads)),
            num_heads=num_heads,
            head_dim=head_dim,
            mlp_dim=max(1, round(self.mlp_dim * kept / self.num_heads)),
            num_classes=num_classes,
            pool="cls",
        )


def widths_after(base: ViTConfig, final: ViTConfig, cut: str) -> ViTConfig:
    """The widths of a model on its way from `base` to `final` after one of CUTS: those of its fit
    then.
    """
    # all cuts up to this one are made; the head is the group's from the first on
    changed = {}
    for done in CUTS[: CUTS.index(cut) + 1]:
        for name in _CUT_FIELDS[done]:
            changed[name] = getattr(final, name)

    return base.replace(**{**changed, "num_classes": final.num_classes, "pool": "cls"})


def is_cut(config: ViTConfig, cut: str, target: ViTConfig) -> bool:
    """True if the widths that `cut` changes are `target`'s already. Raises ValueError for a cut
    that is none of CUTS.
    """
    check_cut(cut)
    return all(getattr(config, name) == getattr(target, name) for name in _CUT_FIELDS[cut])


def check_cut(cut: str) -> None:
    """Raises ValueError unless `cut` is one of CUTS."""
    if cut not in CUTS:
        raise ValueError(f"there is no pruning stage {cut!r}; the stages are {', '.join(CUTS)}.")


def kept_patches(config: ViTConfig, patch_dropout: float) -> tuple[int, int] | None:
    """(K, P): of P patches a training step sees K, drawn anew for each sample; None: all."""
    if not patch_dropout:
        return None
    return round(config.num_patches * (1 - patch_dropout)), config.num_patches
