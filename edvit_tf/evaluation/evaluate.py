"""Accuracy of a bundle, measured on its .tflite files on the data that it was made from."""

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edvit_tf.data.catalogue import OWN
from edvit_tf.data.names import one_form
from edvit_tf.device.model.bundle import Bundle, open_bundle, verified_path
from edvit_tf.device.model.text import VOCABULARY, TextSpec
from edvit_tf.device.terminal import are, counted
from edvit_tf.errors import DataError
from edvit_tf.evaluation.accuracy import accuracy, confusion, per_recording
from edvit_tf.evaluation.answers import (
    ask,
    average_temperature,
    averaged,
    check_missing,
    fuse,
)

SPLITS = ("train", "validation", "test")
LEARNT = "learnt_contents"  # in splits.json: digests of the files trained or chosen on


def materialise(dataset, split: str, folder: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """Writes a split's inputs to `folder`/<split>.npy as they are decoded; returns (path, labels,
    recordings).

    Never more than one recording in memory. What cannot be read is left out, so that the number of
    rows is known at the end: the header is written twice, of the same length.
    """
    if not dataset.recordings(split):
        raise DataError(
            f"the {split} split of {dataset.name} is empty. Ask for another split, or give data "
            "that have one."
        )

    path = folder / f"{split}.npy"
    dtype = np.dtype(dataset.spec.dtype)
    labels = []
    recordings = []
    with open(path, "wb") as file:
        # The number of rows is a guess here; the second header has it right.
        _write_header(file, dtype, (dataset.size(split), *dataset.spec.shape))
        for x, label, recording in dataset.iterate(split):
            file.write(np.ascontiguousarray(x, dtype).tobytes())
            labels.append(label)
            recordings.append(recording)
        file.seek(0)
        _write_header(file, dtype, (len(labels), *dataset.spec.shape))

    if not labels:
        raise DataError(
            f"the {split} split of {dataset.name} has no readable input ({dataset.size(split)} "
            "listed). Check the files named above."
        )
    return path, np.array(labels), np.array(recordings)


def _write_header(file, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """The header of an .npy file, which leaves room for other numbers of rows."""
    described = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }

    np.lib.format.write_array_header_1_0(file, described)


def unseen(bundle: Bundle, dataset, split: str):
    """The data set and None; or, if the data are not the bundle's own, without what the bundle
    learnt from, and why.

    The split is drawn anew from the files that are there: one track more or less, and a training
    recording could come to stand in "test". Then all that the bundle was trained or chosen on is
    left out: known by its content, whatever it is called today; by its name where the content is
    not known. Raises DataError where nothing is left of the split.
    """
    stored = json.loads(verified_path(bundle, "splits.json").read_text(encoding="utf-8"))
    changed = [name for name in SPLITS if dataset.split_ids(name) != stored[name]]

    # Where ids follow a rule they are not listed: what the bundle learnt from cannot be told.
    if any(isinstance(stored[name], dict) for name in SPLITS):
        # The test split is still the very one.
        if not changed or (split == "test" and "test" not in changed):
            return dataset, None
        train = stored["train"]
        rule = train.get("rule", "") if isinstance(train, dict) else ""
        note = (
            "the data are not those of the bundle; nothing was left out, since ids follow a rule "
            f"({rule})"
        )
        return dataset, note

    learnt = _Learnt(stored)
    if not changed and _is_own(bundle, dataset, split, learnt):
        return dataset, None

    # What was not learnt was never seen, whichever split it stands in today.
    kept = {}
    for name in SPLITS:
        digests = dataset.file_digests(name) if learnt.contents else {}
        kept[name] = tuple(
            one for one in dataset.recordings(name) if not learnt.has(one.id, digests.get(one.id))
        )
    return dataclasses.replace(dataset, splits=kept), _note(dataset, kept, split, learnt)


class _Learnt:
    """What a bundle was trained or chosen on."""

    def __init__(self, stored: dict) -> None:
        self.names = {one_form(name) for name in (*stored["train"], *stored["validation"])}
        # bundles of before have none, nor have recordings that are no files
        self.contents = set(stored.get(LEARNT, ()))

    def has(self, name: str, content: str | None) -> bool:
        """By the content, where both sides know it: a camera counts from IMG_0001 each time."""
        if self.contents and content is not None:
            return content in self.contents
        return one_form(name) in self.names


def _is_own(bundle: Bundle, dataset, split: str, learnt: _Learnt) -> bool:
    """Whether files of the bundle's own names are its data: renumbered ones are not."""
    if not learnt.contents:
        return True
    test = set(dataset.file_digests("test").values())
    if split == "test" and not test & learnt.contents:
        return True
    # a published data set may hold one picture twice, on two sides
    if _made_from(bundle) == dataset.contents():
        return True

    today = {d for name in ("train", "validation") for d in dataset.file_digests(name).values()}
    return today == learnt.contents and not test & learnt.contents


def _made_from(bundle: Bundle) -> str | None:
    """The digest of all files that the bundle was made from, by its run.json; None: it does not
    say.
    """
    try:
        record = json.loads((bundle.path / "run.json").read_text(encoding="utf-8"))
        return str(record["description"]["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _note(dataset, kept: dict, split: str, learnt: _Learnt) -> str:
    """What was left out, and what is measured. DataError where that is nothing."""
    parts = SPLITS if split == "all" else (split,)
    others = [one for name in parts for one in kept[name]]
    left_out = sum(len(dataset.recordings(name)) - len(kept[name]) for name in SPLITS)
    told = (
        f"{counted(left_out, 'recording')} that it was trained or chosen on {are(left_out)} left "
        "out"
    )
    if not others:
        raise DataError(
            f"the {split} split of {dataset.name} has nothing that the bundle has not learnt from: "
            f"{told}. Give files that are new to it{_and_all(kept, split)}."
        )

    note = (
        f"the data are not those of the bundle: {told}, the {split} split has "
        f"{counted(len(others), 'other')}"
    )
    # a picture that was saved anew has another content, and is none that is new
    namesakes = sum(one_form(one.id) in learnt.names for one in others)
    if namesakes:
        note += (
            f", {namesakes} of them with the name of one that it learnt from and another content "
            "(if they are the same ones saved anew, the accuracy is too high)"
        )
    return note


def _and_all(kept: dict, split: str) -> str:
    """The advice to ask for all splits, where other ones have something."""
    count = sum(map(len, kept.values()))
    return f", or ask for --split all, which has {counted(count, 'other')}" if count else ""


def data_of(bundle: Bundle, data_dir: str | Path | None = None, all_for_test: bool = False):
    """The data set that a bundle was made from, at its input size, by its seed. Raises DataError
    for other classes.

    `all_for_test`: a folder of somebody's own is not split, however few files it has; data sets
    that are published are split as they always are.
    """
    from edvit_tf.data import load

    run = bundle.manifest.run
    data = bundle.manifest.data

    options = dict(run["data"]["options"])
    if all_for_test and run["data"]["name"] == OWN:
        options["all_for_test"] = True

    # of texts the pieces that the bundle knows, wherever they came from
    if bundle.input.spec.get("kind") == TextSpec.kind:
        options["vocabulary"] = str(bundle.path / VOCABULARY)
        options["vocab_size"] = bundle.input.spec["vocab_size"]

    # Stand-ins are made again; real data have to be there.
    dataset = load(
        run["data"]["name"],  # of somebody's own data the other name is the folder's
        data_dir,
        image_size=tuple(run["data"]["image_size"]),
        seed=bundle.manifest.seed,
        synthetic="only" if data["synthetic"] and data_dir is None else "never",
        **options,
    )

    if list(dataset.labels) != bundle.labels:
        raise DataError(
            f"the data have the classes {list(dataset.labels)}; the bundle was made for "
            f"{bundle.labels}. "
            "Give the data set that the bundle was made from."
        )
    return dataset


def evaluate(
    bundle_path: str | Path,
    data_dir: str | Path | None = None,
    split: str = "test",
    missing: Sequence[int] = (),
) -> dict:
    """Fused accuracy of a bundle's .tflite files on a split of the data it was made from ("all":
    every split).

    Returns plain JSON: accuracy (fused), average (without MLP), missing, confusion by recording,
    reports of the processes, and a note when the data are not those of the bundle (see `unseen`).
    Other classes are refused. Raises BundleError, DataError.
    """
    bundle = open_bundle(bundle_path)
    check_missing(bundle, missing)
    dataset, note = unseen(bundle, data_of(bundle, data_dir, split == "all"), split)

    asked = SPLITS if split == "all" else (split,)
    found = []
    count = 0
    reports = ()
    with tempfile.TemporaryDirectory(prefix="edvit-evaluate-") as folder:
        for part in asked:
            if split == "all" and not dataset.recordings(part):
                continue
            inputs, labels, recordings = materialise(dataset, part, Path(folder))
            answers = ask(bundle, inputs)
            fused, _ = fuse(bundle, answers, missing)
            mean = averaged(bundle, answers, missing, average_temperature(bundle))

            found.append((fused, mean, labels, recordings + count))
            count += recordings.max() + 1  # recordings of several splits are told apart
            reports = answers.reports
            inputs.unlink()  # room for the next split

    # Each (n, ...) of all splits that were asked
    fused, mean, labels, recordings = (np.concatenate(parts) for parts in zip(*found, strict=True))
    by_recording, truth = per_recording(fused, labels, recordings)
    return {
        "bundle": bundle.path.name,
        "digest": bundle.digest,
        "data": dataset.describe(),
        "split": split,
        "missing": sorted(set(missing)),
        "note": note,
        "accuracy": accuracy(fused, labels, recordings),
        "average": accuracy(mean, labels, recordings),
        "confusion": confusion(by_recording.argmax(axis=1), truth, len(bundle.labels)),
        "processes": list(reports),
    }
