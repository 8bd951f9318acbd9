"""One device's answer, checked before it counts: it is this request's, this sub-model's, this
bundle's, and such as was measured when the bundle was made.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edvit_tf.device.model.answer_ranges import AnswerRanges
from edvit_tf.device.model.bundle import Bundle
from edvit_tf.device.model.view import AS_IT_IS
from edvit_tf.device.rpc import messages, tensors

# Milliseconds that a device may say beyond the round trip that was seen: clocks are read at
# different places of the code, and never 0.1 s apart.
_CLOCK_MS = 100.0
# Of features whose range is not known: they end in a LayerNorm, so they are of the size of its
# weights. Fused, 3e38 would become NaN, and with it everybody's answer.
_MOST = 1e6
_NO_VIEW = str(AS_IT_IS)
_WORDS = 300  # characters of a device's words that are shown


@dataclass(frozen=True)
class Expected:
    """What an answer of a sub-model must be."""

    name: str
    width: int  # d_j
    digest: str  # of the bundle
    ranges: AnswerRanges | None = None  # None: a bundle that was made before they were measured
    view: str = _NO_VIEW  # by which its device must see an input

    def check_view(self, said: Mapping[str, tensors.Parameter]) -> None:
        """Raises WrongView where a worker's metadata, or an answer's parameters, say another view.

        A worker that is older than views leaves the manifest's alone, under the same digest.
        """
        view = said.get(messages.VIEW, _NO_VIEW)
        if view != self.view:
            raise WrongView(
                f"its {self.name} sees an input {repr(view)[:_WORDS]}, and {self.view!r} is "
                "wanted; install this version of edvit_tf there"
            )


@dataclass(frozen=True)
class Reply:
    """The features (1, d) of a sub-model for this request, and where the milliseconds went."""

    features: np.ndarray
    device: str
    compute_ms: float
    queue_ms: float
    wire_ms: float  # round trip without the two
    below: str = ""  # where the device is a relay: which of its devices answered

    @property
    def path(self) -> str:
        """The device by the names of all levels, e.g. "rack-1/pi-0"."""
        return f"{self.device}/{self.below}" if self.below else self.device


def device_ms(replies: Mapping[str, Reply]) -> dict[str, tuple[str, float]]:
    """By sub-model: its device, and the milliseconds there and back."""
    found = {}
    for name, reply in replies.items():
        found[name] = reply.device, reply.compute_ms + reply.queue_ms + reply.wire_ms
    return found


def expected_answers(bundle: Bundle) -> list[Expected]:
    """What the answer of each sub-model must be, in fusion order."""
    found = []
    for entry, width in zip(bundle.sub_models, bundle.widths, strict=True):
        found.append(Expected(entry.name, width, bundle.digest, entry.ranges, str(entry.view)))
    return found


class WrongView(messages.WireError):
    """Of a worker that sees an input otherwise than the bundle says."""


class OutOfRange(messages.WireError):
    """An answer of the right form whose numbers are far from all that were measured at export.

    The device may be at fault, or an input that is no picture or sound of this kind.
    """


def checked_reply(
    received, request_id: str, device: str, total_ms: float, expected: Expected
) -> Reply:
    """The reply in what a device sent. Raises WireError: WrongView where it saw the input
    otherwise, OutOfRange where the numbers alone are doubtful; nothing else, whatever was sent.
    """
    try:
        return _checked(received, request_id, device, total_ms, expected)
    except messages.WireError:
        raise
    except Exception as error:  # noqa: BLE001, what nobody foresaw is a wrong answer as well
        raise messages.wrong(
            "answer", f"one that cannot be read ({type(error).__name__})", "an answer to this"
        ) from None


def _checked(received, request_id: str, device: str, total_ms: float, expected: Expected) -> Reply:
    # an answer to another request, or of another bundle, would be fused in silence
    message = messages.checked(received)
    said = tensors.parameters(message)
    for field, got, wanted in (
        ("model_name", message.model_name, expected.name),
        ("id", message.id, request_id),
        ("bundle_digest", said.get("bundle_digest"), expected.digest),
    ):
        if got != wanted:
            raise messages.wrong(field, repr(got)[:80], repr(wanted)[:80])

    # in each answer: a worker may be another version's since it was last probed
    expected.check_view(said)

    # these are what the fusion was loaded for: (1, d_j), finite
    arrays = tensors.arrays(message)
    features = _features(arrays, expected.width)

    # clocks of two machines are never compared: the wire is what the round trip leaves
    compute_ms = _milliseconds(said, "compute_ms", total_ms)
    queue_ms = _milliseconds(said, "queue_ms", total_ms)
    wire_ms = max(0.0, total_ms - compute_ms - queue_ms)

    # last: whoever fails here has answered in the right form
    if expected.ranges is not None:
        _check_ranges(arrays, features, expected.ranges)
    else:
        _check_without_ranges(features)

    below = said.get(messages.DEVICE, "")
    below = below[:_WORDS] if isinstance(below, str) else ""
    return Reply(features, device, compute_ms, queue_ms, wire_ms, below)


def _features(arrays: dict, width: int) -> np.ndarray:
    features = arrays.get("features")
    wanted = f"float32 {[1, width]}"
    if not isinstance(features, np.ndarray):
        raise messages.wrong("features", "no array", wanted)
    if features.shape != (1, width) or features.dtype != np.float32:
        raise messages.wrong("features", f"{features.dtype} {list(features.shape)}", wanted)

    if not np.isfinite(features).all():
        raise messages.wrong("features", "NaN or Inf", "finite numbers")

    return features


def _milliseconds(said: dict, name: str, total_ms: float) -> float:
    """A time that the device says of itself; it goes into metrics and to the client."""
    value = said.get(name, 0.0)
    most = total_ms + _CLOCK_MS
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 <= value <= most:
        raise messages.wrong(name, repr(value)[:80], f"milliseconds, 0 to {most:.0f}")

    return float(value)


def _check_without_ranges(features: np.ndarray) -> None:
    """Of a bundle that was made before ranges were measured: what no LayerNorm gives."""
    largest = float(np.abs(features).max())
    if not 0 < largest <= _MOST:
        raise OutOfRange(f"features: got a largest of {largest:.3g}; expected 0 to {_MOST:.0e}.")


def _check_ranges(arrays: dict, features: np.ndarray, ranges: AnswerRanges) -> None:
    # logits are not fused, but a device that sends them sends them right
    logits = arrays.get("logits")
    if not isinstance(logits, np.ndarray):
        logits = None

    why = ranges.why_not(features, logits)
    if why is not None:
        raise OutOfRange(f"{why}.")
