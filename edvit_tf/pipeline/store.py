"""A folder of finished stages: each is there whole or not at all, and knows from which
configuration it came.
"""

import fcntl
import functools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import edvit_tf
from edvit_tf.checked import differences, digest
from edvit_tf.config import RunConfig
from edvit_tf.device.model.memory import peak_rss
from edvit_tf.device.update.store import sync
from edvit_tf.errors import OutputError


def stage_seed(run: RunConfig, name: str) -> int:
    """A seed of its own for each stage, from the run's seed and the stage's name."""
    return int(digest([run.seed, name])[:7], 16)


@functools.cache
def code_digest() -> str:
    """Digest of the sources that make stages: all of the package but what serves, reports and
    measures speed.
    """
    package = Path(edvit_tf.__file__).parent
    files = (
        path
        for path in sorted(package.rglob("*.py"))
        if path.relative_to(package).parts[0] not in ("aggregate", "bench", "report", "study")
    )
    return digest(
        [[path.relative_to(package).as_posix(), path.read_text(encoding="utf-8")] for path in files]
    )[:12]


@dataclass(frozen=True)
class Stages:
    """The work folder of one run. `key` digests configuration, data and version: stages of another
    are refused.
    """

    folder: Path
    key: str

    def run(self, name: str, build: Callable[[Path], dict]) -> dict:
        """Result of a stage: the stored one, or `build(folder)`, which writes files there and
        returns plain JSON.

        `build` works in a folder of its own, which is renamed when all is written: a kill at any
        moment leaves the stage undone, never half done. The result gains "seconds".
        """
        done = self.folder / name
        stored = done / "stage.json"
        if stored.is_file():
            record = json.loads(stored.read_text(encoding="utf-8"))
            if record["key"] == self.key:
                other = (
                    ""
                    if record.get("code") == code_digest()
                    else ", by another version of the code"
                )
                print(
                    f"[{name}] done earlier, {record['result']['seconds']:.1f} s{other}", flush=True
                )
                return record["result"]
            raise OutputError(
                f"{done} came from another configuration ({record['key'][:12]}; this one is "
                f"{self.key[:12]}). "
                "Pass --overwrite to start again, or another --out."
            )
        partial = self.folder / f"{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        started = time.perf_counter()
        try:
            partial.mkdir(parents=True)
            result = build(partial)
            result["seconds"] = round(time.perf_counter() - started, 2)
            result["peak_rss_bytes"] = peak_rss()
            record = json.dumps(
                {"key": self.key, "code": code_digest(), "result": result}, ensure_ascii=False
            )
            (partial / "stage.json").write_text(record, encoding="utf-8")
        except OSError as error:
            raise OutputError(
                f"stage {name} failed in {partial}: {error}. Make room, or choose another --out; "
                "finished stages are kept."
            ) from error
        for file in partial.iterdir():  # on the disk before the name says so
            if file.is_file():
                with open(file, "rb") as opened:
                    os.fsync(opened.fileno())
        sync(partial)
        os.replace(partial, done)
        sync(self.folder)
        print(f"[{name}] {result['seconds']:.1f} s", flush=True)
        return result

    def take(self, other: Path, names: Sequence[str]) -> None:
        """Takes finished stages of another work folder, as links to the same files, where there are
        none here yet.

        The caller knows that they would come out the same here.
        """
        for name in names:
            stored = other / name / "stage.json"
            if not stored.is_file() or (self.folder / name).exists():
                continue
            partial = self.folder / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            try:
                shutil.copytree(
                    other / name,
                    partial,
                    copy_function=_link,
                    ignore=shutil.ignore_patterns(stored.name),
                )
                record = json.loads(stored.read_text(encoding="utf-8")) | {"key": self.key}
                (partial / stored.name).write_text(
                    json.dumps(record, ensure_ascii=False), encoding="utf-8"
                )
            except OSError as error:
                raise OutputError(
                    f"stage {name} of {other} cannot be taken ({error}). Make room, or leave "
                    "--reuse "
                    "out."
                ) from error
            sync(partial)
            os.replace(partial, self.folder / name)
            print(f"[{name}] taken from {other}", flush=True)

    def codes(self, names: Iterable[str]) -> list[str]:
        """The versions of the code (`code_digest`) that made these stages; "unknown" for those of
        older ones.
        """
        return sorted(
            {
                json.loads(self.path(name, "stage.json").read_text(encoding="utf-8")).get(
                    "code", "unknown"
                )
                for name in names
            }
        )

    def path(self, name: str, file: str) -> Path:
        """A file of a finished stage."""
        return self.folder / name / file

    def arrays(self, name: str, file: str = "weights.npz") -> dict[str, np.ndarray]:
        """Arrays of an .npz file of a finished stage."""
        with np.load(self.path(name, file), allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}


