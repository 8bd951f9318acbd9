"""A result on standard output: its table, or JSON for programs."""

import argparse
import json
import math
from typing import Any


def add_json(parser: argparse.ArgumentParser) -> None:
    """Adds `--json` to a parser."""
    parser.add_argument("--json", action="store_true", help="JSON in the place of the table")


def show(args: argparse.Namespace, result: Any, text: str) -> None:
    """Prints `text`, or with --json the result that it tells of."""
    print(json.dumps(_finite(result), indent=1) if args.json else text)


def _finite(value: Any) -> Any:
    """The same with null for what is no number: NaN and Infinity are Python's, not JSON's."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
