"""The section of the page that shows which classes go together, and what each device may hold and
holds.
"""

from edvit_tf.device.model.manifest import Manifest
from edvit_tf.planning.boards import boards
from edvit_tf.report.compared import counted
from edvit_tf.report.figures import note, table
from edvit_tf.report.planned_energy import LEFT_OUT, computing_joules, range_text
from edvit_tf.report.results import Results
from edvit_tf.report.units import macs, size


def held(manifest: Manifest, results: Results) -> str:
    """Which classes go together, and what each device may hold and holds."""
    plan = manifest.plan
    groups = []
    for sub in results.sub_models:
        classes = results.classes_said(sub.labels)
        groups.append([sub.name, ", ".join(sub.devices), classes])

    # older bundles name no boards
    joules = any(device.get("board") in boards() for device in plan.devices)
    rows = []
    for device in plan.devices:
        # By what results.json says is on a device: the plan has limits, not files.
        own = [sub for sub in results.sub_models if device["name"] in sub.devices]
        memory, compute = device["memory_bytes"], device["compute_macs"]
        rows.append(
            [
                device["name"],
                "none" if memory is None else size(memory, 3),
                "none" if compute is None else macs(compute),
                size(sum(sub.file_bytes for sub in own), 3),
                macs(plan.samples * sum(sub.macs for sub in own)),
                *([_joules(device, sum(sub.macs_full for sub in own))] if joules else []),
                ", ".join(sub.name for sub in own) or "nothing",
            ]
        )

    # Earlier versions stored no bytes of all copies, only of each file once.
    planned = results.plan.deployed_bytes
    if planned is None:
        planned = results.plan.total_bytes

    budget = "no budget"
    if plan.budget_bytes is not None:
        budget = f"a budget of {size(plan.budget_bytes)}"

    head = ["device", "limit,\nbytes", "limit,\nMACs", "files\nheld", "MACs\nheld"]
    head += [*(["J a question,\ncomputing"] if joules else []), "holds"]
    # Equal devices are never left so; unequal ones may be, and nothing else says it.
    idle = [row[0] for row in rows if row[-1] == "nothing"]
    several = any(", " in row[-1] for row in rows)
    left = ""
    if idle and several:
        left = f" Idle, while another holds several: {', '.join(idle)}."

    return (
        table(["sub-model", "devices", "classes"], groups, text=(0, 1, 2), wrap=2)
        + table(head, rows, text=(0, len(head) - 1), wrap=len(head) - 1)
        + note(
            f"Classes grouped by: {plan.strategy}; assignment: {plan.assignment}; {size(planned)} "
            f"of files were planned at most, {budget}; MACs of "
            f"{counted(plan.samples, 'sample')}.{left}"
        )
        + (note(f"J: {LEFT_OUT}") if joules else "")
    )


def _joules(device: dict, macs_full: int) -> str:
    """What a device spends on a question by computing; "-" where its board is not known here."""
    spends = computing_joules(device, macs_full)
    return "-" if spends is None else range_text(spends)
