"""Features in two dimensions, by class (the paper's Figure 8), and beside each picture what is
measured in the features themselves, since t-SNE proves nothing.

Panels: the class token of the unsplit base, where it is at hand; the hidden layer of the fusion
(tower.hidden), or, of a fusion without one, all features side by side; the features of one
sub-model. Sub-models and their features are the .tflite files'.

Figures of a panel, all on the same samples:

    knn         share named right by the ten nearest others, in standardised features
    silhouette  mean over the samples, -1..1, of standardised features
    auc         area under the ROC curve: of each class against the rest by the model's own
                probability, mean over the classes; of a sub-model with "other" of its own classes
                together against the rest, by 1 - p(other)
"""

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edvit_tf.device.model.bundle import Bundle, open_bundle, verified_path
from edvit_tf.errors import ConfigError, DataError
from edvit_tf.evaluation.answers import Answers, ask, fuse
from edvit_tf.evaluation.evaluate import data_of, materialise, unseen

EACH = 200  # test samples of a class
NEIGHBOURS = 10
PERPLEXITY = 30.0
ITERATIONS = 1000  # scikit-learn's own default, under a name that its versions do not share


@dataclasses.dataclass(frozen=True)
class Features:
    """What one panel is made of: features (n, d), and scores by which `auc` is taken."""

    key: str
    title: str
    values: np.ndarray
    scores: np.ndarray  # (n, classes), or (n,) of `own` classes against the rest
    own: tuple[int, ...] | None = None


def tsne_study(
    bundle_path: str | Path,
    data_dir: str | Path | None = None,
    *,
    base: str | Path | None = None,
    each: int = EACH,
    submodel: int | None = None,
    seed: int = 0,
) -> dict:
    """Panels and figures of a bundle on its test split: plain JSON but for "points" (n, 2) of each
    panel, "point_labels" (n,) and "recordings" (n,).

    `base` is a .keras file (None: that of the bundle's work folder, where it is); `each` samples of
    a class, the first window of a recording, fewer where there are fewer; `submodel` None: drawn by
    `seed`. Raises BundleError, ConfigError, DataError.
    """
    bundle = open_bundle(bundle_path)
    base_file = _base_file(bundle, base)
    index = _chosen(bundle, submodel, seed)

    dataset, note = unseen(bundle, data_of(bundle, data_dir), "test")
    dataset, short_of = drawn(dataset, each, seed)
    with tempfile.TemporaryDirectory(prefix="edvit-tsne-") as name:
        inputs, labels, places = materialise(dataset, "test", Path(name))
        answers = ask(bundle, inputs)
        made = [] if base_file is None else [_base_features(base_file, inputs, bundle)]
    made += [_fused_features(bundle, answers), _sub_model_features(bundle, answers, index)]

    notes = ["SYNTHETIC stand-in: these figures mean nothing."] if dataset.synthetic else []
    if note is not None:
        notes.append(note)
    if base_file is None:
        notes.append("The unsplit base is not at hand: give it with --base.")
    notes.append(_how(labels, len(bundle.labels), each, short_of, seed))
    recordings = [dataset.recordings("test")[place].id for place in places]
    return {
        "bundle": bundle.path.name,
        "digest": bundle.digest,
        "data": dataset.describe()["name"],
        "synthetic": dataset.synthetic,
        "labels": list(bundle.labels),
        "submodel": bundle.entry(index).name,
        "seed": seed,
        "samples": len(labels),
        "notes": notes,
        "panels": [panel(one, labels, seed) for one in made],
        "point_labels": labels,
        "recordings": np.array(recordings),
    }


def _base_file(bundle: Bundle, given: str | Path | None) -> Path | None:
    """The base that was given, or that of the work folder; None where there is none."""
    if given is not None:
        if not Path(given).is_file():
            raise ConfigError(
                f"--base is {given}, which is no file; give the .keras file of the unsplit base, "
                f"such as {bundle.path.name}.work/base/base.keras."
            )
        return Path(given)
    beside = bundle.path.with_name(f"{bundle.path.name}.work") / "base" / "base.keras"
    return beside if beside.is_file() else None


def _chosen(bundle: Bundle, submodel: int | None, seed: int) -> int:
    """The sub-model of a panel."""
    if submodel is None:
        return int(np.random.default_rng(seed).integers(len(bundle.sub_models)))
    bundle.entry(submodel)
    return submodel


