"""The models of all classes that a fleet is compared with: on no device, from the same base, with
as much training.
"""

from dataclasses import dataclass

from edvit_tf.config import Plan, RunConfig, SubModelPlan, ViTConfig
from edvit_tf.models.vit import cost

SINGLE = "single"  # as large as what the fullest device holds
PLAIN = "plain"  # the same, trained by labels alone
TOTAL = "total"  # as large as all the fleet's files together


@dataclass(frozen=True)
class Rival(SubModelPlan):
    """A model beside the fleet; its stages and files are named after its kind."""

    kind: str = SINGLE


def rivals(config: RunConfig, plan: Plan, base_config: ViTConfig) -> list[Rival]:
    """Those of config.baselines that there are: none for one sub-model, no TOTAL where the files of
    the fleet together hold no more heads than SINGLE has, or the whole base (which is measured
    anyway).
    """
    if len(plan.sub_models) < 2:
        return []
    cut = config.pruning.heads
    single = single_heads(plan, base_config, cut)
    heads = {SINGLE: single, PLAIN: single, TOTAL: most_heads(base_config, plan.total_bytes, cut)}
    found = []
    for kind in config.baselines:
        kept = heads[kind]
        if kind == TOTAL and not single < kept < base_config.num_heads:
            why = (
                "the whole base"
                if kept == base_config.num_heads
                else "no larger than one of a device's size"
            )
            print(f"no model of all files' size is trained: it would be {why}", flush=True)
            continue
        widths = base_config.pruned(kept, base_config.num_classes, cut)
        found.append(
            Rival(
                len(plan.sub_models),
                tuple(range(base_config.num_classes)),
                kept,
                widths,
                cost.file_bytes(widths),
                cost.macs(widths),
                (),
                kind,
            )
        )
    return found


def single_heads(plan: Plan, base_config: ViTConfig, cut_heads: str) -> int:
    """With one sub-model a device the most heads of any; where a device holds several, the most
    whose file is no more bytes than theirs together.
    """
    held: dict[str, int] = {}
    for sub in plan.sub_models:
        for device in sub.devices:
            held[device] = held.get(device, 0) + sub.size_bytes
    return max(
        *(sub.kept_heads for sub in plan.sub_models),
        most_heads(base_config, max(held.values()), cut_heads),
    )


def most_heads(base_config: ViTConfig, size_bytes: int, cut_heads: str) -> int:
    """The most heads of an all-class model whose file is no more than `size_bytes`; 0: not even
    one.
    """
    return max(
        (
            kept
            for kept in range(1, base_config.num_heads + 1)
            if cost.file_bytes(base_config.pruned(kept, base_config.num_classes, cut_heads))
            <= size_bytes
        ),
        default=0,
    )
