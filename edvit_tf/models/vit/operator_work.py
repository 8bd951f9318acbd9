"""What the operators of an exported Vision Transformer do, counted, for an estimate of its
milliseconds.

MACs alone do not tell them apart: twelve heads of 10 dims have fewer MACs than two of 64 and take
half as long again, for each head has a softmax of its own and a product too narrow for the
processor's vectors. So each kind of work is counted by itself, and products as wide as the vectors
make them. The graph counted is `deployed.graph`: its last block asks for the class token alone.
"""

from edvit_tf.models.vit.config import ViTConfig


def latency_terms(config: ViTConfig, vector: int) -> dict[str, float]:
    """How much of each kind of work one input takes; `vector` floats are computed together, so a
    product of 10 columns costs as one of 12 where it is 4.

    files       1, what each inference costs
    blocks      encoder blocks: operators that are called
    heads       softmaxes and their two products that are called
    dense_macs  of fully-connected layers and the patch embedding, columns rounded up
    head_macs   of Q K^T and A V, columns rounded up
    scores      values that go through a softmax
    turned      values of q, k, v and of the heads' answers, which change their order
    hidden      values that go through a GELU
    stream      values of the residual stream that are normalised or added to
    pixels      values of the input
    """

    def wide(columns: int) -> int:
        return -(-columns // vector) * vector

    d, c = config.hidden_dim, config.mlp_dim
    h, a = config.num_heads, config.attention_dim
    tokens = config.num_tokens
    height, width, channels = config.image_shape
    pixels = height * width * channels

    found = dict.fromkeys(
        ("heads", "head_macs", "scores", "turned", "hidden", "stream"),
        0.0,
    )
    dense = config.num_patches * config.patch_size**2 * channels * wide(d)
    for i in range(config.num_layers):
        # rows that ask; keys and values are of all tokens
        last = config.pool == "cls" and i == config.num_layers - 1
        rows = 1 if last else tokens

        dense += 2 * tokens * d * wide(a) + rows * (d * wide(a) + a * wide(d))
        dense += rows * (d * wide(c) + c * wide(d))
        found["heads"] += h
        found["head_macs"] += h * rows * (config.head_dim * wide(tokens))
        found["head_macs"] += h * rows * (tokens * wide(config.head_dim))
        found["scores"] += h * rows * tokens
        found["turned"] += 2 * (tokens + rows) * a
        found["hidden"] += rows * c
        found["stream"] += (tokens + 3 * rows) * d

    return {
        "files": 1.0,
        "blocks": float(config.num_layers),
        "dense_macs": float(dense),
        **found,
        "pixels": float(pixels),
    }