def drawn(dataset, each: int, seed: int):
    """The data set with `each` recordings of every class in its test split, one window each, and
    {class: count} of those that have fewer.
    """
    recordings = dataset.recordings("test")
    rng = np.random.default_rng(seed)
    own = {label: [] for label in range(len(dataset.labels))}
    for place in rng.permutation(len(recordings)):
        own[recordings[place].label].append(int(place))

    short_of = {dataset.labels[c]: len(found) for c, found in own.items() if len(found) < each}
    chosen = sorted(place for found in own.values() for place in found[:each])
    whole = {recordings[place].id: recordings[place] for place in chosen}

    def read(asked: Sequence) -> np.ndarray:
        return np.concatenate([dataset.read([whole[one.id]])[:1] for one in asked])

    test = tuple(dataclasses.replace(one, num_windows=1) for one in whole.values())
    splits = {**dataset.splits, "test": test}
    return dataclasses.replace(dataset, splits=splits, read=read), short_of


def _how(labels: np.ndarray, classes: int, each: int, short_of: dict, seed: int) -> str:
    fewer = ""
    if short_of:
        least = min(short_of.values())
        fewer = f" ({len(short_of)} of {classes} classes have fewer, {least} at least)"
    return (
        f"{len(labels)} test samples, up to {each} of a class{fewer}, one window of each; features "
        f"standardised; t-SNE of perplexity {_perplexity(len(labels)):.3g}, from the principal "
        f"components, {ITERATIONS} iterations, seed {seed}. 10-NN: by the ten nearest others, and "
        "silhouette: both in the features themselves, which a picture only hints at."
    )


def _base_features(file: Path, inputs: Path, bundle: Bundle) -> Features:
    """The class token of the unsplit base, by Keras."""
    from edvit_tf.models.weights import get_weights, load_keras
    from edvit_tf.training.train import predict

    try:
        model = load_keras(file)
        config = _config_of(model)
    except ValueError as error:
        raise ConfigError(
            f"{file} is no base of ours: {error}. Give --base another file."
        ) from error
    if tuple(config.input_shape) != bundle.input.shape:
        raise ConfigError(
            f"{file} takes {list(config.input_shape)}, the bundle {list(bundle.input.shape)}. Give "
            "the base that the bundle was made from."
        )
    if config.num_classes != len(bundle.labels):
        raise ConfigError(
            f"{file} has {config.num_classes} classes, the bundle {len(bundle.labels)}. Give the "
            "base that the bundle was made from."
        )
    answers = predict(config, get_weights(model), np.load(inputs, mmap_mode="r"))

    values, what = answers["features"], "features"
    if getattr(config, "pool", "").startswith("cls"):
        # beside it may stand the mean of the patch tokens
        values, what = values[:, : config.hidden_dim], "class token"
    return Features("base", f"unsplit base: {what}", values, _softmax(answers["logits"]))


def _config_of(model):
    """The configuration of a Keras model, by the first architecture that knows it."""
    from edvit_tf.models import ARCHITECTURES, architecture

    for name in ARCHITECTURES:
        try:
            return architecture(name).config_of(model)
        except ValueError as error:
            last = error
    raise last


def _fused_features(bundle: Bundle, answers: Answers) -> Features:
    """The hidden layer of the fusion, by Keras; all features where it has none."""
    import keras

    from edvit_tf.training.fusion_layers import load_fusion

    probabilities, _ = fuse(bundle, answers)
    values = np.concatenate(answers.features, axis=1)  # (n, sum d_j)
    model = load_fusion(verified_path(bundle, bundle.fusion.keras))
    try:
        layer = model.get_layer("tower.hidden")
    except ValueError:
        title = f"fused: all features side by side ({bundle.fusion.kind}: no hidden layer)"
        return Features("fused", title, values, probabilities)

    hidden = keras.Model(model.input, layer.output)
    present = np.ones((len(values), len(bundle.sub_models)), np.float32)
    found = hidden.predict({"features": values, "present": present}, batch_size=256, verbose=0)
    return Features("fused", "fused: hidden layer", np.asarray(found), probabilities)


def _sub_model_features(bundle: Bundle, answers: Answers, index: int) -> Features:
    entry = bundle.entry(index)
    shares = _softmax(answers.logits[index])
    title = f"{entry.name}: features"
    if not entry.other:
        full = np.zeros((len(shares), len(bundle.labels)))
        full[:, list(entry.classes)] = shares
        return Features("submodel", title, answers.features[index], full)
    own = tuple(entry.classes)
    return Features("submodel", title, answers.features[index], 1 - shares[:, -1], own)


