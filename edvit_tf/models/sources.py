"""Where pretrained weights are: a .keras file, a folder, or a name on the Hugging Face hub.

Only formats that hold plain numbers are taken (safetensors, HDF5); pickled files are refused,
because opening one runs whatever code its author put in.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edvit_tf.checked import digest
from edvit_tf.data.names import printable
from edvit_tf.device.model.bundle import sha256
from edvit_tf.errors import ConfigError, HubError
from edvit_tf.hub.checkpoint import fetch_checkpoint
from edvit_tf.models import ModelConfig

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
WANTED = (
    "Give a base.keras of an earlier run, a checkpoint folder, or a hub name such as "
    "facebook/dinov2-small."
)
CONFIG_FILES = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "task.json",
    "image_converter.json",
)
LFS_START = b"version https://git-lfs"  # of the note that stands in the place of a large file
# beside them, of a BERT: what its numbers mean, and what is read of it
TEXT_FILES = ("vocab.txt", "1_Pooling/config.json")
HUB_FILES = (
    *CONFIG_FILES,
    *TEXT_FILES,
    "tokenizer_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "*.weights.h5",
)
_FOREIGN = {
    "saved_model.pb": "TensorFlow's SavedModel",
    "tf_model.h5": "transformers' for TensorFlow",
    "flax_model.msgpack": "transformers' for Flax",
    "model.onnx": "ONNX",
}
OF_TEXTS = ("bert",)  # model_type of checkpoints that models/bert reads
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Base:
    """A base's config and its weights by name, and what was done to them."""

    config: ModelConfig
    weights: dict[str, np.ndarray]
    new_head: bool  # True: the head is zeros, and the base must be fine-tuned
    notes: tuple[str, ...]  # what was resampled, and what became of the head


def find_base(source: str | Path) -> Path:
    """The .keras file or checkpoint folder that `source` means; a name such as
    "facebook/dinov2-small" that is no path here is fetched from the Hugging Face hub (or taken from
    its cache).

    Raises ConfigError if nothing is there, if it is a pickled file, or if it cannot be fetched.
    """
    path = Path(source)
    if path.suffix in PICKLED and not path.is_dir():
        raise ConfigError(f"--base {source} {_refusal()}")

    if path.is_dir():
        _refuse_own(path)
        return path
    if path.is_file() and path.suffix == ".keras":
        return path

    # a file that lies within a checkpoint is a near miss: its folder was meant
    if path.is_file():
        inside = path.name.endswith((".safetensors", ".weights.h5", ".json"))
        raise ConfigError(
            f"--base {source} is not a .keras file. "
            + (
                f"Give its folder, {path.parent}: the weights are read with the config.json "
                "beside them."
                if inside
                else WANTED
            )
        )

    # no path here: a name on the hub, unless it was plainly to be a file
    if _HUB_NAME.fullmatch(str(source)) and path.suffix not in (
        ".keras",
        ".h5",
        ".safetensors",
        ".json",
    ):
        return _download(str(source))

    raise ConfigError(
        f"--base {source} is not there, so it is not a .keras file or a folder. {WANTED}"
    )


def vocabulary_beside(path: Path) -> Path | None:
    """The vocab.txt of a checkpoint folder, or that a run of ours left beside its base.keras; None
    where there is none.
    """
    folder = path if path.is_dir() else path.parent
    file = folder / "vocab.txt"
    return file if file.is_file() else None


