"""What a stage of a run is, and what it reads: the run, as far as it has come."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from edvit_tf.config import RunConfig
from edvit_tf.export.fusion import Fusion, fusion_of
from edvit_tf.models import ModelConfig, config_from_dict
from edvit_tf.pipeline.member import Member, members, shared_models
from edvit_tf.pipeline.store import Stages
from edvit_tf.planning.plan import Plan


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


@dataclass(frozen=True)
class Run:
    """A run as its stages read it. All but the configuration comes out of finished stages, so that
    another process can open the same run (`fitting_process`).
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
    def plan(self) -> Plan:
        return Plan.from_dict(self.stages.result("plan")["plan"])

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """The plan's sub-models in its order, then the rivals."""
        return members(self.config, self.plan, self.base)

    @property
    def sub_models(self) -> tuple[Member, ...]:
        return tuple(member for member in self.members if member.is_sub_model)

    @property
    def rivals(self) -> tuple[Member, ...]:
        return tuple(member for member in self.members if member.is_rival)

    @cached_property
    def shared(self) -> tuple[Member, ...]:
        """The models of all classes from which members start; none without a shared training."""
        return tuple(shared_models(self.config, self.members, self.base))

    @cached_property
    def fusion(self) -> Fusion:
        """How the sub-models' answers become one."""
        return fusion_of(self.config, self.plan, self.base.num_classes)

    @property
    def is_joint(self) -> bool:
        """Whether sub-models and fusion are trained on together at the end."""
        return self.config.joint_training is not None

    @property
    def fused_stage(self) -> str:
        """Name of the stage with the fusion's last weights, before their temperature."""
        return "joint" if self.is_joint else "fusion"

    def final_weights(self, member: Member) -> dict:
        """A member's weights as they are deployed, by name."""
        # A joint training stores weights of its own for every sub-model.
        if self.is_joint and member.is_sub_model:
            return self.stages.arrays("joint", f"{member.name}.npz")
        return self.stages.arrays(member.last_stage)

    def make(self, *stages: Stage) -> None:
        """Makes what is not there yet, one after the other."""
        for stage in stages:
            self.stages.run(stage.name, partial(stage.build, self), stage.needs)
