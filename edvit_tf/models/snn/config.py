"""The widths of one spiking VGG. No TensorFlow."""

from dataclasses import dataclass

from edvit_tf.errors import ConfigError
from edvit_tf.models.vgg.config import VGGConfig
from edvit_tf.models.vgg.presets import PRESETS as VGGS

TITLE = "a spiking VGG, cut filter by filter (Split-SNN)"
COLUMNS = {"filt": "num_filters", "F": "feature_dim", "T": "steps"}

# Two runtimes may disagree on single spikes: a potential lies within rounding of the threshold.
JUMPS = True
BACKENDS = ("tensorflow",)  # its surrogate gradient is written for it


@dataclass(frozen=True)
class SNNConfig(VGGConfig):
    """Widths of one spiking VGG: convolutions 3 x 3 without bias, batch normalisation of each time
    step, leaky integrate-and-fire neurons, an average pool after each block, Dense layers without
    activation. Every step sees the same picture.

    `features` are the mean of the flattened spikes over the steps: what follows is linear, so the
    mean of a step's logits is the logits of the mean. The head alone has a bias.
    """

    steps: int = 5  # T
    architecture: str = "snn"  # of edvit_tf.models.ARCHITECTURES

    def check(self) -> None:
        self._require(self.architecture == "snn", "architecture", 'an SNNConfig is of "snn"')
        self._require(self.steps >= 1, "steps", "it must be at least 1")
        self._check_widths()

    @property
    def has_biases(self) -> bool:
        """Of the layers before the head."""
        return False


# The widths of the VGGs: EC-SNN's are the same.
PRESETS: dict[str, dict] = {name.replace("vgg", "snn"): widths for name, widths in VGGS.items()}


def snn_config(preset: str, image_shape: tuple[int, ...], num_classes: int, **changes) -> SNNConfig:
    """The SNNConfig of a preset at an image shape (H, W, C); `changes` replace single fields.

    Raises ConfigError on an unknown preset or field, and for a picture smaller than the pools.
    """
    if preset not in PRESETS:
        raise ConfigError(
            f"there is no model preset {preset!r}; the presets are: {', '.join(PRESETS)}."
        )
    config = SNNConfig(image_shape=tuple(image_shape), num_classes=num_classes, **PRESETS[preset])
    return config.replace(**changes)
