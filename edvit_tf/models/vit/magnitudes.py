"""The score of a unit that reads weights alone: how large what writes it and what reads it are."""

from collections.abc import Mapping

import numpy as np

from edvit_tf.models.vit.config import ViTConfig

# What writes the residual stream; biases and the class token are left out.
_WRITERS = (
    "attention.output.kernel",
    "mlp.contract.kernel",
    "patch_embedding.kernel",
    "position_embedding.embedding",
)


def magnitude(
    config: ViTConfig,
    weights: Mapping[str, np.ndarray],
    cut: str,
    basis: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Scores of every unit of a cut, one 1-D float64 array a mask: the norm of what writes a unit
    times the norm of what reads it (q with k, v with its output row, expand with contract); for
    residual channels, or directions of `basis` (d, m), the norm of all kernels and positions that
    write them.
    """
    if cut == "residual":
        return {"residual": _residual(config, weights, basis)}

    def length(name: str, axis: int) -> np.ndarray:
        return np.linalg.norm(weights[name].astype(np.float64), axis=axis)

    # a product, since a unit that nothing writes, or nothing reads, is worth nothing
    scores = {}
    for i in range(config.num_layers):
        block = f"block_{i:02d}"
        if cut == "ffn":
            written = length(f"{block}.mlp.expand.kernel", 0)
            read = length(f"{block}.mlp.contract.kernel", 1)
            scores[f"{block}.ffn"] = written * read
        else:
            name = f"{block}.attention"
            query = length(f"{name}.query.kernel", 0)
            key = length(f"{name}.key.kernel", 0)
            scores[f"{block}.qk"] = query * key
            value = length(f"{name}.value.kernel", 0)
            output = length(f"{name}.output.kernel", 1)
            scores[f"{block}.v"] = value * output

    return scores


def _residual(config: ViTConfig, weights: Mapping, basis: np.ndarray | None) -> np.ndarray:
    # channels are the directions of the unit basis
    rotation = np.eye(config.hidden_dim) if basis is None else basis
    total = np.zeros(rotation.shape[1])
    for name, value in weights.items():
        if name.endswith(_WRITERS):
            turned = value.reshape(-1, config.hidden_dim) @ rotation
            total = total + np.square(turned, dtype=np.float64).sum(axis=0)

    return np.sqrt(total)
