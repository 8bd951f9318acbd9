"""The whole of it: what is asked for, in order of cost, each item stored; then the page."""

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from edvit_tf import __version__
from edvit_tf.checked import digest
from edvit_tf.data.catalogue import is_in
from edvit_tf.device.strict_json import finite_json
from edvit_tf.errors import ConfigError, DataError
from edvit_tf.pipeline.store import Stages
from edvit_tf.pipeline.work_folder import lock, open_stages
from edvit_tf.progress import warn
from edvit_tf.reproduce.asked import Asked
from edvit_tf.reproduce.compare import Row, compare
from edvit_tf.reproduce.exact import result
from edvit_tf.reproduce.item import Item, Now
from edvit_tf.reproduce.items import ITEMS
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
    for a folder that is none or has no data set at all, and where the recipes as they are need one.
    """
    needed = _needed(asked, items)
    if asked.data is not None and not asked.data.is_dir():
        raise DataError(f"--data {asked.data} is no folder; name one that holds data sets.")
    if not needed:
        return frozenset()

    missing = frozenset(
        name for name in needed if asked.data is None or not is_in(name, asked.data)
    )
    if asked.data is not None and missing and not asked.is_quick:
        raise DataError(
            f"--data {asked.data} has no {', '.join(sorted(missing))}; the layouts are in "
            "docs/howto/recipes.md. Add them, choose fewer tables and figures, or take --quick, "
            "which makes up what is missing."
        )
    if asked.data is not None and missing and not _there(asked):
        every = ", ".join(sorted(_needed(asked, ITEMS)))
        raise DataError(
            f"--data {asked.data} has none of {every}; the layouts are in docs/howto/recipes.md. "
            "Correct it, or leave --data and EDVIT_DATA out: all data are made up then."
        )
    if asked.data is None and not asked.is_quick:
        raise DataError(
            f"no folder of data sets was named, and {', '.join(sorted(needed))} are needed; give "
            "--data ROOT or set EDVIT_DATA, or take --quick, which makes data up."
        )
    return missing


def _needed(asked: Asked, items: Sequence[Item]) -> set[str]:
    """The data sets of these items' runs."""
    return {run.data for item in items for run in item.needed_runs(asked)}


def _there(asked: Asked) -> list[str]:
    """The data sets, of all items', that are in the folder of `asked`."""
    if asked.data is None:
        return []
    return [name for name in sorted(_needed(asked, ITEMS)) if is_in(name, asked.data)]


def _description(asked: Asked) -> dict:
    """What the stored stages belong to: another value of these is another run."""
    found = {
        "command": "edvit reproduce",
        "version": __version__,
        **asked.to_dict(),
        "recipes": str(asked.recipes),
    }
    if asked.is_quick:
        # without --quick a set that is not there is an error, and one that is added changes nothing
        found["data_sets"] = _there(asked)
    if asked.latency_from is not None:
        found["latency_from_sha256"] = _digest_of(asked.latency_from)
    return found


def _digest_of(path: Path) -> str | None:
    """Of a file's content; None of one that cannot be read, which its item tells."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


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

    description = _description(asked)
    with lock(asked.out):
        stages = open_stages(asked.out, digest(description), description, overwrite)
        # several items need the same run
        now = Now(asked, functools.cache(partial(_row, stages, asked, missing)))
        for item in items:
            stages.run(item.name, lambda folder, item=item: _built(item, now))
            rows = _write(asked, stages, places, command)
    return rows


def _built(item: Item, now: Now) -> dict:
    """An item's result; of one that waits for weights, why it has no figures."""
    option = item.waits_for(now.asked)
    if not option:
        return item.build(now)
    why = f"It starts from pretrained weights: {option}"
    keys = [said.key for said in read_paper().said if said.item == item.name]
    return result({}, f"edvit reproduce {option}", missing=dict.fromkeys(keys, why))


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
