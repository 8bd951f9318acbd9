"""Dense layers without activation between them are one matrix: what follows from that.

A sub-model's logits come from one product (F, classes), which a device runs. NNFacet and EC-SNN fit
that product as three layers with dropout between them, Dense 384, Dense 192 and the head. So do we:
`fit_form` gives the layers in the place of the matrix, of the same function, and takes their
product when the fit is over.
"""

from collections.abc import Callable, Mapping

import numpy as np

from edvit_tf.models.vgg.config import VGGConfig, dense_names

Weights = dict[str, np.ndarray]


def product(config: VGGConfig, w: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (F, num_classes) and bias (num_classes,) of all Dense layers together, float32;
    multiplied in float64.
    """
    first, *rest = dense_names(config)
    kernel = w[f"{first}.kernel"].astype(np.float64)
    bias = _bias(w, first)
    for name in rest:
        bias = bias @ w[f"{name}.kernel"] + _bias(w, name)
        kernel = kernel @ w[f"{name}.kernel"]
    return kernel.astype(np.float32), bias.astype(np.float32)


def _bias(w: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Of a Dense layer; zeros of one that has none."""
    width = w[f"{name}.kernel"].shape[1]
    return w.get(f"{name}.bias", np.zeros(width)).astype(np.float64)


def with_head(
    config: VGGConfig, w: Mapping[str, np.ndarray], kernel: np.ndarray, bias: np.ndarray
) -> tuple[VGGConfig, Weights]:
    """The model with one matrix in the place of its Dense layers."""
    out = {name: value for name, value in w.items() if not _is_dense(name)}
    out["head.kernel"] = kernel
    out["head.bias"] = bias
    return config.replace(dense=(), num_classes=kernel.shape[1]), out


def _is_dense(name: str) -> bool:
    return name.startswith(("dense_", "head."))


def group_head(
    config: VGGConfig, w: Mapping[str, np.ndarray], classes: tuple[int, ...]
) -> tuple[VGGConfig, Weights]:
    """The rows of one class group of the product of the Dense layers, and "other" as the mean of
    the rest; all classes: the product as it is.

    Raises ValueError if the classes are not distinct rows of the head.
    """
    if len(set(classes)) != len(classes) or not set(classes) <= set(range(config.num_classes)):
        raise ValueError(
            f"classes {classes} must be distinct rows of the head, 0..{config.num_classes - 1}."
        )
    rest = [c for c in range(config.num_classes) if c not in classes]

    rows = []
    for value in product(config, w):  # (..., num_classes) -> (..., rows)
        own = [value[..., list(classes)]]
        if rest:
            own.append(value[..., rest].mean(axis=-1, keepdims=True))
        rows.append(np.concatenate(own, axis=-1))
    return with_head(config, w, *rows)


def fit_form(
    config: VGGConfig, w: Mapping[str, np.ndarray], seed: int
) -> tuple[VGGConfig, Weights, Callable[[Weights], Weights]]:
    """The model as it is fitted: `fit_dense` layers whose product is the head, and the way back to
    the one matrix. A model that has Dense layers of its own is fitted as it is.

    Where a width is below the number of classes, the product is the best of that rank.
    """
    if config.dense or not config.fit_dense:
        return config, dict(w), lambda fitted: fitted

    form = config.replace(dense=config.fit_dense)
    out = {name: value for name, value in w.items() if not _is_dense(name)}
    kernels = factors(w["head.kernel"], config.fit_dense, seed)
    for name, kernel in zip(dense_names(form), kernels, strict=True):
        out[f"{name}.kernel"] = kernel
        if config.has_biases:
            out[f"{name}.bias"] = np.zeros(kernel.shape[1], np.float32)
    out["head.bias"] = w["head.bias"]

    def back(fitted: Weights) -> Weights:
        _, narrow = with_head(form, fitted, *product(form, fitted))
        return {name: narrow[name] for name in w}  # in the order in which they came

    return form, out, back


def factors(kernel: np.ndarray, widths: tuple[int, ...], seed: int) -> list[np.ndarray]:
    """Matrices (F, widths[0]), ..., (widths[-1], classes) whose product is `kernel` (F, classes).

    Its singular parts go through the first units of each layer; the other units start at random
    (Glorot), and nothing reads them yet: the last matrix has zeros there.
    """
    rng = np.random.default_rng(seed)
    left, values, right = np.linalg.svd(kernel.astype(np.float64), full_matrices=False)
    rank = min(len(values), *widths)
    root = values[:rank] ** (1 / (len(widths) + 1))  # each layer has its share

    sides = (len(kernel), *widths)
    found = []
    for place, (read, width) in enumerate(zip(sides, widths, strict=False)):
        limit = np.sqrt(6 / (read + width))
        layer = rng.uniform(-limit, limit, (read, width))
        # what comes in through the first units leaves through the first, and nothing else does
        layer[:, :rank] = 0
        layer[: len(left) if place == 0 else rank, :rank] = (
            left[:, :rank] * root if place == 0 else np.diag(root)
        )
        found.append(layer)

    last = np.zeros((widths[-1], kernel.shape[1]))
    last[:rank] = root[:, None] * right[:rank]
    return [layer.astype(np.float32) for layer in (*found, last)]


def fresh_head(features: int, widths: tuple[int, ...], classes: int, seed: int) -> np.ndarray:
    """The product (features, classes) of Dense layers as PyTorch begins them (uniform, up to the
    root of 1 / inputs).
    """
    rng = np.random.default_rng(seed)
    kernel = np.eye(features)
    for read, width in zip((features, *widths), (*widths, classes), strict=True):
        limit = np.sqrt(1 / read)
        kernel = kernel @ rng.uniform(-limit, limit, (read, width))
    return kernel.astype(np.float32)
