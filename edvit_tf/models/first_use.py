"""Names of a package that are imported when they are first used."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def from_modules(
    package: str, names: Mapping[str, tuple[str, str]], within: str | None = None
) -> Callable[[str], Any]:
    """The `__getattr__` of a package: `names` has the module of each name, `within` another package
    where it is given, and its name there.
    """

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")

        module, there = names[name]
        return getattr(importlib.import_module(f"{within or package}.{module}"), there)

    return find
