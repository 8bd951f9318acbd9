"""The whole of it: what is asked for, in order of cost, each item stored; then the page."""

import functools
import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from edvit_tf.checked import digest, finite_json
from edvit_tf.data.catalogue import is_in
from edvit_tf.errors import ConfigError, DataError
from edvit_tf.pipeline.store import Stages
from edvit_tf.pipeline.work_folder import lock, open_stages
from edvit_tf.progress import warn
from edvit_tf.reproduce.asked import Asked
from edvit_tf.reproduce.compare import Row, compare
from edvit_tf.reproduce.items import ITEMS, Item, Now
from edvit_tf.reproduce.page import page
from edvit_tf.reproduce.paper import read_paper
from edvit_tf.reproduce.recipes import RecipeRun, started

PAGE = "report.html"
FIGURES = "reproduce.json"


def chosen_items(places: Sequence[str]) -> list[Item]:
    """The items that these places need, in order of cost, with those that are exact; all without
    any places. ConfigError for a place that has none.
    """
    known = read_paper().places
    for place in places:
        if place not in known or not any(place in item.where for item in ITEMS):
            raise ConfigError(f"there is nothing to run for {place}; {_places_said(known)}.")
    wanted = set(places)
    return [item for item in ITEMS if item.is_exact or not places or wanted & set(item.where)]


def _places_said(known) -> str:
    """ "choose from --table 2, 3, ...": the places that options can name."""
    kinds: dict[str, list[str]] = {}
    for place in known:
        kind, _, which = place.partition(" ")
        if which and any(place in item.where for item in ITEMS):
            kinds.setdefault(kind, []).append(which)
    return "choose from " + ", ".join(f"--{kind} {'|'.join(w)}" for kind, w in kinds.items())


def missing_data(asked: Asked, items: Sequence[Item]) -> frozenset[str]:
    """Data sets that these items need and that are not in the folder of `asked`. Raises DataError
    for a folder that is none or has none of them, and where the recipes as they are need one.
    """
    needed = {run.data for item in items for run in item.runs(asked)}
    if asked.data is not None and not asked.data.is_dir():
        raise DataError(f"--data {asked.data} is no folder; name one that holds data sets.")
    if not needed:
        return frozenset()

    missing = frozenset(
        name for name in needed if asked.data is None or not is_in(name, asked.data)
    )
    if asked.data is not None and (missing == needed or (missing and not asked.is_quick)):
        raise DataError(
            f"--data {asked.data} has no {', '.join(sorted(missing))}; the layouts are in "
            "docs/howto/recipes.md. Add them, choose fewer tables and figures, or take --quick, "
            "which makes up what is missing."
        )
    if asked.data is None and not asked.is_quick:
        raise DataError(
            f"no folder of data sets was named, and {', '.join(sorted(needed))} are needed; give "
            "--data ROOT or set EDVIT_DATA, or take --quick, which makes data up."
        )
    return missing


def reproduce(
    asked: Asked, places: Sequence[str], command: Sequence[str], overwrite: bool = False
) -> list[Row]:
    """Runs what `places` need (none: everything) or goes on with it, and writes `asked.out`/
    report.html and reproduce.json over all that is done there. Returns the rows.

    Raises ConfigError, DataError, and OutputError where `asked.out` is of another run.
    """
    items = chosen_items(places)
    missing = missing_data(asked, items)
    for name in sorted(missing):
        warn(f"no {name} data: a SYNTHETIC stand-in is taken; accuracies mean nothing")

    description = {"command": "edvit reproduce", **asked.to_dict()}
    with lock(asked.out):
        stages = open_stages(asked.out, digest(description), description, overwrite)
        # several items need the same run
        now = Now(asked, functools.cache(partial(_row, stages, asked, missing)))
        for item in items:
            stages.run(item.name, lambda folder, item=item: item.build(now))
            rows = _write(asked, stages, places, command)
    return rows


def _row(stages: Stages, asked: Asked, missing: frozenset[str], run: RecipeRun) -> dict:
    """What a recipe's run came to: a stage of its own."""
    return stages.run(f"run.{run.name}", lambda folder: started(asked, run, missing))


def _write(
    asked: Asked, stages: Stages, places: Sequence[str], command: Sequence[str]
) -> list[Row]:
    """Page and JSON of all items that are done; what was asked for stands first."""
    paper = read_paper()
    done = {item.name: stages.result(item.name) for item in ITEMS if stages.has(item.name)}
    titles = {item.name: item.title for item in ITEMS}
    rows = compare(paper, done, asked)
    content = {
        "asked": asked.to_dict(),
        "command": list(command),
        "rows": [row.to_dict(paper) for row in rows],
        "items": {name: _stored(result) for name, result in done.items()},
    }
    _replace(asked.out / FIGURES, json.dumps(finite_json(content), indent=1, ensure_ascii=False))
    _replace(asked.out / PAGE, page(paper, rows, done, titles, asked, places, command))
    return rows


def _stored(result: dict) -> dict:
    """An item's result for the JSON, without what is drawn."""
    return {key: value for key, value in result.items() if key != "html"}


def _replace(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    partial_path = path.with_name(path.name + ".partial")
    partial_path.write_text(text, encoding="utf-8")
    os.replace(partial_path, path)
