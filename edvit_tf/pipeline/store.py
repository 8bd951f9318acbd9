"""A folder of finished stages: each is there whole or not at all, and knows from which
configuration it came.

Whatever is read from it is read here. What turns out damaged ends in an OutputError that names the
stage and what to do; exit code 6, since the run's own folder is at fault, and no bundle (7), which
could be copied again.
"""

import contextlib
import functools
import json
import os
import shutil
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import edvit_tf
from edvit_tf.checked import differences, digest
from edvit_tf.config import RunConfig
from edvit_tf.device.model.file_lock import hold
from edvit_tf.device.model.memory import peak_rss
from edvit_tf.device.update.store import sync
from edvit_tf.errors import OutputError
from edvit_tf.pipeline.titles import Course, ended, figures, title
from edvit_tf.progress import tell, warn
from edvit_tf.progress.interrupts import end_if_asked

RECORD = "run.json"  # of a work folder: its key, and the description that the key digests
TUNE = "tune"  # the folder in it of a search for settings (`tuning`), which comes before the run
RESULT = "stage.json"  # of a stage: its key, the code that made it, and what it came to

LONGEST_REASON = 300  # characters
PROBED_BYTES = 64 << 10  # by which a full folder is told from one with room

# Rooms whose code makes no stage.
_NO_STAGES = ("aggregate", "bench", "cli", "operate", "report", "study")
# What numpy raises for a file that is cut off or overwritten.
_UNREADABLE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


def stage_seed(run: RunConfig, name: str) -> int:
    """A seed of its own for each stage, from the run's seed and the stage's name."""
    # 28 bits: every random generator takes that as a seed.
    return int(digest([run.seed, name])[:7], 16)


@functools.cache
def code_digest() -> str:
    """Digest of the sources that make stages."""
    package = Path(edvit_tf.__file__).parent
    sources = []
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package)
        if name.parts[0] not in _NO_STAGES:
            sources.append([name.as_posix(), path.read_text(encoding="utf-8")])
    return digest(sources)[:12]


