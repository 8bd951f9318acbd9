"""Where caches go: the user's own cache folder, or one in the temporary folder where a user has no
home (a systemd service, `docker run -u`).
"""

import functools
import os
import stat
import tempfile
from pathlib import Path

OURS = "edvit_tf"


def cache_folder() -> Path:
    """Our folder of caches, which exists and can be written: in the user's cache folder, else in
    the temporary one.

    Raises OSError where neither can be written; a cache may always be left out.
    """
    own = _users() / OURS
    return own if _usable(own) else _temporary() / OURS


def provide_caches() -> None:
    """Gives librosa's own libraries a place for their caches; called before it is imported.

    Without one, numba and pooch raise a RuntimeError when they are imported, whether or not
    anything would be stored.
    """
    if _usable(_users() / OURS):
        return
    try:
        place = _temporary()
    except OSError:
        # No temporary folder either: what these libraries say of it is as good as anything.
        return

    os.environ["XDG_CACHE_HOME"] = str(place)
    os.environ.setdefault("NUMBA_CACHE_DIR", str(place / "numba"))


def _users() -> Path:
    """The user's cache folder, whether or not it is there: $XDG_CACHE_HOME, else ~/.cache."""
    given = os.environ.get("XDG_CACHE_HOME")
    # "~" stays as it is where nobody knows this user's home.
    return Path(given) if given else Path(os.path.expanduser("~")) / ".cache"


def _usable(folder: Path) -> bool:
    """Whether a folder is there, or can be made, and files can be written into it."""
    if not folder.is_absolute():
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


@functools.cache
def _temporary() -> Path:
    """A folder of this user alone in the temporary one, the same at each call."""
    # Windows has no numbers of users, and its temporary folder is the user's own.
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"{OURS}-cache-{user}"
    if _is_our_own(folder) and _usable(folder / OURS):
        return folder

    # Somebody else has taken that name: nothing of his is read.
    fresh = Path(tempfile.mkdtemp(prefix=f"{OURS}-cache-"))
    (fresh / OURS).mkdir()
    return fresh


def _is_our_own(folder: Path) -> bool:
    """Whether a folder, made if need be, is this user's, and nobody else can write into it."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = os.lstat(folder)
    except OSError:
        return False

    if not stat.S_ISDIR(found.st_mode):
        return False
    if not hasattr(os, "getuid"):
        return True
    return found.st_uid == os.getuid() and not found.st_mode & 0o022
