"""Stages of a run that are made elsewhere: by processes of this machine, or on a Ray cluster.

Each stage is a task that reads the files of stages before it. The run itself, and nobody else,
writes the work folder: what a task has made comes back as bytes. So no stage is written twice, and
a node that dies costs the stages that it had at work. As every stage draws its seed from its name,
it does not matter who makes it, nor when.
"""

import functools
import socket
import time
from collections.abc import Iterable, Sequence
from graphlib import TopologicalSorter
from pathlib import Path

from edvit_tf.cluster.engine import Opened, Resources, Task, fitting_memory
from edvit_tf.cluster.local import Local, threads_asked
from edvit_tf.config import RunConfig
from edvit_tf.errors import ClusterError, ConfigError, OutputError
from edvit_tf.models import architecture
from edvit_tf.pipeline.cutting import stages_of
from edvit_tf.pipeline.member import GROUP, Member
from edvit_tf.pipeline.stage import BUDGET, OUTSIDE, Run, Stage
from edvit_tf.pipeline.store import Stages, code_digest, cost, reason
from edvit_tf.pipeline.titles import title
from edvit_tf.progress import listening, tell

MAKE = f"{__name__}:make"
# Files that no fit reads, and that may be large: they stay where the run is.
UNREAD = frozenset({"test.npy", "base.keras"})


def engine_of(jobs: int, ray: str | None) -> Opened:
    """Who makes stages: a cluster, or processes of this machine."""
    if ray is None:
        return functools.partial(Local, jobs=jobs)
    from edvit_tf.cluster.on_ray import OnRay

    return functools.partial(OnRay, address=ray)


def check_engine(jobs: int, ray: str | None) -> None:
    """Raises ConfigError for two engines at once; ClusterError where there is no cluster at the
    address, within seconds.
    """
    if ray is None:
        return
    if jobs != 1:
        raise ConfigError(
            f"jobs={jobs} and ray={ray!r} were given: fits go to processes of this machine or to "
            "the cluster. Leave one of them out."
        )
    from edvit_tf.cluster.on_ray import check_address

    check_address(ray)


def check_backend_alone(backend: str, jobs: int, ray: str | None) -> None:
    """Raises ConfigError where fits by another backend than TensorFlow were to be made elsewhere:
    what a task takes of cores, memory and GPUs is known of TensorFlow's alone.
    """
    if backend != "tensorflow" and (jobs != 1 or ray is not None):
        given = f"jobs={jobs}" if ray is None else f"ray={ray!r}"
        raise ConfigError(
            f"backend={backend!r} and {given} were given: members are fitted side by side by one "
            "process of that backend. Leave one of them out."
        )


def engine_facts(jobs: int, ray: str | None) -> dict:
    """What of an engine the weights depend on, for a run's description: fits of fewer threads may
    differ in rounding. On which nodes a cluster makes them does not matter.
    """
    if ray is not None:
        return {"ray": {"cpus": threads_asked() or 1}}
    return {"jobs": jobs} if jobs != 1 else {}


def make_elsewhere(run: Run, members: Sequence[Member], opened: Opened) -> None:
    """Makes the stages of members by an engine, each as soon as those that it reads are there.

    Raises what a stage raises: the others that were at work are ended then, and finished stages
    kept.
    """
    found = {stage.name: (stage, member) for member in members for stage in stages_of(member)}
    order = TopologicalSorter(
        {name: set(stage.needs) & set(found) for name, (stage, _) in found.items()}
    )
    order.prepare()
    # no cluster is asked for what is there already
    if all(run.stages.has(name) for name in found):
        for name in found:
            run.stages.begin(name)
        return

    with opened(run.stages.folder) as engine:
        tell(f"{len(members)} members are fitted by {engine.words}")
        at_work = 0
        while order.is_active():
            # what was made earlier makes others ready at once
            while ready := order.get_ready():
                for name in _longest_first(ready, found):
                    stage, member = found[name]
                    if run.stages.begin(name, stage.needs) is not None:
                        order.done(name)
                        continue
                    engine.start(_task(run, stage, member, engine.cpus))
                    at_work += 1

            if at_work:
                made = engine.ended()
                run.stages.put(made.name, made.files, made.result)
                order.done(made.name)
                at_work -= 1


def _longest_first(names: Iterable[str], found: dict[str, tuple[Stage, Member]]) -> list[str]:
    """Stages of models of all classes before those of sub-models, which have less to train."""
    return sorted(names, key=lambda name: found[name][1].is_sub_model)


def _task(run: Run, stage: Stage, member: Member, cpus: int) -> Task:
    """A stage as a task: where it is made the run is opened from these files alone."""
    # the run itself is read from these, beside what the stage needs
    read = [*stage.needs, *(name for name in (BUDGET, OUTSIDE) if run.stages.has(name))]
    files = []
    for name in dict.fromkeys(read):
        folder = run.stages.folder / name
        files += [f"{name}/{file.name}" for file in sorted(folder.iterdir())]
    spec = {
        "stage": stage.name,
        "key": run.stages.key,
        "config": run.config.to_dict(),
        "code": code_digest(),
        "number": run.stages.course.number(stage.name),
        "total": run.stages.course.total,
    }
    reads = tuple(file for file in files if file.rpartition("/")[2] not in UNREAD)
    return Task(stage.name, MAKE, spec, reads, _resources(run, stage, member, cpus))


def _resources(run: Run, stage: Stage, member: Member, cpus: int) -> Resources:
    """What a stage takes, by the widths that it begins with: those of the base until the last cut,
    or of the model of all classes where a group's own fit starts.
    """
    is_own = stage.name == member.stage(GROUP)
    widths = member.widths if is_own else run.base
    room = architecture(widths)
    batch = (run.config.shared_training or run.config.stage_training).batch_size
    # A layer of d inputs costs d MACs for each activation that it gives; 4 bytes each.
    activations = 4 * batch * room.macs(widths) // widths.feature_dim
    memory = fitting_memory(room.file_bytes(widths), activations)
    return Resources(cpus, memory, 1.0 if _has_gpu() else 0.0)


@functools.cache
def _has_gpu() -> bool:
    """Whether TensorFlow has a GPU here; the same installation on a node has one then, and a fit
    takes all of it.
    """
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def make(
    read: Path,
    write: Path,
    *,
    stage: str,
    key: str,
    config: dict,
    code: str,
    number: int,
    total: int | None,
) -> dict:
    """Makes one stage of the run in `read`, in the worker; its files go into `write`. Returns the
    stage's result. Raises ClusterError where the package here is another version than the run's.
    """
    node = socket.gethostname()
    if code_digest() != code:
        raise ClusterError(
            f"node {node} has another version of edvit_tf ({code_digest()}) than the run ({code}). "
            "Install the run's version on every node."
        )
    # the import takes seconds, once a process
    import tensorflow as tf

    from edvit_tf.models.keras_settings import pinned

    tf.config.experimental.enable_op_determinism()
    tell(kind="stage", name=stage, title=title(stage), number=number, total=total)
    started = time.perf_counter()

    run = Run(Stages(read, key), RunConfig.from_dict(config))
    with listening():  # which rivals are left out was said by the run itself
        members = (*run.shared, *run.members)
    found = {one.name: one for member in members for one in stages_of(member)}
    try:
        with pinned():
            result = found[stage].build(run, write)
    except OSError as error:
        raise OutputError(
            f"stage {stage} failed on node {node}: {reason(error, write)} Finished stages are "
            "kept: start the same command again, without --overwrite."
        ) from error
    return {**result, **cost(started)}
