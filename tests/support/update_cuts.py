"""Commands of `edvit_tf.device.update`, ended at every step of theirs as a kill, a power cut or a
full disk ends them.

    python -m tests.support.update_cuts kill|power STORE COMMAND...
        one line of JSON an interrupted command
    python -m tests.support.update_cuts full STORE FOLDER COMMAND...
        in small file systems mounted at FOLDER (root)

Each command works on a copy of STORE ("STORE" among its words is replaced); the trial of the models
is left out, which changes nothing in the store. A step is a call that changes the file system or
syncs it. In `power` what was not synced is lost, in the worst order: contents and names of files
go, a renamed folder goes back, while links stay renamed.
"""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from edvit_tf.device.model.bundle import open_bundle, verified_path
from edvit_tf.device.update import commands as update
from edvit_tf.device.update import store as versions

CHANGES = {"open", "os.mkdir", "os.rename", "os.symlink", "os.remove", "os.rmdir", "os.chmod"}
CUT = 99  # exit code of a command that was interrupted
ROOM_KIB = range(
    160, 328, 8
)  # of file systems; a store takes 148 with one version, about 290 with two
INODES = range(14, 26)  # a store has 11 with one version


def run(store: Path, command: list[str]) -> int:
    """Exit code of a command, which prints nothing."""
    words = [str(store) if word == "STORE" else word for word in command]
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()) as said,
    ):
        code = update.main(words)
    assert "Traceback" not in said.getvalue()
    return code


def state(store: Path) -> dict:
    """What a store holds: "current" and "previous" (a digest, every file verified; None: no link),
    "rest" (names that do not belong there), "files" (how many the versions have, sorted).
    """

    def digest(link: str) -> str | None:
        if not (store / link).is_symlink():
            return None
        bundle = open_bundle(store / link)
        for file in bundle.path.iterdir():
            if file.name != "manifest.json":
                verified_path(bundle, file.name)
        return bundle.digest

    rest = (
        {path.name for path in store.iterdir()} - {"versions", "current", "previous"}
        if store.is_dir()
        else set()
    )
    files = sorted(len(list(path.iterdir())) for path in store.glob("versions/*"))
    return {
        "current": digest("current"),
        "previous": digest("previous"),
        "rest": sorted(rest),
        "files": files,
    }


class Cut:
    """Ends this process before step `number`; in `power` takes from the store what was not synced
    by then.
    """

    def __init__(self, store: Path, number: int, power: bool) -> None:
        self.store, self.left, self.power = store, number, power
        self.synced = {path.lstat().st_ino for path in store.rglob("*")} | {store.stat().st_ino}
        self.renamed: list[tuple[Path, Path]] = []  # folders, until that of the versions is synced
        self.busy = False
        self.fsync = os.fsync
        os.fsync = self._fsync
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple) -> None:
        if self.busy or event not in CHANGES or not self._in_store(event, arguments):
            return
        self._step()
        if event == "os.rename" and not Path(arguments[0]).is_symlink():
            self.renamed.append((Path(arguments[0]), Path(arguments[1])))

    def _in_store(self, event: str, arguments: tuple) -> bool:
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return False
        # rmtree goes by descriptors of folders and bare names
        return any(str(argument).startswith(str(self.store)) for argument in arguments[:2]) or (
            event in ("os.remove", "os.rmdir") and arguments[1] != -1
        )

    def _fsync(self, descriptor: int) -> None:
        self._step()
        self.fsync(descriptor)
        self.synced.add(os.fstat(descriptor).st_ino)
        if os.readlink(f"/proc/self/fd/{descriptor}") == str(self.store / "versions"):
            self.renamed.clear()

    def _step(self) -> None:
        self.left -= 1
        if self.left < 0:
            self.busy = True
            if self.power:
                self._lose()
            os._exit(CUT)

    def _lose(self) -> None:
        for source, target in reversed(self.renamed):
            if target.exists():
                target.rename(source)
        for folder in (self.store / "versions").glob("*"):
            for file in folder.iterdir():
                if folder.stat().st_ino not in self.synced:
                    file.unlink()
                elif file.stat().st_ino not in self.synced:
                    os.truncate(file, 0)


def cut_everywhere(template: Path, power: bool, command: list[str]) -> None:
    """Interrupts the command before its first step, its second, ... until it is done; prints what
    each left.
    """
    number, code = 0, CUT
    while code == CUT:
        store = template.parent / f"{template.name}-cut"
        shutil.rmtree(store, ignore_errors=True)
        if template.is_dir():
            shutil.copytree(template, store, symlinks=True)
        else:
            store.mkdir()
        child = os.fork()
        if child == 0:
            Cut(store, number, power)
            os._exit(run(store, command))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        before = state(store)
        again = run(store, command)
        print(
            json.dumps(
                {"step": number, "code": code, "left": before, "again": again, "then": state(store)}
            )
        )
        number += 1


def fill(template: Path, folder: Path, command: list[str]) -> None:
    """Runs the command in file systems of growing size, then of growing numbers of files, as if
    nothing were known of the room; prints what each left.
    """
    versions.free_bytes = lambda _: 1 << 40
    for option in [
        *(f"size={kib}k" for kib in ROOM_KIB),
        *(f"size=4m,nr_inodes={n}" for n in INODES),
    ]:
        subprocess.run(["mount", "-t", "tmpfs", "-o", option, "tmpfs", folder], check=True)
        try:
            store = Path(shutil.copytree(template, folder / "store", symlinks=True))
            code = run(store, command)
            print(json.dumps({"room": option, "code": code, "left": state(store)}))
        finally:
            subprocess.run(["umount", folder], check=True)


def main() -> None:
    kind, store, *rest = sys.argv[1:]
    update.try_out = lambda bundle, scratch: None
    if kind == "full":
        fill(Path(store), Path(rest[0]), rest[1:])
    else:
        cut_everywhere(Path(store), kind == "power", rest)


if __name__ == "__main__":
    main()
