"""The widths of one BERT, and what the cuts leave of them. No TensorFlow."""

from dataclasses import dataclass

from edvit_tf.checked import Checked
from edvit_tf.errors import ConfigError

CUTS = ("residual", "attention", "ffn")
SHORTCUTS: tuple[str, ...] = ()
READS_FILES = True  # load_base takes `files`: the vocabulary says which rows of a table are meant

TITLE = "a BERT"
SHARE_NAME = "heads"
COLUMNS = {"heads": "num_heads", "d": "hidden_dim", "c": "mlp_dim", "pieces": "vocab_size"}

_CUT_FIELDS = {
    "residual": ("hidden_dim",),
    "attention": ("num_heads", "head_dim"),
    "ffn": ("mlp_dim",),
}
POOLS = ("mean", "cls")


@dataclass(frozen=True)
class BertConfig(Checked):
    """Widths of one BERT, base or sub-model. Its input are `length` numbers of pieces, 0 behind the
    last one; it reads as many rows of its table of positions.
    """

    length: int  # L
    vocab_size: int
    num_positions: int
    num_layers: int
    hidden_dim: int  # d
    num_heads: int  # h
    head_dim: int
    mlp_dim: int  # c
    num_classes: int  # rows of the head; a sub-model's last row is "other"
    # what is read: the mean of the tokens of a text, or its first one through tanh(Dense)
    pool: str = "mean"
    num_types: int = 1  # rows of the table of types, of which the first is read
    layer_norm_epsilon: float = 1e-12
    architecture: str = "bert"

    def check(self) -> None:
        self._require(self.architecture == "bert", "architecture", 'a BertConfig is of "bert"')
        for name in (
            "length",
            "vocab_size",
            "num_layers",
            "hidden_dim",
            "num_heads",
            "head_dim",
            "mlp_dim",
            "num_classes",
            "num_types",
        ):
            self._require(getattr(self, name) >= 1, name, "it must be at least 1")
        self._require(
            self.num_positions >= self.length,
            "num_positions",
            f"a text of {self.length} pieces needs as many positions",
        )
        self._one_of("pool", POOLS)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(length,)."""
        return (self.length,)

    @property
    def input_mean(self) -> tuple[float, ...]:
        """Numbers of pieces are taken as they are."""
        return (0.0,)

    @property
    def input_std(self) -> tuple[float, ...]:
        return (1.0,)

    @property
    def shares(self) -> int:
        """h: a sub-model keeps k of h shares of every width."""
        return self.num_heads

    @property
    def feature_dim(self) -> int:
        """d."""
        return self.hidden_dim

    @property
    def attention_dim(self) -> int:
        """h * head_dim: width of q, k and v."""
        return self.num_heads * self.head_dim

    def pruned(self, kept: int, num_classes: int, heads: str = "merge", /) -> "BertConfig":
        """The widths of `kept` of h shares, as a ViT's (Appendix B). ConfigError if that is not 1
        to num_heads.
        """
        if not 1 <= kept <= self.num_heads:
            raise ConfigError(
                f"{kept} heads are to be kept; it must be between 1 and the base's "
                f"{self.num_heads}. Ask for fewer devices or a larger base."
            )

        num_heads, head_dim = kept, self.head_dim
        if heads in ("keep", "half"):
            num_heads = self.num_heads if heads == "keep" else min(2 * kept, self.num_heads)
            head_dim = max(1, self.head_dim * kept // num_heads)
        return self.replace(
            hidden_dim=max(1, round(self.hidden_dim * kept / self.num_heads)),
            num_heads=num_heads,
            head_dim=head_dim,
            mlp_dim=max(1, round(self.mlp_dim * kept / self.num_heads)),
            num_classes=num_classes,
        )


def widths_after(base: BertConfig, final: BertConfig, cut: str) -> BertConfig:
    """The widths of a model on its way from `base` to `final` after one of CUTS."""
    changed = {"num_classes": final.num_classes}
    for done in CUTS[: CUTS.index(cut) + 1]:
        for name in _CUT_FIELDS[done]:
            changed[name] = getattr(final, name)
    return base.replace(**changed)


def is_cut(config: BertConfig, cut: str, target: BertConfig) -> bool:
    """True if the widths that `cut` changes are `target`'s already. ValueError for another cut."""
    if cut not in CUTS:
        raise ValueError(f"there is no pruning stage {cut!r}; the stages are {', '.join(CUTS)}.")
    return all(getattr(config, name) == getattr(target, name) for name in _CUT_FIELDS[cut])


def kept_patches(config: BertConfig, patch_dropout: float) -> None:
    """A text has no patches that a training step could leave out."""
    if patch_dropout:
        raise ConfigError(
            f"TrainConfig.patch_dropout is {patch_dropout}; a BERT reads whole texts. Take 0."
        )