def _link(source: str, target: str) -> str:
    """A hard link, or a copy where the file system has none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def lock(folder: Path):
    """An open file that holds the work folder for this process; OutputError if another process
    works in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = open(folder / ".lock", "w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise OutputError(
            f"another process works in {folder}; wait for it, or take another --out."
        ) from error
    return file


def open_stages(
    folder: Path, key: str, description: dict, overwrite: bool, again: bool = False
) -> Stages:
    """The work folder for a run of this key; `description` is kept in run.json to tell what
    changed.

    Stages of the same unfinished run are gone on with. Another run's, or with `again` the same
    finished run's, are deleted if `overwrite` says so; else OutputError. A folder without run.json
    is not ours and is never deleted.
    """
    record = folder / "run.json"
    if (
        overwrite
        and record.is_file()
        and (again or json.loads(record.read_text(encoding="utf-8"))["key"] != key)
    ):
        for path in folder.iterdir():
            if path.name != ".lock":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif (
        not record.is_file()
        and folder.is_dir()
        and any(p.name != ".lock" for p in folder.iterdir())
    ):
        raise OutputError(
            f"{folder} is not a work folder of ours (no run.json); move it, or take another --out."
        )
    if record.is_file():
        stored = json.loads(record.read_text(encoding="utf-8"))
        if stored["key"] != key:
            changed = differences(stored["description"], description)
            raise OutputError(
                f"{folder} holds stages of another configuration; changed: "
                f"{'; '.join(changed[:6]) or 'the version'}. "
                "Pass --overwrite to start again, or another --out."
            )
    else:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"key": key, "description": description}, indent=1, ensure_ascii=False)
        temporary = record.with_suffix(".partial")
        temporary.write_text(text, encoding="utf-8")
        with open(temporary, "rb") as opened:
            os.fsync(opened.fileno())
        os.replace(temporary, record)
    return Stages(folder, key)


def check_reusable(other: Path, description: dict, fields: Sequence[str]) -> None:
    """Raises OutputError unless the run of another work folder began as this one of `description`
    does: the same data, version, threads and given base, and the same `fields` of the
    configuration.
    """
    if not (other / "run.json").is_file():
        raise OutputError(
            f"--reuse is {other}, which is no work folder of a run (no run.json). Give the folder "
            "<bundle>.work of an earlier run, or leave it out."
        )
    changed = differing(other, description, fields)
    if changed:
        raise OutputError(
            f"--reuse is {other}, whose base is not this run's; it differs in: "
            f"{'; '.join(changed[:6])}. "
            "Leave it out, or give a run with the same data, base and seed."
        )


def differing(other: Path, description: dict, fields: Sequence[str]) -> list[str]:
    """In what the run of another work folder differs from this one of `description`, of the
    configuration only in its `fields`; empty where stages that read nothing else come out the same.
    """

    def start(whole: dict) -> dict:
        whole = {
            name: value for name, value in whole.items() if name != "jobs"
        }  # which fit members alone
        return {**whole, "config": {name: whole["config"].get(name) for name in fields}}

    stored = json.loads((other / "run.json").read_text(encoding="utf-8"))["description"]
    return differences(start(stored), start(description))


def preflight(out: Path, work: Path, needed_bytes: int) -> None:
    """Raises OutputError unless both folders' parents can be written and have `needed_bytes` free:
    before training.
    """
    for folder in {out.parent, work if work.is_dir() else work.parent}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".edvit-probe-{os.getpid()}"
            probe.write_bytes(b"x")
            probe.unlink()
        except OSError as error:
            raise OutputError(
                f"{folder} cannot be written ({error}). Choose another --out, or mend its "
                "permissions."
            ) from error
    free = shutil.disk_usage(work.parent).free
    if free < needed_bytes:
        raise OutputError(
            f"{work.parent} has {free / 2**20:.0f} MiB free; this run needs about "
            f"{needed_bytes / 2**20:.0f} MiB "
            "(inputs, stages, bundle). Make room, or choose another --out."
        )
