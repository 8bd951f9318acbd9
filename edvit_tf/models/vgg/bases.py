"""A base from an earlier run: its base.keras."""

from collections.abc import Callable
from pathlib import Path

from edvit_tf.errors import ConfigError
from edvit_tf.models.keras_file import read_base
from edvit_tf.models.sources import Base, find_base
from edvit_tf.models.vgg.config import UNSHOWN, VGGConfig
from edvit_tf.models.vgg.keras_model import config_of


def load_base(
    source: str | Path,
    expected: VGGConfig,
    labels: tuple[str, ...] | None = None,
    decibels: bool = False,
    read: Callable = config_of,
) -> Base:
    """The .keras file of an earlier run's base, as it is. Raises ConfigError for anything else, and
    where its input shape or classes are not `expected`'s.
    """
    path = find_base(source)
    kind = expected.architecture
    if path.is_dir():
        raise ConfigError(
            f"--base {source} is a checkpoint folder; of a {kind} the base.keras of an earlier run "
            "is read. Give that file, or leave --base out."
        )
    config, weights = read_base(path, kind, read)

    for name in ("image_shape", "num_classes"):
        if getattr(config, name) != getattr(expected, name):
            raise ConfigError(
                f"--base {path} has {name} {getattr(config, name)}; the data need "
                f"{getattr(expected, name)}. Give a base that was trained on this data set at this "
                "size."
            )
    config = config.replace(**{name: getattr(expected, name) for name in UNSHOWN})
    return Base(config, weights, new_head=False, notes=())
