"""A finished bundle takes its place: whole, and never over anything unasked."""

import json
import os
import shutil
from pathlib import Path

from edvit_tf.checked import differences
from edvit_tf.device.errors import BundleError
from edvit_tf.device.strict_json import finite_json
from edvit_tf.device.update.store import sync
from edvit_tf.errors import OutputError
from edvit_tf.evaluation.mistakes import FILE as MISTAKES
from edvit_tf.evaluation.predictions import FILE as PREDICTIONS
from edvit_tf.export.bundle import add_file
from edvit_tf.hub.card import with_head
from edvit_tf.pipeline.measure import whole_bundle
from edvit_tf.pipeline.places import is_taken
from edvit_tf.pipeline.store import RESULT, Stages, reason
from edvit_tf.pipeline.work_folder import RECORD, replaced, stored_record, write_record
from edvit_tf.progress import tell, warn
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
        tell(
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


def publish(stages: Stages, out: Path, results: dict) -> None:
    """Puts the finished bundle with its results, its report and run.json, what it was made from, at
    `out` by renaming; an older bundle goes only then.

    Raises OutputError if it cannot be written; nothing is lost then: what stood at `out` stands.
    """
    whole_bundle(stages)
    if is_taken(out) and not _may_go(out, stored_record(stages.folder)):
        raise OutputError(
            f"{out} was not there when this run began; it is not replaced. All stages are kept: "
            "move it away, and start the same command again."
        )

    partial = stages.folder / "publish.partial"
    old = stages.folder / "replaced.partial"

    # What a publication that was killed left behind.
    for folder in (partial, old):
        shutil.rmtree(folder, ignore_errors=True)

    try:
        _prepare(stages, partial, results)
        _put(partial, out, old)
    except OSError as error:  # shutil's own among them
        shutil.rmtree(partial, ignore_errors=True)
        raise OutputError(
            f"the bundle cannot be published at {out}: {reason(error, stages.folder)} All stages "
            "are kept: start the same command again, without --overwrite."
        ) from error
    shutil.rmtree(old, ignore_errors=True)
    replaced(stages.folder)


def _may_go(out: Path, record: dict | None) -> bool:
    """Whether what stands at `out` may be replaced by the run of this record: it was told so, or
    that is a bundle of its own.
    """
    if record is None:
        return False
    try:
        there = stored_record(out)
    except OutputError:
        there = None
    is_own = there is not None and there["key"] == record["key"]
    return is_own or record.get("replaces") is True


def _prepare(stages: Stages, partial: Path, results: dict) -> None:
    """Everything that is published, in a folder beside the stages, on the disk."""
    shutil.copytree(stages.folder / "bundle", partial, ignore=shutil.ignore_patterns(RESULT))
    shutil.copy2(stages.path("measure", PREDICTIONS), partial / PREDICTIONS)
    if results.get("mistakes"):
        shutil.copy2(stages.path("measure", MISTAKES), partial / MISTAKES)
    record = stored_record(stages.folder)
    write_record(partial / RECORD, {name: record[name] for name in ("key", "description")})
    # what is no number is null: NaN is Python's, not JSON's
    text = json.dumps(finite_json(results), indent=1, ensure_ascii=False, allow_nan=False)
    (partial / RESULTS).write_text(text, encoding="utf-8")
    # with its sha256: a device takes no file without one
    add_file(partial, RESULTS)
    _write_head(partial, results)
    _report(partial)

    # On the disk before the name says so; the older bundle goes when the new one stands.
    for file in partial.iterdir():
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())
    sync(partial)


def _write_head(partial: Path, results: dict) -> None:
    """The card's head, with what was measured: only now is it known."""
    manifest = json.loads((partial / "manifest.json").read_text(encoding="utf-8"))
    file = partial / "README.md"
    text = with_head(file.read_text(encoding="utf-8"), manifest, results)
    file.write_text(text, encoding="utf-8")


# What a page over figures that nobody thought of can fail with; a full disk is told otherwise.
_PAGE_FAILS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BundleError,
    LookupError,
    TypeError,
    ValueError,
)


def _report(partial: Path) -> None:
    """report.html; where it cannot be made the bundle, which took hours, is published without."""
    try:
        write_report(partial)
    except _PAGE_FAILS as error:
        warn(
            f"report.html cannot be made ({type(error).__name__}: {error}). The bundle is "
            "published without it; results.json has every figure, and `edvit report` tries again.",
        )


def _put(partial: Path, out: Path, old: Path) -> None:
    """Renames the prepared folder to `out`."""
    # A folder cannot be renamed over another one: the older is moved away first.
    if out.exists():
        os.replace(out, old)
    try:
        os.replace(partial, out)
    except OSError:
        if old.exists():
            os.replace(old, out)
        raise
    sync(out.parent)
