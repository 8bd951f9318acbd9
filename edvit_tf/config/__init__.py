"""Frozen dataclasses that say what a run is to do: data, model, fits, cuts, devices. No TensorFlow.

Each checks its own types and ranges when it is made, so that a wrong value is found where it was
written. How one model is trained and cut is in `fits.py`, what a plan is made from in `plans.py`, a
whole run in `runs.py`; all are imported from here.
"""

import importlib
from typing import Any

from edvit_tf.config.fits import (
    ATTENTION,
    AUGMENTS,
    BACKENDS,
    EPOCHS,
    HEADS,
    MIXES,
    OPTIMIZERS,
    PRECISIONS,
    RESIDUAL,
    SCORES,
    PruneConfig,
    TrainConfig,
)
from edvit_tf.config.plans import (
    ASSIGNMENTS,
    FLEETS,
    OBJECTIVES,
    STRATEGIES,
    DeviceSpec,
    PlanConfig,
)
from edvit_tf.config.runs import (
    BASELINES,
    FLAVOURS,
    FLEET_STARTS,
    FUSIONS,
    INT8_MIN_VALUES,
    TARGETS,
    VIEWS,
    DataConfig,
    RunConfig,
)

__all__ = [
    "ASSIGNMENTS",
    "ATTENTION",
    "AUGMENTS",
    "BACKENDS",
    "BASELINES",
    "EPOCHS",
    "FLAVOURS",
    "FLEETS",
    "FLEET_STARTS",
    "FUSIONS",
    "HEADS",
    "INT8_MIN_VALUES",
    "MIXES",
    "OBJECTIVES",
    "OPTIMIZERS",
    "PRECISIONS",
    "RESIDUAL",
    "SCORES",
    "STRATEGIES",
    "TARGETS",
    "VIEWS",
    "DataConfig",
    "DeviceSpec",
    "PlanConfig",
    "PruneConfig",
    "RunConfig",
    "TrainConfig",
]

# What stood here before there was a second architecture; imports from here go on working.
_MOVED = {
    "ViTConfig": ("edvit_tf.models.vit.config", "ViTConfig"),
    "STAGES": ("edvit_tf.models.vit.config", "CUTS"),
    "SubModelPlan": ("edvit_tf.planning.plan", "SubModelPlan"),
    "Plan": ("edvit_tf.planning.plan", "Plan"),
}


def __getattr__(name: str) -> Any:
    """Finds a name of _MOVED where it is now (PEP 562)."""
    if name not in _MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, there = _MOVED[name]
    return getattr(importlib.import_module(module), there)
