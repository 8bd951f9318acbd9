"""All members of a run, cut and fitted: the shared models, then the fleet's sub-models and the
rivals beside them.
"""

from collections.abc import Sequence
from itertools import chain, zip_longest

from edvit_tf.pipeline.cutting import stages_of
from edvit_tf.pipeline.fitting_process import fit_in_processes
from edvit_tf.pipeline.member import Member
from edvit_tf.pipeline.stage import Run, Stage


def fit_members(run: Run, jobs: int = 1) -> None:
    """Makes the stages of every member.

    Shared models come first, here: members need what these end with, and nothing of each other.
    Then members are fitted by `jobs` processes at once, which share the cores (`fitting_process`),
    or here.
    """
    run.make(*_in_turn(run.shared))

    if jobs > 1:
        names = []
        for member in run.members:
            names += [member.stage(step) for step in member.steps]
        fit_in_processes(run.stages, min(jobs, len(run.members)), names)

    # What is there already is passed over; without processes, all of it is made here.
    run.make(*_in_turn(run.members))


def _in_turn(members: Sequence[Member]) -> list[Stage]:
    """The first stage of every member, then the second: one compiled model serves all of a
    width.
    """
    # None stands where a member has fewer stages than another.
    rows = zip_longest(*(stages_of(member) for member in members))
    return [stage for stage in chain.from_iterable(rows) if stage is not None]
