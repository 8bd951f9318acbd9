"""A finished bundle takes its place: whole, and never over anything unasked."""

import json
import os
import shutil
from pathlib import Path

from edvit_tf.checked import differences
from edvit_tf.device.update.store import sync
from edvit_tf.errors import OutputError
from edvit_tf.pipeline.measure import whole_bundle
from edvit_tf.pipeline.store import RECORD, RESULT, Stages, stored_record
from edvit_tf.report.page import write_report

RESULTS = "results.json"


def stored_key(out: Path) -> str | None:
    """Key of the run whose results stand at `out`; None if there are none."""
    try:
        return json.loads((out / RESULTS).read_text(encoding="utf-8")).get("key")
    except (OSError, ValueError, AttributeError):
        return None


def finished(out: Path, work: Path, key: str, description: dict) -> dict:
    """The results at `out` if they are of this key; OutputError, with what changed, for anything
    else there.
    """
    if stored_key(out) == key:
        print(
            f"{out} is finished already, from this configuration; nothing to do (--overwrite runs "
            "it again)."
        )
        return json.loads((out / RESULTS).read_text(encoding="utf-8"))

    # Bundles of before run.json lay in them are told by their work folder.
    stored = _told(out) or _told(work) or description
    changed = differences(stored, description)
    raise OutputError(
        f"{out} exists and is not this run's result "
        f"({'; '.join(changed[:6]) or 'nothing beside it says what it is'}). "
        "Pass --overwrite to replace it, or another --out."
    )


def _told(folder: Path) -> dict | None:
    """What the run was made from whose bundle or work folder this is, if it says so."""
    try:
        record = stored_record(folder)
    except OutputError:
        return None

    return record and record["description"]


def check_replaceable(out: Path) -> None:
    """OutputError if `out` is something else than a bundle: --overwrite replaces bundles and
    nothing else.
    """
    if out.exists() and not (out / "manifest.json").is_file():
        raise OutputError(
            f"{out} exists and is no bundle (no manifest.json); it is not replaced. Take another "
            "--out."
        )


def publish(stages: Stages, out: Path, results: dict) -> None:
    """Puts the finished bundle with its results, its report and run.json, what it was made from, at
    `out` by renaming; an older bundle goes only then.
    """
    whole_bundle(stages)
    partial = stages.folder / "publish.partial"
    old = stages.folder / "replaced.partial"

    # What a publication that was killed left behind.
    for folder in (partial, old):
        shutil.rmtree(folder, ignore_errors=True)

    shutil.copytree(stages.folder / "bundle", partial, ignore=shutil.ignore_patterns(RESULT))
    shutil.copy2(stages.folder / RECORD, partial / RECORD)
    text = json.dumps(results, indent=1, ensure_ascii=False)
    (partial / RESULTS).write_text(text, encoding="utf-8")
    write_report(partial)

    # On the disk before the name says so; the older bundle goes when the new one stands.
    for file in partial.iterdir():
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())
    sync(partial)

    # A folder cannot be renamed over another one: the older is moved away first.
    if out.exists():
        os.replace(out, old)
    os.replace(partial, out)
    sync(out.parent)
    shutil.rmtree(old, ignore_errors=True)
