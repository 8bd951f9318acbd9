"""JSON as every reader takes it: NaN and Infinity are Python's alone."""

import math
from typing import Any


def finite_json(value: Any) -> Any:
    """The same with null for what is no number, and lists for tuples."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite_json(one) for one in value]
    return value
