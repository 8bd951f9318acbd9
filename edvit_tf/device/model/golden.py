"""The golden input of a bundle and its known answers, with which a device proves that it computes
as it should.

A spiking net needs a measure of its own. Two processors round differently, and a neuron whose
potential lies within rounding of its threshold fires on one of them alone: a step of a whole
spike, which others may follow. So its manifest says how far its answers move, on the mean, when its
weights are rounded otherwise (`export/jumps.py`), and that is what they are held to.
"""

from dataclasses import dataclass

import numpy as np

from edvit_tf.device.errors import BundleError, WrongAnswers
from edvit_tf.device.model.array_file import read_npz
from edvit_tf.device.model.bundle import Bundle, verified_path

# Of max |a - b| / max |b|. Machines agree to about 1e-6 in float32; the golden answers are those of
# the float32 file.
TOLERANCES = {"float32": 1e-3, "float16": 1e-2, "int8": 0.2}


def expected_answers(bundle: Bundle, index: int | None) -> tuple[dict, dict]:
    """(inputs, outputs) by name of a sub-model, or of the fusion (None): arrays with a batch axis
    of 1. Raises BundleError.
    """
    path = verified_path(bundle, "golden.npz")
    try:
        golden = read_npz(path)
        if index is None:
            return _of_the_fusion(bundle, golden)

        name = bundle.entry(index).name
        outputs = {part: _answer(golden, f"{name}.{part}") for part in ("features", "logits")}
        return {bundle.input.name: _golden_input(bundle, golden["input"])}, outputs
    except (KeyError, ValueError, OSError) as error:
        raise BundleError(
            f"{path} is not as a recipe writes it ({error!r}). Copy the bundle again, or export it "
            "again."
        ) from error


def _answer(golden: dict[str, np.ndarray], name: str) -> np.ndarray:
    """A golden answer (1, n), found to be one with which answers can be compared; ValueError if it
    is not.
    """
    value = golden[name]
    is_row = value.ndim == 2 and len(value) == 1 and value.size > 0
    if not is_row or value.dtype.kind != "f" or not np.isfinite(value).all():
        raise ValueError(
            f"{name} is {value.dtype} {list(value.shape)}; it must be one row of finite numbers"
        )

    return value


def _golden_input(bundle: Bundle, x: np.ndarray) -> np.ndarray:
    """The golden input, found to be what the bundle's models take; ValueError if it is not."""
    shape = (1, *bundle.input.shape)
    if x.shape != shape or x.dtype != bundle.input.dtype:
        raise ValueError(
            f"its input is {x.dtype} {list(x.shape)}; the manifest says {bundle.input.dtype} "
            f"{list(shape)}"
        )

    return x


def check_widths(bundle: Bundle, index: int | None, answers: dict[str, np.ndarray]) -> None:
    """Raises BundleError where a model's answers, right as they may be, are not of the widths that
    the manifest says: such a bundle can be tried, and cannot serve.
    """
    if index is None:
        name = "the fusion"
        wanted = {"probabilities": (1, len(bundle.labels))}
    else:
        entry = bundle.entry(index)
        name = entry.name
        wanted = {
            "features": (1, bundle.widths[index]),
            "logits": (1, len(entry.classes) + entry.other),
        }

    for output, shape in wanted.items():
        if answers[output].shape != shape:
            raise BundleError(
                f"{name} of {bundle.path} answers {output} of {list(answers[output].shape)}; by "
                f"the manifest's labels, classes and widths it is {list(shape)}. Export the bundle "
                "again."
            )


def _of_the_fusion(bundle: Bundle, golden: dict[str, np.ndarray]) -> tuple[dict, dict]:
    # features of the golden answers: a wrong sub-model does not spoil the fusion's proof
    # (1, d_j) each
    features = [_answer(golden, f"{entry.name}.features") for entry in bundle.sub_models]
    inputs = {
        "features": np.concatenate(features, axis=1),  # (1, sum d_j)
        "present": np.ones((1, len(features)), np.float32),  # (1, N)
    }
    return inputs, {"probabilities": _answer(golden, "fusion.probabilities")}


@dataclass(frozen=True)
class Limit:
    """How far a model's golden answers may be off.

    Of an output the error is max |a - b| / max |b|; with `jumps`, where single values may be off by
    a whole spike, mean |a - b| / mean |b|.
    """

    largest: float
    jumps: bool = False

    def error(self, outputs: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
        """The largest error over the outputs; infinite for other names, shapes or kinds of values,
        NaN and Inf.
        """
        if set(outputs) != set(expected):
            return float("inf")

        over = np.mean if self.jumps else np.max
        errors = []
        for name, value in expected.items():
            answer = outputs[name]
            if answer.shape != value.shape or answer.dtype.kind not in "fiu":
                return float("inf")
            errors.append(_relative(over(np.abs(answer - value)), over(np.abs(value))))

        # no comparison with a limit is true of NaN, so it must not leave here
        return max(errors) if np.isfinite(errors).all() else float("inf")


def _relative(off: float, size: float) -> float:
    """Of an answer of zeros (no neuron fires) zeros alone are right."""
    if off == 0:
        return 0.0
    return float(off / size) if size else float("inf")


def limit(bundle: Bundle, index: int | None, flavour: str) -> Limit:
    """That of a sub-model's file, or of the fusion's (None)."""
    usual = TOLERANCES.get(flavour, TOLERANCES["float32"])
    listed = None if index is None else bundle.entry(index).flavours.get(flavour)
    if listed is None or listed.golden_tolerance is None:
        return Limit(usual)
    return Limit(listed.golden_tolerance, jumps=True)


def check_answers(
    name: str,
    file: str,
    allowed: Limit,
    answers: dict[str, np.ndarray],
    expected: dict[str, np.ndarray],
) -> float:
    """The golden error of a model's answers; raises WrongAnswers beyond what is allowed."""
    error = allowed.error(answers, expected)
    if error > allowed.largest:
        raise WrongAnswers(
            f"{name} ({file}) answers the golden input with a relative error of {error:.1e}; at "
            f"most {allowed.largest:.0e} is right. Do not use this device with this file: run "
            "--check, copy the bundle again, or export another flavour."
        )

    return error
