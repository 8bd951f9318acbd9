"""The command line that every recipe shares.

A recipe is a file that builds one RunConfig and hands it over.
"""

import argparse
import os
import sys
from pathlib import Path

from edvit_tf.cli.engine_options import add_engine
from edvit_tf.cli.method_options import METHOD
from edvit_tf.cli.options import add_options, changed
from edvit_tf.cli.planning_options import PLANNING
from edvit_tf.cli.progress_options import add_progress, before_run, log_of, shown
from edvit_tf.cli.values import base_source, user_path
from edvit_tf.config import DataConfig, PruneConfig, RunConfig, TrainConfig
from edvit_tf.data.names import printable
from edvit_tf.device.errors import DeviceError, DeviceExit, exit_codes_text
from edvit_tf.device.terminal import add_version, flushed, print_anything, reader_left, say_error
from edvit_tf.errors import EXIT_CODES, EdvitError, OutputError
from edvit_tf.progress import tell, warn


def main(
    card: str, config: RunConfig, smoke: dict, paper: dict, argv: list[str] | None = None
) -> int:
    """Runs a recipe; `smoke` and `paper` are fields that replace those of `config`. Returns the
    exit code (edvit_tf.errors.EXIT_CODES).
    """
    print_anything()
    args = _parser(card, config).parse_args(argv)

    if args.smoke and args.profile == "paper":
        print(
            "error: --smoke and --profile paper do not go together; take one of them.",
            file=sys.stderr,
        )
        return DeviceExit.USAGE

    # no advice about GPUs that a CPU run has no use for
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with before_run(args):
            resolved = _resolve(args, config, smoke, paper)
            out = out_of(args, resolved, args.data_dir)
        with shown(args, None if args.dry_run else log_of(out)):
            return flushed(_run(args, resolved, out))
    except (EdvitError, DeviceError) as error:
        say_error(error)
        return error.exit_code
    except BrokenPipeError:
        return reader_left()
    # A path that was given, as a rule: whatever writes files of ours has errors of its own.
    except OSError as error:
        say_error(f"{error}; mend the path or its permissions and try again.")
        return OutputError.exit_code
    except KeyboardInterrupt:
        return interrupted()


def interrupted() -> int:
    """Says what an interrupted run left; returns the exit code."""
    print(
        "\ninterrupted; finished stages, and trials of --tune, are kept: the same command, without "
        "--overwrite, goes on after the last one.",
        file=sys.stderr,
    )
    return DeviceExit.INTERRUPTED


def smoke_profile(data: DataConfig, **changes) -> dict:
    """Fields of a run of seconds: two devices, a tiny model, an epoch or two; `data` should keep
    few recordings.
    """
    return {
        "model": "vit_smoke",
        "data": data.replace(stand_in=True),
        "num_devices": 2,
        "start_heads": None,
        "calibration_samples": 16,
        "base_training": TrainConfig(epochs=2, batch_size=16, learning_rate=1e-3),
        "stage_training": TrainConfig(epochs=1, batch_size=16),
        "fusion_training": TrainConfig(epochs=2, batch_size=16, learning_rate=1e-3),
        "fleet": "classes",
        "views": "none",
        "fleet_training": None,
        "training_budget": None,
        **changes,
    }


def paper_profile(data: DataConfig, epochs: int) -> dict:
    """Fields of the paper's experiment: ViT-Base at 224, Adam decaying from 1e-4, batch 256, 180
    MiB.

    `epochs` is 10 for pictures and 20 for sound. Source: Liu et al. 2024, experimental settings.
    """
    training = TrainConfig(
        epochs=epochs, batch_size=256, learning_rate=1e-4, optimizer="adam", distillation=0.0
    )
    return {
        "model": "vit_base",
        "patch_size": 16,
        "data": data.replace(image_size=(224, 224)),
        "base_training": training,
        "stage_training": training,
        "fusion_training": training,
        "budget_bytes": 180 * 2**20,
        "missing_rate": 0.0,
        "fleet": "classes",
        "views": "none",
        "fleet_training": None,
        "training_budget": None,
        "start_heads": None,
        "assignment": "greedy",
        "pruning": PruneConfig(residual="channels", heads="merge", repair=False),
    }


