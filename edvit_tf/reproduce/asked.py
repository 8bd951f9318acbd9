"""What a user asked `edvit reproduce` for, and has."""

from dataclasses import dataclass
from pathlib import Path

# "recipes": as they are; "quick": tiny forms of them; "full": --profile paper
MODES = ("recipes", "quick", "full")


@dataclass(frozen=True)
class Asked:
    """All that the figures depend on, and where they go. `data` is a folder of data sets, as
    $EDVIT_DATA; None: stand-ins, or what a recipe finds by itself.
    """

    out: Path
    recipes: Path  # the folder of gtzan.py and the others
    mode: str = "recipes"
    data: Path | None = None
    base: str | None = None  # weights of a ViT
    text_base: str | None = None  # weights of a BERT
    latency_from: Path | None = None  # JSON of `edvit bench latency`, of another machine
    seeds: tuple[int, ...] = (0,)

    @property
    def is_quick(self) -> bool:
        return self.mode == "quick"

    @property
    def given(self) -> frozenset[str]:
        """What of `paper.LIFTING` this user has given."""
        found = {
            "full": self.mode == "full",
            "not-quick": not self.is_quick,
            "base": self.base is not None,
            "text-base": self.text_base is not None,
            "latency-from": self.latency_from is not None,
        }
        return frozenset(name for name, is_given in found.items() if is_given)

    def to_dict(self) -> dict:
        """Plain JSON."""
        return {
            "mode": self.mode,
            "data": None if self.data is None else str(self.data),
            "base": self.base,
            "text_base": self.text_base,
            "latency_from": None if self.latency_from is None else str(self.latency_from),
            "seeds": list(self.seeds),
        }
