"""The options of recipes that say how sub-models are made, fused and written; those of planning are
in `planning_options`.
"""

from dataclasses import replace

from edvit_tf.cli.options import Option
from edvit_tf.cli.planning_options import FLEET
from edvit_tf.cli.values import names, positive
from edvit_tf.config import (
    ATTENTION,
    BACKENDS,
    BASELINES,
    EPOCHS,
    FLAVOURS,
    FLEET_STARTS,
    FUSIONS,
    RESIDUAL,
    SCORES,
    TARGETS,
    VIEWS,
    RunConfig,
)


def _fleet(config: RunConfig, fleet: str) -> RunConfig:
    """`--fleet`: copies of one model differ by their views alone, and what is trained together
    gains by them, so views are chosen unless `--views none` says otherwise.
    """
    views = config.views if fleet == "classes" else "auto"
    return config.replace(fleet=fleet, views=views)


def _fusion(config: RunConfig, fusion: str) -> RunConfig:
    """`--fusion`: "joint" needs a training of its own, which is like that of a stage; "auto" tries
    it where the configuration has one.
    """
    if fusion == "auto":
        return config.replace(fusion=fusion)
    if fusion != "joint":
        return config.replace(fusion=fusion, joint_training=None)

    joint = config.joint_training or config.stage_training
    if joint.optimizer == "muon":  # which is for fits of one ViT
        joint = joint.replace(optimizer="adamw")
    return config.replace(fusion=fusion, joint_training=joint)


def _no_distillation(config: RunConfig, _: bool) -> RunConfig:
    """`--no-distillation`: in all fits of sub-models."""
    for name in ("stage_training", "shared_training", "joint_training", "fleet_training"):
        training = getattr(config, name)
        if training is not None:
            training = training.replace(distillation=0.0, feature_distillation=0.0)
            config = config.replace(**{name: training})

    return config


def _no_repair(config: RunConfig, _: bool) -> RunConfig:
    return config.replace(pruning=config.pruning.replace(repair=False))


def _their_way(config: RunConfig, _: bool) -> RunConfig:
    return config.replace(pruning=config.pruning.replace(their_way=True))


def _max_per_class(config: RunConfig, count: int) -> RunConfig:
    options = {**config.data.options, "max_per_class": count}
    return config.replace(data=config.data.replace(options=options))


def _baselines(config: RunConfig, text: str) -> RunConfig:
    """`--baselines single,total`, or `none`."""
    named = names(text)
    return config.replace(baselines=() if named == ("none",) else named)


# in this order: a joint training is derived from stage_training before other options change that,
# and distillation goes last, from every fit that there is then
METHOD = (
    replace(FLEET, change=_fleet),
    Option(
        "--fleet-start",
        "of members that are trained together: the one model (model), its cut before any fit "
        "(cut), or a cut for each that keeps other units of the base (units)",
        field="fleet_start",
        choices=FLEET_STARTS,
    ),
    Option(
        "--views",
        "of the input that the sub-models get: as it is, or flips, shifts and crops chosen on "
        "validation data; chosen with any --fleet but classes",
        field="views",
        choices=VIEWS,
    ),
    Option(
        "--training-budget",
        "epochs of the one model, as in 16e, or minutes, as in 90m: of the one model and the fleet "
        "together; of members that do not start from it (--fleet-start cut, units), of each",
        field="training_budget",
        metavar="BUDGET",
        if_none="the fits as configured",
    ),
    Option(
        "--backend",
        "of Keras, for the fits of single models: jax computes in a process of its own, on a GPU "
        "where JAX has one (extra [jax])",
        field="backend",
        choices=BACKENDS,
    ),
    Option(
        "--max-per-class",
        "recordings kept of each class and split, of the test split too: for a shorter run "
        "(default: as the recipe says)",
        type=positive,
        metavar="COUNT",
        change=_max_per_class,
    ),
    Option("--score", "importance of units", field="pruning.score", choices=SCORES),
    Option(
        "--zeta",
        "with --score apoz, percent: filters with more zeros than this in their maps go, in the "
        "place of one share of every layer; lowered to what a device holds (NNFacet: 56, EC-SNN: "
        "95)",
        field="pruning.zeta",
        type=float,
        metavar="PERCENT",
        if_none="shares",
    ),
    Option(
        "--their-way",
        "with --zeta, the letter of EC-SNN's code: filters go in the order of their index; biases, "
        "normalisation and head start anew",
        is_switch=True,
        change=_their_way,
    ),
    Option(
        "--residual",
        "what the residual stage keeps",
        field="pruning.residual",
        choices=RESIDUAL,
    ),
    Option(
        "--attention",
        "what stays of a head that is made narrower: its dims of the highest scores, or the "
        "directions that its products and answers need most (low rank); of merged heads, and of a "
        "text model's, dims whatever is said",
        field="pruning.attention",
        choices=ATTENTION,
    ),
    Option(
        "--no-repair",
        "no least-squares repair after each cut",
        is_switch=True,
        change=_no_repair,
    ),
    Option(
        "--fusion",
        "how the answers become one: an MLP over frozen sub-models, trained on with them, the "
        "average of their softmaxes, one matrix, two thin ones, one matrix fitted as four layers "
        "(deep_linear, as NNFacet does), or the smallest of tower, average, linear and low_rank "
        "that is as good as the best on validation data (auto; edvit train tries joint as well)",
        field="fusion",
        choices=FUSIONS,
        change=_fusion,
    ),
    Option(
        "--fusion-augment",
        "augmented copies of the training inputs on which the fusion is fitted beside them",
        field="fusion_views",
        type=int,
        metavar="COPIES",
    ),
    Option(
        "--own-epoch",
        "of a class group's own fit: its samples and some of the rest (group), or all there are, "
        "the group's weighted up to half (all)",
        field="stage_training.epoch",
        choices=EPOCHS,
    ),
    Option(
        "--other-weight",
        'samples of "other" against those of one class, with --own-epoch group',
        field="stage_training.other_weight",
        type=float,
    ),
    Option(
        "--baselines",
        f"models of all classes to train beside the fleet, from {', '.join(BASELINES)} (of a "
        "device's size; the same by labels alone; of all files' size), or none. Each has as many "
        "training MACs as a class split; beside a joint fleet, as the one model alone, and single "
        "then brings a second one that is trained on as much as the fleet",
        field="baselines",
        change=_baselines,
    ),
    Option(
        "--flavours",
        f"of the files, from {', '.join(FLAVOURS)}; int8 runs in ai-edge-litert alone",
        field="flavours",
        type=names,
    ),
    Option(
        "--target",
        "graphs for both TFLite runtimes, or the forms best in ai-edge-litert",
        field="target",
        choices=TARGETS,
    ),
    Option(
        "--min-accuracy",
        "required fused validation accuracy, 0..1 (A_re of Eq. 1)",
        field="min_accuracy",
        type=float,
    ),
    Option(
        "--no-distillation",
        "labels alone train the sub-models",
        is_switch=True,
        change=_no_distillation,
    ),
)
