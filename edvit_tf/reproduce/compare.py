"""Paper against ours: every number has a state, and the words that go with it."""

from collections.abc import Mapping
from dataclasses import dataclass

from edvit_tf.reproduce.asked import Asked
from edvit_tf.reproduce.paper import Paper, Reason, Said

AGREES = "agrees"
DIFFERS = "differs"
NOT_COMPARABLE = "not comparable"
NOT_RUN = "not run"
MISSING = "not had here"
PICTURE = "only a picture"
STATES = (AGREES, DIFFERS, NOT_COMPARABLE, PICTURE, NOT_RUN, MISSING)

# An option that takes away a reason, as a reader types it.
OPTIONS = {
    "full": "--full",
    "base": "--base WEIGHTS",
    "text-base": "--text-base WEIGHTS",
    "latency-from": "--latency-from FILE.json",
    "not-quick": "leave --quick out",
}

# A ViT-Base of few classes, or of other patches, has nearly the weights of one of a thousand.
BASE_WITHIN = 0.05


@dataclass(frozen=True)
class Row:
    """A thing that the paper says, beside ours."""

    said: Said
    ours: float | str | None
    state: str  # one of STATES
    why: str  # why it is comparable or not, and what would make it so
    about: Mapping  # data, base, seeds, command of ours; empty where there is none

    def to_dict(self, paper: Paper) -> dict:
        """Plain JSON."""
        said = self.said
        return {
            "id": said.id,
            "kind": said.kind,
            "from": paper.papers[said.paper],
            "where": [paper.places[name] for name in said.where],
            "says": said.says,
            "setting": said.setting,
            "unit": said.unit,
            "bound": said.bound,
            "paper": said.value,
            "ours": self.ours,
            "state": self.state,
            "why": self.why,
            **{key: self.about.get(key) for key in ("data", "base", "seeds", "command")},
        }


def compare(paper: Paper, results: Mapping[str, dict], asked: Asked) -> list[Row]:
    """A row for everything that the paper says, in its order; `results` are those of the items that
    were run, by name.
    """
    return [_row(paper, said, results, asked) for said in paper.said]


def _row(paper: Paper, said: Said, results: Mapping[str, dict], asked: Asked) -> Row:
    result = results.get(said.item or "", {})
    ours = result.get("figures", {}).get(said.key)
    about = {}
    if ours is not None:
        command = result.get("commands", {}).get(said.key.partition(".")[0], result["command"])
        about = {**result, "command": command}
    else:
        return Row(said, None, *_without(said, result, asked, paper), about)

    reasons = _reasons(paper, said, result, asked)
    if said.kind == "picture":
        return Row(said, ours, PICTURE, " ".join(["The paper draws it.", *reasons]), about)
    if reasons:
        return Row(said, ours, NOT_COMPARABLE, " ".join(reasons), about)
    if said.value is None or isinstance(ours, str):
        return Row(said, ours, NOT_COMPARABLE, "Words: read both.", about)
    return Row(said, ours, *_judged(said, float(ours)), about)


def _without(said: Said, result: Mapping, asked: Asked, paper: Paper) -> tuple[str, str]:
    """State and words of what has no figure of ours."""
    if said.ours is None:
        waiting = " ".join(_reasons(paper, said, {}, asked))
        return MISSING, f"No part of this command measures it. {waiting}".strip()
    if not result:
        places = " or ".join(_option(place) for place in said.where if _option(place))
        how = f"with {places}" if places else "without --table, --figure and --section"
        return NOT_RUN, f"Run it {how}."
    why = result.get("missing", {}).get(said.key, "This run did not come to it")
    reasons = " ".join(_reasons(paper, said, result, asked))
    return MISSING, f"{why}. {reasons}".strip()


def _option(place: str) -> str:
    """ "table 4" -> "--table 4"; "" for a place that no option names."""
    kind, _, which = place.partition(" ")
    return f"--{kind} {which}" if which else ""


def _reasons(paper: Paper, said: Said, result: Mapping, asked: Asked) -> list[str]:
    """The reasons that hold here, in words, each with the options that would lift it."""
    names = list(said.reasons)
    if result.get("trained") and asked.is_quick:
        names.insert(0, "quick")
    if result.get("synthetic"):
        names.insert(0, "stand-in")

    found = []
    for name in names:
        reason = paper.reasons[name]
        waiting = [one for one in reason.lifted_by if one not in asked.given]
        if reason.lifted_by and not waiting and _has_base(reason, result):
            continue
        options = " and ".join(OPTIONS[one] for one in waiting)
        found.append(f"{reason.text} ({options})" if options else reason.text)
    return found


def _has_base(reason: Reason, result: Mapping) -> bool:
    """Whether ours was cut from a base as large as the reason asks for."""
    if reason.base_millions is None:
        return True
    off = result.get("base_params", 0) / 1e6 / reason.base_millions - 1
    return abs(off) < BASE_WITHIN


def _judged(said: Said, ours: float) -> tuple[str, str]:
    """State and words of two numbers that can be compared."""
    assert said.value  # the file's check: none is 0
    off = ours - said.value
    share = abs(off / said.value)
    told = f"{100 * off / said.value:+.1f} %".replace("-0.0", "0.0").replace("+0.0", "0.0")

    if said.bound == "over":
        return (AGREES, "Over it.") if ours > said.value else (DIFFERS, f"{told}: not over it.")
    if share <= said.within + 1e-9:
        if not off:
            return AGREES, "The same."
        return AGREES, f"{told}; up to {100 * said.within:g} % counts as the same."
    return DIFFERS, f"{told}."
