"""What `edvit watch` does when a label is seen: its options, and what they make."""

import argparse
import os

from edvit_tf.cli.values import number_from_0


def add_actions(parser: argparse.ArgumentParser) -> None:
    """Adds --on, and where what is seen goes."""
    group = parser.add_argument_group("when a label is seen")
    group.add_argument(
        "--on",
        action="append",
        default=[],
        metavar="LABEL>NUMBER",
        help="tell of answers that give this label a probability above that; may be given again",
    )
    group.add_argument(
        "--cooldown",
        type=number_from_0,
        default=10.0,
        metavar="SECONDS",
        help="from one event of a rule to its next (default 10)",
    )
    for option, metavar, words in (
        ("--mqtt", "URL", "publish it, mqtt[s]://USER:PASSWORD@HOST:PORT/TOPIC"),
        ("--webhook", "URL", "POST it, http[s]://HOST/PATH"),
        ("--exec", "COMMAND", "start a program, without a shell; the event is its standard input"),
    ):
        group.add_argument(
            option,
            action="append",
            default=[],
            metavar=metavar,
            help=f"{words}; env:NAME takes it from that variable",
        )


def rules_of(args):
    """The rules of --on; None without. Raises ConfigError."""
    from edvit_tf.errors import ConfigError
    from edvit_tf.watch.rules import rule

    if not args.on:
        if args.mqtt or args.webhook or args.exec:
            raise ConfigError(
                "--mqtt, --webhook and --exec go with --on 'LABEL>NUMBER': what are they to tell?"
            )
        return None
    return [rule(text) for text in args.on]


def actions_of(args, rules, printed):
    """What is done with events, all of it ready. Raises ConfigError."""
    from edvit_tf.watch.actions import Actions
    from edvit_tf.watch.address import shown_address
    from edvit_tf.watch.mqtt import mqtt
    from edvit_tf.watch.outbox import Outbox
    from edvit_tf.watch.program import Program
    from edvit_tf.watch.rules import Rules
    from edvit_tf.watch.webhook import webhook

    # all are read before the first thread starts
    brokers = [
        (f"--mqtt {shown_address(value)}", mqtt(value))
        for value in (from_environment(text, "--mqtt") for text in args.mqtt)
    ]
    hooks = [
        (f"--webhook {shown_address(value)}", webhook(value))
        for value in (from_environment(text, "--webhook") for text in args.webhook)
    ]
    programs = [Program(from_environment(text, "--exec")) for text in args.exec]

    outboxes = [Outbox(name, one, printed.say, check=one.check) for name, one in brokers]
    outboxes += [Outbox(name, send, printed.say) for name, send in hooks]
    outboxes += [Outbox(f"--exec {one.name}", one, printed.say, one.end) for one in programs]
    return Actions(Rules(rules, args.cooldown), printed.seen, outboxes)


def from_environment(text: str, option: str) -> str:
    """The value of an option, or with env:NAME what that variable holds: a password in it shows in
    no list of processes. Raises ConfigError.
    """
    from edvit_tf.errors import ConfigError

    if not text.startswith("env:"):
        return text
    value = os.environ.get(text.removeprefix("env:"), "")
    if not value:
        raise ConfigError(f"{option} is {text}, and that variable is not set. Export it before.")
    return value
