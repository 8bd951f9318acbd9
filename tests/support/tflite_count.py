"""What a .tflite file holds and computes, counted over its own operators and tensors: independent
of our formulas.

The flatbuffer is read with the schema that TensorFlow ships. Nothing is run.
"""

import math
from collections import Counter
from pathlib import Path
from typing import NamedTuple


class Count(NamedTuple):
    """Figures of the one subgraph of a file, batch as exported (1)."""

    # CONV_2D, FULLY_CONNECTED, BATCH_MATMUL: multiply-adds; biases and element-wise operators are
    # none, nor
    macs: int
    # are the means of LayerNorms, which are FULLY_CONNECTED with one output
    weights: dict[
        str, int
    ]  # stored numbers by type: "FLOAT32", "FLOAT16", "INT8"; shapes and axes are INT32
    weight_bytes: int  # of those, INT32 left out
    peak_bytes: int  # most bytes of activations alive at once: see `_peak`


def count(path: Path) -> Count:
    """Counts a file; raises AssertionError for an operator that multiplies matrices and is not
    known here.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    model, graph, codes = _read(path)
    types = _names(schema.TensorType)
    shapes = [() if t.shape is None else tuple(int(n) for n in t.shape) for t in graph.tensors]
    stored = {i for i, t in enumerate(graph.tensors) if model.buffers[t.buffer].data is not None}
    width = {"FLOAT32": 4, "FLOAT16": 2, "INT8": 1, "UINT8": 1, "BOOL": 1, "INT32": 4}
    macs, weights = 0, {}
    for operator in graph.operators:
        name, inputs, output = (
            codes[operator.opcodeIndex],
            operator.inputs,
            shapes[operator.outputs[0]],
        )
        if name == "CONV_2D":
            macs += math.prod(output) * math.prod(
                shapes[inputs[1]][1:]
            )  # kernel: out, height, width, in
        elif name == "FULLY_CONNECTED":
            macs += math.prod(output) * shapes[inputs[1]][1] * (output[-1] > 1)  # weights: out, in
        elif name == "BATCH_MATMUL":
            assert not operator.builtinOptions.adjX
            macs += math.prod(output) * shapes[inputs[0]][-1]
        assert "LSTM" not in name and name not in (
            "DEPTHWISE_CONV_2D",
            "TRANSPOSE_CONV",
            "CONV_3D",
        ), name
    for i in stored:
        kind = types[graph.tensors[i].type]
        values = math.prod(shapes[i])
        assert len(model.buffers[graph.tensors[i].buffer].data) == values * width[kind]
        weights[kind] = weights.get(kind, 0) + values
    size = [
        math.prod(shape) * width[types[t.type]]
        for shape, t in zip(shapes, graph.tensors, strict=True)
    ]
    return Count(
        macs,
        weights,
        sum(n * width[kind] for kind, n in weights.items() if kind != "INT32"),
        _peak(graph, size, stored),
    )


def operators(path: Path) -> Counter:
    """Operators of a file by name, e.g. "FULLY_CONNECTED"."""
    _, graph, codes = _read(path)
    return Counter(codes[operator.opcodeIndex] for operator in graph.operators)


def _read(path: Path):
    """The model, its one subgraph, and the name of each operator code."""
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    assert len(model.subgraphs) == 1
    known = _names(schema.BuiltinOperator)
    return (
        model,
        model.subgraphs[0],
        [known[max(c.builtinCode, c.deprecatedBuiltinCode)] for c in model.operatorCodes],
    )


def _names(enum) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}


def _peak(graph, size: list[int], stored: set[int]) -> int:
    """Liveness: a tensor lives from the operator that writes it (the input: from the start) to its
    last reader.
    """
    last = {i: step for step, op in enumerate(graph.operators) for i in [*op.inputs, *op.outputs]}
    last |= {int(i): len(graph.operators) for i in graph.outputs}
    alive, peak = {int(i) for i in graph.inputs}, 0
    for step, operator in enumerate(graph.operators):
        alive |= {int(i) for i in operator.outputs}
        peak = max(peak, sum(size[i] for i in alive - stored))
        alive = {i for i in alive if last.get(i, -1) > step}
    return peak
