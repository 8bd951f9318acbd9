"""The members of a run: every model that is cut from its base and fitted.

Sub-models stand on devices. Beside them stand the models of all classes that the fleet is compared
with, its rivals, which have as much training. With `RunConfig.shared_training` there are the shared
models too, one a width, from which the others start.

Where a fleet does not split the classes its sub-models are made of one of the rivals, SINGLE: they
are copies of it, or were trained on together from it, and have no cuts of their own.
"""

from collections.abc import Callable
from dataclasses import dataclass

from edvit_tf.config import RunConfig
from edvit_tf.models import ModelConfig, architecture
from edvit_tf.planning.fleets import common_share, most_kept, single_share, splits_classes
from edvit_tf.planning.plan import Plan
from edvit_tf.progress import tell

SUB_MODEL = "sub_model"  # of one class group, on its devices
SHARED = "shared"  # of all classes; others start from it
SINGLE = "single"  # of all classes, of a device's size (`single_kept`)
PLAIN = "plain"  # the same, trained by labels alone
TOTAL = "total"  # of all classes, as large as all the fleet's files together
LONGER = "equal"  # SINGLE's widths, trained on as much as all members of a joint fleet

HEAD = "head"  # the first step of a member that starts from the base
GROUP = "group"  # the step of a member that starts from a shared model
WEIGHTS = "weights.npz"  # of a step's stage


@dataclass(frozen=True)
class Member:
    """One model of a run, on its way from the base to its final widths."""

    name: str  # of its stages and files: submodel-00, shared-3, single
    kind: str
    classes: tuple[int, ...]
    kept: int  # shares of the base that are kept
    widths: ModelConfig  # at the end
    # The member whose cut weights it starts from: a shared model, or its own cuts, without
    # distillation. None: cut from the base, with a fit after each cut.
    starts_from: str | None = None
    devices: tuple[str, ...] = ()  # that hold it
    is_given: bool = False  # its weights come from outside, in the place of all its cuts
    # The stage and the file whose weights it has as they are; None: those of its own last step.
    made_of: tuple[str, str] | None = None

    @property
    def is_sub_model(self) -> bool:
        """Whether it is of the fleet: made for a group of classes, and deployed."""
        return self.kind == SUB_MODEL

    @property
    def is_rival(self) -> bool:
        """Whether the fleet is compared with it."""
        return self.kind in (SINGLE, PLAIN, TOTAL, LONGER)

    @property
    def size_bytes(self) -> int:
        """Bytes of its file in float32, at most."""
        return architecture(self.widths).file_bytes(self.widths)

    @property
    def way(self) -> tuple[str, ...]:
        """The steps from the base to its widths: the head, then the architecture's cuts."""
        return (HEAD, *architecture(self.widths).CUTS)

    @property
    def steps(self) -> tuple[str, ...]:
        """What is done to it, in order: the way from the base, a group's own fit, or one and then
        the other.
        """
        if self.made_of is not None:
            return ()
        if self.is_given:
            return self.way[-1:]

        # PLAIN has both: it starts from cuts of its own.
        cuts = self.way if self.starts_from in (None, self.name) else ()
        own = () if self.starts_from is None else (GROUP,)
        return (*cuts, *own)

    def stage(self, step: str) -> str:
        """Name of a step's folder in the work folder."""
        return f"{self.name}.{step}"

    @property
    def last_stage(self) -> str:
        """Name of the stage that ends with its weights, before a joint training."""
        return self.stage(self.steps[-1]) if self.made_of is None else self.made_of[0]

    @property
    def weights_file(self) -> str:
        """Name of the file of `last_stage` with its weights."""
        return WEIGHTS if self.made_of is None else self.made_of[1]


def may_be_given(member: Member, config: RunConfig, split: Plan) -> bool:
    """Whether weights from outside may take the place of a member's training: a shared model's, or
    that of the one model which the fleet is made of.
    """
    made_of = member.kind == SINGLE and not splits_classes(config, split)
    return member.kind == SHARED or made_of


def members(config: RunConfig, split: Plan, base: ModelConfig) -> tuple[Member, ...]:
    """What is cut and fitted: the sub-models of a class split in its order, then the rivals."""
    own = sub_models(config, split) if splits_classes(config, split) else []
    return (*own, *rivals(config, split, base))


