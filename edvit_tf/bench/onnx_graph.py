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
    from onnx import TensorProto, checker, helper, numpy_helper, save

    nodes = []
    constants = {}

    def op(kind: str, inputs: list[str], **attributes) -> str:
        output = f"{kind}_{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(value, name: str | None = None) -> str:
        if name is None:
            name = f"constant_{len(constants)}"
        constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def weight(name: str, value: np.ndarray | None = None) -> str:
        if value is None:
            value = weights[name]
        return constant(np.asarray(value, np.float32), name)

    def dense(x: str, name: str) -> str:
        return op("Add", [op("MatMul", [x, weight(f"{name}.kernel")]), weight(f"{name}.bias")])

    def norm(x: str, name: str) -> str:
        return op(
            "LayerNormalization",
            [x, weight(f"{name}.gamma"), weight(f"{name}.beta")],
            axis=-1,
            epsilon=config.layer_norm_epsilon,
        )

    def split(x: str, order: list[int]) -> str:
        shape = constant(np.int64([1, config.num_tokens, config.num_heads, config.head_dim]))
        return op("Transpose", [op("Reshape", [x, shape])], perm=order)

    def attention(x: str, name: str) -> str:
        q = split(dense(x, f"{name}.query"), [0, 2, 1, 3])  # (1, h, T, head_dim)
        k = split(dense(x, f"{name}.key"), [0, 2, 3, 1])  # (1, h, head_dim, T)
        v = split(dense(x, f"{name}.value"), [0, 2, 1, 3])
        scores = op("Mul", [op("MatMul", [q, k]), constant(np.float32(config.head_dim**-0.5))])
        y = op("MatMul", [op("Softmax", [scores], axis=-1), v])
        y = op("Transpose", [y], perm=[0, 2, 1, 3])  # (1, T, h, head_dim)
        y = op("Reshape", [y, constant(np.int64([1, config.num_tokens, config.attention_dim]))])
        return dense(y, f"{name}.output")

    def mlp(x: str, name: str) -> str:
        return dense(op("Gelu", [dense(x, f"{name}.expand")]), f"{name}.contract")

    mean = np.float32(config.input_mean)
    std = np.float32(config.input_std)
    x = op("Div", [op("Sub", ["input", constant(mean)]), constant(std)])

    x = op("Transpose", [x], perm=[0, 3, 1, 2])  # (1, C, H, W)
    kernel = weights["patch_embedding.kernel"].transpose(3, 2, 0, 1)  # (d, C, p, p)
    x = op(
        "Conv",
        [x, weight("patch_embedding.kernel", kernel), weight("patch_embedding.bias")],
        strides=[config.patch_size] * 2,
    )
    x = op("Reshape", [x, constant(np.int64([1, config.hidden_dim, config.num_patches]))])
    x = op("Concat", [weight("class_token.token"), op("Transpose", [x], perm=[0, 2, 1])], axis=1)
    x = op("Add", [x, weight("position_embedding.embedding")])

    for i in range(config.num_layers):
        block = f"block_{i:02d}"
        y = attention(norm(x, f"{block}.attention.norm"), f"{block}.attention")
        x = op("Add", [x, y])
        y = mlp(norm(x, f"{block}.mlp.norm"), f"{block}.mlp")
        x = op("Add", [x, y])

    x = op("Gather", [norm(x, "norm"), constant(np.int64(0))], axis=1)  # (1, d)
    nodes.append(helper.make_node("Identity", [x], ["features"]))
    nodes.append(helper.make_node("Identity", [dense(x, "head")], ["logits"]))

    def value(name: str, shape: list[int]):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes,
        "vit",
        [value("input", [1, *config.image_shape])],
        [value("features", [1, config.hidden_dim]), value("logits", [1, config.num_classes])],
        list(constants.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    checker.check_model(model)
    save(model, path)
