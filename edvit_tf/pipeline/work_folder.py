"""The work folder of a run: which run it belongs to, and one process at a time in it."""

import contextlib
import json
import os
import shutil
from pathlib import Path

from edvit_tf.checked import differences
from edvit_tf.device.model.file_lock import hold
from edvit_tf.errors import OutputError
from edvit_tf.pipeline.store import Stages
from edvit_tf.progress import warn

RECORD = "run.json"  # of a work folder: its key, and the description that the key digests
TUNE = "tune"  # the folder in it of a search for settings (`tuning`), which comes before the run


def lock(folder: Path):
    """An open file that holds the work folder for this process; OutputError if another process
    works in it. On a file system without locks it is said, and the run goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = open(folder / ".lock", "w")  # noqa: SIM115, it is held until the run ends
    try:
        if not hold(file):
            warn(
                f"the file system of {folder} has no locks; see to it that no other "
                "process works there.",
            )
    except BlockingIOError as error:
        file.close()
        raise OutputError(
            f"another process works in {folder}; wait for it, or take another --out."
        ) from error
    return file


def stored_record(folder: Path) -> dict | None:
    """{"key", "description"} of the run that worked in a folder, or whose bundle it is; None if
    there is no run.json. Raises OutputError if it is damaged.
    """
    path = folder / RECORD
    if not path.is_file():
        return None

    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record["key"], str) or not isinstance(record["description"], dict):
            raise ValueError("its key or its description is missing")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{path} is damaged ({error!r}), so that nobody can say which run {folder} belongs to. "
            "Pass --overwrite to start again, or another --out."
        ) from error

    return record


def may_replace(folder: Path, key: str) -> bool:
    """Whether a work folder is of the run of this key, and was told by --overwrite to replace what
    stands at its --out.
    """
    try:
        record = stored_record(folder)
    except OutputError:
        return False
    return record is not None and record["key"] == key and record.get("replaces") is True


def replaced(folder: Path) -> None:
    """The order to replace what stands at --out was carried out: another start is not to do it."""
    record = stored_record(folder)
    if record.pop("replaces", None) is not None:
        # On a full disk the order stays, and the next start publishes the same bundle once more.
        with contextlib.suppress(OSError):
            write_record(folder / RECORD, record)


def check_own(folder: Path) -> None:
    """OutputError for a folder that no run of ours made: it is never written to or deleted."""
    if (folder / RECORD).is_file() or not folder.is_dir():
        return
    # A lock file, or a search, is what a start of our own leaves.
    if any(path.name not in (".lock", TUNE) for path in folder.iterdir()):
        raise OutputError(
            f"{folder} is not a work folder of ours (no run.json); move it, or take another --out."
        )


def open_stages(
    folder: Path, key: str, description: dict, overwrite: bool, replaces: bool = False
) -> Stages:
    """The work folder for a run of this key; `description` is kept in run.json to tell what
    changed.

    With `overwrite` all stages there are deleted, whoever's they are, and `replaces` is kept: what
    stands at --out is to go. Without it the same run's are gone on with, and another's are an
    OutputError. A folder without run.json is not ours and is never deleted.
    """
    path = folder / RECORD
    check_own(folder)
    new = {"key": key, "description": description}
    if overwrite and replaces:
        new["replaces"] = True

    # A damaged run.json is still one of ours: such a folder may be emptied. The new one comes
    # first: killed in between, the folder is still ours, and knows what it may replace.
    if overwrite and path.is_file():
        write_record(path, new)
        _empty(folder)

    record = stored_record(folder)
    if record is None:
        folder.mkdir(parents=True, exist_ok=True)
        record = new
        write_record(path, record)
    elif record["key"] != key:
        changed = differences(record["description"], description)
        raise OutputError(
            f"{folder} holds stages of another configuration; changed: "
            f"{'; '.join(changed[:6]) or 'the version'}. "
            "Pass --overwrite to start again, or another --out."
        )
    return Stages(folder, key)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        # The lock is held by this very process; the record is the new one, and a search is this
        # run's own.
        if path.name in (".lock", RECORD, TUNE):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def write_record(path: Path, record: dict) -> None:
    """Writes run.json, whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")

    with open(partial, "rb") as opened:
        os.fsync(opened.fileno())

    os.replace(partial, path)
