"""Versions of a bundle side by side in one folder, the store, and two links that say which is
current and which was.

    STORE/versions/<first 12 digits of the digest>/
        a version: manifest and files, never changed once it has its name
    STORE/current, STORE/previous
        links to versions; a new link is renamed over the old one
    STORE/.partial/
        what is being made or removed; deleted at the next change

Every step is on the disk (fsync) before the next one that builds on it, so that a power cut or a
full disk at any moment leaves the old version or the new one.
"""

import contextlib
import errno
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from edvit_tf.device.errors import BundleError, DiskError, StoreError
from edvit_tf.device.model.bundle import Bundle, open_bundle, verified_path
from edvit_tf.device.model.file_lock import hold

LINKS = ("current", "previous")
SPARE_BYTES = 2 << 20  # kept free beside the files: folders, links, the golden input of the trial
_VERSIONS = "versions"
_PARTIAL = ".partial"
_NAME = re.compile(r"[0-9a-f]{12}(-[1-9]\d*)?")


@contextlib.contextmanager
def changing(store: Path, make: bool = False) -> Iterator[Path]:
    """Holds the store for this process, and gives its folder for what is temporary, which is
    deleted before and after.

    `make` creates a store where nothing is. Raises StoreError; an OSError of the block is raised as
    DiskError.
    """
    try:
        if make and not (store / _VERSIONS).is_dir():
            _make(store)

        # the folder itself is the lock: there is no lock file to be left behind
        opened = _open(store)
    except OSError as error:
        raise _disk_error(store, error) from error

    partial = store / _PARTIAL
    try:
        try:
            hold(opened)
        except BlockingIOError as error:
            raise StoreError(
                f"another process is changing {store}. Wait for it, and give the command again."
            ) from error

        # what a command that was killed left behind goes first
        try:
            _delete(partial)
            partial.mkdir()
            yield partial
        except OSError as error:
            raise _disk_error(store, error) from error
        finally:
            with contextlib.suppress(OSError):
                _delete(partial)
    finally:
        os.close(opened)


def _make(store: Path) -> None:
    """An empty store, on the disk; StoreError where something else is."""
    found = sorted(path.name for path in store.iterdir()) if store.is_dir() else []
    if found:
        raise StoreError(
            f"{store} is no store (it holds {', '.join(found[:5])}). Give a new or empty folder."
        )

    # the folder, its name in the store, the store's name in its parent
    (store / _VERSIONS).mkdir(parents=True)
    _readable(store, store / _VERSIONS)
    sync(store)
    sync(store.absolute().parent)


def versions(store: Path) -> list[Path]:
    """Folders of the versions, by name. Raises StoreError where there is no store."""
    folder = store / _VERSIONS
    if not folder.is_dir():
        raise StoreError(
            f"{store} is no store of versions (no folder {_VERSIONS}). `install` makes one."
        )

    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def linked(store: Path, link: str) -> Path | None:
    """The version that a link leads to, None without the link; StoreError if it leads elsewhere or
    is no link.
    """
    try:
        target = Path(os.readlink(store / link))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(
            f"{store / link} is no link ({error.strerror}). Move it away; `install` makes one."
        ) from error

    if target.parent != Path(_VERSIONS) or not _NAME.fullmatch(target.name):
        raise StoreError(
            f"{store / link} leads to {target}; it must lead to {_VERSIONS}/<version>. Remove the "
            "link, and install the version again."
        )

    return store / target


def holding(
    store: Path, digest: str, files: Sequence[str], extra: Mapping[str, bytes] | None = None
) -> Path | None:
    """The version of this digest that has all these files, unchanged, and those of `extra` with
    what they hold; None if there is none.
    """
    for path in versions(store):
        if not path.name.startswith(digest[:12]):
            continue
        with contextlib.suppress(BundleError, OSError):
            bundle = open_bundle(path)
            has_extra = all(
                (path / name).read_bytes() == content for name, content in (extra or {}).items()
            )
            if bundle.digest == digest and has_extra:
                for name in files:
                    verified_path(bundle, name)
                return path

    return None


