"""All members of a run, cut and fitted: the shared models, then the fleet's sub-models and the
rivals beside them.
"""

from collections.abc import Sequence
from itertools import zip_longest

from edvit_tf.pipeline.cutting import stages_of
from edvit_tf.pipeline.elsewhere import engine_of, make_elsewhere
from edvit_tf.pipeline.member import Member
from edvit_tf.pipeline.side_by_side import make_side_by_side
from edvit_tf.pipeline.stage import Run, Stage


def fit_members(run: Run, jobs: int = 1, ray: str | None = None) -> None:
    """Makes the stages of every member: here, one after the other; by `jobs` processes at once,
    which share the cores; or on the Ray cluster at the address `ray`.

    Shared models come first, as members need what these end with, and nothing of each other. They
    are fitted by this process too where there are `jobs`: with all cores. Here and by JAX, members
    of one configuration are fitted side by side.
    """
    if ray is not None:
        make_elsewhere(run, (*run.shared, *run.members), engine_of(1, ray))
        return

    run.make(*_in_turn(run.shared))
    if jobs > 1:
        # a process without a member would only take cores from the others
        make_elsewhere(run, run.members, engine_of(min(jobs, len(run.members)), None))
    elif run.config.backend == "jax":
        for row in _rows(run.members):
            run.make(*(stage for stage in row if stage.parts is None))
            make_side_by_side(run, [stage for stage in row if stage.parts is not None])
    else:
        run.make(*_in_turn(run.members))


def _in_turn(members: Sequence[Member]) -> list[Stage]:
    """The first stage of every member, then the second: one compiled model serves all of a
    width.
    """
    return [stage for row in _rows(members) for stage in row]


def _rows(members: Sequence[Member]) -> list[list[Stage]]:
    """The first stage of every member, the second of every one that has so many, and so on."""
    rows = zip_longest(*(stages_of(member) for member in members))
    return [[stage for stage in row if stage is not None] for row in rows]
