"""What a plan is made from: the devices, and how the model is shared out to them. No TensorFlow."""

from dataclasses import dataclass

from edvit_tf.checked import Checked
from edvit_tf.config.fits import PruneConfig

STRATEGIES = ("random", "similar", "dissimilar")  # of grouping classes
# of sub-models to devices: one a device first; the paper's Algorithm 3; the best by a solver
ASSIGNMENTS = ("spread", "greedy", "optimal")
# what a device spends, and has left, in Eq. 1: the paper's MACs, or an estimate in joules
OBJECTIVES = ("macs", "joules")
# of what a fleet is made: a class group each (the paper's); one model of all classes, each device
# with another view of the input; members of all classes, trained on together from that model; or
# what the run chooses once it knows that model
FLEETS = ("classes", "copies", "joint", "auto")


@dataclass(frozen=True)
class DeviceSpec(Checked):
    """What one device offers to the plan: bytes of model files, and MACs or joules it may spend
    (E_i of Eq. 1); and what it is, for an estimate of its joules.

    A reserve is for memory alone: bytes kept free for others of a budget that is known. For
    compute, write less.
    """

    name: str
    memory_bytes: int | None = None  # None: no limit of its own
    compute_macs: int | None = None  # E_i, in MACs; None: no limit
    reserve_bytes: int = 0  # of memory_bytes, kept free
    board: str | None = None  # of planning/boards.toml: whose watts it draws
    macs_per_second: int | None = None  # measured; None: as published of its board
    energy_joules: float | None = None  # E_i in joules; None: no limit

    def check(self) -> None:
        self._require(bool(self.name), "name", "it must not be empty")
        for name in ("memory_bytes", "compute_macs", "macs_per_second", "energy_joules"):
            value = getattr(self, name)
            self._require(
                value is None or value > 0, name, "it must be positive, or left out for no limit"
            )
        self._require(self.reserve_bytes >= 0, "reserve_bytes", "it must be 0 or more")
        self._require(
            self.reserve_bytes == 0 or self.memory_bytes is not None,
            "reserve_bytes",
            f"{self.name} has no memory limit to keep it free of: give memory_bytes too",
        )
        self._require(
            self.memory_bytes is None or self.reserve_bytes < self.memory_bytes,
            "reserve_bytes",
            f"it must be less than the {self.memory_bytes} bytes of memory of {self.name}",
        )

    @property
    def usable_bytes(self) -> int | None:
        """Bytes that model files may take: memory less reserve; None: no limit."""
        return None if self.memory_bytes is None else self.memory_bytes - self.reserve_bytes


@dataclass(frozen=True, kw_only=True)
class PlanConfig(Checked):
    """What a plan is made from: devices, budget, class groups, and how heads are cut.

    A run is planned from its own RunConfig, which is one of these; `edvit plan` needs no more.
    """

    num_devices: int = 5
    devices: tuple[DeviceSpec, ...] | None = None  # None: num_devices equal ones without limits
    num_groups: int | None = None  # sub-models, 1 to the number of classes; None: one a device

    budget_bytes: int | None = None  # file bytes of all deployed copies, graphs included
    # of each sub-model at least, before budget and devices take any; None: ceil(h / N)
    start_heads: int | None = None

    strategy: str = "random"  # how classes are grouped, one of STRATEGIES
    assignment: str = "spread"  # of sub-models to devices, one of ASSIGNMENTS
    objective: str = "macs"  # what the assignment leaves most of, one of OBJECTIVES
    board: str | None = None  # of each device that names none

    samples: int = 1  # L of Eq. 1
    replicas: int = 1  # devices that hold each sub-model

    fleet: str = "classes"  # one of FLEETS
    pruning: PruneConfig = PruneConfig()  # noqa: RUF009, frozen; its `heads` decides the widths
    seed: int = 0  # of random groups, and of the whole run

    def check(self) -> None:
        self._require(self.num_devices >= 1, "num_devices", "it must be at least 1")
        # More groups than classes are refused by the planner, which knows the classes.
        self._require(
            self.num_groups is None or self.num_groups >= 1, "num_groups", "it must be at least 1"
        )
        self._require(
            self.budget_bytes is None or self.budget_bytes > 0,
            "budget_bytes",
            "it must be positive",
        )
        self._require(
            self.start_heads is None or self.start_heads >= 1,
            "start_heads",
            "it must be at least 1",
        )

        self._one_of("strategy", STRATEGIES)
        self._one_of("assignment", ASSIGNMENTS)
        self._one_of("objective", OBJECTIVES)
        self._one_of("fleet", FLEETS)

        self._require(self.samples >= 1, "samples", "it must be at least 1")
        self._require(self.replicas >= 1, "replicas", "it must be at least 1")
        self._require(self.seed >= 0, "seed", "it must be 0 or more")

    @property
    def device_specs(self) -> tuple[DeviceSpec, ...]:
        """The devices, or `num_devices` equal ones without limits of their own."""
        specs = self.devices
        if specs is None:
            specs = tuple(DeviceSpec(name=f"device-{i:02d}") for i in range(self.num_devices))
        if self.board is None:
            return specs
        return tuple(spec if spec.board else spec.replace(board=self.board) for spec in specs)

    @property
    def group_count(self) -> int:
        """N, the number of sub-models: `num_groups`, or one a device."""
        return len(self.device_specs) if self.num_groups is None else self.num_groups

    def groups_of(self, num_classes: int) -> int:
        """Groups of a class split of so many classes, which the planner refuses if they are more
        than those. Where the class split is not the fleet, and only guides its widths, they are no
        more: of more devices each can hold a model of all classes.
        """
        if self.fleet == "classes" or len(self.device_specs) == 1:
            return self.group_count
        return min(self.group_count, num_classes)
