"""Where a run's bundle and its stages go. What can never be there is refused before data are read,
hours before it would fail.
"""

import os
import tempfile
from pathlib import Path

from edvit_tf.data.folders import given_folder, is_left_out
from edvit_tf.data.names import printable
from edvit_tf.errors import OutputError
from edvit_tf.pipeline.work_folder import check_own


def work_of(out: Path) -> Path:
    """The folder of the stages of a bundle, beside it."""
    return out.with_name(f"{out.name}.work")


def resolved(out: str | Path) -> Path:
    """The bundle folder that is meant. OutputError for one that nothing can be written at, whatever
    its permissions.
    """
    try:
        place = Path(out).expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise OutputError(
            f"--out is {printable(str(out))}, which is no path ({error}). Give another --out."
        ) from error
    check_replaceable(place)
    return place


def is_taken(out: Path) -> bool:
    """Whether anything stands at `out` that a publication would replace: an empty folder is as good
    as none.
    """
    return out.exists() and not (out.is_dir() and not any(out.iterdir()))


def check_replaceable(out: Path) -> None:
    """OutputError if `out` is something else than a bundle: --overwrite replaces bundles and
    nothing else. An empty folder is taken, unless it is where another file system is mounted.
    """
    if os.path.ismount(out):
        raise OutputError(
            f"{out} is where a file system is mounted: a bundle appears by renaming, which cannot "
            f"take its place. Give a folder in it, such as --out {out / 'bundle'}."
        )
    if is_taken(out) and not (out / "manifest.json").is_file():
        raise OutputError(
            f"{out} exists and is no bundle (no manifest.json); it is not replaced. Take another "
            "--out."
        )


def check_place(out: str | Path, data: str | Path | None, is_own: bool = True) -> None:
    """OutputError if nothing can be published at `out`, or if it and the data lie in each other.
    `is_own` says that every folder in that of the data is a class.
    """
    place = resolved(out)
    if data is None:
        return
    folder = given_folder(data).resolve()
    work = work_of(place)

    for own in (place, work):
        if folder.is_relative_to(own):
            raise OutputError(
                f"The data ({printable(str(data))}) lie in {printable(str(own))}, which "
                "--overwrite deletes. Take another --out."
            )

    if is_own and folder.is_dir() and work.is_relative_to(folder):
        if any(is_left_out(part) for part in work.relative_to(folder).parts):
            return
        elsewhere = folder.parent / "exports" / place.name
        raise OutputError(
            f"--out is {printable(str(place))}, in the folder that is trained on: the next start "
            f"would take it for a class. Give one outside of it, such as --out "
            f"{printable(str(elsewhere))}."
        )


def check_makeable(out: str | Path) -> None:
    """OutputError if nothing can be written at `out` or beside it; leaves nothing there."""
    place = resolved(out)
    work = work_of(place)
    for folder in (place.parent, work):
        there = folder
        while not os.path.lexists(there):
            there = there.parent
        try:
            # permissions alone do not tell of a read-only disk, or of /proc
            os.rmdir(tempfile.mkdtemp(prefix=".edvit-probe-", dir=there))
        except OSError as error:
            raise OutputError(
                f"{folder} cannot be written ({error}). Choose another --out, or mend its "
                "permissions."
            ) from error
    check_own(work)
