"""The package's root: its reading order is told in full."""

import re

import edvit_tf
from tests.support.commands import ROOT


def test_the_reading_order_names_every_room_once():
    children = set()
    for path in (ROOT / "edvit_tf").iterdir():
        if path.suffix == ".py" or (path / "__init__.py").is_file():
            children.add(path.stem)
    named = re.findall(r"^    (\w+)  +\S", edvit_tf.__doc__, re.M)
    assert len(named) == len(set(named))
    assert set(named) == children - {"__init__"}
