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

    The runtimes append a DELEGATE node for each piece and keep the operators that it replaces;
    those are found by walking back from its outputs to its inputs. Both runtimes list their nodes
    under a private name: None where a version does not.
    """
    try:
        nodes = interpreter._get_ops_details()
        operators = [node for node in nodes if node["op_name"] != DELEGATE]
        pieces = [node for node in nodes if node["op_name"] == DELEGATE]
        writer = {
            int(tensor): place for place, node in enumerate(operators) for tensor in node["outputs"]
        }
        replaced: set[int] = set()
        for piece in pieces:
            border, waiting = set(map(int, piece["inputs"])), list(map(int, piece["outputs"]))
            while waiting:
                place = writer.get(waiting.pop())
                if place is not None and place not in replaced:
                    replaced.add(place)
                    waiting += [int(t) for t in operators[place]["inputs"] if int(t) not in border]
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    rest = [node["op_name"] for place, node in enumerate(operators) if place not in replaced]
    return {
        "operators": dict(Counter(node["op_name"] for node in operators)),
        "partitions": len(pieces),
        "undelegated": dict(Counter(rest)),
    }
