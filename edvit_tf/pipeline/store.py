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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import edvit_tf
from edvit_tf.checked import digest
from edvit_tf.config import RunConfig
from edvit_tf.device.model.memory import peak_rss
from edvit_tf.device.update.store import sync
from edvit_tf.errors import OutputError
from edvit_tf.pipeline.titles import Course, ended, figures, title
from edvit_tf.progress import tell
from edvit_tf.progress.interrupts import end_if_asked

RESULT = "stage.json"  # of a stage: its key, the code that made it, and what it came to

LONGEST_REASON = 300  # characters
PROBED_BYTES = 64 << 10  # by which a full folder is told from one with room

# Rooms whose code makes no stage.
_NO_STAGES = ("aggregate", "bench", "cli", "operate", "report", "reproduce", "study")
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


def cost(started: float) -> dict:
    """What a stage gains in the process that has made it since `started` (perf_counter)."""
    seconds = round(time.perf_counter() - started, 2)
    return {"seconds": seconds, "peak_rss_bytes": peak_rss()}


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
        stored = self.begin(name, needs)
        if stored is not None:
            return stored

        started = time.perf_counter()
        folder = self.opened(name)
        with self.failing(name):
            result = build(folder)
        return self.closed(name, result | cost(started))

    def opened(self, name: str) -> Path:
        """The empty folder that a stage which was begun writes into, until it is `closed`."""
        self._tell_begin(name)
        with self.failing(name):
            return self._emptied(name)

    def closed(self, name: str, result: dict) -> dict:
        """Makes a stage of what was written into its folder, with all that is told of it."""
        with self.failing(name):
            self._place(name, result)
        self._tell_end(name, self.course.number(name), result, "made")
        return result

    def begin(self, name: str, needs: Sequence[str] = ()) -> dict | None:
        """A stage before it is made: the stored result, or None where there is none yet. Then it is
        `opened` and `closed`, or made elsewhere and `put`. Raises as `run` does.
        """
        end_if_asked()
        if self.has(name):
            return self._stored(name, self.course.number(name))
        self._check_start(name, needs)
        return None

    def put(self, name: str, files: Mapping[str, bytes], result: dict) -> None:
        """Keeps a stage that was made elsewhere, as `run` keeps one: whole or not at all, and never
        twice.
        """
        if self.has(name):
            raise self.damaged(name, "it was made a second time, by somebody else")
        with self.failing(name):
            partial = self._emptied(name)
            for file, content in files.items():
                (partial / file).write_bytes(content)
            self._place(name, result)
        self._tell_end(name, self.course.number(name), result, "made")
        end_if_asked()

    def _tell_begin(self, name: str) -> None:
        """Tells that a stage is at work."""
        number = self.course.number(name)
        tell(kind="stage", name=name, title=title(name), number=number, total=self.course.total)

    def _check_start(self, name: str, needs: Sequence[str]) -> None:
        """OutputError where a stage is there in part, or one that it needs is not whole."""
        # A kill leaves only *.partial: a folder without its stage.json was changed by somebody.
        if (self.folder / name).exists():
            raise self.damaged(name, f"{RESULT} is missing")

        # Read now, so that a damaged one is named before the work, not in the middle of it.
        for needed in needs:
            self.result(needed)

    @contextlib.contextmanager
    def failing(self, name: str) -> Iterator[None]:
        """A disk that fails ends in an OutputError that says what to do."""
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"stage {name} failed in {self._partial(name)}: {reason(error, self.folder)} "
                "Finished stages are kept: start the same command again, without --overwrite."
            ) from error

    def _partial(self, name: str) -> Path:
        return self.folder / f"{name}.partial"

    def _emptied(self, name: str) -> Path:
        """The folder that becomes a stage: what an earlier process left half done goes."""
        partial = self._partial(name)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        return partial

    def _place(self, name: str, result: dict) -> None:
        """Makes the folder of a stage's files the stage."""
        partial = self._partial(name)
        record = {"key": self.key, "code": code_digest(), "result": result}
        text = json.dumps(record, ensure_ascii=False)
        (partial / RESULT).write_text(text, encoding="utf-8")

        # Every byte is on the disk before the name says so.
        for file in partial.iterdir():
            if file.is_file():
                with open(file, "rb") as opened:
                    os.fsync(opened.fileno())
        sync(partial)
        os.replace(partial, self.folder / name)
        sync(self.folder)

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
