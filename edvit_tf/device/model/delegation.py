"""Which operators of a loaded file does the runtime hand to XNNPACK, and in how many pieces?

Every border between a delegated piece and the rest costs, more with two threads: a graph in one
piece is the aim.
"""

from collections import Counter
from typing import Any

DELEGATE = "DELEGATE"  # the name of a node that stands for a whole piece of the graph


def delegation(interpreter: Any) -> dict | None:
    """{"operators": {name: count}, "partitions": pieces, "undelegated": {name: count}} of an
    allocated interpreter.

    The runtimes append a DELEGATE node for each piece and keep the operators that it replaces. Both
    list their nodes under a private name: None where a version does not.
    """
    try:
        nodes = interpreter._get_ops_details()
        operators = [node for node in nodes if node["op_name"] != DELEGATE]
        pieces = [node for node in nodes if node["op_name"] == DELEGATE]
        replaced = _replaced(operators, pieces)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None

    # what no piece replaces runs in the runtime's own kernels
    rest = [node["op_name"] for place, node in enumerate(operators) if place not in replaced]
    return {
        "operators": dict(Counter(node["op_name"] for node in operators)),
        "partitions": len(pieces),
        "undelegated": dict(Counter(rest)),
    }


def _replaced(operators: list[dict], pieces: list[dict]) -> set[int]:
    """Places of the operators that the pieces replace: found by walking back from a piece's outputs
    to its inputs.
    """
    writer = {}  # tensor -> place of the operator that writes it
    for place, node in enumerate(operators):
        for tensor in node["outputs"]:
            writer[int(tensor)] = place

    replaced: set[int] = set()
    for piece in pieces:
        # back from what the piece writes, to what it is given: that was written outside
        border = {int(tensor) for tensor in piece["inputs"]}
        waiting = [int(tensor) for tensor in piece["outputs"]]
        while waiting:
            written_by = writer.get(waiting.pop())
            if written_by is None or written_by in replaced:
                continue

            replaced.add(written_by)
            before = [int(tensor) for tensor in operators[written_by]["inputs"]]
            waiting += [tensor for tensor in before if tensor not in border]

    return replaced
