"""A pretrained model by its name on the hub: fetched once, into the cache of the hub's client."""

import fnmatch
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from edvit_tf.errors import HubError
from edvit_tf.hub.client import ANSWER_SECONDS, client, hub_errors
from edvit_tf.progress import tell

MOST_CONFIG_BYTES = 1 << 20


def fetch_checkpoint(
    name: str, patterns: Sequence[str], refused: Callable[[dict], str | None]
) -> Path:
    """The folder of a model in the client's cache; what is not there yet is fetched, and said.

    `patterns` say which of its files are wanted; `refused` says why a model of this config.json is
    none that is read, before its weights are fetched. Raises HubError.
    """
    api = client()
    kept = _cached(name, patterns)
    if kept is not None:
        return kept

    with hub_errors(name):
        from huggingface_hub import snapshot_download

        info = api.model_info(name, files_metadata=True, timeout=ANSWER_SECONDS)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        wanted = {
            file: size
            for file, size in sizes.items()
            if any(fnmatch.fnmatch(file, pattern) for pattern in patterns)
        }
        _check_files(name, sizes, wanted)
        why = refused(_config(api, name, info.sha, sizes))
        if why is not None:
            raise HubError(f"{name}: {why}")
        tell(f"base: {name} is fetched from the hub, {_megabytes(sum(wanted.values()))}, once")
        # by its branch, not by the commit: so the cache knows it by its name
        return Path(snapshot_download(name, allow_patterns=list(patterns)))


def _cached(name: str, patterns: Sequence[str]) -> Path | None:
    """The folder in the cache if it has weights; no network is asked."""
    from huggingface_hub import errors, snapshot_download

    try:
        folder = Path(snapshot_download(name, allow_patterns=list(patterns), local_files_only=True))
    except (errors.LocalEntryNotFoundError, errors.HFValidationError, OSError):
        return None
    # what an interrupted download left has a configuration and no weights
    weights = [file for end in ("safetensors", "weights.h5") for file in folder.glob(f"*.{end}")]
    is_whole = (folder / "config.json").is_file() and all(file.exists() for file in weights)
    return folder if weights and is_whole else None


def _check_files(name: str, sizes: dict[str, int], wanted: dict[str, int]) -> None:
    if "config.json" not in sizes:
        raise HubError(f"{name} has no config.json, so it is no checkpoint that is read.")
    if not any(file.endswith((".safetensors", ".weights.h5")) for file in wanted):
        others = [file for file in sizes if file.endswith((".bin", ".pt", ".ckpt", ".h5"))]
        raise HubError(
            f"{name} has no weights as safetensors or as a KerasHub preset"
            f"{f' (but {others[0]}, which is not opened)' if others else ''}. Take another model, "
            "or convert it, and give its folder."
        )


def _config(api, name: str, revision: str, sizes: dict[str, int]) -> dict:
    """Its config.json."""
    if sizes["config.json"] > MOST_CONFIG_BYTES:
        raise HubError(f"{name} has a config.json of {_megabytes(sizes['config.json'])}: refused.")
    file = api.hf_hub_download(name, "config.json", revision=revision)
    try:
        config = json.loads(Path(file).read_text(encoding="utf-8"))
    except ValueError as error:
        raise HubError(f"{name} has a config.json that is no JSON ({error}).") from error
    return config if isinstance(config, dict) else {}


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