def _refuse_own(folder: Path) -> None:
    """ConfigError for a folder that a run of ours has made: its base is one file in it, or beside
    it.
    """
    # "." and "/" have no name to put a suffix to
    whole = folder.resolve()
    work = whole.parent / f"{whole.name}.work"
    places = (
        (folder / "base.keras", "a stage of a run"),
        (folder / "base" / "base.keras", "the work folder of a run"),
        (work / "base" / "base.keras", "a bundle"),
    )
    for file, what in places:
        if file.is_file() and not (folder / "config.json").is_file():
            raise ConfigError(f"--base {folder} is {what}, and no checkpoint. Give {file}.")

    if (folder / "manifest.json").is_file():
        raise ConfigError(
            f"--base {folder} is a bundle, which holds sub-models and no base; its work folder "
            f"{work.name} is not beside it. Give base/base.keras of a run's work folder."
        )

    # A run's folder whose base is not finished, or one full of .keras files.
    found = sorted(file for file in folder.glob("*.keras") if file.is_file())
    if found and not (folder / "config.json").is_file():
        raise ConfigError(
            f"--base {folder} is a folder of .keras files, and no checkpoint. Give one of them, "
            f"such as {found[0]}."
        )
    if (folder / "stage.json").is_file():
        raise ConfigError(
            f"--base {folder} is a stage of a run, and no checkpoint. Give base/base.keras of the "
            "same work folder."
        )
    if (folder / "run.json").is_file():
        raise ConfigError(
            f"--base {folder} is the work folder of a run whose base is not finished. Give another "
            "run's base/base.keras, or finish that run."
        )


def lfs_words(start: bytes) -> str | None:
    """What is said of a file that begins as a note of git-LFS does; None: it does not."""
    if not start.startswith(LFS_START):
        return None
    return (
        "is a note of git-LFS in the place of the file, which was never fetched; run `git lfs "
        "pull` in the repository it came from"
    )


def refuse_lfs(path: Path) -> None:
    """ConfigError if a file is a note of git-LFS."""
    try:
        with path.open("rb") as file:
            words = lfs_words(file.read(len(LFS_START)))
    except OSError:  # whoever reads it says so
        return
    if words:
        raise ConfigError(f"{path} {words}, or fetch the checkpoint again.")


def read_json(path: Path) -> dict:
    """The object in a JSON file; ConfigError if it is missing or no JSON object."""
    refuse_lfs(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path.parent} has no {path.name}; a checkpoint is a folder with config.json and its "
            f"weights. {WANTED}"
        ) from None
    except (ValueError, OSError) as error:
        raise ConfigError(
            f"{path} is not readable JSON ({error}). Fetch the checkpoint again."
        ) from error

    if not isinstance(value, dict):
        raise ConfigError(
            f"{path} holds a {type(value).__name__}; it must be a JSON object. Fetch it again."
        )

    return value


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights: model.safetensors, the shards that its index names, or
    model.weights.h5.
    """
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]

    if index.is_file():
        names = read_json(index).get("weight_map")
        if (
            not isinstance(names, dict)
            or not names
            or not all(isinstance(n, str) for n in names.values())
        ):
            raise ConfigError(
                f"{index} has no weight_map of tensor names to files. Fetch the checkpoint again."
            )

        # a name must not lead out of the folder
        for tensor, name in names.items():
            if Path(name).name != name or not (folder / name).is_file():
                raise ConfigError(
                    f"{index} puts {tensor} into {name!r}, which is not a file of {folder}. Fetch "
                    "that shard as well."
                )

        return [folder / name for name in sorted(set(names.values()))]

    if (folder / "model.weights.h5").is_file():
        return [
            folder / f for f in ("model.weights.h5", "task.weights.h5") if (folder / f).is_file()
        ]

    # nothing that is read; what other programs keep their weights in is named
    for name, what in _FOREIGN.items():
        if (folder / name).exists():
            raise ConfigError(
                f"{folder} holds its weights as {name}, {what}, which is not read. Save it by "
                "transformers' save_pretrained as safetensors, and give that folder."
            )

    # pickled ones are what most would look for
    pickled = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLED)
    if pickled:
        raise ConfigError(f"{folder} holds its weights as {pickled[0]}, which {_refusal()}")
    raise ConfigError(
        f"{folder} has no model.safetensors, model.safetensors.index.json or model.weights.h5 (a "
        f"hub repository may hold pickled weights only, which are not read). {WANTED}"
    )


def base_origin(source: str | Path, splits: str) -> str:
    """A line on where a given base comes from, its sha256 in it; it goes into the results.

    `splits` is the digest of this run's splits: a base that a run of ours trained on other splits
    has seen recordings that are tested on here, and is refused with ConfigError. Of any other file
    that cannot be known, and it is said.
    """
    path = find_base(source)
    if path.is_dir():
        # a checkpoint is all of its files: the digest of their digests
        content = digest(
            {file.relative_to(path).as_posix(): sha256(file) for file in _checkpoint_files(path)}
        )
        return (
            f"{shown_name(path)} (sha256 {content[:16]}), pretrained elsewhere: it may have seen "
            "the test split"
        )

    content = sha256(path)
    stored = _run_of(path)
    if stored is None:
        return (
            f"{printable(path.name)} (sha256 {content[:16]}), origin unknown: it may have seen the "
            "test split"
        )

    if stored["splits"] != splits:
        raise ConfigError(
            f"--base {path} was trained on another split (seed {stored['config']['seed']}): "
            "recordings that would be tested on here may be among those it has seen. Use the "
            "same data and --seed as its run."
        )
    return f"{printable(path.name)} (sha256 {content[:16]}), trained on the same split"


def _run_of(path: Path) -> dict | None:
    """What the run of ours was made from in whose work folder a base lies; None if it lies in none,
    or if run.json there is damaged.
    """
    # a run keeps its base in <work>/base/base.keras and what it was made from in <work>/run.json
    record = path.resolve().parent.parent / "run.json"
    try:
        stored = json.loads(record.read_text(encoding="utf-8"))["description"]
        return {"splits": stored["splits"], "config": {"seed": stored["config"]["seed"]}}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _checkpoint_files(folder: Path) -> list[Path]:
    """What a checkpoint's answers follow from: its configuration and its weights."""
    named = [folder / name for name in (*CONFIG_FILES, *TEXT_FILES)]
    return [*(file for file in named if file.is_file()), *weight_files(folder)]