@dataclass(frozen=True)
class Stages:
    """The work folder of one run. `key` digests configuration, data and version: stages of another
    are refused.
    """

    folder: Path
    key: str
    course: Course = field(default_factory=Course, compare=False)

    def run(self, name: str, build: Callable[[Path], dict], needs: Sequence[str] = ()) -> dict:
        """Result of a stage: the stored one, or `build(folder)`, which writes files there and
        returns plain JSON.

        `build` works in a folder of its own, which is renamed when all is written: a kill at any
        moment leaves the stage undone, never half done. The result gains "seconds" and
        "peak_rss_bytes". Raises OutputError if a stage that it `needs` is not there, or if this one
        is there in part.
        """
        end_if_asked()
        number = self.course.number(name)
        if self.has(name):
            return self._stored(name, number)

        # A kill leaves only *.partial: a folder without its stage.json was changed by somebody.
        if (self.folder / name).exists():
            raise self.damaged(name, f"{RESULT} is missing")

        # Read now, so that a damaged one is named before the work, not in the middle of it.
        for needed in needs:
            self.result(needed)

        # What an earlier process left half done goes.
        partial = self.folder / f"{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)

        tell(kind="stage", name=name, title=title(name), number=number, total=self.course.total)
        started = time.perf_counter()
        try:
            partial.mkdir(parents=True)
            result = build(partial)
            result["seconds"] = round(time.perf_counter() - started, 2)
            result["peak_rss_bytes"] = peak_rss()
            record = {"key": self.key, "code": code_digest(), "result": result}
            text = json.dumps(record, ensure_ascii=False)
            (partial / RESULT).write_text(text, encoding="utf-8")
        except OSError as error:
            raise OutputError(
                f"stage {name} failed in {partial}: {reason(error, self.folder)} Finished stages "
                "are kept: start the same command again, without --overwrite."
            ) from error

        # Every byte is on the disk before the name says so.
        for file in partial.iterdir():
            if file.is_file():
                with open(file, "rb") as opened:
                    os.fsync(opened.fileno())
        sync(partial)
        os.replace(partial, self.folder / name)
        sync(self.folder)

        self._tell_end(name, number, result, "made")
        return result

    def _tell_end(self, name: str, number: int, result: dict, how: str, more: str = "") -> None:
        total = self.course.total
        tell(
            ended(name, number, total, how, result) + more,
            "stage-end",
            name=name,
            title=title(name),
            number=number,
            total=total,
            seconds=result["seconds"],
            how=how,
            figures=figures(result),
        )

    def _stored(self, name: str, number: int) -> dict:
        """Result of a stage that was made earlier; OutputError if it came from another run."""
        record = self._record(name)
        if record["key"] != self.key:
            raise OutputError(
                f"{self.folder / name} came from another configuration ({record['key'][:12]}; this "
                f"one is {self.key[:12]}). Pass --overwrite to start again, or another --out."
            )

        result = record["result"]
        same = record.get("code") == code_digest()
        other = "" if same else ", by another version of the code"
        self._tell_end(name, number, result, "earlier", other)
        return result

    def take(self, other: Path, names: Sequence[str]) -> None:
        """Takes finished stages of another work folder, as links to the same files, where there are
        none here yet.

        The caller knows that they would come out the same here.
        """
        theirs = Stages(other, "")
        for name in names:
            if not theirs.has(name) or (self.folder / name).exists():
                continue
            record = theirs._record(name) | {"key": self.key}  # under this run's key

            partial = self.folder / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            leave = shutil.ignore_patterns(RESULT)
            try:
                shutil.copytree(other / name, partial, copy_function=_link, ignore=leave)
                text = json.dumps(record, ensure_ascii=False)
                (partial / RESULT).write_text(text, encoding="utf-8")
            except OSError as error:
                raise OutputError(
                    f"stage {name} of {other} cannot be taken: {reason(error, self.folder)} Or "
                    "leave --reuse out."
                ) from error

            sync(partial)
            os.replace(partial, self.folder / name)
            tell(f"[{name}] taken from {other}")

    def has(self, name: str) -> bool:
        """Whether a stage is finished."""
        return (self.folder / name / RESULT).is_file()

    def names(self) -> list[str]:
        """All finished stages, sorted."""
        return sorted(path.name for path in self.folder.iterdir() if self.has(path.name))

    def result(self, name: str) -> dict:
        """What a finished stage came to, plain JSON; OutputError if it is not there or damaged."""
        return self._record(name)["result"]

    def codes(self, names: Iterable[str]) -> list[str]:
        """The versions of the code (`code_digest`) that made these stages; "unknown" for those of
        older ones.
        """
        return sorted({self._record(name).get("code", "unknown") for name in names})

    def path(self, name: str, file: str) -> Path:
        """A file of a finished stage; OutputError if it is not there."""
        path = self.folder / name / file
        if not path.is_file():
            raise self.damaged(name, f"{file} is missing")
        return path

    def arrays(self, name: str, file: str = "weights.npz") -> dict[str, np.ndarray]:
        """Arrays of an .npz file of a finished stage; OutputError if it cannot be read."""
        path = self.path(name, file)
        try:
            # Opened here: numpy leaves a file that is no archive open.
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
                return {key: stored[key] for key in stored.files}
        except _UNREADABLE as error:
            raise self.damaged(name, f"{file} cannot be read ({error})") from error

    def array(self, name: str, file: str) -> np.ndarray:
        """The array of an .npy file of a finished stage, as a memory map; OutputError if it cannot
        be read.
        """
        path = self.path(name, file)
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except _UNREADABLE as error:
            raise self.damaged(name, f"{file} cannot be read ({error})") from error

    def damaged(self, name: str, why: str) -> OutputError:
        """The error that says what to do about a finished stage that is not whole."""
        return OutputError(
            f"stage {name} of {self.folder} is damaged: {why}. Delete the folder "
            f"{self.folder / name} and start the same command again: this stage is made anew, the "
            "others are kept. Or pass --overwrite to make all of them anew."
        )

    def _record(self, name: str) -> dict:
        """stage.json of a stage: key, code and result."""
        path = self.path(name, RESULT)
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(record["key"], str):
                raise ValueError(f"its key is {record['key']!r}")
            float(record["result"]["seconds"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self.damaged(name, f"{RESULT} cannot be read ({error!r})") from error

        return record


def _link(source: str, target: str) -> str:
    """A hard link, or a copy where the file system has none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def reason(error: OSError, folder: Path) -> str:
    """What a write into `folder` failed for, and what to do: a full disk is named, and the
    system's folder for temporary files where that is the full one.
    """
    told = str(error)
    # shutil lists every file that it could not copy: one says it.
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        files = error.args[0]
        told = f"{files[0][-1]} ({len(files)} files)"
    told = " ".join(told.split())[:LONGEST_REASON]

    temporary = Path(os.environ.get("TMPDIR") or "/tmp")
    if not _is_full(folder) and _is_full(temporary):
        return (
            f"{told}. The folder for temporary files, {temporary}, is full or cannot be written: "
            "make room in it, or set TMPDIR to a folder with room."
        )
    return f"{told}. Make room, or choose another --out."


def _is_full(folder: Path) -> bool:
    """Whether a little cannot be written into a folder."""
    probe = folder / f".edvit-probe-{os.getpid()}"
    try:
        probe.write_bytes(bytes(PROBED_BYTES))
    except OSError:
        return True
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
    return False


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
    # A lock file, or a search, is what a start of our own leaves.
    own = (".lock", TUNE)
    if not path.is_file() and folder.is_dir() and any(p.name not in own for p in folder.iterdir()):
        raise OutputError(
            f"{folder} is not a work folder of ours (no run.json); move it, or take another --out."
        )

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
