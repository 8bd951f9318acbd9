"""A result on standard output: its table, or JSON for programs."""

import argparse
import json
from typing import Any

from edvit_tf.device.strict_json import finite_json


def add_json(parser: argparse.ArgumentParser) -> None:
    """Adds `--json` to a parser."""
    parser.add_argument("--json", action="store_true", help="JSON in the place of the table")


def show(args: argparse.Namespace, result: Any, text: str) -> None:
    """Prints `text`, or with --json the result that it tells of."""
    print(json.dumps(finite_json(result), indent=1) if args.json else text)
