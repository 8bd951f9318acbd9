"""`--tune MINUTES`: settings of the base's fit, searched with optuna on validation data alone.

The first trial is what the table says, so that the best is no worse on validation data. Trials are
kept one by one (`trials.py`): a search that was ended goes on with the next one, and what is tried
next follows from the seed and the trials before, whoever made them.
"""

import contextlib
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import keras

from edvit_tf.checked import digest
from edvit_tf.choosing.space import Range, Space, check_tunable, space_of
from edvit_tf.config import RunConfig
from edvit_tf.device.terminal import counted
from edvit_tf.errors import ConfigError, TrainingError
from edvit_tf.evaluation.accuracy import per_recording
from edvit_tf.evaluation.evaluate import SPLITS
from edvit_tf.models.sources import base_origin
from edvit_tf.pipeline.description import READ_BY_BEGINNING, describe
from edvit_tf.pipeline.inputs import Split, store_inputs
from edvit_tf.pipeline.stage import Run
from edvit_tf.pipeline.steps import fit_base, start_of_base
from edvit_tf.pipeline.store import Stages, stage_seed
from edvit_tf.pipeline.trials import (
    DONE,
    FAILED,
    LATE,
    PRUNED,
    Trial,
    best_of,
    keep,
    open_trials,
    worth,
)
from edvit_tf.pipeline.work_folder import TUNE, lock
from edvit_tf.progress import tell
from edvit_tf.training.calibrate import calibration_figures

STARTING = 4  # trials before the sampler goes by what it has seen
_clock = time.perf_counter
UNPRUNED = 3  # trials that are fitted to their end whatever they come to


@dataclass(frozen=True)
class Tuned:
    """A configuration with the best settings, and what was tried, for results.json."""

    config: RunConfig
    told: dict


def tune(
    config: RunConfig, dataset, given: Path | None, work: Path, minutes: float, overwrite: bool
) -> Tuned:
    """Searches for `minutes`, those of earlier starts among them, in the work folder of a run.

    Raises OutputError where the folder holds another search; ConfigError for a base that is not
    fitted.
    """
    import tensorflow as tf

    check_tunable(minutes)
    splits = {split: dataset.split_ids(split) for split in SPLITS}
    origin = None if given is None else base_origin(given, digest(splits))
    description = describe(config, dataset, splits, origin, {})
    read = description["config"]
    description["config"] = {name: read[name] for name in READ_BY_BEGINNING}

    folder = work / TUNE
    # lock, so that no run begins there meanwhile
    with contextlib.closing(lock(work)):
        trials = open_trials(folder, description, overwrite)
        # the same seed is to give the same trials
        tf.config.experimental.enable_op_determinism()
        search = _Search(config, dataset, given, folder, trials, 60 * minutes)
        search.go_on()
    return _tuned(config, search.trials, minutes)


class _Search:
    """A search at work: its trials, and the seconds that it has."""

    def __init__(self, config: RunConfig, dataset, given, folder: Path, trials, seconds: float):
        self.config = config
        self.folder = folder
        self.trials: list[Trial] = list(trials)
        self.seconds = seconds
        self.space = space_of(config.base_training)
        self._dataset, self._given = dataset, given

    @property
    def left(self) -> float:
        """Seconds, by the trials that have ended."""
        return self.seconds - sum(trial.seconds for trial in self.trials)

    def go_on(self) -> None:
        """Makes trials until the time is over."""
        tell(
            f"tune: {_minutes(self.seconds / 60)} of search on validation data, of which "
            f"{max(0.0, self.seconds - self.left) / 60:.1f} are spent in "
            f"{counted(len(self.trials), 'trial')}"
        )
        if self.left <= 0:
            return
        stages = Stages(self.folder, "tune")
        run = Run(stages, self.config)
        stages.run("data", lambda folder: store_inputs(run, folder, self._dataset))
        begun = _clock()
        start = start_of_base(run, self._dataset, self._given)
        if not start.is_fitted:
            raise ConfigError(
                f"--tune searches settings of the base's fit, and {self._given} is taken as it is. "
                "Leave out --tune, or give another --base."
            )
        while self.left > 0:
            # what reading the base took counts in the first trial
            trial = self._try(run, start, begun)
            keep(self.folder, trial)
            self.trials.append(trial)
            self._tell(trial)
            begun = _clock()
        # a run stores inputs of its own
        shutil.rmtree(self.folder / "data", ignore_errors=True)

    def _try(self, run: Run, start, begun: float) -> Trial:
        """The next trial."""
        asked = _study(self.config, self.trials, self.space).ask(_distributions(self.space))
        settings = dict(asked.params)
        number = len(self.trials)
        spent = (self.seconds - self.left) / 60
        shown = "the table" if settings == table_of(self.config) else _words(settings)
        tell(
            f"tune: trial {number} ({spent:.1f} of {_minutes(self.seconds / 60)}): {shown}",
            "trial",
            number=number,
            title="settings, searched",
            total=None,
            settings=settings,
        )
        judge = _Judge(Split(run.stages, "validation"), start.widths, asked, begun + self.left)
        training = self.config.base_training.replace(**settings)
        try:
            fit_base(
                self.config.replace(base_training=training),
                start.widths,
                start.weights,
                Split(run.stages, "train"),
                callbacks=(judge,),
            )
        except TrainingError as error:
            tell(f"tune: trial {number}: {error}")
            state, judge.accuracy, judge.nll = FAILED, None, None
        else:
            state = judge.state
        seconds = round(_clock() - begun, 2)
        return Trial(number, settings, state, judge.accuracy, judge.nll, seconds, judge.by_epoch)

    def _tell(self, trial: Trial) -> None:
        best = best_of(self.trials)
        found = "failed" if trial.accuracy is None else f"{100 * trial.accuracy:.1f} %"
        ended = (
            ""
            if trial.state == DONE
            else f", {trial.state} after {counted(len(trial.by_epoch), 'epoch')}"
        )
        so_far = "" if best is None else f"; best: trial {best.number}, {100 * best.accuracy:.1f} %"
        tell(
            f"tune: trial {trial.number}: {found}{ended}{so_far}",
            "trial-end",
            number=trial.number,
            settings=trial.settings,
            state=trial.state,
            accuracy=trial.accuracy,
            nll=trial.nll,
            seconds=trial.seconds,
            best=None if best is None else best.number,
        )


