"""A bundle from the hub: looked at before it is fetched, verified before it has its name."""

import hashlib
import re
import shutil
import tempfile
from pathlib import Path

from edvit_tf.device.errors import BundleError
from edvit_tf.device.model.bundle import MAX_MANIFEST_BYTES, Bundle, open_bundle, verified_path
from edvit_tf.errors import HubError, OutputError
from edvit_tf.hub.client import ANSWER_SECONDS, client, hub_errors
from edvit_tf.hub.push import CARD, MANIFEST
from edvit_tf.progress import tell

# Of all files; ViT-Large on several devices has a quarter of it.
MOST_BYTES = 8 << 30
# Of a file that no manifest lists: the card, what the bundle was made from, what it answered.
BESIDE = (CARD, "run.json", "predictions.npz")
MOST_BESIDE_BYTES = 256 << 20
_BAD_NAME = re.compile(r"[\x00-\x1f\x7f\\]|^/|^[A-Za-z]:")


def pull(repo: str, folder: str | Path | None = None) -> Path:
    """Fetches the bundle of the repository OWNER/NAME into `folder` (default: NAME here), which
    appears when everything is verified. Returns it.

    Fetched is what the bundle's manifest lists, and its card; the report, which is a page with
    code, is not. Raises OutputError where something stands at `folder`; HubError for a repository
    that is no bundle, or is not as it says; BundleError for a manifest that nobody could use.
    """
    place = Path(folder if folder is not None else repo.rpartition("/")[2]).expanduser().resolve()
    if place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise OutputError(f"{place} exists; nothing is replaced. Give another folder.")

    api = client()
    with hub_errors(repo):
        info = api.model_info(repo, files_metadata=True, timeout=ANSWER_SECONDS)
    listed = {file.rfilename: file for file in info.siblings or ()}
    _check_listing(repo, listed)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as made:
            bundle = _fetched(api, repo, info.sha, listed, Path(made) / "bundle")
            # an empty folder may be replaced by renaming, and nothing else
            bundle.path.replace(place)
    except OSError as error:
        raise OutputError(
            f"{repo} cannot be stored at {place} ({error}). Mend that, and start the same command "
            "again."
        ) from error
    return place


def _check_listing(repo: str, listed: dict) -> None:
    """HubError for a repository that is no bundle, or has names that no bundle has."""
    if MANIFEST not in listed:
        few = ", ".join(sorted(listed)[:4])
        raise HubError(
            f"{repo} is no bundle: it has no {MANIFEST} (it has {few[:200] or 'nothing'}). Give a "
            "repository that edvit hub push made."
        )
    for name in listed:
        if _BAD_NAME.search(name) or ".." in name.split("/"):
            shown = f"{name[:80]!r}"
            raise HubError(f"{repo} lists a file named {shown}, which no bundle has: refused.")
    size = listed[MANIFEST].size or 0
    if size > MAX_MANIFEST_BYTES:
        raise HubError(f"{repo} has a {MANIFEST} of {size} bytes, which no bundle has: refused.")


def _fetched(api, repo: str, revision: str, listed: dict, folder: Path) -> Bundle:
    """The bundle in `folder`, whole and verified."""
    folder.mkdir()
    _fetch(api, repo, revision, [MANIFEST], folder)
    try:
        bundle = open_bundle(folder)
    except BundleError as error:
        # the folder is a temporary one, which nobody knows
        words = str(error).replace(str(folder), repo)
        raise BundleError(words) from error

    wanted = {name: entry.bytes for name, entry in bundle.files.items()}
    _check_sizes(repo, wanted, listed, folder)
    beside = [name for name in BESIDE if name in listed]
    for name in beside:
        if (listed[name].size or 0) > MOST_BESIDE_BYTES:
            raise HubError(f"{repo} has a {name} of {listed[name].size} bytes: refused.")

    tell(f"hub: {len(wanted)} files, {sum(wanted.values()) / 1e6:.1f} MB, are fetched from {repo}")
    _fetch(api, repo, revision, [*wanted, *beside], folder)
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the client's notes
    for name in wanted:
        try:
            verified_path(bundle, name)
        except BundleError as error:
            raise HubError(
                f"{repo}: {name} is not what the manifest says; nothing is kept. Try again; if it "
                "stays so, the repository is damaged."
            ) from error
    for name in (MANIFEST, *beside):
        _check_blob(repo, folder / name, listed[name])
    return bundle


def _check_sizes(repo: str, wanted: dict[str, int], listed: dict, folder: Path) -> None:
    """HubError where a file is missing, is not as long as the manifest says, or all are too many
    bytes: for anybody, or for the disk.
    """
    for name, size in wanted.items():
        if name not in listed:
            raise HubError(f"{repo} lacks {name}, which its manifest lists: it is no whole bundle.")
        if listed[name].size != size:
            raise HubError(
                f"{repo}: {name} has {listed[name].size} bytes, and {size} by its manifest: "
                "refused."
            )
    total = sum(wanted.values())
    if total > MOST_BYTES:
        raise HubError(
            f"{repo} has {total} bytes of files by its manifest; a bundle has {MOST_BYTES >> 30} "
            "GiB at most: refused."
        )
    free = shutil.disk_usage(folder).free
    if total > free:
        raise OutputError(
            f"{repo} has {total / 1e6:.0f} MB of files, and {free / 1e6:.0f} MB are free there. "
            "Make room, or give a folder elsewhere."
        )


def _fetch(api, repo: str, revision: str, names: list[str], folder: Path) -> None:
    with hub_errors(repo):
        for name in names:
            api.hf_hub_download(repo, name, revision=revision, local_dir=folder)


def _check_blob(repo: str, file: Path, listed) -> None:
    """HubError where a file is not what the hub's own listing says of it."""
    lfs = listed.lfs
    if lfs is not None:
        found, expected = hashlib.sha256(file.read_bytes()).hexdigest(), lfs.sha256
    else:
        content = file.read_bytes()
        # as git names a file's content
        found = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        expected = listed.blob_id
    if expected is not None and found != expected:
        raise HubError(f"{repo}: {file.name} is not what the hub lists; nothing is kept. Try again")
