"""What an architecture has to bring, and where those that there are stand. No TensorFlow here.

An architecture is a package (a module in a test) with the names of PROTOCOL. There is no base
class: a further one is a folder beside `vit/` whose `__init__.py` gives these names, and a line in
ARCHITECTURES. planning, pruning, training, export, pipeline, report and the command line know a
model by these names alone; `vit/` is the one to copy.

Weights are plain dictionaries, name -> float32 array, "<layer>.<variable>" of the Keras model; the
last layer of every model is a Dense layer named "head" (`weights.py`: get, set, make a model of
them). `c` is a Config of the architecture, `w` weights, `x` inputs (B, *input_shape).

Without TensorFlow, for planning and tables:

    Config          a frozen Checked dataclass; what it has to have is ModelConfig, below
    PRESETS         name -> whatever `preset` makes a Config of
    preset(name, input_shape, num_classes, **changes) -> Config
                    `changes` replace fields; a run gives input_mean and input_std, and patch_size
                    where its RunConfig has one
    TITLE           what a bundle's card calls it: "a Vision Transformer"
    SHARE_NAME      what planning's shares are called: "heads"
    COLUMNS         {title: field or property of Config}, the widths that tables show, in order
    CUTS            names of the cuts in the order in which a run makes them
    widths_after(base, final, cut) -> Config
                    a model's widths on its way from `base` to `final` once `cut` is made
    is_cut(c, cut, target) -> bool
                    whether the widths that `cut` changes are those of `target` already
    params(c), macs(c), macs_full(c) -> int
                    weights; MACs of one sample as the paper counts, and all of them
    training_macs(c, patch_dropout, samples) -> int
                    MACs of a fit on so many samples, forward and backward
    size_bytes(c, flavour), file_bytes(c, flavour) -> int
                    of the weights; of the exported file, never too few
    latency_terms(c, vector) -> {kind of work: how much}
                    optional: what the exported file does, counted, for processors that compute
                    `vector` floats together; without it no milliseconds are estimated

A Keras model, its training, and where it comes from:

    build(c, name, kept_patches=None, fused=False) -> keras.Model
                    x -> {"features": (B, feature_dim), "logits": (B, num_classes)}; it normalises
                    its input itself. `fused` allows faster layers of the same function;
                    it may then add "step_logits" (B, T, num_classes): each step learns, and the
                    logits, their mean, do not
    kept_patches(c, patch_dropout) -> (K, P) or None
                    of P positions of the input a training step sees K, and the model of `build`
                    then takes {"input": x, "kept": (B, K) int32}; None: all. ConfigError where an
                    architecture cannot leave any out
    stacked_features(c, w, x, kept=None) -> (N, B, feature_dim)
                    of N models at once, each weight with a first axis N (joint training); x may
                    be (N, B, *input_shape): each model's own
    UNSHOWN         optional: fields of Config that no layer shows, and `config_of` does not know
    config_of(model) -> Config
                    read off a Keras model of `build`; ValueError for another model
    load_base(source, expected, labels, decibels) -> Base
                    a base from outside: .keras file, checkpoint folder or hub name; ConfigError.
                    With READS_FILES = True (optional) it also takes `files`, what a bundle holds
                    for its kind of input

What the units of a group are worth, and how they go. A unit is a place of a mask; a cut takes the
units of some masks away:

    mask_shapes(c, cut, basis=None) -> {mask: number of units}
    forward(c, w, x, masks, basis=None) -> logits (B, num_classes)
                    TensorFlow, differentiable by the masks; a mask is (units,) or (B, units), 1:
                    kept, 0: removed
    magnitude(c, w, cut, basis=None) -> {mask: score (units,)}
                    a score from the weights alone
    activity(c, w, inputs, cut) -> {mask: score (units,)}
                    optional, of ReLU and spikes: the share of a unit's values that are not zero,
                    1 - APoZ; without it the score "apoz" is refused
    SHORTCUTS       cuts whose units `removals` takes out cheaper than whole passes do; often ()
    removals(c, w, x, units, at_once) -> logits (B, num_classes), iterator of (mask, start, count,
                    logits (count * B, num_classes)): the model as it is, and with each unit of
                    `units` {mask: indices} removed alone, unit by unit; only with SHORTCUTS
    group_head(c, w, classes) -> c, w
                    the head's rows of a class group, and "other" as the mean of the rest
    unit_groups(c, cut, target, heads) -> {mask: [indices (units,) of a group]}
                    the units of a mask among which a cut chooses, as many of each group; `heads`
                    is PruneConfig.heads
    cut_stage(c, w, cut, target, options, score, samples) -> an object with .config and .weights
                    takes away what `target` does not have. `score(c, w, basis=None)` gives the
                    scores of a model's units; `samples` are inputs without labels; `options` is
                    the run's PruneConfig, of which an architecture reads what it knows
    repair_stage(done, cut, options, samples) -> w
                    what follows the cut, refitted; `done` is what `cut_stage` returned

`basis` is for an architecture whose own `cut_stage` asks `score` for units that are directions and
not channels; another one ignores it.

    by_threshold(c, activity, num_classes, zeta, most_bytes) -> Config or None
                    optional, with `activity`: the widths that PruneConfig.zeta leaves, of at most
                    so many bytes

A fit may be of another form than what is kept of it:

    fit_form(c, w, seed) -> c, w, back
                    optional: the same function with other weights, which `fit` trains in the place
                    of `w`, and `back(fitted)`, which makes weights of `c` of them again

What a device runs:

    JUMPS           optional, True: two runtimes may differ in single units by a whole one (spikes)
    spike_graph(c, w, input_name, dtype) -> function, signature
    spike_maps(c, w, x) -> {name: (n, ...)}
                    optional, of spikes: all of them, as a file's outputs and as Keras computes them
    graph(c, w, input_name, dtype, target) -> function, signature
                    over numpy constants, of one input (1, *input_shape) of that name and dtype, to
                    {"features": (1, feature_dim), "logits": (1, num_classes)}
"""

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Protocol, Self, runtime_checkable

