"""All members of a run, cut and fitted: the shared models, then the fleet's sub-models and the
rivals beside them.
"""

from collections.abc import Sequence
from itertools import chain, zip_longest

from edvit_tf.pipeline.cutting import stages_of
from edvit_tf.pipeline.elsewhere import engine_of, make_elsewhere
from edvit_tf.pipeline.member import Member
from edvit_tf.pipeline.stage import Run, Stage


def fit_members(run: Run, jobs: int = 1, ray: str | None = None) -> None:
    """Makes the stages of every member: here, one after the other; by `jobs` processes at once,
    which share the cores; or on the Ray cluster at the address `ray`.

    Shared models come first, as members need what these end with, and nothing of each other. They
    are fitted by this process too where there are `jobs`: with all cores.
    """
    if ray is not None:
        make_elsewhere(run, (*run.shared, *run.members), engine_of(1, ray))
        return

    run.make(*_in_turn(run.shared))
    if jobs == 1:
        run.make(*_in_turn(run.members))
    else:
        # a process without a member would only take cores from the others
        make_elsewhere(run, run.members, engine_of(min(jobs, len(run.members)), None))


def _in_turn(members: Sequence[Member]) -> list[Stage]:
    """The first stage of every member, then the second: one compiled model serves all of a
    width.
    """
    # None stands where a member has fewer stages than another.
    rows = zip_longest(*(stages_of(member) for member in members))
    return [stage for stage in chain.from_iterable(rows) if stage is not None]
