"""YAML in block style, of what JSON can hold: for files that people read and programs take."""

import json
import re
from typing import Any


def yaml_text(value: Any) -> str:
    """What JSON is, YAML is too: block style for people, each leaf as JSON."""
    return "\n".join(_lines(value, "")) + "\n"


def _lines(value: Any, indent: str) -> list[str]:
    if isinstance(value, dict) and value:
        lines = []
        for key, inner in value.items():
            if isinstance(inner, dict | list) and inner and not _is_short(inner):
                lines += [f"{indent}{_key(key)}:", *_lines(inner, indent + "  ")]
            else:
                lines.append(f"{indent}{_key(key)}: {json.dumps(inner)}")
        return lines
    if isinstance(value, list) and value and not _is_short(value):
        lines = []
        for inner in value:
            first, *rest = _lines(inner, indent + "  ")
            lines += [f"{indent}- {first.strip()}", *rest]
        return lines
    return [f"{indent}{json.dumps(value)}"]


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z][A-Za-z0-9_./-]+", key) else json.dumps(key)


def _is_short(value: Any) -> bool:
    return len(json.dumps(value)) < 60
