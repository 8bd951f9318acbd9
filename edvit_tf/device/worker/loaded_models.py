"""Sub-models that are fit to serve: verified, right on the golden input, loaded, warm. Everything
else is refused here.

A .tflite file can crash the runtime, so each is run in a child process first; the worker loads what
has come through.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edvit_tf.device.errors import WrongAnswers
from edvit_tf.device.model.bundle import Bundle, BundleError, verified_path
from edvit_tf.device.model.golden import expected_answers, golden_error, tolerance
from edvit_tf.device.model.memory import check_memory
from edvit_tf.device.model.runtime import Model, load
from edvit_tf.device.model.subprocess_run import ModelFailed, run_model
from edvit_tf.device.model.tune import Choice, choice

_WARM_UP = 3  # runs after the first, whose median is the first estimate of the service time


@dataclass(frozen=True)
class LoadedModel:
    """A sub-model ready to serve."""

    index: int
    name: str
    chosen: Choice
    model: Model
    outputs: dict[str, tuple[int, ...]]  # name -> shape
    invoke_seconds: float
    golden_error: float


def load_models(
    bundle: Bundle, indices: Sequence[int], flavour: str | None = None
) -> list[LoadedModel]:
    """Verifies, tries in a child process, loads and warms up sub-models, with the file and threads
    tuned here.

    Raises BundleError, RuntimeMissing, MemoryShort (all the models together), ModelFailed,
    WrongAnswers.
    """
    try:
        chosen = [choice(bundle, index, flavour) for index in indices]
        paths = [verified_path(bundle, one.file) for one in chosen]
        check_memory(*paths)
        return [
            _load_model(bundle, index, one, path)
            for index, one, path in zip(indices, chosen, paths, strict=True)
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleError(
            f"{bundle.path}/manifest.json is not as a recipe writes it ({error!r}). Export the "
            "bundle "
            "again."
        ) from error


def _load_model(bundle: Bundle, index: int, chosen: Choice, path: Path) -> LoadedModel:
    name = bundle.entry(index)["name"]
    golden, expected = expected_answers(bundle, index)
    check_answers(name, path, chosen, run_model(path, golden, threads=chosen.threads)[0], expected)
    try:
        model = load(path, chosen.threads)
        answers, seconds = model.run(**golden), []
        for _ in range(_WARM_UP):
            started = time.perf_counter()
            model.run(**golden)
            seconds.append(time.perf_counter() - started)
    except (ValueError, RuntimeError) as error:
        raise ModelFailed(
            f"{path.name} ran in a process of its own and not in the worker: {error}"
        ) from error
    error = check_answers(name, path, chosen, answers, expected)
    return LoadedModel(
        index,
        name,
        chosen,
        model,
        {key: value.shape for key, value in answers.items()},
        float(np.median(seconds)),
        error,
    )


def check_answers(name: str, path: Path, chosen: Choice, answers: dict, expected: dict) -> float:
    """The golden error of a model's answers; raises WrongAnswers beyond the tolerance of its
    flavour.
    """
    error = golden_error(answers, expected)
    if error > tolerance(chosen.flavour):
        raise WrongAnswers(
            f"{name} ({path.name}) answers the golden input with a relative error of {error:.1e}; "
            "at "
            f"most {tolerance(chosen.flavour):.0e} is right. Do not use this device with this "
            "file: run "
            "--check, copy the bundle again, or export another flavour."
        )
    return error
