"""What the paper says: paper.yaml as types, checked."""

import functools
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import yaml

from edvit_tf.errors import ConfigError

FILE = "paper.yaml"
BOUNDS = ("", "over", "about")
# What a reason may wait for: options of `edvit reproduce`, and a run without --quick.
LIFTING = ("full", "base", "text-base", "latency-from", "not-quick")


@dataclass(frozen=True)
class Said:
    """One thing that the paper says: a number, a claim in words (`value` None), or what only a
    picture has.
    """

    id: str
    kind: str  # "number", "claim", "picture"
    where: tuple[str, ...]  # keys of `Paper.places`
    says: str
    setting: str
    ours: str | None  # ITEM:KEY, None where no run of ours has it
    value: float | None = None
    unit: str = ""
    bound: str = ""  # one of BOUNDS
    within: float = 0.0  # share of the value by which a comparable figure may differ
    reasons: tuple[str, ...] = ()  # keys of `Paper.reasons`
    paper: str = "ed-vit"  # key of `Paper.papers`

    @property
    def item(self) -> str | None:
        """The item that has our figure."""
        return None if self.ours is None else self.ours.partition(":")[0]

    @property
    def key(self) -> str:
        """The name of our figure in that item."""
        return "" if self.ours is None else self.ours.partition(":")[2]


@dataclass(frozen=True)
class Reason:
    """Why two figures cannot be compared, until all of `lifted_by` are given, and the base has
    about `base_millions` of weights (None: any).
    """

    text: str
    lifted_by: tuple[str, ...]
    base_millions: float | None = None


@dataclass(frozen=True)
class Paper:
    """All of paper.yaml."""

    papers: dict[str, str]
    places: dict[str, str]
    reasons: dict[str, Reason]
    said: tuple[Said, ...] = field(default=())


@functools.cache
def read_paper() -> Paper:
    """The paper, as it comes with the package. Raises ConfigError where the file was changed to
    something that does not hold together.
    """
    text = resources.files("edvit_tf.reproduce").joinpath(FILE).read_text("utf-8")
    return paper_of(yaml.safe_load(text))


def paper_of(content: dict[str, Any]) -> Paper:
    """The content of such a file as types; ConfigError names the entry that is wrong."""
    reasons = {
        name: Reason(entry["text"], tuple(entry["lifted_by"]), entry.get("base_millions"))
        for name, entry in content["reasons"].items()
    }
    said = [
        *(_said("number", entry) for entry in content["numbers"]),
        *(_said("claim", entry) for entry in content["claims"]),
        *(_said("picture", entry) for entry in content["pictures"]),
    ]
    found = Paper(content["papers"], content["places"], reasons, tuple(said))
    _check(found)
    return found


def _said(kind: str, entry: dict[str, Any]) -> Said:
    try:
        given = dict(entry)
        for name in ("where", "reasons"):
            given[name] = tuple(given.get(name, ()))
        return Said(kind=kind, **given)
    except TypeError as error:
        raise _wrong(f"{entry.get('id', entry)!r}", str(error)) from None


def _check(paper: Paper) -> None:
    """Names that nobody has, twice the same id, a number without a value."""
    seen = set()
    for one in paper.said:
        if one.id in seen:
            raise _wrong(repr(one.id), "this id stands twice")
        seen.add(one.id)

        if (one.value is None) == (one.kind == "number") or one.value == 0:
            raise _wrong(repr(one.id), "numbers, and they alone, have a value, and none is 0")
        if one.bound not in BOUNDS:
            raise _wrong(repr(one.id), f"bound is {one.bound!r}, not one of {BOUNDS}")
        for names, known in (
            (one.where, paper.places),
            (one.reasons, paper.reasons),
            ((one.paper,), paper.papers),
        ):
            for name in names:
                if name not in known:
                    raise _wrong(repr(one.id), f"{name!r} is none of {', '.join(known)}")
        if not one.where or (one.ours is not None and not (one.item and one.key)):
            raise _wrong(repr(one.id), "it needs a place, and ours as ITEM:KEY or null")

    for name, reason in paper.reasons.items():
        if not set(reason.lifted_by) <= set(LIFTING):
            raise _wrong(f"reason {name!r}", f"lifted_by is not of {', '.join(LIFTING)}")


def _wrong(what: str, why: str) -> ConfigError:
    return ConfigError(f"{FILE}: {what}: {why}. Mend the entry.")
