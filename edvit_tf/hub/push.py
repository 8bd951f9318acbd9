"""A bundle to the hub: its files as the manifest lists them, its card, its report."""

import json
from pathlib import Path
from typing import Any

from edvit_tf.device.errors import BundleError
from edvit_tf.device.model.bundle import Bundle, open_bundle, verified_path
from edvit_tf.errors import HubError
from edvit_tf.hub.card import with_head
from edvit_tf.hub.client import ANSWER_SECONDS, client, hub_errors
from edvit_tf.progress import tell

CARD = "README.md"
MANIFEST = "manifest.json"
REPORT = "report.html"
# of a bundle, and not in its manifest
BESIDE = ("run.json", REPORT, "predictions.npz")
# Wrong answers as pictures or sounds of whoever trained it, and how the report shows them: these
# are not the hub's.
MISTAKES = "mistakes.json"
SHOWN = b'class="mistakes"'
MADE_BY_HUB = (".gitattributes",)


def push(folder: str | Path, repo: str, *, private: bool = False, overwrite: bool = False) -> str:
    """Sends a bundle to the repository OWNER/NAME, which is made if it is not there, as one commit;
    returns its address.

    Every file is verified first, and nothing else of the folder is sent. A repository that holds
    something else than this bundle is left as it is unless `overwrite`; its history keeps what it
    held. Raises BundleError, HubError.
    """
    bundle = open_bundle(folder)
    files = {name: verified_path(bundle, name) for name in bundle.files}
    beside = [bundle.path / name for name in BESIDE if (bundle.path / name).is_file()]
    if _shows_own_data(bundle):
        tell(
            f"hub: {REPORT} shows pictures or sounds of yours and is not sent. To send it without "
            f"them, delete {MISTAKES} and say edvit report {bundle.path}"
        )
        beside = [file for file in beside if file.name != REPORT]
    files |= {file.name: file for file in (bundle.path / MANIFEST, *beside)}
    size = sum(file.stat().st_size for file in files.values())

    api = client()
    with hub_errors(repo):
        address = api.create_repo(repo, private=private, exist_ok=True)
        there = api.model_info(repo, files_metadata=True, timeout=ANSWER_SECONDS)
        if private and not there.private:
            raise HubError(
                f"{repo} is there and public; --private makes no repository private. Make it so on "
                "its page, or give another name."
            )
        old = {file.rfilename for file in there.siblings or ()} - {*MADE_BY_HUB}
        _check_replaceable(api, repo, bundle, old, there.sha, overwrite)

        tell(f"hub: {len(files) + 1} files, {size / 1e6:.1f} MB, are sent to {repo}")
        api.create_commit(
            repo,
            operations=_operations(bundle, files, old),
            commit_message=f"{bundle.manifest.name}: bundle {bundle.digest[:12]}",
            parent_commit=there.sha,
        )
    return str(address)


def _shows_own_data(bundle: Bundle) -> bool:
    """Whether the report has pictures or sounds of the data in it."""
    report = bundle.path / REPORT
    if not report.is_file():
        return False
    return (bundle.path / MISTAKES).is_file() or SHOWN in report.read_bytes()


def _operations(bundle: Bundle, files: dict[str, Path], old: set[str]) -> list:
    """What a commit does: the files of the bundle are there, those of an older one are not."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    gone = sorted(old - {*files, CARD})
    return [
        CommitOperationAdd(CARD, card_of(bundle).encode()),
        *(CommitOperationAdd(name, str(file)) for name, file in sorted(files.items())),
        *(CommitOperationDelete(name) for name in gone),
    ]


def card_of(bundle: Bundle) -> str:
    """The card of a bundle; one of before cards had a head gets it."""
    manifest = json.loads((bundle.path / MANIFEST).read_text(encoding="utf-8"))
    try:
        text = (bundle.path / CARD).read_text(encoding="utf-8")
    except (OSError, ValueError):
        text = f"# {manifest.get('name', bundle.path.name)}\n"
    return with_head(text, manifest, _results(bundle))


def _results(bundle: Bundle) -> dict[str, Any] | None:
    """results.json, if the bundle lists one."""
    if "results.json" not in bundle.files:
        return None
    file = verified_path(bundle, "results.json")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{file} is not JSON ({error}). Copy the bundle again.") from error
    return found if isinstance(found, dict) else None


def _check_replaceable(
    api, repo: str, bundle: Bundle, old: set[str], revision: str, overwrite: bool
) -> None:
    """HubError for a repository that holds something, unless it is this very bundle or is to go."""
    if overwrite or old <= {CARD}:
        return
    if MANIFEST in old:
        file = api.hf_hub_download(repo, MANIFEST, revision=revision)
        if Path(file).read_bytes() == (bundle.path / MANIFEST).read_bytes():
            return
        what = "another bundle"
    else:
        what = f"something else, such as {min(old - {CARD})}, and no {MANIFEST}"
    raise HubError(
        f"{repo} holds {what}. Pass --overwrite to replace it (its history keeps it), or give "
        "another name."
    )
