"""The fusion MLP of a bundle, loaded and run as a device does: verified, right on the golden input,
in an executor.
"""

import json
import time

import numpy as np

from edvit_tf.device.model.bundle import Bundle, verified_path
from edvit_tf.device.model.golden import check_answers, check_widths, expected_answers, limit
from edvit_tf.device.model.runtime import imported_runtime, load
from edvit_tf.device.model.subprocess_run import run_model
from edvit_tf.device.rpc.executor import Executor


class Fusion:
    """Features of the sub-models that are present -> probabilities, in its `executor`."""

    def __init__(self, bundle: Bundle) -> None:
        """Raises BundleError, RuntimeMissing, ModelFailed, WrongAnswers."""
        path = verified_path(bundle, bundle.fusion.file)
        golden, expected = expected_answers(bundle, None)
        # in a process of its own first, which a spoilt file may crash
        runtime = imported_runtime()
        tried, _ = run_model(path, golden, runtime=runtime.name.split()[0], unprivileged=True)
        check_answers("fusion", path.name, limit(bundle, None, "float32"), tried, expected)
        check_widths(bundle, None, tried)

        self._model = load(path, runtime=runtime)
        self._widths = {
            entry.name: width for entry, width in zip(bundle.sub_models, bundle.widths, strict=True)
        }

        # the first run prepares more than the later ones: the second is timed
        self._model.run(**golden)
        started = time.perf_counter()
        self._model.run(**golden)
        self.seconds = time.perf_counter() - started
        self.executor = Executor("fusion", self.answer, self.seconds)

    def answer(self, features: dict[str, np.ndarray]) -> np.ndarray:
        """(1, classes) from the features (1, d_j) of some sub-models by name; those that are
        missing count as zeros.
        """
        parts, present = [], []
        for name, width in self._widths.items():
            parts.append(features.get(name, np.zeros((1, width), np.float32)))
            present.append(name in features)

        answer = self._model.run(
            features=np.concatenate(parts, axis=1),  # (1, sum d_j)
            present=np.array([present], np.float32),  # (1, N)
        )
        return answer["probabilities"]


def measured_losses(bundle: Bundle) -> dict[frozenset[str], float]:
    """Accuracy 0..1 of the bundle by the sub-models that were missing, as results.json has it; {}
    without one.

    "losses" has sets of any size, a sample of the large ones; bundles of earlier versions have
    "missing_one" alone.
    """
    try:
        results = json.loads((bundle.path / "results.json").read_text(encoding="utf-8"))
        losses = {}
        for row in results["missing_one"]:
            losses[frozenset([row["name"]])] = float(row["tflite"]["recording"])

        for row in results.get("losses", ()):
            losses[frozenset(row["names"])] = float(row["tflite"]["recording"])

        return losses
    except (OSError, ValueError, KeyError, TypeError):
        return {}
