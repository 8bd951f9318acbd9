"""The members of a run: every model that is cut from its base and fitted.

Sub-models stand on devices. Beside them stand the models of all classes that the fleet is compared
with, its rivals, which have as much training. With `RunConfig.shared_training` there are the shared
models too, one a width, from which the others start.
"""

from dataclasses import dataclass

from edvit_tf.config import RunConfig
from edvit_tf.models import ModelConfig, architecture
from edvit_tf.planning.plan import Plan

SUB_MODEL = "sub_model"  # of one class group, on its devices
SHARED = "shared"  # of all classes; others start from it
SINGLE = "single"  # of all classes, of a device's size: what the fullest holds (`single_share`)
PLAIN = "plain"  # the same, trained by labels alone
TOTAL = "total"  # of all classes, as large as all the fleet's files together

HEAD = "head"  # the first step of a member that starts from the base
GROUP = "group"  # the step of a member that starts from a shared model


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

    @property
    def is_sub_model(self) -> bool:
        """Whether it is of the fleet: made for a group of classes, and deployed."""
        return self.kind == SUB_MODEL

    @property
    def is_rival(self) -> bool:
        """Whether the fleet is compared with it."""
        return self.kind in (SINGLE, PLAIN, TOTAL)

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
        return self.stage(self.steps[-1])


def members(config: RunConfig, plan: Plan, base: ModelConfig) -> tuple[Member, ...]:
    """The plan's sub-models in its order, then the rivals."""
    return (*sub_models(config, plan), *rivals(config, plan, base))


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


def rivals(config: RunConfig, plan: Plan, base: ModelConfig) -> list[Member]:
    """Those of config.baselines that there are: none beside one sub-model, and no TOTAL where it
    would be no larger than SINGLE, or the whole base (which is measured anyway).
    """
    if len(plan.sub_models) < 2:
        return []

    single = single_share(plan, base, config.pruning.heads)
    total = most_kept(base, plan.total_bytes, config.pruning.heads)

    found = []
    for kind in config.baselines:
        kept = total if kind == TOTAL else single

        # TOTAL is trained only where it differs from both models that are there anyway.
        if kind == TOTAL and not single < kept < base.shares:
            why = "no larger than one of a device's size"
            if kept == base.shares:
                why = "the whole base"
            print(f"no model of all files' size is trained: it would be {why}", flush=True)
            continue

        found.append(
            Member(
                kind,
                kind,
                tuple(range(base.num_classes)),
                kept,
                base.pruned(kept, base.num_classes, config.pruning.heads),
                starts_from=kind if kind == PLAIN and _shares(config) else _start(config, kept),
            )
        )
    return found


def shared_models(config: RunConfig, found: tuple[Member, ...], base: ModelConfig) -> list[Member]:
    """The all-class models from which members start, one a width, the narrowest first."""
    if not _shares(config):
        return []

    # PLAIN starts from cuts of its own.
    named = {member.starts_from for member in found if member.starts_from != member.name}
    widths = sorted({member.kept for member in found if member.starts_from in named})
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


def single_share(plan: Plan, base: ModelConfig, cut_heads: str) -> int:
    """Shares that SINGLE keeps: with one sub-model a device the most of any; where a device holds
    several, the most whose file is no more bytes than theirs together.
    """
    # device -> bytes of its files
    held: dict[str, int] = {}
    for sub in plan.sub_models:
        for device in sub.devices:
            held[device] = held.get(device, 0) + sub.size_bytes

    widest = max(sub.kept for sub in plan.sub_models)
    return max(widest, most_kept(base, max(held.values()), cut_heads))


def most_kept(base: ModelConfig, size_bytes: int, cut_heads: str) -> int:
    """The most shares of the base that an all-class model can keep in a file of at most
    `size_bytes`; 0: not even one.
    """
    # Bytes grow with the shares: the first that fits is the most.
    for kept in range(base.shares, 0, -1):
        widths = base.pruned(kept, base.num_classes, cut_heads)
        if architecture(base).file_bytes(widths) <= size_bytes:
            return kept
    return 0


def _shares(config: RunConfig) -> bool:
    """Whether members start from shared models."""
    return config.shared_training is not None


def _start(config: RunConfig, kept: int) -> str | None:
    return _shared_name(kept) if _shares(config) else None


def _shared_name(kept: int) -> str:
    return f"shared-{kept}"
