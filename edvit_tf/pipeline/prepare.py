"""From a folder of somebody's own to what a run takes: its data set, its settings, its base.

`edvit train` and `edvit_tf.train` are this and then `run`.
"""

from dataclasses import dataclass
from pathlib import Path

from edvit_tf.choosing.bases import AUTO, ChosenBase, choose_base
from edvit_tf.choosing.expectations import expectations
from edvit_tf.choosing.settings import data_settings, run_settings
from edvit_tf.choosing.space import check_tunable
from edvit_tf.config import RunConfig
from edvit_tf.data import Dataset, load_survey
from edvit_tf.data.folder import Survey, survey
from edvit_tf.data.own_files import TEXT
from edvit_tf.device.terminal import counted
from edvit_tf.errors import DataError, OutputError
from edvit_tf.pipeline.work_folder import TUNE


@dataclass(frozen=True)
class Prepared:
    """What was found, what it becomes, and what is to be said of it before anything is trained."""

    found: Survey
    dataset: Dataset
    config: RunConfig
    base: ChosenBase
    expected: tuple[str, ...]


def prepare(
    folder: str | Path,
    *,
    base: str = AUTO,
    kind: str | None = None,
    group_by: str | None = None,
    mirror: bool | None = None,
    seed: int = 0,
) -> Prepared:
    """Looks at a folder (or a table) and chooses everything that follows from it.

    kind: "pictures", "sound" or "text", where several are there. group_by: a regular expression, or
    "exif:MINUTES". mirror: whether training may mirror pictures; None: unless they are drawings.
    Raises DataError, ConfigError.
    """
    check_asked(folder, None)
    found = survey(folder, kind=kind, group_by=group_by)
    chosen = choose_base(base, found.kind)
    data = data_settings(found, chosen, kind=kind, group_by=group_by)
    options = dict(data.options)
    # a path of this machine, so it is no part of the configuration; a bundle has its own
    if found.kind == TEXT and chosen.vocabulary is not None:
        options["vocabulary"] = str(chosen.vocabulary)
    dataset = load_survey(found, image_size=data.image_size, seed=seed, **options)

    config = run_settings(found, chosen, data, dataset.size("train"), mirror=mirror, seed=seed)
    return Prepared(found, dataset, config, chosen, tuple(expectations(found, dataset)))


def check_asked(folder: str | Path, minutes: float | None) -> None:
    """Raises DataError for an empty path, which would be the folder that one is in; ConfigError for
    a search that cannot be made: before thousands of files are looked at.
    """
    if not str(folder).strip():
        raise DataError("the folder is ''; write . for the folder that you are in.")
    if minutes is not None:
        check_tunable(minutes)


def prepared_table(prepared: Prepared) -> str:
    """What is there, by class and split; how it is kept together; what the settings follow from."""
    found, dataset, config = prepared.found, prepared.dataset, prepared.config
    splits = {split: _counts(dataset, split) for split in dataset.splits}
    width = max(len("class"), *(len(label) for label in found.labels))

    lines = [
        f"{found.name}: {found.counted(len(found.files))} in {len(found.labels)} classes, "
        f"{counted(len(set(found.groups.values())), 'group')}; seed of the split {dataset.seed}",
        f"  {'class':{width}}  {found.items:>10}" + "".join(f"  {split:>10}" for split in splits),
    ]
    for label, count in found.per_class.items():
        held = "".join(f"  {counts[label]:>10}" for counts in splits.values())
        lines.append(f"  {label:{width}}  {count:>10}{held}")
    lines += [f"  note: {note}" for note in dataset.notes]
    lines += [f"  expect: {sentence}" for sentence in prepared.expected]
    lines += prepared.base.said
    lines += _settings(dataset, config)
    return "\n".join(lines)


def _counts(dataset: Dataset, split: str) -> dict[str, int]:
    counts = dict.fromkeys(dataset.labels, 0)
    for recording in dataset.recordings(split):
        counts[dataset.labels[recording.label]] += 1
    return counts


def _settings(dataset: Dataset, config: RunConfig) -> list[str]:
    """The settings in words, a line each."""
    lines = [
        f"settings (docs/howto/own_data.md) for {dataset.size('train')} training inputs:",
        f"  input: {_input(dataset.spec, config)}",
        f"  model: {config.model}; fleet and views: {config.fleet}; fusion: {config.fusion}",
    ]
    for name in ("base_training", "shared_training", "stage_training"):
        fit = getattr(config, name)
        if fit is not None:
            augmented = "" if fit.augment == "none" else f", augmented by {fit.augment}"
            lines.append(
                f"  {name}: {counted(fit.epochs, 'epoch')} of batches of {fit.batch_size}, "
                f"{fit.optimizer} at "
                f"{fit.learning_rate:g}{augmented}"
            )
    return lines


def _input(spec, config: RunConfig) -> str:
    """What a model reads."""
    if spec.is_text:
        capitals = "without" if spec.lower_case else "with"
        return (
            f"the first {spec.length} pieces of a text, of {spec.vocab_size} that are known, "
            f"{capitals} capitals"
        )
    height, width, channels = spec.shape
    inputs = f"{height} x {width} x {channels}, patches of {config.patch_size}"
    if spec.is_sound:
        seconds = spec.window_samples / spec.sample_rate_hz
        inputs += f", of windows of {seconds:g} s at {spec.sample_rate_hz} Hz"
    return inputs


def tuned(prepared: Prepared, out: Path, minutes: float | None, overwrite: bool):
    """The configuration that a search of so many minutes found, and what it tried; the table's and
    None without minutes. The search lies in the work folder of the bundle `out`.

    Raises OutputError where something else stands at `out`, before any minute is spent.
    """
    from edvit_tf.pipeline.places import is_taken, resolved, work_of
    from edvit_tf.pipeline.tuning import tune

    if minutes is None:
        return prepared.config, None
    out = resolved(out)
    work = work_of(out)
    if is_taken(out) and not overwrite and not (work / TUNE).is_dir():
        raise OutputError(
            f"{out} exists and was made without --tune. Pass --overwrite to replace it, or another "
            "--out."
        )
    base = prepared.base.source
    found = tune(prepared.config, prepared.dataset, base, work, minutes, overwrite)
    return found.config, found.told