def _softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def panel(features: Features, labels: np.ndarray, seed: int) -> dict:
    """The figures of one panel, and its "points" (n, 2) by t-SNE; n is 3 or more (DataError)."""
    from sklearn.manifold import TSNE

    if len(labels) < 3:
        raise DataError(
            f"{len(labels)} samples are too few for a picture; the test split needs 3 or more."
        )
    x = standardised(features.values)
    made = TSNE(
        n_components=2,
        perplexity=_perplexity(len(x)),
        init="pca",
        learning_rate="auto",
        random_state=seed,
    )
    auc, of = own_against_rest(features, labels)
    return {
        "key": features.key,
        "title": features.title,
        "width": features.values.shape[1],
        "knn": knn_accuracy(x, labels),
        "silhouette": silhouette(x, labels),
        "auc": auc,
        "auc_of": of,
        "points": made.fit_transform(x),
    }


def _perplexity(count: int) -> float:
    """30, or what so few samples allow."""
    return min(PERPLEXITY, (count - 1) / 3)


def standardised(values: np.ndarray) -> np.ndarray:
    """Each feature of mean 0 and deviation 1; one that never changes is 0."""
    x = np.asarray(values, np.float64)
    spread = x.std(axis=0)
    return (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0)


def knn_accuracy(x: np.ndarray, labels: np.ndarray) -> float:
    """Share of samples whose ten nearest others (fewer of few) have its class most often; of equal
    counts the class of the nearest counts.
    """
    from sklearn.neighbors import NearestNeighbors

    count = min(NEIGHBOURS, len(x) - 1)
    # without arguments: of the samples themselves, each without itself
    near = NearestNeighbors(n_neighbors=count).fit(x).kneighbors(return_distance=False)
    votes = labels[near]  # (n, 10), the nearest first
    same = votes[:, :, np.newaxis] == votes[:, np.newaxis, :]
    # argmax takes the first of the most frequent, which is the nearest
    named = votes[np.arange(len(x)), same.sum(axis=2).argmax(axis=1)]
    return float((named == labels).mean())


def silhouette(x: np.ndarray, labels: np.ndarray) -> float | None:
    """Mean silhouette of the classes; None for one class, or for a class a sample."""
    from sklearn.metrics import silhouette_score

    if not 2 <= len(np.unique(labels)) < len(labels):
        return None
    return float(silhouette_score(x, labels))


def own_against_rest(features: Features, labels: np.ndarray) -> tuple[float | None, str]:
    """The area under the ROC curve, and of what it is; None where there is no rest."""
    from sklearn.metrics import roc_auc_score

    if features.own is not None:
        is_own = np.isin(labels, features.own)
        if is_own.all() or not is_own.any():
            return None, "its own classes against the rest"
        return float(roc_auc_score(is_own, features.scores)), "its own classes against the rest"

    found = []
    for label in np.unique(labels):
        is_own = labels == label
        if not is_own.all():
            found.append(roc_auc_score(is_own, features.scores[:, label]))
    return (float(np.mean(found)) if found else None), "each class against the rest, mean"


def store(found: dict, path: Path) -> None:
    """Coordinates, labels and figures as tsne.npz or by another name, and the folders above it."""
    arrays = {one["key"]: one["points"].astype(np.float32) for one in found["panels"]}
    path.parent.mkdir(parents=True, exist_ok=True)
    # numpy adds a suffix to a name, and would write over a file that nobody looked for
    with open(path, "wb") as file:
        np.savez_compressed(
            file,
            labels=found["point_labels"],
            recordings=found["recordings"],
            figures=np.array(json.dumps(figures(found))),
            **arrays,
        )


def figures(found: dict) -> dict:
    """Plain JSON of `tsne_study`: without coordinates."""
    panels = [{k: v for k, v in one.items() if k != "points"} for one in found["panels"]]
    left_out = ("point_labels", "recordings", "panels")
    return {**{k: v for k, v in found.items() if k not in left_out}, "panels": panels}


def tsne_text(found: dict) -> str:
    """The figures for a terminal."""
    from edvit_tf.study.page import text_table

    grid = [["features", "values", "10-NN %", "silhouette", "AUC", "of"]]
    for one in found["panels"]:
        cells = []
        for key, scale, digits in (("knn", 100, 1), ("silhouette", 1, 3), ("auc", 1, 3)):
            value = one[key]
            cells.append("-" if value is None else f"{scale * value:.{digits}f}")
        grid.append([one["title"], str(one["width"]), *cells, one["auc_of"]])
    return "\n".join([text_table(grid, left=(0, 5)), "", *found["notes"]])
