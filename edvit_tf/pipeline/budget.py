"""What training costs, and how many samples make a rival's training cost what the whole fleet's
does.

A fit costs three forward passes of each of its samples (forward and backward) at the widths that it
has then, the last batch of an epoch filled up. The fleet's training is that of its shared models,
of its sub-models after each cut, of a joint training, and of the fusion's MLP. Scores, repairs and
the fit of a head alone count in none.
"""

import math
from dataclasses import dataclass

import numpy as np

from edvit_tf.config import STAGES, Plan, RunConfig, SubModelPlan, TrainConfig, ViTConfig
from edvit_tf.models.vit import cost


def training_macs(widths: ViTConfig, training: TrainConfig, samples: int) -> int:
    """MACs of a fit, forward and backward, for the share of the tokens that its steps keep."""
    kept = round(widths.num_patches * (1 - training.patch_dropout)) + 1
    return round(3 * samples * cost.macs(widths) * kept / widths.num_tokens)


def fusion_macs(config: RunConfig, widths: list[int], num_classes: int, samples: int) -> int:
    """MACs of training the tower MLP over sub-models of these widths on `samples`; 0 for the
    softmax average.
    """
    hidden = math.ceil(config.fusion_lambda * sum(widths))
    return 0 if config.fusion == "average" else 3 * samples * hidden * (sum(widths) + num_classes)


def widths_after(base: ViTConfig, final: ViTConfig, stage: str) -> ViTConfig:
    """The widths of a model on its way from `base` to `final` after one of STAGES: those of its fit
    then.
    """
    fields = {
        "residual": ("hidden_dim",),
        "attention": ("num_heads", "head_dim"),
        "ffn": ("mlp_dim",),
    }
    cut = [name for one in STAGES[: STAGES.index(stage) + 1] for name in fields[one]]
    return base.replace(
        num_classes=final.num_classes, pool="cls", **{name: getattr(final, name) for name in cut}
    )


@dataclass(frozen=True)
class Budget:
    """The fleet's training, and a rival's share of it. `labels` (n,) are those of the training
    split.
    """

    config: RunConfig
    base: ViTConfig
    plan: Plan
    labels: np.ndarray

    def own_samples(self, sub: SubModelPlan) -> int:
        """Samples of an epoch of a sub-model's own fit: its group's mixture, the last batch filled
        up.
        """
        from edvit_tf.training.batches import group_epoch

        training = self.config.stage_training
        return _filled(
            len(
                group_epoch(
                    self.labels, sub.classes, self.base.num_classes, 0, 0, training.other_weight
                )
            ),
            training,
        )

    def fleet(self) -> dict[str, int]:
        """MACs of the fleet's training: "shared" and "group" with shared models, else those of each
        of STAGES. What is trained at the end, joint training and fusion, is in the last."""
        stage, shared, subs = (
            self.config.stage_training,
            self.config.shared_training,
            self.plan.sub_models,
        )

        def own(sub: SubModelPlan, widths: ViTConfig) -> int:
            return training_macs(widths, stage, stage.epochs * self.own_samples(sub))

        if shared is None:
            spent = {
                name: sum(own(sub, widths_after(self.base, sub.config, name)) for sub in subs)
                for name in STAGES
            }
        else:
            models = {sub.kept_heads: self._all_classes(sub.config) for sub in subs}
            spent = {
                "shared": sum(
                    training_macs(widths, shared, shared.epochs * _filled(len(self.labels), shared))
                    for widths in models.values()
                ),
                "group": sum(own(sub, sub.config) for sub in subs),
            }
        last = "ffn" if shared is None else "group"
        return spent | {last: spent[last] + self._ending()}

    def rival(self, widths: ViTConfig, stage: str) -> int:
        """Samples of an epoch of a rival's fit without shared models, after one of STAGES."""
        return self._samples(
            widths_after(self.base, widths, stage), self.config.stage_training, self.fleet()[stage]
        )

    def rival_shared(self, sub: SubModelPlan) -> int:
        """Samples of an epoch of the model of all classes from which a rival starts: the fleet's
        own where the fleet has one of that width, else so many as cost what all of the fleet's
        cost."""
        if sub.kept_heads in {one.kept_heads for one in self.plan.sub_models}:
            return len(self.labels)
        return self._samples(sub.config, self.config.shared_training, self.fleet()["shared"])

    def rival_own(self, sub: SubModelPlan) -> int:
        """Samples of an epoch of a rival's fit after that: what is left of the fleet's training."""
        shared = self.config.shared_training
        started = training_macs(
            sub.config, shared, shared.epochs * _filled(self.rival_shared(sub), shared)
        )
        return self._samples(
            sub.config, self.config.stage_training, sum(self.fleet().values()) - started
        )

    def _ending(self) -> int:
        """MACs of the joint training, whose inputs pass through every sub-model, and of the MLP's
        fits.
        """
        widths = [sub.config.hidden_dim for sub in self.plan.sub_models]
        fit, joint = self.config.fusion_training, self.config.joint_training
        seen = fit.epochs * max(1, len(self.labels) // fit.batch_size) * fit.batch_size
        macs = 0
        if joint is not None:
            through = joint.epochs * _filled(len(self.labels), joint)
            macs, seen = (
                sum(training_macs(sub.config, joint, through) for sub in self.plan.sub_models),
                seen + through,
            )
        return macs + fusion_macs(self.config, widths, self.base.num_classes, seen)

    def _samples(self, widths: ViTConfig, training: TrainConfig, macs: int) -> int:
        """Samples of an epoch so that all epochs cost `macs`; the whole split where there is no
        epoch.
        """
        one = training_macs(widths, training, training.epochs)
        return max(1, round(macs / one)) if one else len(self.labels)

    def _all_classes(self, widths: ViTConfig) -> ViTConfig:
        return widths.replace(num_classes=self.base.num_classes)


def _filled(count: int, training: TrainConfig) -> int:
    return -(-count // training.batch_size) * training.batch_size
