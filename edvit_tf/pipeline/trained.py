"""From Python: a folder of one's own -> a trained bundle that answers.

import edvit_tf
bundle = edvit_tf.train("photos/", devices=3)
bundle.predict(["new/IMG_1.jpg"])
bundle.evaluate("photos/")
bundle.report()
"""

import dataclasses
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edvit_tf.choosing.bases import AUTO
from edvit_tf.data.audio import decoded_windows
from edvit_tf.data.names import names_a_file
from edvit_tf.device.errors import InputError
from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.errors import ConfigError, OutputError
from edvit_tf.planning.devices import load_devices
from edvit_tf.progress.events import tell


class Bundle:
    """A trained bundle on this machine; its .tflite files answer, as they would on the devices."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._bundle = open_bundle(self.path)

    @property
    def labels(self) -> list[str]:
        """The classes."""
        return list(self._bundle.labels)

    def predict(self, paths: str | Path | Sequence[str | Path]) -> list[dict]:
        """{"file", "label", "probability", "probabilities", "windows"} of each picture or
        recording, in the order of `paths`; of a bundle for texts also of a text itself, which is a
        string that names no file.

        A recording of another rate is resampled, and a longer one gets the mean of its windows.
        Raises InputError, which names the file.
        """
        from edvit_tf.evaluation.answers import ask, fuse

        files = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        if not files:
            return []

        inputs = [self._inputs(file) for file in files]
        with tempfile.TemporaryDirectory(prefix="edvit-predict-") as folder:
            stored = Path(folder) / "inputs.npy"
            np.save(stored, np.concatenate(inputs))
            fused, _ = fuse(self._bundle, ask(self._bundle, stored))

        # (windows, classes) of each file
        ends = np.cumsum([len(x) for x in inputs])[:-1]
        return [
            self._answer(file, part)
            for file, part in zip(files, np.split(fused, ends), strict=True)
        ]

    def evaluate(self, folder: str | Path, split: str = "test") -> dict:
        """Accuracy on a split of the folder it was made from. With "all" every file of a folder of
        the same classes counts that was not trained or chosen on (`edvit_tf.evaluate`).
        """
        from edvit_tf.evaluation.evaluate import evaluate

        return evaluate(self.path, folder, split)

    def report(self) -> Path:
        """The report, one HTML file. Raises OutputError where the bundle has none."""
        file = self.path / "report.html"
        if not file.is_file():
            raise OutputError(f"{self.path} has no report.html; it was deleted, or never written.")
        return file

    def __repr__(self) -> str:
        return f"Bundle({str(self.path)!r}: {len(self.labels)} classes)"

    def _inputs(self, file: str | Path) -> np.ndarray:
        """(windows, H, W, C); of a text (1, pieces)."""
        rule = bundle_input(self._bundle)
        path = Path(file)
        try:
            if rule.spec.is_text and isinstance(file, str) and not names_a_file(file):
                path = Path("the text")
                return rule.spec.from_file(file.encode("utf-8", "surrogateescape"), rule.files)
            if not os.path.isfile(path):  # Path.is_file raises at too long a name
                advice = ""
                if rule.spec.is_text and isinstance(file, str):
                    advice = ". Put a space into a text, or name a file that is there"
                raise InputError(f"there is no such file{advice}")
            if rule.spec.is_sound:
                return decoded_windows(path, rule.spec)
            return rule.spec.from_file(path, rule.files)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def _answer(self, file: str | Path, windows: np.ndarray) -> dict:
        mean = windows.mean(axis=0)
        best = int(mean.argmax())
        return {
            "file": str(file),
            "label": self.labels[best],
            "probability": float(mean[best]),
            "probabilities": dict(zip(self.labels, mean.tolist(), strict=True)),
            "windows": len(windows),
        }


def train(
    folder: str | Path,
    *,
    devices: int | str | Path = 3,
    out: str | Path | None = None,
    base: str = AUTO,
    kind: str | None = None,
    group_by: str | None = None,
    mirror: bool | None = None,
    seed: int = 0,
    callbacks=(),
    jobs: int = 1,
    ray: str | None = None,
    overwrite: bool = False,
    tune: float | None = None,
    **settings,
) -> Bundle:
    """Trains a fleet on a folder of one's own, as `edvit train` does; goes on where it was stopped.

    devices: their number, or a devices.toml. out: the bundle (default exports/ and the folder's
    name). base: "auto", "scratch", a path or a name on the hub. callbacks: Keras callbacks, or a
    function of a fit's title that gives some; they reach every Keras fit. jobs: processes that fit
    at once. ray: address of a Ray cluster that fits in their place, or "auto". tune: minutes in
    which settings of the base's fit are searched on validation data. `settings` replace fields of
    the RunConfig that was chosen, such as stage_training.

    Raises the errors of `edvit_tf.pipeline.prepare.prepare` and `edvit_tf.run`; ConfigError for
    callbacks with several jobs or `ray`, whose fits are in other processes.
    """
    from edvit_tf.pipeline.elsewhere import check_engine
    from edvit_tf.pipeline.places import check_place
    from edvit_tf.pipeline.prepare import check_asked, prepare, prepared_table, tuned

    if callbacks and (jobs != 1 or ray is not None):
        given = f"jobs={jobs}" if ray is None else f"ray={ray!r}"
        raise ConfigError(
            f"callbacks were given with {given}: fits are then made by other processes, which "
            f"callbacks do not reach. Leave out {given.partition('=')[0]}, or the callbacks."
        )
    check_engine(jobs, ray)

    check_asked(folder, tune)
    if out is not None:
        check_place(out, folder)
    # these load TensorFlow, which takes seconds
    from edvit_tf.pipeline.run import run
    from edvit_tf.training.callbacks import reaching_fits

    chosen = _devices(devices)
    ready = prepare(folder, base=str(base), kind=kind, group_by=group_by, mirror=mirror, seed=seed)
    config = ready.config.replace(**chosen).replace(**settings)
    ready = dataclasses.replace(ready, config=config)
    tell(prepared_table(ready))

    place = Path(out) if out is not None else Path("exports") / config.name
    check_place(place, folder)
    with reaching_fits(callbacks):
        config, told = tuned(ready, place, tune, overwrite)
        run(
            config,
            ready.dataset,
            place,
            base=ready.base.source,
            overwrite=overwrite,
            jobs=jobs,
            ray=ray,
            tuned=told,
        )
    return Bundle(place)


def _devices(devices: int | str | Path) -> dict:
    """The fields of a RunConfig that say them."""
    if isinstance(devices, int) and not isinstance(devices, bool):
        return {"num_devices": devices}
    specs = load_devices(devices)
    return {"num_devices": len(specs), "devices": specs}
