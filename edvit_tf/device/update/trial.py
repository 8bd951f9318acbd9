"""A bundle is tried out on this device before it is trusted: sha256, then the golden input in child
processes.
"""

from collections.abc import Sequence
from pathlib import Path

from edvit_tf.device.errors import BundleError
from edvit_tf.device.model.bundle import Bundle, verified_path
from edvit_tf.device.model.golden import check_answers, check_widths, expected_answers, limit
from edvit_tf.device.model.memory import check_memory
from edvit_tf.device.model.runtime import runtime_name
from edvit_tf.device.model.subprocess_run import run_model
from edvit_tf.device.model.tune import Choice, candidates, choice


def needed_files(bundle: Bundle, sub_models: Sequence[int] | None = None) -> list[str]:
    """Names of the files that this device needs to run these sub-models; None: all of them, the
    fusion, the labels, the results where the manifest lists them.

    Of each sub-model every flavour that the installed runtime takes. Raises BundleError if there is
    none, or no such sub-model; RuntimeMissing.
    """
    runtime = runtime_name()
    indices = range(len(bundle.sub_models)) if sub_models is None else sub_models

    # what every device needs, then the sub-models', then the fusion's
    names = ["golden.npz", *bundle.input_files]
    for index in indices:
        names += [one.file for one in candidates(bundle, index, runtime)]
    if sub_models is None:
        names.append(bundle.fusion.file)
        # an aggregator reads the accuracy without each sub-model from results.json
        names += [name for name in ("labels.txt", "results.json") if name in bundle.files]

    return list(dict.fromkeys(names))


def try_out(bundle: Bundle, scratch: Path) -> None:
    """Verifies and runs every model whose files are in the folder on the golden input, each in a
    process of its own that writes into `scratch`. Raises BundleError (also if there is no model),
    RuntimeMissing, MemoryShort, ModelFailed, WrongAnswers.
    """
    trials = _sub_model_trials(bundle)
    # a device that holds some of the sub-models needs no fusion
    if (bundle.path / bundle.fusion.file).exists():
        trials.append((None, "fusion", Choice("float32", bundle.fusion.file, 1)))
    if not trials:
        raise BundleError(
            f"{bundle.path} holds no model that {runtime_name()} takes. Copy the bundle again."
        )

    for index, name, chosen in trials:
        path = verified_path(bundle, chosen.file)

        # one at a time, in a process each: the largest must fit, not all of them
        check_memory(path)
        inputs, expected = expected_answers(bundle, index)
        answers, _ = run_model(
            path, inputs, threads=chosen.threads, scratch=scratch, unprivileged=True
        )
        allowed = limit(bundle, index, chosen.flavour)
        check_answers(name, path.name, allowed, answers, expected)
        check_widths(bundle, index, answers)


def _sub_model_trials(bundle: Bundle) -> list[tuple[int | None, str, Choice]]:
    """(index, name, file and threads) of every sub-model and flavour whose files are there."""
    runtime = runtime_name()
    trials: list[tuple[int | None, str, Choice]] = []
    for index, entry in enumerate(bundle.sub_models):
        try:
            possible = candidates(bundle, index, runtime)
        except BundleError:
            # made for another runtime; `needed_files` refuses it where it is wanted
            continue

        # installed without this one
        if not all((bundle.path / one.file).exists() for one in possible):
            continue

        for flavour in dict.fromkeys(one.flavour for one in possible):
            trials.append((index, entry.name, choice(bundle, index, flavour)))

    return trials
