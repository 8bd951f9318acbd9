"""Widths of the named BERTs; no TensorFlow, so that plans need none."""

from typing import Any

from edvit_tf.errors import ConfigError
from edvit_tf.models.bert.config import BertConfig

VOCAB_SIZE = 30_522  # of bert-base-uncased and what was made of it

# Devlin et al. 2019; Wang et al. 2020 (MiniLM, whose positions are 512 too).
PRESETS: dict[str, dict[str, Any]] = {
    "bert_base": dict(num_layers=12, hidden_dim=768, num_heads=12, mlp_dim=3072),
    "minilm": dict(num_layers=6, hidden_dim=384, num_heads=12, mlp_dim=1536),
    # from scratch, on the processors of a desktop
    "bert_cpu": dict(num_layers=3, hidden_dim=192, num_heads=6, mlp_dim=768),
    # for tests: seconds
    "bert_smoke": dict(num_layers=2, hidden_dim=48, num_heads=4, mlp_dim=96),
}


def bert_config(
    preset: str, input_shape: tuple[int, ...], num_classes: int, **changes: Any
) -> BertConfig:
    """The BertConfig of a preset for texts of (length,) pieces; `changes` replace single fields.
    Without num_positions it has as many as pieces. ConfigError on an unknown preset or field, and
    for another kind of input.
    """
    if preset not in PRESETS:
        raise ConfigError(
            f"there is no model preset {preset!r}; the presets are: {', '.join(PRESETS)}."
        )
    if len(input_shape) != 1:
        raise ConfigError(
            f"{preset} reads texts, and the data have inputs of shape {tuple(input_shape)}. Take a "
            "Vision Transformer for pictures and sound."
        )
    if "patch_size" in changes:
        raise ConfigError(f"{preset} has no patches: leave patch_size out.")

    # numbers of pieces are taken as they are
    fields = {k: v for k, v in changes.items() if k not in ("input_mean", "input_std")}
    widths = PRESETS[preset]
    config = BertConfig(
        length=input_shape[0],
        vocab_size=fields.pop("vocab_size", VOCAB_SIZE),
        num_positions=fields.pop("num_positions", input_shape[0]),
        head_dim=widths["hidden_dim"] // widths["num_heads"],
        num_classes=num_classes,
        **widths,
    )
    return config.replace(**fields)
