"""A run of which all is made that comes before its members."""

from pathlib import Path

from edvit_tf.config import RunConfig
from edvit_tf.pipeline.stage import Run
from edvit_tf.pipeline.store import Stages
from edvit_tf.pipeline.work_folder import stored_record


def begun_run(planned: Path, folder: Path) -> Run:
    """The run of the work folder `planned`, in another one, with what members are cut from."""
    record = stored_record(planned)
    stages = Stages(folder / "work", record["key"])
    stages.folder.mkdir()
    stages.take(planned, ("data", "base", "teacher", "plan"))
    return Run(stages, RunConfig.from_dict(record["description"]["config"]))
