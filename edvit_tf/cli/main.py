"""`edvit ...`: training on data of one's own, and what is done with bundles and plans. Recipes have
a command line of their own (edvit_tf.cli.recipe).
"""

import argparse
import contextlib
import os
import sys

import shtab

from edvit_tf.cli.advise import add_advise
from edvit_tf.cli.bench import add_bench
from edvit_tf.cli.bundles import add_bundles
from edvit_tf.cli.certs import add_certs
from edvit_tf.cli.deploy import add_deploy
from edvit_tf.cli.discover import add_discover
from edvit_tf.cli.fleet import add_fleet
from edvit_tf.cli.hub import add_hub
from edvit_tf.cli.monitoring import add_monitoring
from edvit_tf.cli.plan import add_plan
from edvit_tf.cli.reproduce import add_reproduce
from edvit_tf.cli.status import add_status
from edvit_tf.cli.study import add_study, add_sweep
from edvit_tf.cli.train import add_train
from edvit_tf.cli.up import add_up
from edvit_tf.cli.watch import add_watch
from edvit_tf.device.errors import DeviceError, DeviceExit, exit_codes_text
from edvit_tf.device.terminal import add_version, flushed, print_anything, reader_left, say_error
from edvit_tf.errors import EXIT_CODES, EdvitError, OutputError
from edvit_tf.progress.noise import native_log


def main(argv: list[str] | None = None) -> int:
    """Parses the arguments, runs one command, returns the exit code."""
    print_anything()
    given = list(sys.argv[1:] if argv is None else argv)
    own, options = _split(given)
    args = _parser().parse_args(own)
    args.options = options
    args.words = ["edvit", *given]  # a page says how it was made

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    shows = getattr(args, "shows_native_log", False)
    try:
        with contextlib.nullcontext() if shows else native_log(None):
            return flushed(args.run(args))
    except (EdvitError, DeviceError) as error:
        say_error(error)
        return error.exit_code
    except BrokenPipeError:
        return reader_left()

    # A path that was given, as a rule: whatever opens files of ours has errors of its own.
    except OSError as error:
        say_error(f"{error}; mend the path or its permissions and try again.")
        return OutputError.exit_code

    except KeyboardInterrupt:
        print(
            "\ninterrupted; no bundle was changed, and rows that a study had finished are kept.",
            file=sys.stderr,
        )
        return DeviceExit.INTERRUPTED


def _split(given: list[str]) -> tuple[list[str], list[str]]:
    """What is ours, and what follows the -- of a command that runs a recipe: that is for it."""
    run_one = (["study", "retraining"], ["bench", "scaling"])
    runs_recipe = given[:1] == ["sweep"] or given[:2] in run_one
    if runs_recipe and "--" in given:
        place = given.index("--")
        return given[:place], given[place + 1 :]
    return given, []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edvit",
        description=__doc__,
        epilog=exit_codes_text(EXIT_CODES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_version(parser)
    # edvit --print-completion bash > ~/.local/share/bash-completion/completions/edvit
    shtab.add_argument_to(parser, "--print-completion", help="completions of this shell, to store")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_train(commands)
    add_plan(commands)
    add_advise(commands)
    add_bench(commands)
    add_study(commands)
    add_sweep(commands)
    add_reproduce(commands)
    add_certs(commands)
    add_up(commands)
    add_fleet(commands)
    add_watch(commands)
    add_deploy(commands)
    add_discover(commands)
    add_status(commands)
    add_monitoring(commands)
    add_bundles(commands)
    add_hub(commands)

    return parser
