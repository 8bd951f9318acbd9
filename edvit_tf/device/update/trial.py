"""A bundle is tried out on this device before it is trusted: sha256, then the golden input in child
processes.
"""

from collections.abc import Sequence
from pathlib import Path

from edvit_tf.device.model.bundle import Bundle, BundleError, verified_path
from edvit_tf.device.model.golden import expected_answers
from edvit_tf.device.model.memory import check_memory
from edvit_tf.device.model.runtime import runtime_name
from edvit_tf.device.model.subprocess_run import run_model
from edvit_tf.device.model.tune import Choice, candidates, choice
from edvit_tf.device.worker.loaded_models import check_answers


def needed_files(bundle: Bundle, sub_models: Sequence[int] | None = None) -> list[str]:
    """Names of the files that this device needs to run these sub-models; None: all of them, the
    fusion, the labels.

    Of each sub-model every flavour that the installed runtime takes. Raises BundleError if there is
    none, or no such sub-model; RuntimeMissing.
    """
    runtime = runtime_name()
    names = [
        one.file
        for index in (range(len(bundle.sub_models)) if sub_models is None else sub_models)
        for one in candidates(bundle, index, runtime)
    ]
    names += ["golden.npz", *bundle.input_files]
    if sub_models is None:
        names += [
            bundle.manifest["fusion"]["file"],
            *({"labels.txt"} & set(bundle.manifest["files"])),
        ]
    return list(dict.fromkeys(names))


def try_out(bundle: Bundle, scratch: Path) -> None:
    """Verifies and runs every model whose files are in the folder on the golden input, each in a
    process of its own that writes into `scratch`. Raises BundleError (also if there is no model),
    RuntimeMissing, MemoryShort, ModelFailed, WrongAnswers.
    """
    runtime, fusion = runtime_name(), bundle.manifest["fusion"]["file"]
    trials: list[tuple[int | None, str, Choice]] = []
    for index, entry in enumerate(bundle.sub_models):
        try:
            possible = candidates(bundle, index, runtime)
        except (
            BundleError
        ):  # made for another runtime; `needed_files` refuses it where it is wanted
            continue
        if all((bundle.path / one.file).exists() for one in possible):
            trials += [
                (index, entry["name"], choice(bundle, index, flavour))
                for flavour in dict.fromkeys(one.flavour for one in possible)
            ]
    if (bundle.path / fusion).exists():
        trials.append((None, "fusion", Choice("float32", fusion, 1)))
    if not trials:
        raise BundleError(
            f"{bundle.path} holds no model that {runtime} takes. Copy the bundle again."
        )
    for index, name, chosen in trials:
        path = verified_path(bundle, chosen.file)
        check_memory(path)
        inputs, expected = expected_answers(bundle, index)
        check_answers(
            name,
            path,
            chosen,
            run_model(path, inputs, threads=chosen.threads, scratch=scratch)[0],
            expected,
        )