def sub_models(config: RunConfig, plan: Plan) -> list[Member]:
    """The sub-models of a plan as members."""
    return [
        Member(
            sub.name,
            SUB_MODEL,
            sub.classes,
            sub.kept,
            sub.config,
            starts_from=_start(config, sub.kept),
            devices=sub.devices,
        )
        for sub in plan.sub_models
    ]


def copies(single: Member, plan: Plan) -> list[Member]:
    """The sub-models of a plan, each with the weights of SINGLE as they are."""
    return _made_of(plan, lambda name: (single.last_stage, single.weights_file))


def trained_together(plan: Plan, stage: str) -> list[Member]:
    """The sub-models of a plan, each with weights of its own from one stage of them all."""
    return _made_of(plan, lambda name: (stage, f"{name}.npz"))


def trained_longer(single: Member, stage: str) -> Member:
    """The rival of SINGLE's widths whose weights a stage of its own has."""
    return Member(
        LONGER, LONGER, single.classes, single.kept, single.widths, made_of=(stage, WEIGHTS)
    )


def _made_of(plan: Plan, source: Callable[[str], tuple[str, str]]) -> list[Member]:
    return [
        Member(
            sub.name,
            SUB_MODEL,
            sub.classes,
            sub.kept,
            sub.config,
            devices=sub.devices,
            made_of=source(sub.name),
        )
        for sub in plan.sub_models
    ]


def rivals(config: RunConfig, split: Plan, base: ModelConfig) -> list[Member]:
    """Those of config.baselines that there are: none beside one sub-model, and no TOTAL where it
    would be no larger than SINGLE, or the whole base (which is measured anyway).

    SINGLE is one of them where the fleet is made of it, or views are chosen by it.
    """
    whole = splits_classes(config, split)
    if whole and len(split.sub_models) < 2:
        return []

    kinds = config.baselines
    if SINGLE not in kinds and (not whole or config.views == "auto"):
        kinds = (SINGLE, *kinds)

    single = single_kept(config, split, base)
    total = most_kept(base, split.total_bytes, config.pruning.heads)

    found = []
    for kind in kinds:
        kept = total if kind == TOTAL else single

        # TOTAL is trained only where it differs from both models that are there anyway.
        if kind == TOTAL and not single < kept < base.shares:
            why = "no larger than one of a device's size"
            if kept == base.shares:
                why = "the whole base"
            tell(f"no model of all files' size is trained: it would be {why}")
            continue

        found.append(
            Member(
                kind,
                kind,
                tuple(range(base.num_classes)),
                kept,
                base.pruned(kept, base.num_classes, config.pruning.heads),
                starts_from=_rivals_start(config, kind, kept) if whole else None,
            )
        )
    return found


def single_kept(config: RunConfig, split: Plan, base: ModelConfig) -> int:
    """Shares that SINGLE keeps: as many as the fullest device of a class split has room for; where
    the fleet is made of it, as many as every device has.
    """
    if splits_classes(config, split):
        return single_share(split, base, config.pruning.heads)
    return common_share(split, base, config.pruning.heads)


def shared_models(config: RunConfig, found: tuple[Member, ...], base: ModelConfig) -> list[Member]:
    """The all-class models from which members start, one a width, the narrowest first."""
    if not _shares(config):
        return []

    # PLAIN starts from cuts of its own.
    starting = [m for m in found if m.starts_from not in (None, m.name)]
    widths = sorted({member.kept for member in starting})
    return [
        Member(
            _shared_name(kept),
            SHARED,
            tuple(range(base.num_classes)),
            kept,
            base.pruned(kept, base.num_classes, config.pruning.heads),
        )
        for kept in widths
    ]


def _shares(config: RunConfig) -> bool:
    """Whether members start from shared models."""
    return config.shared_training is not None


def _rivals_start(config: RunConfig, kind: str, kept: int) -> str | None:
    return kind if kind == PLAIN and _shares(config) else _start(config, kept)


def _start(config: RunConfig, kept: int) -> str | None:
    return _shared_name(kept) if _shares(config) else None


def _shared_name(kept: int) -> str:
    return f"shared-{kept}"
