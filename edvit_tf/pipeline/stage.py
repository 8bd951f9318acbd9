"""What a stage of a run is, and what it reads: the run, as far as it has come."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from edvit_tf.config import RunConfig
from edvit_tf.device.model.view import AS_IT_IS, View, view_from_dict
from edvit_tf.export.fusion import AUTO, Fusion, fusion_of, fusions_of, has_joint
from edvit_tf.models import ModelConfig, config_from_dict
from edvit_tf.pipeline.member import (
    SINGLE,
    Member,
    copies,
    may_be_given,
    members,
    shared_models,
    trained_longer,
    trained_together,
)
from edvit_tf.pipeline.store import Stages
from edvit_tf.planning.fleets import splits_classes
from edvit_tf.planning.plan import Plan

BUDGET = "budget"  # the stage that divides a training budget (`divide.py`)
OUTSIDE = "outside"  # the stage of weights that were trained elsewhere (`outside.py`)
TOGETHER = "together"  # the stage of members of all classes that are trained on as one fleet
MEASURE = "measure"  # the last stage, of the figures on test data
EQUAL = "equal"  # the stage of the one model that is trained on as much as all of these


@dataclass(frozen=True)
class Stage:
    """One step of a run: its name, the stages whose files it reads, and what makes it.

    `build(run, folder)` writes its files into the folder and returns plain JSON. It draws its seed
    from the run's and its own name, and reads no state but files of `needs`: that is what makes a
    resumed run equal an unbroken one.
    """

    name: str
    needs: tuple[str, ...]
    build: Callable[["Run", Path], dict]
    # `build` in parts, where it fits a model: it yields what it wants fitted, is sent (weights,
    # history), and returns the result (`side_by_side`)
    parts: Callable[["Run", Path], Generator] | None = None


@dataclass(frozen=True)
class Run:
    """A run as its stages read it. All but the configuration comes out of finished stages, so that
    another process can open the same run (`elsewhere`).
    """

    stages: Stages
    config: RunConfig

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(self.stages.result("data")["description"]["labels"])

    @cached_property
    def base(self) -> ModelConfig:
        """Widths of the base."""
        return config_from_dict(self.stages.result("base")["config"])

    @cached_property
    def split(self) -> Plan:
        """The plan of a class group each, which says what a device can hold."""
        return Plan.from_dict(self.stages.result("plan")["plan"])

    @cached_property
    def splits_classes(self) -> bool:
        """Whether the fleet is that of the class split; else it is made of the one model."""
        return splits_classes(self.config, self.split)

    @cached_property
    def kind(self) -> str:
        """The kind of the fleet: "classes", "copies" or "joint"."""
        return "classes" if self.splits_classes else self.stages.result("fleet")["kind"]

    @cached_property
    def plan(self) -> Plan:
        """The plan of the fleet."""
        if self.splits_classes:
            return self.split
        return Plan.from_dict(self.stages.result("fleet")["plan"])

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """What is cut and fitted: the sub-models of a class split, then the rivals."""
        return tuple(map(self._as_given, members(self.config, self.split, self.base)))

    def _as_given(self, member: Member) -> Member:
        """A member, or the same of weights from outside where those are its own."""
        if not self.stages.has(OUTSIDE) or not may_be_given(member, self.config, self.split):
            return member
        kept = self.stages.result(OUTSIDE)["kept"]
        return replace(member, is_given=True) if member.kept == kept else member

    @cached_property
    def sub_models(self) -> tuple[Member, ...]:
        """The fleet's members, in the order of its plan."""
        if self.kind == "copies":
            return tuple(copies(self.single, self.plan))
        if self.kind == "joint":
            return tuple(trained_together(self.plan, TOGETHER))
        return tuple(member for member in self.members if member.is_sub_model)

    @property
    def single(self) -> Member | None:
        """The one model of all classes, of a device's size."""
        return next((member for member in self.members if member.kind == SINGLE), None)

    @cached_property
    def chosen_views(self) -> tuple[View, ...]:
        """Views that are worth a device each, by validation data, the first to be taken first; the
        input as it is where none were asked for, or there is no model to choose them by.
        """
        if self.config.views == "none" or self.single is None:
            return (AS_IT_IS,)
        chosen = self.stages.result("views")
        return tuple(map(view_from_dict, chosen["views"][: chosen["useful"]]))

    @cached_property
    def given_views(self) -> tuple[View, ...]:
        """A view for each sub-model: of more sub-models than views several have the same. Members
        that are trained by their views take all that were looked for, worth a device of a copy or
        not: what differs in training differs in its errors.
        """
        chosen = self.chosen_views
        if self.kind == "joint" and self.config.views == "auto":
            chosen = tuple(map(view_from_dict, self.stages.result("views")["views"]))
        return tuple(chosen[j % len(chosen)] for j in range(len(self.sub_models)))

    @cached_property
    def tried_views(self) -> dict[str, tuple[View, ...]]:
        """Ways to see the input under which the sub-models are fused, by name, each a view a
        sub-model: of a class split as it is, and under views where there are some; else under its
        views alone.
        """
        if self.kind != "classes":
            return {"views": self.given_views}

        plain = {"plain": (AS_IT_IS,) * len(self.sub_models)}
        # members and fusion that are trained on together see inputs as they are
        if self.config.fusion == "joint" or set(self.given_views) == {AS_IT_IS}:
            return plain
        return plain | {"views": self.given_views}

    @property
    def views(self) -> tuple[View, ...]:
        """The view of each sub-model in the bundle: those of a class split are taken only where
        the fusion was better with them, and was not trained together with its sub-models.
        """
        if self.kind != "classes":
            return self.given_views
        if self.is_joint:
            return self.tried_views["plain"]
        return self.tried_views[self.stages.result("fusion")["seen"]]

    @property
    def rivals(self) -> tuple[Member, ...]:
        """What the fleet is compared with; known once the fleet is."""
        found = tuple(member for member in self.members if member.is_rival)
        if self.has_equal:
            found += (trained_longer(self.single, EQUAL),)
        return found

    @cached_property
    def has_equal(self) -> bool:
        """Whether a rival is trained on as much as the members of a joint fleet together: where
        SINGLE was asked for, and the fleet has more training than it.
        """
        if self.kind != "joint" or SINGLE not in self.config.baselines:
            return False
        # measured by a version without it: that bundle is published as it was measured
        if self.stages.has(MEASURE) and EQUAL not in self.stages.result(MEASURE):
            return False
        alone = self.macs_of(*(self.single.stage(step) for step in self.single.steps))
        return self.is_of_single or self.macs_of(TOGETHER) > alone

    @cached_property
    def shared(self) -> tuple[Member, ...]:
        """The models of all classes from which members start; none without a shared training."""
        found = shared_models(self.config, self.members, self.base)
        return tuple(map(self._as_given, found))

    @property
    def fusion(self) -> Fusion:
        """How the sub-models' answers become one."""
        return fusion_of(self.config, self.plan, self.base.num_classes, self.fusion_kind)

    @property
    def fusion_kind(self) -> str:
        """As the configuration says, or by what was chosen on validation data; members of all
        classes are averaged unless the run was to choose.
        """
        if self.is_joint:
            return "joint"
        if self.config.fusion == AUTO and self.stages.has("fusion"):
            return self.stages.result("fusion").get("kind", "average")
        return self.config.fusion if self.kind == "classes" else "average"

    @cached_property
    def tried_fusions(self) -> dict[str, Fusion]:
        """What is fitted, by kind: one, or all that there is to choose from. One model of all
        classes has a head, beside which there is nothing to fuse.
        """
        is_one = len(self.sub_models) == 1
        if self.kind != "classes" and (is_one or self.config.fusion != AUTO):
            classes = self.base.num_classes
            return {"average": fusion_of(self.config, self.plan, classes, "average")}
        return fusions_of(self.config, self.plan, self.base.num_classes)

    @property
    def is_of_single(self) -> bool:
        """Whether the fleet's members are the one model, or start from it."""
        begins = self.config.fleet_start == "model"
        return self.kind == "copies" or (self.kind == "joint" and begins)

    @cached_property
    def tries_joint(self) -> bool:
        """Whether sub-models and fusion are trained on together at the end (`has_joint`)."""
        return self.kind == "classes" and self.may_try_joint

    @property
    def may_try_joint(self) -> bool:
        """The same as far as it is known once there is a plan."""
        classes = self.base.num_classes
        return self.splits_classes and has_joint(self.config, self.split, classes)

    @property
    def is_joint(self) -> bool:
        """Whether what was trained together is what is deployed."""
        if not self.tries_joint or self.config.fusion != AUTO:
            return self.tries_joint
        return self.stages.has("joint") and self.stages.result("joint")["kept"]

    @property
    def fused_stage(self) -> str:
        """Name of the stage with the fusion's last weights, before their temperature."""
        return "joint" if self.is_joint else "fusion"

    def fitted_weights(self, member: Member) -> dict:
        """A member's weights before a joint training with the fusion, by name."""
        return self.stages.arrays(member.last_stage, member.weights_file)

    def final_weights(self, member: Member) -> dict:
        """A member's weights as they are deployed, by name."""
        # A joint training stores weights of its own for every sub-model.
        if self.is_joint and member.is_sub_model:
            return self.stages.arrays("joint", f"{member.name}.npz")
        return self.fitted_weights(member)

    def macs_of(self, *stages: str) -> int:
        """MACs of the fits of these finished stages."""
        return sum(self.stages.result(name)["history"].get("macs", 0) for name in stages)

    def make(self, *stages: Stage) -> None:
        """Makes what is not there yet, one after the other."""
        for stage in stages:
            self.stages.run(stage.name, partial(stage.build, self), stage.needs)
