"""Widths of the named Vision Transformers; no TensorFlow, so that plans need none."""

from edvit_tf.errors import ConfigError
from edvit_tf.models.vit.config import ViTConfig

# Widths: Table 1 of Dosovitskiy et al. 2021 (Base, Large), Touvron et al. 2021 (Tiny, Small).
# Parameters with 1,000 classes at 224 x 224 x 3; vit_cpu with 10 classes at 64 x 64 x 1, patch 8.
PRESETS: dict[str, dict[str, int]] = {
    # 5,717,416
    "vit_tiny": dict(patch_size=16, num_layers=12, hidden_dim=192, num_heads=3, mlp_dim=768),
    # 22,050,664
    "vit_small": dict(patch_size=16, num_layers=12, hidden_dim=384, num_heads=6, mlp_dim=1536),
    # 86,567,656
    "vit_base": dict(patch_size=16, num_layers=12, hidden_dim=768, num_heads=12, mlp_dim=3072),
    # 304,326,632
    "vit_large": dict(patch_size=16, num_layers=24, hidden_dim=1024, num_heads=16, mlp_dim=4096),
    # 1,806,922
    "vit_cpu": dict(patch_size=8, num_layers=4, hidden_dim=192, num_heads=6, mlp_dim=768),
    # 455,050 at 28 x 28 x 1
    "vit_mini": dict(patch_size=7, num_layers=4, hidden_dim=96, num_heads=6, mlp_dim=384),
    # for tests: seconds
    "vit_smoke": dict(patch_size=16, num_layers=2, hidden_dim=48, num_heads=4, mlp_dim=96),
}


def vit_config(
    preset: str, image_shape: tuple[int, int, int], num_classes: int, **changes
) -> ViTConfig:
    """The ViTConfig of a preset at an image shape (H, W, C); `changes` replace single fields.

    Raises ConfigError on an unknown preset or field.
    """
    if preset not in PRESETS:
        raise ConfigError(
            f"there is no model preset {preset!r}; the presets are: {', '.join(PRESETS)}."
        )

    widths = dict(PRESETS[preset])
    if "patch_size" in changes:
        widths["patch_size"] = changes.pop("patch_size")

    config = ViTConfig(
        image_shape=tuple(image_shape),
        num_classes=num_classes,
        head_dim=widths["hidden_dim"] // widths["num_heads"],
        **widths,
    )
    return config.replace(**changes)
