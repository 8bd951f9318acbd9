"""Weights from outside: a BERT checkpoint of the Hugging Face layout, cut to the pieces and
positions that a run's texts have; or a base.keras of an earlier run.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edvit_tf.device.model.text import VOCABULARY
from edvit_tf.device.model.wordpiece import Vocabulary, vocabulary
from edvit_tf.errors import ConfigError
from edvit_tf.models.bert.config import BertConfig
from edvit_tf.models.keras_file import read_base
from edvit_tf.models.sources import Base, find_base, read_json
from edvit_tf.models.tensors import Tensors, read_tensors, take

# our layer -> theirs, within a block
_DENSE = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "mlp.expand": "intermediate.dense",
    "mlp.contract": "output.dense",
}
_NORMS = {"attention.norm": "attention.output.LayerNorm", "mlp.norm": "output.LayerNorm"}
# what a BERT may have beside it: heads of its own training, and numbers that are no weights
_LEFT_OUT = ("cls.", "classifier.", "pooler.", "embeddings.position_ids")
_POOLING = "1_Pooling/config.json"  # of sentence-transformers


def load_base(
    source: str | Path,
    expected: BertConfig,
    labels: tuple[str, ...] | None = None,
    decibels: bool = False,
    files: Mapping | None = None,
) -> Base:
    """A base for a run of texts: a .keras file of ours as it is, or a checkpoint with the rows of
    the pieces of `files` ("vocab.txt", the run's vocabulary), as many positions as `expected` has,
    and a new head. `labels` and `decibels` are not read.

    Raises ConfigError for a checkpoint without vocab.txt, whose vocabulary is of another size than
    its config.json says, or lacks pieces of the run's; and as `models/sources.py` and
    `models/tensors.py` do.
    """
    path = find_base(source)
    if path.is_file():
        _check_own_vocabulary(path, files)
        return _load_keras(path, expected)

    base, known = read_checkpoint(path)
    config, weights, notes = base.config, dict(base.weights), []
    if config.num_positions < expected.length:
        raise ConfigError(
            f"--base {path} has {config.num_positions} positions; texts of {expected.length} "
            "pieces need as many. Take shorter texts, or another checkpoint."
        )

    wanted = vocabulary(files[VOCABULARY]) if files else known
    if wanted.pieces != known.pieces:
        rows = _rows(path, known, wanted)
        table = "token_embedding.embeddings"
        weights[table] = weights[table][rows]
        notes.append(f"pieces {known.size} -> {wanted.size}")
    if config.num_positions != expected.num_positions:
        places = "position_embedding.embedding"
        weights[places] = weights[places][: expected.num_positions]
        notes.append(f"positions {config.num_positions} -> {expected.num_positions}")

    config = config.replace(
        length=expected.length,
        vocab_size=wanted.size,
        num_positions=expected.num_positions,
        num_classes=expected.num_classes,
    )
    weights["head.kernel"] = np.zeros((config.feature_dim, config.num_classes), np.float32)
    weights["head.bias"] = np.zeros(config.num_classes, np.float32)
    notes.append(f"new head of {config.num_classes} classes")
    return Base(config, weights, new_head=True, notes=tuple(notes))


def _check_own_vocabulary(path: Path, files: Mapping | None) -> None:
    """ConfigError where the run that made a base.keras read its texts by another vocabulary."""
    beside = path.with_name(VOCABULARY)
    if files and beside.is_file() and beside.read_bytes() != files[VOCABULARY]:
        raise ConfigError(
            f"--base {path} was trained on texts that were read by another vocabulary, {beside}. "
            "Give the data that one (option vocabulary), or another base."
        )


def read_checkpoint(folder: Path) -> tuple[Base, Vocabulary]:
    """A checkpoint folder in our names, whole, with a head of one class; and its vocabulary."""
    values = read_json(folder / "config.json")
    if values.get("model_type") != "bert":
        raise ConfigError(
            f"{folder}/config.json is of a model {values.get('model_type')!r}; texts need a "
            "'bert', such as sentence-transformers/all-MiniLM-L6-v2 or "
            "google-bert/bert-base-uncased."
        )
    if values.get("hidden_act", "gelu") != "gelu":
        raise ConfigError(
            f"{folder}/config.json has hidden_act = {values['hidden_act']!r}; our BERT has 'gelu'. "
            "Take another checkpoint."
        )
    if values.get("position_embedding_type", "absolute") != "absolute":
        raise ConfigError(
            f"{folder}/config.json has positions of the kind "
            f"{values['position_embedding_type']!r}; our BERT has 'absolute'. Take another "
            "checkpoint."
        )

    known = read_vocabulary(folder)
    config = _config(folder, values)
    if known.size != config.vocab_size:
        raise ConfigError(
            f"{folder}/{VOCABULARY} has {known.size} pieces; its config.json says "
            f"{config.vocab_size}: it is the vocabulary of another checkpoint. Fetch both of one."
        )
    return Base(config, _weights(folder, config), new_head=True, notes=()), known


def read_vocabulary(folder: Path) -> Vocabulary:
    """That of a checkpoint folder; ConfigError where there is none, or it is none."""
    path = folder / VOCABULARY
    try:
        return vocabulary(path.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror}); a BERT needs its vocabulary. Fetch "
            f"{VOCABULARY} of the same checkpoint."
        ) from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _rows(folder: Path, known: Vocabulary, wanted: Vocabulary) -> list[int]:
    """Which row of the checkpoint's table each piece of a run has."""
    lacking = [piece for piece in wanted.pieces if piece not in known.pieces]
    if lacking:
        raise ConfigError(
            f"--base {folder} has a vocabulary that lacks {len(lacking)} of the {wanted.size} "
            f"pieces of the run's texts, e.g. {lacking[0]!r}: they were read by another's. Give "
            f"the data the vocabulary of this checkpoint ({folder / VOCABULARY})."
        )
    number = {value: piece for piece, value in wanted.pieces.items()}
    return [known.pieces[number[i]] if i in number else known.unknown for i in range(wanted.size)]


def _config(folder: Path, values: Mapping) -> BertConfig:
    def count(key: str) -> int:
        value = values.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(
                f"{folder}/config.json has {key} = {value!r}; it must be a whole number of 1 or "
                "more. Fetch the checkpoint again."
            )
        return value

    width, heads = count("hidden_size"), count("num_attention_heads")
    if width % heads:
        raise ConfigError(
            f"{folder}/config.json has {width} channels and {heads} heads, which do not divide "
            "them. Fetch the checkpoint again."
        )
    return BertConfig(
        length=count("max_position_embeddings"),
        vocab_size=count("vocab_size"),
        num_positions=count("max_position_embeddings"),
        num_layers=count("num_hidden_layers"),
        hidden_dim=width,
        num_heads=heads,
        head_dim=width // heads,
        mlp_dim=count("intermediate_size"),
        num_classes=1,
        pool=_pool(folder),
        num_types=count("type_vocab_size"),
        layer_norm_epsilon=float(values.get("layer_norm_eps", 1e-12)),
    )


def _pool(folder: Path) -> str:
    """What is read: as sentence-transformers wrote it down; of a plain BERT its pooler."""
    path = folder / _POOLING
    if not path.is_file():
        return "cls"
    if read_json(path).get("pooling_mode_mean_tokens") is True:
        return "mean"
    raise ConfigError(
        f"{path} has another pooling than the mean of the tokens. Take another checkpoint."
    )


def _weights(folder: Path, config: BertConfig) -> dict[str, np.ndarray]:
    tensors: Tensors = {
        name.removeprefix("bert."): value for name, value in read_tensors(folder).items()
    }
    d, a, c = config.hidden_dim, config.attention_dim, config.mlp_dim
    # LayerNorms of the first checkpoints have TensorFlow's names
    for name in list(tensors):
        if name.endswith(("LayerNorm.gamma", "LayerNorm.beta")):
            part = "weight" if name.endswith("gamma") else "bias"
            tensors[f"{name.rpartition('.')[0]}.{part}"] = tensors.pop(name)

    out: dict[str, np.ndarray] = {}
    for ours, theirs, rows in (
        ("token_embedding.embeddings", "word_embeddings", config.vocab_size),
        ("position_embedding.embedding", "position_embeddings", config.num_positions),
        ("type_embedding.embedding", "token_type_embeddings", config.num_types),
    ):
        out[ours] = take(tensors, f"embeddings.{theirs}.weight", (rows, d), folder)

    def norm(ours: str, theirs: str) -> None:
        out[f"{ours}.gamma"] = take(tensors, f"{theirs}.weight", (d,), folder)
        out[f"{ours}.beta"] = take(tensors, f"{theirs}.bias", (d,), folder)

    def dense(ours: str, theirs: str, read: int, width: int) -> None:
        kernel = take(tensors, f"{theirs}.weight", (width, read), folder)
        out[f"{ours}.kernel"] = np.ascontiguousarray(kernel.T)
        out[f"{ours}.bias"] = take(tensors, f"{theirs}.bias", (width,), folder)

    norm("embedding_norm", "embeddings.LayerNorm")
    sides = {"attention.output": (a, d), "mlp.expand": (d, c), "mlp.contract": (c, d)}
    for i in range(config.num_layers):
        for ours, theirs in _DENSE.items():
            layer = f"block_{i:02d}.{ours}"
            dense(layer, f"encoder.layer.{i}.{theirs}", *sides.get(ours, (d, a)))
        for ours, theirs in _NORMS.items():
            norm(f"block_{i:02d}.{ours}", f"encoder.layer.{i}.{theirs}")
    if config.pool == "cls":
        dense("pooler", "pooler.dense", d, d)

    unknown = [name for name in tensors if not name.startswith(_LEFT_OUT)]
    if unknown:
        raise ConfigError(
            f"{folder} has the tensor {unknown[0]}, which a BERT of {config.num_layers} layers has "
            "not. Fetch weights and config.json of one checkpoint."
        )
    return out


def _load_keras(path: Path, expected: BertConfig) -> Base:
    """A BERT of ours in a .keras file, which has to fit."""
    from edvit_tf.models.bert.keras_model import config_of

    config, weights = read_base(path, "BERT", config_of)
    for name in ("length", "vocab_size", "num_classes"):
        if getattr(config, name) != getattr(expected, name):
            raise ConfigError(
                f"--base {path} has {name} {getattr(config, name)}; the data need "
                f"{getattr(expected, name)}. Give a base that was trained on this data set."
            )
    return Base(config, weights, new_head=False, notes=())