def _parser(card: str, config: RunConfig) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=card,
        epilog=exit_codes_text(EXIT_CODES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_version(parser)
    add_options(parser.add_argument_group("planning"), PLANNING, config)
    add_options(parser.add_argument_group("pruning, training and files"), METHOD, config)

    _add_run(parser.add_argument_group("this run"), config.name)
    return parser


def _add_run(run, name: str) -> None:
    """What a run takes, where it goes, and how much of it is done."""
    run.add_argument(
        "--data-dir", type=user_path, help="folder of the data set: docs/howto/recipes.md"
    )
    run.add_argument(
        "--base",
        metavar="WEIGHTS",
        type=base_source,
        help="start from a base.keras of an earlier run, a checkpoint "
        "folder (safetensors or KerasHub preset) or a hub name; a new head is fine-tuned",
    )
    run.add_argument(
        "--reuse",
        type=user_path,
        metavar="WORK",
        help="take inputs, base and the base's answers from the "
        "work folder of an earlier run with the same data, base and seed",
    )
    run.add_argument(
        "--shared-weights",
        type=user_path,
        metavar="FILE.npz",
        help="weights by name of the model of all classes of a device's size, trained elsewhere, "
        "as by python -m edvit_tf.study.fleet: in the place of its training here",
    )
    add_engine(run)
    run.add_argument(
        "--out",
        type=user_path,
        help=f"bundle folder (default exports/{name}); stages lie beside it",
    )
    run.add_argument(
        "--overwrite", action="store_true", help="start again: delete this run's stages and bundle"
    )
    run.add_argument(
        "--profile",
        choices=("default", "paper"),
        default="default",
        help="paper: ViT-Base at 224, Adam 1e-4 decaying, batch 256, 180 MiB",
    )
    run.add_argument(
        "--smoke", action="store_true", help="a run of seconds, to see that everything works"
    )
    run.add_argument(
        "--synthetic", action="store_true", help="use the synthetic stand-in even if data are there"
    )
    add_progress(run)
    run.add_argument(
        "--dry-run",
        action="store_true",
        help="build the base, plan, print both, train nothing; "
        "of the data in --data-dir where it is given",
    )


def _resolve(args, config: RunConfig, smoke: dict, paper: dict) -> RunConfig:
    """The recipe's configuration with the profile's fields and the command line's changes."""
    # The command line is last: it changes the profile too.
    if args.profile == "paper":
        config = config.replace(**paper)
    if args.smoke:
        config = config.replace(name=f"{config.name}-smoke", **smoke)
    return changed(config, (*PLANNING, *METHOD), args)


def out_of(args, config: RunConfig, data: Path | None) -> Path:
    """The bundle folder of a run on the folder `data`. OutputError for one that the run would
    refuse, or whose name no runtime could open.
    """
    from edvit_tf.data.catalogue import OWN
    from edvit_tf.pipeline.places import check_makeable, check_place

    out = args.out or Path("exports") / config.name
    check_place(out, data, is_own=config.data.name == OWN)
    # a plan may be looked at from where nothing can be written, if nobody asked for it
    if args.dry_run and args.out is not None:
        check_makeable(out)
    _check_name(out)
    return out


def _run(args, config: RunConfig, out: Path) -> int:
    from edvit_tf.data import load
    from edvit_tf.pipeline.elsewhere import check_engine

    if not args.dry_run:
        check_engine(args.jobs, args.ray)
    dataset = load(
        config.data.name,
        args.data_dir,
        image_size=config.data.image_size,
        seed=config.seed,
        synthetic=_use_of_synthetic(args, config),
        **(config.data.options | vocabulary_of(config.data.name, args.base)),
    )

    if dataset.synthetic and not args.dry_run:
        warn(f"{config.name}: the data are a SYNTHETIC stand-in; accuracies mean nothing")

    if args.dry_run:
        dry_run(config, dataset, args.base)
        _show_fits(config)
        return 0
    run_and_tell(args, config, dataset, out, args.base)
    return 0


def vocabulary_of(name: str, base: str | Path | None) -> dict[str, str]:
    """The option of a data set of texts that a base decides: its numbers are of the base's
    vocabulary. A path of this machine, so it is no part of the configuration; a bundle has its own.
    """
    from edvit_tf.data.catalogue import has_vocabulary
    from edvit_tf.models.sources import find_base, vocabulary_beside

    if base is None or not has_vocabulary(name):
        return {}
    path = vocabulary_beside(find_base(base))
    return {} if path is None else {"vocabulary": str(path)}


def run_and_tell(
    args,
    config: RunConfig,
    dataset,
    out: Path,
    base: str | Path | None,
    tuned: dict | None = None,
) -> None:
    """Runs `config` as the options --overwrite, --reuse, --shared-weights, --jobs and --ray say,
    and tells what came out. `tuned` is what a search for settings came to.
    """
    from edvit_tf.pipeline.run import run

    sizes = ", ".join(
        f"{split} {len(dataset.recordings(split))} recordings / {dataset.size(split)} windows"
        for split in ("train", "validation", "test")
    )

    tell(f"{config.name}: {dataset.source}: {sizes}")
    results = run(
        config,
        dataset,
        out,
        base=base,
        overwrite=args.overwrite,
        reuse=args.reuse,
        shared_weights=args.shared_weights,
        jobs=args.jobs,
        ray=args.ray,
        tuned=tuned,
    )

    tell_results(out, results)


def tell_results(out: Path, results: dict) -> None:
    """Tells what a finished run came to: its tables, what to do with it, and where it lies."""
    from edvit_tf.device.model.bundle import open_bundle
    from edvit_tf.report.advice import advise
    from edvit_tf.report.results import results_from_dict
    from edvit_tf.report.tables import results_table, stages_table

    told = results_from_dict(results)
    found = advise(open_bundle(out), told)
    report = out / "report.html"

    lines = [
        f"\n{results_table(told)}\n\n{stages_table(told)}",
        f"\n{found.sentence} Why: edvit advise {out}",
        *(f"  {cause}" for cause in found.causes),
        f"bundle: {out}",
        *([f"report: {report}"] if report.is_file() else []),
    ]
    tell(
        "\n".join(lines),
        "result",
        bundle=str(out),
        report=str(report) if report.is_file() else None,
        sentence=found.sentence,
        causes=list(found.causes),
    )


def _check_name(out: Path) -> None:
    """The runtimes open files by UTF-8 names alone, and would say so when everything is trained."""
    shown = printable(str(out.resolve()))
    if shown != str(out.resolve()):
        raise OutputError(
            f"--out is {shown}, whose name is no UTF-8 text; no .tflite file could be run there. "
            "Give another --out."
        )


def _use_of_synthetic(args, config: RunConfig) -> str:
    """When a made-up stand-in takes the place of data: "only" it, as a "fallback", or "never"."""
    if args.synthetic:
        return "only"
    # A plan and a smoke run ask nobody for data, but look at the folder that is named.
    if args.data_dir is None and (args.smoke or args.dry_run):
        return "only"

    return "fallback" if config.data.stand_in else "never"


def dry_run(config: RunConfig, dataset, given: str | Path | None) -> None:
    """Builds the base, plans it for the devices and budget, prints both."""
    from edvit_tf.models import architecture, load_base
    from edvit_tf.pipeline.steps import base_config
    from edvit_tf.planning.fleets import planned_fleet, splits_classes
    from edvit_tf.planning.plan import plan_groups
    from edvit_tf.report.planned_fleet import fleet_text
    from edvit_tf.report.tables import cost_table

    # Mean 0 and deviation 1 stand for those of the data: they change no count and no plan.
    base = base_config(config, dataset)

    name = config.model
    # A base that is given has its own widths; the plan is of those.
    if given is not None:
        loaded = load_base(given, base, dataset.labels, False, dataset.input_files)
        base = loaded.config
        name = "base"
        for note in (given, *loaded.notes):
            print(f"base: {note}")

    model = architecture(base).build(base, name=name)

    split = plan_groups(config, base)
    fleet = planned_fleet(config, base, split)
    print(
        f"dry run of {config.name}; nothing is trained. Keras counts {model.count_params():,} "
        "parameters.\n"
    )

    # members of all classes have one shape
    shapes = {sub.name: sub.config for sub in fleet.sub_models}
    if not splits_classes(config, split):
        shapes = {"each sub-model": fleet.sub_models[0].config}
    print(cost_table({name: base, **shapes}))
    print(f"\n{fleet_text(config, base, split, list(dataset.labels))}\n")


def _show_fits(config: RunConfig) -> None:
    """Every fit that is configured, with all of its settings."""
    from edvit_tf.report.tables import wrapped

    for name in (
        "base_training",
        "shared_training",
        "stage_training",
        "fusion_training",
        "joint_training",
        "fleet_training",
    ):
        training = getattr(config, name)
        if training is not None:
            print(wrapped(f"{name}: {training.to_dict()}"))