def shown_name(folder: Path) -> str:
    """A folder's name; of a snapshot in the hub's cache the name on the hub and the revision."""
    # the hub's cache: models--OWNER--NAME/snapshots/REVISION
    if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
        name = folder.parent.parent.name.removeprefix("models--").replace("--", "/")
        return f"{name} at {folder.name[:12]}"

    return printable(folder.resolve().name)


def _refusal() -> str:
    return (
        "is a pickled file: opening one can run any code, so none is opened. Convert it to "
        "safetensors, e.g. by transformers' from_pretrained and save_pretrained on a machine that "
        "may run it, and give that folder."
    )


def _download(name: str) -> Path:
    """The folder of a model on the hub; ConfigError where it cannot be fetched or is not read."""
    try:
        return fetch_checkpoint(name, HUB_FILES, _refused)
    except HubError as error:
        raise ConfigError(
            f"--base {name} is no folder here, and not to be had from the hub: {error} Or put "
            f"config.json and model.safetensors of {name} into a folder and give that."
        ) from error


def reads_texts(config: dict) -> bool:
    """Whether checkpoints with this config.json can be bases for texts."""
    return config.get("model_type") in OF_TEXTS


def is_read(config: dict) -> bool:
    """Whether checkpoints with this config.json can be bases for pictures or sound."""
    from edvit_tf.models.vit.huggingface import LAYOUTS

    return config.get("model_type") in LAYOUTS or config.get("class_name") == "ViTBackbone"


def _refused(config: dict) -> str | None:
    """Why a checkpoint with this config.json is no base of any architecture; None if it is one. Of
    which the run is, its architecture looks at.
    """
    from edvit_tf.models.vit.huggingface import LAYOUTS

    kind = config.get("model_type") or config.get("class_name")
    if is_read(config) or reads_texts(config):
        return None
    read = ", ".join((*LAYOUTS, *OF_TEXTS))
    return f"it is a model of type {kind!r:.60}; read are {read} and KerasHub's ViT."
