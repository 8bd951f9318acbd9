"""A BERT of a few thousand weights, texts for it, and its checkpoint in the Hugging Face layout."""

import json
from pathlib import Path

import numpy as np

from edvit_tf.models.bert.config import BertConfig

WORDS = [f"w{i}" for i in range(26)]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
VOCABULARY = "\n".join(PIECES).encode()
CONFIG = BertConfig(
    length=12,
    vocab_size=len(PIECES),
    num_positions=12,
    num_layers=2,
    hidden_dim=24,
    num_heads=4,
    head_dim=6,
    mlp_dim=40,
    num_classes=3,
)


def weights_of(config: BertConfig = CONFIG, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights by name, drawn: gammas about 1, all else about 0."""
    rng = np.random.default_rng(seed)
    d, a, c = config.hidden_dim, config.attention_dim, config.mlp_dim
    shapes: dict[str, tuple[int, ...]] = {
        "token_embedding.embeddings": (config.vocab_size, d),
        "position_embedding.embedding": (config.num_positions, d),
        "type_embedding.embedding": (config.num_types, d),
    }
    dense = {"head": (d, config.num_classes)}
    if config.pool == "cls":
        dense["pooler"] = (d, d)
    norms = ["embedding_norm"]
    for i in range(config.num_layers):
        block = f"block_{i:02d}"
        norms += [f"{block}.attention.norm", f"{block}.mlp.norm"]
        dense |= {f"{block}.attention.{part}": (d, a) for part in ("query", "key", "value")}
        dense[f"{block}.attention.output"] = (a, d)
        dense[f"{block}.mlp.expand"] = (d, c)
        dense[f"{block}.mlp.contract"] = (c, d)

    drawn = {name: rng.normal(0, 0.5, shape) for name, shape in shapes.items()}
    for name, (read, width) in dense.items():
        drawn[f"{name}.kernel"] = rng.normal(0, read**-0.5, (read, width))
        drawn[f"{name}.bias"] = rng.normal(0, 0.2, width)
    for name in norms:
        drawn[f"{name}.gamma"] = rng.uniform(0.5, 1.5, d)
        drawn[f"{name}.beta"] = rng.normal(0, 0.2, d)
    return {name: value.astype(np.float32) for name, value in drawn.items()}


def texts(count: int, config: BertConfig = CONFIG, seed: int = 1) -> np.ndarray:
    """int32 (count, length): texts of every length, zeros behind."""
    rng = np.random.default_rng(seed)
    x = np.zeros((count, config.length), np.int32)
    for i in range(count):
        some = config.length - i % (config.length - 2)
        x[i, :some] = rng.integers(1, config.vocab_size, some)
    return x


def write_checkpoint(folder: Path, config: BertConfig, weights: dict, pieces=PIECES) -> Path:
    """What transformers' save_pretrained writes of a BertModel, and sentence-transformers beside
    it.
    """
    from safetensors.numpy import save_file

    from edvit_tf.models.bert.pretrained import _DENSE, _NORMS

    tensors = {
        "embeddings.word_embeddings.weight": weights["token_embedding.embeddings"],
        "embeddings.position_embeddings.weight": weights["position_embedding.embedding"],
        "embeddings.token_type_embeddings.weight": weights["type_embedding.embedding"],
    }

    def norm(ours: str, theirs: str) -> None:
        tensors[f"{theirs}.weight"] = weights[f"{ours}.gamma"]
        tensors[f"{theirs}.bias"] = weights[f"{ours}.beta"]

    def dense(ours: str, theirs: str) -> None:
        tensors[f"{theirs}.weight"] = np.ascontiguousarray(weights[f"{ours}.kernel"].T)
        tensors[f"{theirs}.bias"] = weights[f"{ours}.bias"]

    norm("embedding_norm", "embeddings.LayerNorm")
    for i in range(config.num_layers):
        for ours, theirs in _DENSE.items():
            dense(f"block_{i:02d}.{ours}", f"encoder.layer.{i}.{theirs}")
        for ours, theirs in _NORMS.items():
            norm(f"block_{i:02d}.{ours}", f"encoder.layer.{i}.{theirs}")
    if config.pool == "cls":
        dense("pooler", "pooler.dense")
    else:
        (folder / "1_Pooling").mkdir(parents=True)
        said = {"word_embedding_dimension": config.hidden_dim, "pooling_mode_mean_tokens": True}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(said))

    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    values = {
        "model_type": "bert",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.mlp_dim,
        "hidden_act": "gelu",
        "max_position_embeddings": config.num_positions,
        "type_vocab_size": config.num_types,
        "layer_norm_eps": config.layer_norm_epsilon,
    }
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def write_bundle(folder: Path, **run) -> Path:
    """A bundle for texts by the real exporter: two sub-models of CONFIG with drawn weights, of
    two classes and "other" each. `run` are further fields of its RunConfig.
    """
    from edvit_tf.config import DataConfig, PruneConfig, RunConfig, TrainConfig
    from edvit_tf.device.model.text import TextSpec
    from edvit_tf.export.bundle import BundleParts, write_bundle
    from edvit_tf.export.fusion import fusion_of
    from edvit_tf.models.bert import cost
    from edvit_tf.models.weights import get_weights
    from edvit_tf.planning.plan import Plan, SubModelPlan

    labels = ("autos", "bikes", "court", "diets")
    fit = TrainConfig(epochs=1)
    run_config = RunConfig(
        name="texts",
        data=DataConfig("newsgroups", (1, CONFIG.length)),
        model="bert_smoke",
        base_training=fit,
        stage_training=fit,
        fusion_training=fit,
        pruning=PruneConfig(residual="channels"),
        num_devices=2,
        **run,
    )
    sizes = cost.size_bytes(CONFIG), cost.macs(CONFIG)
    subs = tuple(
        SubModelPlan(j, (2 * j, 2 * j + 1), 2, CONFIG, *sizes, (f"device-{j:02d}",))
        for j in range(2)
    )
    plan = Plan(subs, run_config.device_specs, None, "random", "greedy")
    rng = np.random.default_rng(9)
    drawn = get_weights(fusion_of(run_config, plan, len(labels)).build())
    fusion = {name: rng.normal(0, 0.3, w.shape).astype(np.float32) for name, w in drawn.items()}
    folder.mkdir()
    parts = BundleParts(
        run=run_config,
        plan=plan,
        labels=labels,
        input_spec=TextSpec(CONFIG.length, CONFIG.vocab_size),
        input_files={"vocab.txt": VOCABULARY},
        data={"name": "newsgroups", "source": "made up", "synthetic": True},
        splits={},
        sub_models=(weights_of(seed=1), weights_of(seed=2)),
        fusion=fusion,
        samples=texts(8),
    )
    write_bundle(folder, parts)
    return folder
