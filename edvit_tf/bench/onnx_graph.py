"""A ViT as an ONNX file, for runtimes that are compared with ours: the plain graph, as an exporter
would write it.

LayerNormalization and Gelu are ONNX's own operators (opset 20), which is what the runtimes fuse
best; all blocks run on all tokens. Source: https://onnx.ai/onnx/operators/.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edvit_tf.models.vit.config import ViTConfig

OPSET = 20


def write_onnx(config: ViTConfig, weights: Mapping[str, np.ndarray], path: Path) -> None:
    """Writes the model: "image" uint8 or "mel" float32, here always float32 (1, H, W, C) 0..255 ->
    features, logits.
    """
    from onnx import TensorProto, checker, helper, save

    graph = _Graph(config, weights)
    x = graph.embedded("input")  # (1, T, d)
    for i in range(config.num_layers):
        x = graph.block(x, f"block_{i:02d}")

    # The class token is the first; the head reads it alone.
    class_token = graph.constant(np.int64(0))
    x = graph.op("Gather", [graph.norm(x, "norm"), class_token], axis=1)  # (1, d)
    graph.named(x, "features")
    graph.named(graph.dense(x, "head"), "logits")

    def value(name: str, shape: list[int]):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    outputs = [
        value("features", [1, config.hidden_dim]),
        value("logits", [1, config.num_classes]),
    ]
    inputs = [value("input", [1, *config.image_shape])]

    constants = list(graph.constants.values())
    written = helper.make_graph(graph.nodes, "vit", inputs, outputs, constants)
    model = helper.make_model(written, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)

    checker.check_model(model)
    save(model, path)


class _Graph:
    """Nodes and constants of a model in the making; a tensor is known by its name."""

    def __init__(self, config: ViTConfig, weights: Mapping[str, np.ndarray]) -> None:
        self.config = config
        self.weights = weights
        self.nodes: list = []
        self.constants: dict = {}

    def op(self, kind: str, inputs: list[str], **attributes) -> str:
        """The output of an operator."""
        from onnx import helper

        output = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def named(self, x: str, name: str) -> None:
        """Gives a tensor a name of its own."""
        from onnx import helper

        self.nodes.append(helper.make_node("Identity", [x], [name]))

    def constant(self, value, name: str | None = None) -> str:
        from onnx import numpy_helper

        if name is None:
            name = f"constant_{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def weight(self, name: str) -> str:
        return self.constant(np.asarray(self.weights[name], np.float32), name)

    def dense(self, x: str, name: str) -> str:
        # Kernels are (in, out), as Keras has them: no transposition.
        product = self.op("MatMul", [x, self.weight(f"{name}.kernel")])
        return self.op("Add", [product, self.weight(f"{name}.bias")])

    def norm(self, x: str, name: str) -> str:
        return self.op(
            "LayerNormalization",
            [x, self.weight(f"{name}.gamma"), self.weight(f"{name}.beta")],
            axis=-1,
            epsilon=self.config.layer_norm_epsilon,
        )

    def embedded(self, x: str) -> str:
        """(1, H, W, C) -> the first block's tokens, (1, T, d)."""
        config = self.config
        # Normalised here, as in the model: inputs are 0..255.
        mean = self.constant(np.array(config.input_mean, np.float32))
        std = self.constant(np.array(config.input_std, np.float32))
        x = self.op("Div", [self.op("Sub", [x, mean]), std])
        x = self.op("Transpose", [x], perm=[0, 3, 1, 2])  # (1, C, H, W)

        # Patches are a convolution whose stride is its kernel's size.
        kernel = self.weights["patch_embedding.kernel"].transpose(3, 2, 0, 1)  # (d, C, p, p)
        name = self.constant(np.asarray(kernel, np.float32), "patch_embedding.kernel")
        bias = self.weight("patch_embedding.bias")
        x = self.op("Conv", [x, name, bias], strides=[config.patch_size] * 2)

        shape = self.constant(np.array([1, config.hidden_dim, config.num_patches], np.int64))
        x = self.op("Transpose", [self.op("Reshape", [x, shape])], perm=[0, 2, 1])  # (1, N, d)
        x = self.op("Concat", [self.weight("class_token.token"), x], axis=1)  # (1, T, d)
        return self.op("Add", [x, self.weight("position_embedding.embedding")])

    def block(self, x: str, name: str) -> str:
        # Pre-norm: what is added is the branch of the normalised tokens.
        y = self.attention(self.norm(x, f"{name}.attention.norm"), f"{name}.attention")
        x = self.op("Add", [x, y])

        y = self.dense(self.norm(x, f"{name}.mlp.norm"), f"{name}.mlp.expand")
        y = self.dense(self.op("Gelu", [y]), f"{name}.mlp.contract")
        return self.op("Add", [x, y])

    def attention(self, x: str, name: str) -> str:
        config = self.config
        q = self.heads(self.dense(x, f"{name}.query"), [0, 2, 1, 3])  # (1, h, T, head_dim)
        k = self.heads(self.dense(x, f"{name}.key"), [0, 2, 3, 1])  # (1, h, head_dim, T)
        v = self.heads(self.dense(x, f"{name}.value"), [0, 2, 1, 3])

        # softmax(q k^T / sqrt(head_dim)) v
        scale = self.constant(np.float32(config.head_dim**-0.5))
        # (1, h, T, T)
        scores = self.op("Softmax", [self.op("Mul", [self.op("MatMul", [q, k]), scale])], axis=-1)

        # (1, T, h, head_dim)
        y = self.op("Transpose", [self.op("MatMul", [scores, v])], perm=[0, 2, 1, 3])
        shape = self.constant(np.array([1, config.num_tokens, config.attention_dim], np.int64))
        return self.dense(self.op("Reshape", [y, shape]), f"{name}.output")

    def heads(self, x: str, order: list[int]) -> str:
        """(1, T, h * head_dim) -> (1, T, h, head_dim) in another order."""
        config = self.config
        shape = self.constant(
            np.array([1, config.num_tokens, config.num_heads, config.head_dim], np.int64)
        )
        return self.op("Transpose", [self.op("Reshape", [x, shape])], perm=order)