def copied(
    partial: Path, bundle: Bundle, files: Sequence[str], extra: Mapping[str, bytes] | None = None
) -> Bundle:
    """A verified copy of a bundle's manifest and files below `partial`, written through to the
    disk.

    `extra` are further files with what they hold. No link is followed, and until it is verified
    nobody else can read the copy. Raises DiskError before anything is written if there is no room,
    BundleError if a copy is not what the manifest says.
    """
    extra = extra or {}
    names = ["manifest.json", *files]

    # before anything is written
    sizes = [verified_path(bundle, name).stat().st_size for name in files]
    sizes += [(bundle.path / "manifest.json").stat().st_size, *map(len, extra.values())]
    need = sum(sizes) + SPARE_BYTES
    free = free_bytes(partial)
    if free < need:
        raise DiskError(
            f"{partial.parent} has {free / 2**20:.1f} MiB free; this version needs "
            f"{need / 2**20:.1f} MiB beside the others. Make room: `prune` removes all versions "
            "but the current and the previous."
        )

    folder = partial / "version"
    folder.mkdir(mode=0o700)
    source = open_folder(bundle.path)
    try:
        for name in names:
            with open_plain(source, name, bundle.path) as read:
                _write(folder / name, _pieces(read, bundle.path / name))
    finally:
        os.close(source)

    for name, content in extra.items():
        _write(folder / name, [content])

    sync(folder)
    # what arrived counts, not what was sent
    copy = open_bundle(folder)
    if copy.digest != bundle.digest:
        raise BundleError(
            f"{bundle.path}/manifest.json changed while it was copied. Give the command again."
        )

    for name in files:
        verified_path(copy, name)

    # now it is known to be the bundle's, and no secret of this machine
    _readable(folder)
    sync(folder)

    return copy


def open_plain(folder: int, name: str, shown: Path) -> BinaryIO:
    """A file of an opened folder (its descriptor; `shown` is its path), for reading; BundleError
    for a link and for what is no file: whoever installs may read more than whoever sent the bundle.
    """
    try:
        # O_NONBLOCK: of a FIFO too the descriptor comes at once
        opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOENT, errno.ENXIO):
            raise BundleError(
                f"{shown / name} is missing, or a link, and links are not followed. Copy the "
                "bundle again."
            ) from error
        raise _unreadable(shown / name, error) from error

    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise BundleError(f"{shown / name} is no file. Copy the bundle again.")
    return os.fdopen(opened, "rb")


def open_folder(path: Path) -> int:
    """The folder itself, so that its files are its own whatever its name leads to later;
    BundleError where it cannot be opened.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise _unreadable(path, error) from error


def _pieces(file: BinaryIO, shown: Path) -> Iterator[bytes]:
    """What a bundle's file holds, in pieces of 1 MiB; BundleError where it cannot be read."""
    while True:
        try:
            piece = file.read(1 << 20)
        except OSError as error:
            raise _unreadable(shown, error) from error

        if not piece:
            return
        yield piece


def _unreadable(path: Path, error: OSError) -> BundleError:
    """Of a bundle that is brought, so that not the store is blamed."""
    return BundleError(
        f"{path} cannot be read ({error.strerror}). Mend its permissions, or copy the bundle again."
    )


def free_bytes(folder: Path) -> int:
    """Bytes that can be written there."""
    return shutil.disk_usage(folder).free


def keep(store: Path, copy: Bundle) -> Path:
    """Gives the copy its name among the versions. An existing version is never touched: a damaged
    or incomplete one of the same digest keeps its name, the new one gets -2, -3, ...
    """
    taken = {path.name for path in versions(store)}
    name, number = copy.digest[:12], 1
    while name in taken:
        number += 1
        name = f"{copy.digest[:12]}-{number}"

    target = store / _VERSIONS / name
    os.rename(copy.path, target)
    sync(store / _VERSIONS)

    return target


def point(store: Path, partial: Path, **links: Path) -> None:
    """Lets links lead to versions, one after the other in the given order: point(store, ...,
    current=version).
    """
    # All are made before the first is used: a full disk is met here.
    for link, version in links.items():
        os.symlink(Path(_VERSIONS) / version.name, partial / link)
    for link in links:
        os.replace(partial / link, store / link)
        sync(store)


def remove(store: Path, partial: Path, version: Path) -> None:
    """Deletes a version; half deleted it would have its name no more."""
    # by a rename it is gone at once; what takes time is not a version any more
    doomed = partial / version.name
    os.rename(version, doomed)
    sync(store / _VERSIONS)
    shutil.rmtree(doomed)


def sync(folder: Path) -> None:
    """Makes the names in a folder last through a power cut."""
    # There a folder cannot be opened, and its names are kept by the file system's journal.
    if sys.platform == "win32":
        return

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(target: Path, pieces: Iterable[bytes]) -> None:
    """A new file, on the disk; as yet in a folder that nobody else may enter."""
    with open(target, "xb") as written:
        written.writelines(pieces)
        written.flush()
        # whatever the umask of root is
        os.fchmod(written.fileno(), 0o644)
        os.fsync(written.fileno())
        # sha256 then reads the card, not the memory.
        if sys.platform == "linux":
            os.posix_fadvise(written.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _readable(*folders: Path) -> None:
    """Whatever the umask of root is: workers run as users of their own."""
    for folder in folders:
        os.chmod(folder, 0o755)


def _delete(partial: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(partial)


def _open(store: Path) -> int:
    versions(store)
    return os.open(store, os.O_RDONLY | os.O_DIRECTORY)


def _disk_error(store: Path, error: OSError) -> DiskError:
    return DiskError(
        f"{store} cannot be changed ({error}). Make room (`prune`), mend the permissions (sudo?) "
        "or the disk; what was current stays so."
    )
