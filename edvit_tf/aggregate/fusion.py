"""The fusion MLP of a bundle, loaded and run as a device does: verified, right on the golden input,
in an executor.
"""

import json
import time

import numpy as np

from edvit_tf.device.model.bundle import Bundle, verified_path
from edvit_tf.device.model.golden import expected_answers, golden_error, tolerance
from edvit_tf.device.model.runtime import load
from edvit_tf.device.model.subprocess_run import run_model
from edvit_tf.device.rpc.executor import Executor
from edvit_tf.device.worker.loaded_models import WrongAnswers


class Fusion:
    """Features of the sub-models that are present -> probabilities."""

    def __init__(self, bundle: Bundle) -> None:
        """Raises BundleError, RuntimeMissing, ModelFailed, WrongAnswers."""
        path = verified_path(bundle, bundle.fusion.file)
        golden, expected = expected_answers(bundle, None)
        error = golden_error(run_model(path, golden)[0], expected)
        if error > tolerance("float32"):
            raise WrongAnswers(
                f"{path.name} answers the golden input with a relative error of {error:.1e}. Do "
                "not use "
                "this machine with this file: copy the bundle again."
            )
        self._model, self._widths = load(path), bundle.widths
        self._names = [entry.name for entry in bundle.sub_models]
        self._model.run(**golden)
        started = time.perf_counter()
        self._model.run(**golden)
        self.seconds = time.perf_counter() - started
        self.executor = Executor("fusion", self._run, self.seconds)

    async def probabilities(
        self, features: dict[str, np.ndarray], seconds_left: float
    ) -> np.ndarray:
        """(1, classes) from the features (1, d_j) of some sub-models by name; those that are
        missing count as zeros.

        Raises WireError as `Executor.submit` does.
        """
        return (await self.executor.submit(features, seconds_left)).value

    def _run(self, features: dict[str, np.ndarray]) -> np.ndarray:
        parts = [
            features.get(name, np.zeros((1, width), np.float32))
            for name, width in zip(self._names, self._widths, strict=True)
        ]
        present = np.array([[name in features for name in self._names]], np.float32)
        return self._model.run(features=np.concatenate(parts, axis=1), present=present)[
            "probabilities"
        ]


def measured_losses(bundle: Bundle) -> dict[frozenset[str], float]:
    """Accuracy 0..1 of the bundle by the sub-models that were missing, as results.json has it; {}
    without one.

    "losses" has sets of any size, a sample of the large ones; bundles of earlier versions have
    "missing_one" alone.
    """
    try:
        results = json.loads((bundle.path / "results.json").read_text(encoding="utf-8"))
        rows = [([row["name"]], row) for row in results["missing_one"]]
        rows += [(row["names"], row) for row in results.get("losses", ())]
        return {frozenset(names): float(row["tflite"]["recording"]) for names, row in rows}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