class _Judge(keras.callbacks.Callback):
    """Looks at validation data after each epoch of a trial; ends it where half of the others were
    better by then, or where the time is over.
    """

    def __init__(self, validation: Split, widths, asked, deadline: float):
        super().__init__()
        self._validation, self._widths, self._asked = validation, widths, asked
        self._deadline = deadline
        self.state = DONE
        self.accuracy: float | None = None
        self.nll: float | None = None
        self.by_epoch: list[float] = []

    def on_train_batch_end(self, batch, logs=None):
        if _clock() > self._deadline:
            self.state = LATE
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        from edvit_tf.models.weights import get_weights
        from edvit_tf.training.train import predict, softmax

        if self.state == LATE:
            return
        validation = self._validation
        said = predict(self._widths, get_weights(self.model), validation.x)
        p, truth = per_recording(softmax(said["logits"]), validation.labels, validation.recordings)
        self.accuracy = float((p.argmax(axis=1) == truth).mean())
        self.nll = float(calibration_figures(p, truth)["nll"])
        self.by_epoch.append(worth(self.accuracy, self.nll))
        self._asked.report(self.by_epoch[-1], epoch)
        last = epoch + 1 == self.params["epochs"]
        if not last and self._asked.should_prune():
            self.state = PRUNED
            self.model.stop_training = True


def _study(config: RunConfig, trials: list[Trial], space: Space):
    """An optuna study that has seen these trials; the first that it asks for is the table's."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # A seed for each trial: what is drawn does not hang on who drew before, or was ended.
    known = [trial for trial in trials if trial.state != LATE]
    seed = stage_seed(config, f"tune.{len(known)}")
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTING),
        pruner=optuna.pruners.MedianPruner(
            n_startup_trials=UNPRUNED, n_warmup_steps=config.base_training.epochs // 4
        ),
    )
    states = {
        DONE: optuna.trial.TrialState.COMPLETE,
        PRUNED: optuna.trial.TrialState.PRUNED,
        FAILED: optuna.trial.TrialState.FAIL,
    }
    for trial in known:
        study.add_trial(
            optuna.trial.create_trial(
                state=states[trial.state],
                value=None if trial.state == FAILED else trial.worth,
                params=trial.settings,
                distributions=_distributions(space),
                intermediate_values=dict(enumerate(trial.by_epoch)),
            )
        )
    if not known:
        study.enqueue_trial(table_of(config))
    return study


def table_of(config: RunConfig) -> dict:
    """The settings that the table says, as a trial."""
    fit = config.base_training
    return {name: getattr(fit, name) for name in space_of(fit)}


def _distributions(space: Space) -> dict:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    found: dict = {}
    for name, values in space.items():
        if isinstance(values, Range):
            found[name] = FloatDistribution(values.low, values.high, log=values.is_log)
        else:
            found[name] = CategoricalDistribution(values)
    return found


def _words(settings: dict) -> str:
    words = []
    for name, value in settings.items():
        words.append(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}")
    return ", ".join(words)


def _tuned(config: RunConfig, trials: list[Trial], minutes: float) -> Tuned:
    """The configuration with the best trial's settings, and what was tried."""
    best = best_of(trials)
    first = table_of(config)
    table = next((one for one in trials if one.settings == first and one.state == DONE), None)
    if best is None:
        tell(
            f"tune: no trial has ended in {_minutes(minutes)}, so the table's settings are taken; "
            "the same command with more minutes goes on"
        )
    else:
        gain = "" if table is None else f", the table's {100 * table.accuracy:.1f}"
        tell(
            f"tune: trial {best.number} of {len(trials)} is taken: {100 * best.accuracy:.1f} % of "
            f"the validation recordings{gain}; {_words(best.settings)}"
        )
    settings = {} if best is None else best.settings
    told = {
        "minutes": minutes,
        "seconds": round(sum(trial.seconds for trial in trials), 1),
        "taken": None if best is None else best.number,
        "settings": settings,
        "trials": [
            {
                "number": one.number,
                "settings": one.settings,
                "state": one.state,
                "accuracy": one.accuracy,
                "nll": one.nll,
                "seconds": one.seconds,
                "epochs": len(one.by_epoch),
            }
            for one in trials
        ],
    }
    return Tuned(config.replace(base_training=config.base_training.replace(**settings)), told)


def _minutes(count: float) -> str:
    return f"{count:g} minute{'s' * (count != 1)}"