from edvit_tf.errors import ConfigError

# Name, as a Config's `architecture` says it -> module. A test adds to it, and takes it out again.
ARCHITECTURES: dict[str, str] = {
    "vit": "edvit_tf.models.vit",
    "vgg": "edvit_tf.models.vgg",
    "snn": "edvit_tf.models.snn",
    "bert": "edvit_tf.models.bert",
}

# What every one has; `removals` is beside it where SHORTCUTS is not empty, and what is optional
# above is where it can be.
PROTOCOL = (
    "Config",
    "PRESETS",
    "preset",
    "TITLE",
    "SHARE_NAME",
    "COLUMNS",
    "CUTS",
    "widths_after",
    "is_cut",
    "params",
    "macs",
    "macs_full",
    "training_macs",
    "size_bytes",
    "file_bytes",
    "build",
    "kept_patches",
    "stacked_features",
    "config_of",
    "load_base",
    "mask_shapes",
    "forward",
    "magnitude",
    "SHORTCUTS",
    "group_head",
    "unit_groups",
    "cut_stage",
    "repair_stage",
    "graph",
)


@runtime_checkable
class ModelConfig(Protocol):
    """What the configuration of every architecture has; equal ones are equal models."""

    @property
    def architecture(self) -> str:
        """A name of ARCHITECTURES."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one input, without the batch."""

    @property
    def input_mean(self) -> tuple[float, ...]:
        """What the model takes from its input, one value or one a channel."""

    @property
    def input_std(self) -> tuple[float, ...]:
        """What the model divides its input by, after that."""

    @property
    def num_classes(self) -> int:
        """Rows of the head; a sub-model's last row is "other"."""

    @property
    def feature_dim(self) -> int:
        """Width of the features, which the head reads."""

    @property
    def shares(self) -> int:
        """n of "k of n kept": the parts in which planning makes a model smaller."""

    def pruned(self, kept: int, num_classes: int, heads: str = "merge", /) -> Self:
        """The widths that are left of `kept` shares; ConfigError unless 1 <= kept <= shares.

        `heads` is PruneConfig.heads, for an architecture that has some.
        """

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""

    def to_dict(self) -> dict:
        """Plain JSON, with "architecture"."""


def architecture(of: ModelConfig | str) -> ModuleType:
    """The module with the names of PROTOCOL, by a configuration or by its name.

    Raises ConfigError for a name that ARCHITECTURES does not have.
    """
    name = of if isinstance(of, str) else of.architecture
    if name not in ARCHITECTURES:
        raise ConfigError(
            f"there is no architecture {name!r}; there are: {', '.join(ARCHITECTURES)}. A newer "
            "version of edvit_tf may know it."
        )

    # imported when it is first asked for: no architecture costs anything before it is used
    return importlib.import_module(ARCHITECTURES[name])


def config_from_dict(values: Mapping) -> ModelConfig:
    """The configuration that `to_dict` wrote, of the architecture that it names.

    Files of before there were several name none: "vit". Raises ConfigError.
    """
    return architecture(values.get("architecture", "vit")).Config.from_dict(values)


def shown_widths(values: Mapping) -> dict[str, Any]:
    """{title of a column: value} of a configuration as a manifest holds it; "-" for what is not
    known of an old one.
    """
    columns = architecture(values.get("architecture", "vit")).COLUMNS
    if set(columns.values()) <= set(values):
        return {title: values[field] for title, field in columns.items()}
    try:
        config = config_from_dict(values)
    except ConfigError:
        return {title: values.get(field, "-") for title, field in columns.items()}
    return {title: getattr(config, field) for title, field in columns.items()}


def load_base(
    source, expected: ModelConfig, labels: tuple[str, ...], decibels: bool, files: Mapping
):
    """The base from outside of `expected`'s architecture (PROTOCOL's load_base); `files` are what a
    bundle holds for the kind of input.
    """
    known = architecture(expected)
    given = {"files": files} if getattr(known, "READS_FILES", False) else {}
    return known.load_base(source, expected, labels, decibels=decibels, **given)


def costs(config: ModelConfig) -> dict[str, int]:
    """What a model costs, as manifests and results hold it: params, macs, macs_full and
    weight_bytes (float32).
    """
    known = architecture(config)
    return {
        "params": known.params(config),
        "macs": known.macs(config),
        "macs_full": known.macs_full(config),
        "weight_bytes": known.size_bytes(config),
    }


def presets() -> tuple[str, ...]:
    """Names of the presets of all architectures."""
    return tuple(name for known in ARCHITECTURES for name in architecture(known).PRESETS)


def preset(
    name: str, input_shape: tuple[int, ...], num_classes: int, **changes: Any
) -> ModelConfig:
    """The configuration of a preset of any architecture; ConfigError for an unknown name or
    field.
    """
    for known in ARCHITECTURES:
        found = architecture(known)
        if name in found.PRESETS:
            return found.preset(name, input_shape, num_classes, **changes)

    raise ConfigError(
        f"there is no model preset {name!r}; the presets are: {', '.join(presets())}."
    )
