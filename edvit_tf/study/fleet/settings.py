"""What is compared, as plain settings: views, fits and tables of experiments. No torch here: to ask
what can be run needs none.
"""

from dataclasses import dataclass, replace

View = tuple[int, int, bool]  # moved down and right by so many pixels, mirrored

# As it is, mirrored, and moved by 5 or 7 pixels of 98.
VIEWS: tuple[View, ...] = (
    (0, 0, False),
    (0, 0, True),
    (5, 5, False),
    (-5, -5, True),
    (5, -5, True),
    (-5, 5, False),
    (0, 7, False),
    (0, -7, True),
    (7, 0, True),
    (-7, 0, False),
)

AUGMENTS = ("shift_flip", "shift", "affine")


@dataclass(frozen=True)
class Fit:
    """One fit of a stack."""

    epochs: float
    rates: tuple[float, ...] = (1e-3,)  # one for all members, or one each
    batch_size: int = 256
    together: bool = False
    own_weight: float = 0.1  # of the members' own losses, where they are fitted together
    missing: float = 0.3  # share of the members that a step leaves out of the fused answer
    feature_weight: float = 4.0
    augment: str = "shift_flip"  # one of AUGMENTS, as `edvit_tf.training.augment` has them
    # classes of each member, which is fitted to tell them apart from each other and the rest: its
    # own samples count as much as all others together
    groups: tuple[tuple[int, ...], ...] | None = None
    fixed_views: tuple[View, ...] | None = None  # each member's own, in the place of random ones
    seed: int = 0


BEST = "best"  # every member starts from the cut of one model
UNITS = "units"  # the same directions of the residual stream, other units
ALL = "all"  # other directions too


@dataclass(frozen=True)
class Experiment:
    """A fleet and its fit; `start` is one of BEST, UNITS, ALL, or the name of an experiment before,
    whose best member (alone, on validation pictures) all then start from.
    """

    name: str
    start: str
    members: int | None  # None: as many as the fleet is to have
    fit: Fit
    own_views: bool = False  # each member is trained on its own view
    grouped: str | None = None  # each has classes of its own: "similar" or "random" groups


_TOGETHER = Fit(epochs=8, together=True)
_APART = Fit(epochs=8)
_FROM_TRAINED = replace(_TOGETHER, epochs=4, rates=(3e-4,))

# For ten classes of many pictures each.
FEW_CLASSES = (
    Experiment("single, 16 epochs", BEST, 4, Fit(16, rates=(1e-3, 5e-4, 2e-3, 4e-3))),
    Experiment("single, 30 epochs", BEST, 3, Fit(30, rates=(1e-3, 1e-3, 5e-4))),
    Experiment("apart, one cut", BEST, None, _APART),
    Experiment("together, one cut", BEST, None, _TOGETHER),
    Experiment("together, one cut, own half", BEST, None, replace(_TOGETHER, own_weight=0.5)),
    Experiment("together, one cut, none missing", BEST, None, replace(_TOGETHER, missing=0.0)),
    Experiment("together, other units", UNITS, None, _TOGETHER),
    Experiment("together, other directions and units", ALL, None, _TOGETHER),
    Experiment("together, 24 epochs", BEST, None, replace(_TOGETHER, epochs=24, own_weight=0.5)),
    Experiment("together from the single model", "single, 30 epochs", None, _FROM_TRAINED),
    Experiment(
        "together from the single model, own views",
        "single, 30 epochs",
        None,
        _FROM_TRAINED,
        own_views=True,
    ),
)

_LONG = "single, 100 epochs"
_FROM_CUT = replace(_TOGETHER, epochs=12)
_AFTER = replace(_FROM_TRAINED, epochs=6)
_OWN_CLASSES = Fit(epochs=6, rates=(3e-4,))

# For hundreds of classes of few pictures: an epoch is short, and the plateau many of them away.
MANY_CLASSES = (
    Experiment(_LONG, BEST, 2, Fit(100, rates=(1e-3, 2e-3))),
    Experiment("together from the single model", _LONG, None, _AFTER),
    Experiment("together from the single model, own views", _LONG, None, _AFTER, own_views=True),
    Experiment(
        "classes alike, from the single model", _LONG, None, _OWN_CLASSES, grouped="similar"
    ),
    Experiment("classes at random, likewise", _LONG, None, _OWN_CLASSES, grouped="random"),
    Experiment("together, other units", UNITS, None, _FROM_CUT),
    Experiment("together, one cut", BEST, None, _FROM_CUT),
    Experiment("apart, one cut", BEST, None, replace(_APART, epochs=12)),
)
TABLES = {"few": FEW_CLASSES, "many": MANY_CLASSES}

TITLES = (
    "| | epochs | one view, % | views, % | members alone, % | views, 5 lost, % | they differ, % "
    "| ridge on features, % |\n|---|---|---|---|---|---|---|---|"
)
