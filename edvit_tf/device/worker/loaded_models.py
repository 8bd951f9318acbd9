"""Sub-models that are fit to serve: verified, right on the golden input, loaded, warm. Everything
else is refused here.

A .tflite file can crash the runtime, so each is run in a child process first; the worker loads what
has come through.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edvit_tf.device.errors import InputError, ModelFailed
from edvit_tf.device.model.bundle import Bundle, verified_path
from edvit_tf.device.model.golden import check_answers, check_widths, expected_answers, limit
from edvit_tf.device.model.memory import check_memory
from edvit_tf.device.model.runtime import Model, load, runtime_name
from edvit_tf.device.model.subprocess_run import run_model
from edvit_tf.device.model.tune import Choice, choice
from edvit_tf.device.model.view import View

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
    view: View

    def run(self, name: str, x: np.ndarray) -> dict[str, np.ndarray]:
        """Its answers to the input `name`, as it sees it. Raises as `Model.run`."""
        return self.model.run(**{name: self.view.applied(x)})


def load_models(
    bundle: Bundle,
    indices: Sequence[int],
    flavour: str | None = None,
    runtime: str | None = None,
) -> list[LoadedModel]:
    """Verifies, tries in a child process, loads and warms up sub-models, with the file and threads
    tuned here, in `runtime` (of `runtime_names.NAMES`; None: the first installed).

    Raises BundleError, RuntimeMissing, MemoryShort (all the models together), ModelFailed,
    WrongAnswers.
    """
    # all the files, before any is loaded: their memory is reckoned together
    name = runtime_name(runtime)
    chosen = {index: choice(bundle, index, flavour, name) for index in indices}
    paths = {index: verified_path(bundle, one.file) for index, one in chosen.items()}
    check_memory(*paths.values())
    return [_load_model(bundle, index, chosen[index], paths[index], runtime) for index in indices]


def _load_model(
    bundle: Bundle, index: int, chosen: Choice, path: Path, runtime: str | None
) -> LoadedModel:
    entry = bundle.entry(index)
    name = entry.name
    golden, expected = expected_answers(bundle, index)
    allowed = limit(bundle, index, chosen.flavour)

    # what crashes there does not end the worker
    tried, _ = run_model(path, golden, threads=chosen.threads, runtime=runtime, unprivileged=True)
    check_answers(name, path.name, allowed, tried, expected)
    check_widths(bundle, index, tried)

    seconds = []
    try:
        model = load(path, chosen.threads, runtime)
        answers = model.run(**golden)
        # the first run prepares more than the later ones, and so does the first view: neither is
        # timed, and the golden answers are those of the file, to what no view has changed
        entry.view.applied(golden[bundle.input.name])
        for _ in range(_WARM_UP):
            started = time.perf_counter()
            model.run(**{bundle.input.name: entry.view.applied(golden[bundle.input.name])})
            seconds.append(time.perf_counter() - started)
    except (InputError, ModelFailed) as error:
        raise ModelFailed(
            f"{path.name} ran in a process of its own and not in the worker: {error}"
        ) from error

    return LoadedModel(
        index,
        name,
        chosen,
        model,
        {output: value.shape for output, value in answers.items()},
        statistics.median(seconds),
        check_answers(name, path.name, allowed, answers, expected),
        entry.view,
    )
