"""Open a bundle directory: manifest.json and the files it names, each verified by sha256 before it
is used.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edvit_tf.device.errors import BundleError
from edvit_tf.device.model.manifest import (
    SCHEMA_VERSION,
    FileEntry,
    FusionEntry,
    InputEntry,
    Manifest,
    SubModelEntry,
    manifest_from_dict,
)
from edvit_tf.device.model.manifest_checks import check_manifest
from edvit_tf.device.model.manifest_object import ManifestError

# The largest of the recipes' manifests, of ten sub-models, has 40 kB.
MAX_MANIFEST_BYTES = 16 << 20
REQUIRED = ("labels", "input", "sub_models", "fusion", "files", "data", "run", "plan", "seed")


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its folder, what its manifest says, and the digest of the manifest's
    canonical JSON.
    """

    path: Path
    manifest: Manifest
    digest: str

    @property
    def labels(self) -> list[str]:
        """Class names, in the order of the probabilities."""
        return list(self.manifest.labels)

    @property
    def sub_models(self) -> tuple[SubModelEntry, ...]:
        """The sub-models, in fusion order."""
        return self.manifest.sub_models

    @property
    def fusion(self) -> FusionEntry:
        return self.manifest.fusion

    @property
    def input(self) -> InputEntry:
        return self.manifest.input

    @property
    def files(self) -> dict[str, FileEntry]:
        """Every file that may be loaded, by name."""
        return self.manifest.files

    @property
    def widths(self) -> tuple[int, ...]:
        """d_j of each sub-model: how the fusion's `features` input is divided."""
        return self.fusion.widths

    @property
    def input_files(self) -> tuple[str, ...]:
        """Names of the files that preparing an input takes, e.g. mel_filters.npy."""
        return self.input.files

    def entry(self, index: int) -> SubModelEntry:
        """One sub-model; raises BundleError on an index that the bundle does not have."""
        if not 0 <= index < len(self.sub_models):
            raise BundleError(
                f"sub-model {index} was asked for; {self.path} has 0 to "
                f"{len(self.sub_models) - 1}. Ask for one of these."
            )

        return self.sub_models[index]


def canonical_json(value) -> str:
    """JSON with sorted keys and no spaces: the form whose sha256 is the digest."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def open_bundle(path: str | Path) -> Bundle:
    """Reads and checks manifest.json; files are verified when `verified_path` is asked for one.

    Raises BundleError, here alone for all that a manifest can have wrong: whoever has a Bundle may
    rely on its types. A link is followed once: the bundle stays the one that it led to, whatever
    the link leads to later.
    """
    path = _folder(Path(path))
    file = path / "manifest.json"
    values = _manifest_values(file)
    # before the keys are looked for: another version may have others
    version = values.get("schema_version") if isinstance(values, dict) else None
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"{file} has schema_version {version!r}; this program reads {SCHEMA_VERSION}. "
            "Install the edvit_tf version that made the bundle, or export it again."
        )

    missing = [key for key in REQUIRED if key not in values]
    if missing:
        raise BundleError(
            f"{file} lacks {', '.join(missing)}. Copy the bundle again, or export it again."
        )

    try:
        manifest = manifest_from_dict(values)
        check_manifest(manifest)
    except ManifestError as error:
        raise BundleError(
            f"{file} is not as a recipe writes it ({error}). Copy the bundle again, or export it "
            "again."
        ) from error

    try:
        # of the values, not of the text: how the file is laid out does not count
        text = canonical_json(values).encode()
    # a lone surrogate; or as deep as can be read, and too deep to be written
    except (UnicodeEncodeError, RecursionError) as error:
        raise BundleError(
            f"{file} is not JSON of ours ({error}). Copy the bundle again."
        ) from error

    return Bundle(path, manifest, hashlib.sha256(text).hexdigest())


def _folder(path: Path) -> Path:
    """A folder with a manifest.json, no link any more; BundleError if it is none, or may not be
    entered.
    """
    try:
        path = path.resolve()
        if (path / "manifest.json").is_file():
            return path
        found = sorted(p.name for p in path.iterdir())[:8] if path.is_dir() else "no such folder"
    # RuntimeError: links that lead to each other
    except (OSError, RuntimeError) as error:
        raise BundleError(
            f"{path} cannot be read ({error}). Mend its permissions, or give the folder that a "
            "recipe exported."
        ) from error

    raise BundleError(
        f"{path} holds no manifest.json (found: {found}). Give the folder that a recipe exported."
    )


def _manifest_values(file: Path) -> Any:
    """What manifest.json holds; BundleError if it cannot be read, or is no JSON of a usual size."""
    if file.is_symlink():
        raise BundleError(f"{file} is a link; links are not followed. Copy the bundle again.")

    try:
        with open(file, "rb") as opened:
            content = opened.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise BundleError(
            f"{file} cannot be read ({error}). Mend its permissions, or copy the bundle again."
        ) from error

    if len(content) > MAX_MANIFEST_BYTES:
        raise BundleError(
            f"{file} has more than {MAX_MANIFEST_BYTES >> 20} MiB, which no manifest has. Copy the "
            "bundle again."
        )

    try:
        return json.loads(content.decode("utf-8"))
    # ValueError: also a number of thousands of digits; RecursionError: lists in lists in lists
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file} is not JSON ({error}). Copy the bundle again.") from error


def verified_path(bundle: Bundle, name: str) -> Path:
    """Path of a file of the bundle, after its size and sha256 were found equal to the manifest's.

    Raises BundleError on a name that the manifest does not list, one that leaves the folder, a
    missing file, or one that was changed: nothing is loaded that was not exported.
    """
    listed = bundle.files
    if name not in listed:
        raise BundleError(
            f"{name} is not a file of {bundle.path}; it lists: {', '.join(sorted(listed))}."
        )

    file = bundle.path / name
    # no folder, no "..", and no link, wherever it leads
    if Path(name).name != name or file.is_symlink():
        raise BundleError(
            f"{name} leaves the bundle's folder {bundle.path}; files lie in the folder itself, and "
            "links are not followed. Refused."
        )

    if not file.is_file():
        raise BundleError(f"{file} is missing; the manifest lists it. Copy the bundle again.")

    expected = listed[name]
    try:
        size = file.stat().st_size
        actual = sha256(file)
    except OSError as error:
        raise BundleError(
            f"{file} cannot be read ({error}). Mend its permissions, or copy the bundle again."
        ) from error

    if size != expected.bytes or actual != expected.sha256:
        raise BundleError(
            f"{file} was changed: {size} bytes, sha256 {actual[:12]}...; the manifest says "
            f"{expected.bytes} bytes, "
            f"{expected.sha256[:12]}.... It is not loaded. Copy the bundle again."
        )

    return file


def sha256(path: Path) -> str:
    """sha256 of a file, hex, read in pieces of 1 MiB."""
    total = hashlib.sha256()
    with open(path, "rb") as file:
        # in pieces: a model may be larger than the memory that is left
        while piece := file.read(1 << 20):
            total.update(piece)

    return total.hexdigest()
