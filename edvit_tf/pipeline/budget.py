"""What training costs, and how many samples make a rival's training cost what the whole fleet's
does.

A fit costs three forward passes of each of its samples (forward and backward) at the widths that it
has then, the last batch of an epoch filled up. The fleet's training is that of its shared models,
of its sub-models after each cut, of a joint training, and of the fusion's MLP. Scores, repairs and
the fit of a head alone count in none.
"""

from dataclasses import dataclass

import numpy as np

from edvit_tf.config import RunConfig, TrainConfig
from edvit_tf.export.fusion import fusion_of, fusions_of, has_joint
from edvit_tf.models import ModelConfig, architecture
from edvit_tf.pipeline.member import GROUP, HEAD, TOTAL, Member, single_kept
from edvit_tf.planning.fleets import splits_classes
from edvit_tf.planning.plan import Plan, SubModelPlan
from edvit_tf.planning.training_budget import Shares


def training_macs(widths: ModelConfig, training: TrainConfig, samples: int) -> int:
    """MACs of a fit, forward and backward, of what its steps keep of each sample."""
    return architecture(widths).training_macs(widths, training.patch_dropout, samples)


@dataclass(frozen=True)
class Budget:
    """The training of a class split, and a rival's share of it. `labels` (n,) are those of the
    training split.
    """

    config: RunConfig
    base: ModelConfig
    plan: Plan
    labels: np.ndarray

    def samples(self, member: Member, step: str) -> int:
        """Samples of an epoch of the fit after one of a member's steps, where it learns all
        classes: the whole split, or for a rival so many as cost what the fleet's cost.
        """
        if member.is_sub_model or step == HEAD:
            return len(self.labels)

        # A fleet that is made of the one model has no fits to follow: the one model has its own, in
        # one fit, or as many epochs as a budget says.
        counted = self.config.shared_training is not None or self.config.training_budget is not None
        if counted and not splits_classes(self.config, self.plan):
            return self._as_single(member, step)

        # Without shared models a rival follows the fleet cut by cut; with them, fit by fit.
        if self.config.shared_training is None:
            return self.rival(member.widths, step)
        return self.rival_own(member) if step == GROUP else self.rival_shared(member)

    def own_samples(self, sub: SubModelPlan) -> int:
        """Samples of an epoch of a sub-model's own fit: its group's mixture, the last batch filled
        up.
        """
        from edvit_tf.training.batches import own_epoch

        training = self.config.stage_training
        rows = own_epoch(training, self.labels, sub.classes, self.base.num_classes, 0, 0)
        return _filled(len(rows), training)

    def shares(self) -> Shares:
        """What an epoch of every sub-model's own fit takes, one of every shared model, and one of
        all sub-models together, by their samples and by MACs of their widths against the one
        model's.
        """
        single = self.config.shared_training or self.config.stage_training
        epoch = _filled(len(self.labels), single)
        own = sum(self.own_samples(sub) * self._width(sub.kept) for sub in self.plan.sub_models)
        widths = {sub.kept for sub in self.plan.sub_models}
        joint = sum(self._width(sub.kept) for sub in self.plan.sub_models)
        return Shares(own / epoch, sum(map(self._width, widths)), joint)

    def _width(self, kept: int) -> float:
        """MACs of a model of all classes of so many shares, in those of the one model."""

        def macs(kept: int) -> int:
            heads = self.config.pruning.heads
            return architecture(self.base).macs(
                self.base.pruned(kept, self.base.num_classes, heads)
            )

        return macs(kept) / macs(single_kept(self.config, self.plan, self.base))

    def fleet(self) -> dict[str, int]:
        """MACs of the fleet's training: "shared" and "group" with shared models, else those of each
        of the cuts. What is trained at the end, joint training and fusion, is in the last."""
        if self.config.shared_training is None:
            spent = {cut: self._own(cut) for cut in self._cuts}
            last = self._cuts[-1]
        else:
            spent = {"shared": self._shared(), GROUP: self._own(self._cuts[-1])}
            last = GROUP

        # A rival has no ending of its own: its last fit is given as much.
        return spent | {last: spent[last] + self._ending()}

    def rival(self, widths: ModelConfig, cut: str) -> int:
        """Samples of an epoch of a rival's fit without shared models, after a cut."""
        then = architecture(widths).widths_after(self.base, widths, cut)
        return self._samples(then, self.config.stage_training, self.fleet()[cut])

    def rival_shared(self, member: Member) -> int:
        """Samples of an epoch of the model of all classes from which a rival starts: the fleet's
        own where the fleet has one of that width, else so many as cost what all of the fleet's
        cost."""
        if member.kept in {sub.kept for sub in self.plan.sub_models}:
            return len(self.labels)
        return self._samples(member.widths, self.config.shared_training, self.fleet()["shared"])

    def rival_own(self, member: Member) -> int:
        """Samples of an epoch of a rival's fit after that: what is left of the fleet's training."""
        shared = self.config.shared_training
        seen = shared.epochs * _filled(self.rival_shared(member), shared)

        # What its start has cost is taken off: both together cost what the fleet's training does.
        left = sum(self.fleet().values()) - training_macs(member.widths, shared, seen)
        return self._samples(member.widths, self.config.stage_training, left)

    def _as_single(self, member: Member, step: str) -> int:
        """Samples of an epoch that costs what one of the whole split costs SINGLE."""
        if member.kind != TOTAL:
            return len(self.labels)

        fit = self.config.shared_training or self.config.stage_training
        kept = single_kept(self.config, self.plan, self.base)
        single = self.base.pruned(kept, self.base.num_classes, self.config.pruning.heads)
        after = architecture(self.base).widths_after
        macs = training_macs(after(self.base, single, step), fit, fit.epochs * len(self.labels))
        return self._samples(after(self.base, member.widths, step), fit, macs)

    @property
    def _cuts(self) -> tuple[str, ...]:
        return architecture(self.base).CUTS

    def _own(self, cut: str) -> int:
        """MACs of the sub-models' own fits at the widths that they have after a cut."""
        training = self.config.stage_training
        spent = 0
        for sub in self.plan.sub_models:
            widths = architecture(self.base).widths_after(self.base, sub.config, cut)
            spent += training_macs(widths, training, training.epochs * self.own_samples(sub))
        return spent

    def _shared(self) -> int:
        """MACs of the fits of the shared models, one a width."""
        shared = self.config.shared_training
        seen = shared.epochs * _filled(len(self.labels), shared)

        # Sub-models of one width start from one model.
        widths = {}
        for sub in self.plan.sub_models:
            widths[sub.kept] = sub.config.replace(num_classes=self.base.num_classes)
        return sum(training_macs(one, shared, seen) for one in widths.values())

    def _ending(self) -> int:
        """MACs of the joint training, whose inputs pass through every sub-model, and of the MLP's
        fits.
        """
        fit = self.config.fusion_training
        joint = self.config.joint_training
        count = len(self.labels) * (1 + self.config.fusion_views)
        seen = fit.epochs * max(1, count // fit.batch_size) * fit.batch_size

        # Of "auto" each that is tried. With views each is fitted twice, without them and with them;
        # that none was worth it is known only when the rivals are trained.
        tried = fusions_of(self.config, self.plan, self.base.num_classes).values()
        ways = 2 if self.config.views == "auto" and self.config.fusion != "joint" else 1
        macs = sum(3 * ways * seen * one.macs for one in tried if one.is_fitted)
        if joint is not None and has_joint(self.config, self.plan, self.base.num_classes):
            through = joint.epochs * _filled(len(self.labels), joint)
            macs += sum(training_macs(sub.config, joint, through) for sub in self.plan.sub_models)
            tower = fusion_of(self.config, self.plan, self.base.num_classes, "joint")
            macs += 3 * through * tower.macs
        return macs

    def _samples(self, widths: ModelConfig, training: TrainConfig, macs: int) -> int:
        """Samples of an epoch so that all epochs cost `macs`; the whole split where there is no
        epoch.
        """
        one = training_macs(widths, training, training.epochs)
        return max(1, round(macs / one)) if one else len(self.labels)


def _filled(count: int, training: TrainConfig) -> int:
    """Samples that whole batches have."""
    return -(-count // training.batch_size) * training.batch_size
