"""`edvit deploy --dry-run`: every command, as for machines that have nothing. Nobody is asked."""

from collections.abc import Iterator, Sequence

from edvit_tf.operate.deploy import steps
from edvit_tf.operate.deploy.commands import Command
from edvit_tf.operate.deploy.order import restart_order
from edvit_tf.operate.deploy.session import has_rsync
from edvit_tf.operate.deploy.steps import AGGREGATOR, WORKER, Target


def dry_run(targets: Sequence[Target]) -> Iterator[str]:
    """Lines of shell: a comment for each step, then its commands."""
    yield f"# on_device.py is {steps.commands.AGENT}"
    yield "# certificates, and digests of them, are made for this list alone"
    for target in targets:
        for step, commands in _steps(target):
            if commands:
                yield f"\n# {target.machine.name}: {step}"
                yield from (command.text() for command in commands)

    hosts = {target.machine.name: set(target.machine.sub_models) for target in targets}
    workers = {name: held for name, held in hosts.items() if held}
    by_name = {target.machine.name: target for target in targets}
    order = restart_order(workers, set(workers), set(), new_bundle=False)
    for wave in order.before:
        yield f"\n# restart, together: {', '.join(wave)}"
        for name in wave:
            yield steps.restart(by_name[name], WORKER, "KEY").text()
    for target in targets:
        if target.machine.aggregator:
            yield f"\n# {target.machine.name}: restart the aggregator, and wait for the devices"
            yield steps.restart(target, AGGREGATOR, "KEY").text()
            yield steps.wait(target, list(workers), 30.0).text()


def _steps(target: Target) -> list[tuple[str, list[Command]]]:
    rsync = has_rsync()
    return [
        ("reach", [steps.look(target)]),
        ("package", steps.package(target, {}, rsync)),
        ("identity", steps.identity(target, {})),
        ("bundle", steps.bundle(target, {}, rsync)),
        ("check", steps.check(target, {}, True)),
        ("tune", steps.tune(target, {})),
        ("unit", steps.units(target)),
    ]
