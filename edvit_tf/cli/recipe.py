"""The command line that every recipe shares: a recipe is a file that builds one RunConfig and hands
it over.
"""

import argparse
import os
import sys
from pathlib import Path

from edvit_tf.config import (
    ASSIGNMENTS,
    BASELINES,
    FLAVOURS,
    FUSIONS,
    HEADS,
    RESIDUAL,
    SCORES,
    TARGETS,
    DataConfig,
    PruneConfig,
    RunConfig,
    TrainConfig,
)
from edvit_tf.device.errors import DeviceError, DeviceExit, exit_codes_text
from edvit_tf.errors import EXIT_CODES, EdvitError
from edvit_tf.planning.partition import STRATEGIES


def main(
    card: str, config: RunConfig, smoke: dict, paper: dict, argv: list[str] | None = None
) -> int:
    """Runs a recipe; `smoke` and `paper` are fields that replace those of `config`. Returns the
    exit code.
    """
    args = _parser(card, config).parse_args(argv)
    if args.smoke and args.profile == "paper":
        print(
            "error: --smoke and --profile paper do not go together; take one of them.",
            file=sys.stderr,
        )
        return DeviceExit.USAGE
    os.environ.setdefault(
        "TF_CPP_MIN_LOG_LEVEL", "2"
    )  # no advice about GPUs that a CPU run has no use for
    try:
        return _run(args, _resolve(args, config, smoke, paper))
    except (EdvitError, DeviceError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(
            "\ninterrupted; finished stages are kept: the same command goes on after the last one.",
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
        "start_heads": None,
        "pruning": PruneConfig(residual="channels", heads="merge", repair=False),
    }


def _parser(card: str, config: RunConfig) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=card,
        epilog=exit_codes_text(EXIT_CODES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data-dir", type=Path, help="folder of the data set (see the README, Data)"
    )
    parser.add_argument(
        "--devices",
        help=f"number of equal devices, or a devices.toml (default {config.num_devices})",
    )
    parser.add_argument(
        "--budget", help="bytes of all deployed files together, e.g. 50MiB (default: no budget)"
    )
    parser.add_argument(
        "--start-heads",
        type=int,
        metavar="K",
        help="heads of each sub-model, if more than h / N, "
        f"before the budget takes any (default {config.start_heads or 'h / N, rounded up'})",
    )
    parser.add_argument("--groups", type=int, help="sub-models (default: one a device)")
    parser.add_argument(
        "--strategy",
        choices=STRATEGIES,
        help=f"how classes are grouped (default {config.strategy})",
    )
    parser.add_argument("--assignment", choices=ASSIGNMENTS, help=f"default {config.assignment}")
    parser.add_argument(
        "--replicas", type=int, help=f"devices that hold each sub-model (default {config.replicas})"
    )
    parser.add_argument(
        "--samples",
        type=int,
        help=f"L of Eq. 1: inferences that the compute limits must hold (default {config.samples})",
    )
    parser.add_argument(
        "--other-weight",
        type=float,
        help='samples of "other" against those of one class '
        f"(default {config.stage_training.other_weight})",
    )
    parser.add_argument(
        "--score", choices=SCORES, help=f"importance of units (default {config.pruning.score})"
    )
    parser.add_argument(
        "--fusion",
        choices=FUSIONS,
        help="how the answers become one: an MLP over frozen sub-models, "
        f"trained on with them, or the average of their softmaxes (default {config.fusion})",
    )
    parser.add_argument(
        "--baselines",
        help="models of all classes to train beside the fleet, from "
        f"{', '.join(BASELINES)} (of a device's size; the same by labels alone; of all files' "
        "size), "
        f"each with as many training MACs; or none (default {','.join(config.baselines)})",
    )
    parser.add_argument(
        "--no-distillation", action="store_true", help="labels alone train the sub-models"
    )
    parser.add_argument(
        "--residual",
        choices=RESIDUAL,
        help=f"what the residual stage keeps (default {config.pruning.residual})",
    )
    parser.add_argument(
        "--heads",
        choices=HEADS,
        help="merge heads, keep them all but narrower, or keep the best "
        f"whole (default {config.pruning.heads})",
    )
    parser.add_argument(
        "--no-repair", action="store_true", help="no least-squares repair after each cut"
    )
    parser.add_argument(
        "--flavours",
        help=f"of the files, from {', '.join(FLAVOURS)} (default "
        f"{','.join(config.flavours)}); int8 runs in ai-edge-litert alone",
    )
    parser.add_argument(
        "--target",
        choices=TARGETS,
        help="graphs for both TFLite runtimes, or the forms best in "
        f"ai-edge-litert (default {config.target})",
    )
    parser.add_argument(
        "--base",
        metavar="WEIGHTS",
        help="start from a base.keras of an earlier run, a checkpoint "
        "folder (safetensors or KerasHub preset) or a hub name; a new head is fine-tuned",
    )
    parser.add_argument(
        "--reuse",
        type=Path,
        metavar="WORK",
        help="take inputs, base and the base's answers from the "
        "work folder of an earlier run with the same data, base and seed",
    )
    parser.add_argument(
        "--jobs",
        type=_jobs,
        default=1,
        help="processes that fit sub-models at once; they share out "
        "the cores, and each takes memory of its own (default 1)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help=f"bundle folder (default exports/{config.name}); stages lie beside it",
    )
    parser.add_argument("--seed", type=int, help=f"default {config.seed}")
    parser.add_argument(
        "--min-accuracy",
        type=float,
        help="required fused validation accuracy, 0..1 (A_re of Eq. 1)",
    )
    parser.add_argument(
        "--smoke", action="store_true", help="a run of seconds, to see that everything works"
    )
    parser.add_argument(
        "--profile",
        choices=("default", "paper"),
        default="default",
        help="paper: ViT-Base at 224, Adam 1e-4 decaying, batch 256, 180 MiB",
    )
    parser.add_argument(
        "--synthetic", action="store_true", help="use the synthetic stand-in even if data are there"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="build the base, plan, print both, train nothing"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="start again: delete this run's stages and bundle"
    )
    return parser


def _resolve(args, config: RunConfig, smoke: dict, paper: dict) -> RunConfig:
    """The configuration with the command line's changes."""
    from edvit_tf.planning.devices import load_devices, parse_size

    changes: dict = {}
    if args.profile == "paper":
        changes |= paper
    if args.smoke:
        changes |= {"name": f"{config.name}-smoke", **smoke}
    if args.devices is not None:
        changes |= (
            {"num_devices": int(args.devices), "devices": None}
            if args.devices.isdecimal()
            else _listed(load_devices(args.devices))
        )
    pruning = {
        name: getattr(args, name)
        for name in ("score", "residual", "heads")
        if getattr(args, name) is not None
    }
    if pruning or args.no_repair:
        pruning |= {"repair": False} if args.no_repair else {}
        changes["pruning"] = changes.get("pruning", config.pruning).replace(**pruning)
    if args.budget is not None:
        changes["budget_bytes"] = parse_size(args.budget)
    for option, field in (
        ("groups", "num_groups"),
        ("start_heads", "start_heads"),
        ("strategy", "strategy"),
        ("assignment", "assignment"),
        ("replicas", "replicas"),
        ("samples", "samples"),
        ("seed", "seed"),
        ("min_accuracy", "min_accuracy"),
        ("target", "target"),
    ):
        if getattr(args, option) is not None:
            changes[field] = getattr(args, option)
    if args.fusion is not None:
        joint = config.joint_training or changes.get("stage_training", config.stage_training)
        if joint.optimizer == "muon":
            joint = joint.replace(optimizer="adamw")  # muon is for fits of one ViT
        changes |= {
            "fusion": args.fusion,
            "joint_training": joint if args.fusion == "joint" else None,
        }
    if args.flavours is not None:
        changes["flavours"] = tuple(
            name.strip() for name in args.flavours.split(",") if name.strip()
        )
    if args.baselines is not None:
        named = [name.strip() for name in args.baselines.split(",") if name.strip()]
        changes["baselines"] = () if named == ["none"] else tuple(named)
    if args.other_weight is not None:
        training = changes.get("stage_training", config.stage_training)
        changes["stage_training"] = training.replace(other_weight=args.other_weight)
    resolved = config.replace(**changes)
    if args.no_distillation:
        resolved = resolved.replace(
            **{
                name: getattr(resolved, name).replace(distillation=0.0, feature_distillation=0.0)
                for name in ("stage_training", "shared_training", "joint_training")
                if getattr(resolved, name) is not None
            }
        )
    return resolved


def _jobs(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of processes; give 1 or more")
    return int(text)


def _listed(devices) -> dict:
    return {"devices": devices, "num_devices": len(devices)}


def _run(args, config: RunConfig) -> int:
    from edvit_tf.data import load

    made_up = (
        args.synthetic or args.dry_run or (args.smoke and args.data_dir is None)
    )  # a smoke run downloads nothing
    dataset = load(
        config.data.name,
        args.data_dir,
        image_size=config.data.image_size,
        seed=config.seed,
        synthetic="only" if made_up else "fallback" if config.data.stand_in else "never",
        **config.data.options,
    )
    if dataset.synthetic and not args.dry_run:
        print(
            f"{config.name}: the data are a SYNTHETIC stand-in; accuracies mean nothing",
            file=sys.stderr,
        )
    if args.dry_run:
        return _dry_run(config, dataset, args.base)
    out = args.out or Path("exports") / config.name

    from edvit_tf.pipeline.run import run
    from edvit_tf.report.tables import results_table, stages_table

    sizes = ", ".join(
        f"{split} {len(dataset.recordings(split))} recordings / {dataset.size(split)} windows"
        for split in ("train", "validation", "test")
    )
    print(f"{config.name}: {dataset.source}: {sizes}", flush=True)
    results = run(
        config,
        dataset,
        out,
        base=args.base,
        overwrite=args.overwrite,
        reuse=args.reuse,
        jobs=args.jobs,
    )
    print(
        f"\n{results_table(results)}\n\n{stages_table(results)}\n\nbundle: {out}\nreport: "
        f"{out / 'report.html'}"
    )
    return 0


def _dry_run(config: RunConfig, dataset, given: str | None) -> int:
    """Builds the base, plans it for the devices and budget, prints both."""
    from edvit_tf.models.vit.cost import cost_table
    from edvit_tf.models.vit.keras_model import build_vit
    from edvit_tf.models.vit.pretrained import load_base
    from edvit_tf.planning.plan import plan_groups
    from edvit_tf.pipeline.steps import base_vit_config
    from edvit_tf.report.tables import plan_table

    base = base_vit_config(config, dataset.input_shape, len(dataset.labels), (0.0,), (1.0,))
    name = config.model
    if given is not None:
        loaded = load_base(given, base, dataset.labels)
        base, name = loaded.config, "base"
        print("\n".join(f"base: {note}" for note in (given, *loaded.notes)))
    model = build_vit(base, name=name)
    planned = plan_groups(config, base, None)
    print(
        f"dry run of {config.name}; nothing is trained. Keras counts {model.count_params():,} "
        "parameters.\n"
    )
    print(cost_table({name: base, **{sub.name: sub.config for sub in planned.sub_models}}))
    print(f"\n{plan_table(planned, list(dataset.labels))}\n")
    for name in (
        "base_training",
        "shared_training",
        "stage_training",
        "fusion_training",
        "joint_training",
    ):
        if getattr(config, name) is not None:
            print(f"{name}: {getattr(config, name).to_dict()}")
    return 0
