"""What a soak (`tests/soak.py`) found: its figures, what of them must not be, and its table."""

import collections

import numpy as np

from tests.support import chaos

DEADLINE_SECONDS = 1.5
# A request is late after so many deadlines. A hostile peer is a process of this very machine:
# beside one, threads of two cores are woken late.
LATE = 1.1
LATE_BESIDE_PEERS = 1.5
AVAILABILITY = 0.999
POLITE = 0.9  # of the requests beside a hostile peer, as a client with a name of its own keeps
# Of the aggregator's memory, from the second quarter of a run to the last: what a run of minutes
# still fills (the allocator's pools, the metrics of new kinds).
GROWTH = 1.1
# Judged by what it comes down to between hostile peers. A median would tell which peer is at work
# for most of a quarter: each may hold some 20 MiB, and gives them back. What leaks does not come
# down.
FLOOR = 0.1  # of a quarter's samples, the lowest
# Of all requests: those that a machine which stood still may lose. Of more nothing is proved.
LOST = 0.05
JUDGED_MINUTES = 2.0  # a shorter run has not seen each hostile peer


def figures(rows, faults: list[chaos.Fault], end, stalls=()) -> dict:
    lost = [row for row in rows if row.lost]
    rows = [row for row in rows if not row.lost]
    answered = [row for row in rows if row.code == "OK"]
    crowded, calm = _by_company(rows, faults)
    hangs = [row for row in calm if row.seconds > LATE * DEADLINE_SECONDS]
    hangs += [row for row in crowded if row.seconds > LATE_BESIDE_PEERS * DEADLINE_SECONDS]
    wrong = [row for row in rows if not row.right]
    times = [row.seconds for row in rows]
    every_kind = (*chaos.FAULTS, *chaos.RACK_FAULTS, *chaos.HOSTILE)
    kinds = {kind: [fault for fault in faults if fault.kind == kind] for kind in every_kind}
    result = {
        "requests": len(rows),
        "lost_by_the_machine": len(lost),
        "answered": len(answered),
        "whole": sum(row.whole for row in rows),
        "degraded": sum(bool(row.missing) for row in answered),
        "wrong": len(wrong),
        "hangs": len(hangs),
        "availability": _share(calm),
        "beside_hostile_peers": {"requests": len(crowded), "answered": _share(crowded)},
        "codes": collections.Counter(row.code for row in rows),
        "seconds": {
            "p50": float(np.median(times)),
            "p99": float(np.quantile(times, 0.99)),
            "longest": max(times),
        },
        "late": [
            {
                "code": row.code,
                "seconds": row.seconds,
                "inside_seconds": row.inside_seconds,
                "stalled_seconds": _stalled(stalls, row),
                "beside": _beside(faults, row),
            }
            for row in hangs
        ],
        "longest_stall_seconds": max((seconds for _, seconds in stalls), default=0.0),
        "stalls": len(stalls),
        "refusals": [{"code": row.code, "words": row.words} for row in rows if row.code != "OK"][
            :20
        ],
        "faults": {
            kind: {
                "count": len(of),
                "back_seconds_median": _median([f.back_seconds for f in of]),
                "back_seconds_max": max((f.back_seconds or 0.0 for f in of), default=None),
            }
            for kind, of in kinds.items()
        },
    }
    result["failed"] = [
        *(["the machine stood still too often"] if len(lost) > LOST * len(rows) else []),
        *(f"{len(wrong)} wrong answers" for _ in wrong[:1]),
        *(f"{len(hangs)} requests too late" for _ in hangs[:1]),
        *(["availability"] if result["availability"] < AVAILABILITY else []),
        *(["polite clients beside hostile peers"] if _share(crowded) < POLITE else []),
        *(
            f"{fault.kind} of device {fault.device}: {fault.trouble or 'never back'}"
            for fault in faults
            if fault.trouble or fault.back_seconds is None
        ),
        *([] if end and all(row.whole for row in end) else ["not whole at the end"]),
    ]
    return result


def _by_company(rows, faults: list[chaos.Fault]) -> tuple[list, list]:
    """The requests while a hostile peer was there or its traces were, and the others."""
    spans = []
    for fault in faults:
        if fault.device == chaos.PEER:
            spans.append((fault.started, fault.started + fault.seconds + (fault.back_seconds or 0)))

    crowded, calm = [], []
    for row in rows:
        beside = any(
            row.started < end and max(row.ended, row.started + row.seconds) > began
            for began, end in spans
        )
        (crowded if beside else calm).append(row)

    return crowded, calm


def _share(rows) -> float:
    """Of requests, those that were answered."""
    return sum(row.code == "OK" for row in rows) / len(rows) if rows else 1.0


def _median(values: list) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def memory_figures(samples: list[tuple[int, int]], minutes: float) -> dict:
    """What the aggregator comes down to in the second quarter of the run and in the last, and the
    most of all. `samples`: resident bytes of the aggregator and of the largest worker.
    """
    hub = [each for each, _ in samples]
    quarter = len(hub) // 4
    early, late = 0.0, 0.0
    if quarter:
        early = float(np.quantile(hub[quarter : 2 * quarter], FLOOR))
        late = float(np.quantile(hub[-quarter:], FLOOR))

    return {
        "memory": {
            "aggregator_early_bytes": early,
            "aggregator_late_bytes": late,
            "aggregator_most_bytes": max(hub, default=0),
            "worker_most_bytes": max((each for _, each in samples), default=0),
        },
        "grew": minutes >= JUDGED_MINUTES and late > GROWTH * early,
    }


def _beside(faults: list[chaos.Fault], row) -> list[str]:
    """The faults and the hostile peers that were there with a request, or were just over."""
    found = []
    for fault in faults:
        over = fault.started + fault.seconds + (fault.back_seconds or 0)
        if fault.started < max(row.ended, row.started + row.seconds) and row.started < over:
            found.append(fault.kind)

    return found


def _stalled(stalls, row) -> float:
    """Seconds of the stalls that touch a request."""
    end = max(row.ended, row.started + row.seconds)
    return sum(
        seconds for began, seconds in stalls if began < end and began + seconds > row.started
    )


def text(result: dict) -> str:
    """The figures as a table."""
    lines = [
        f"{result['minutes']:g} minutes, seed {result['seed']}: {result['requests']} requests, "
        f"{result['whole']} whole, {result['degraded']} degraded, {result['codes']}",
        f"wrong {result['wrong']}, too late {result['hangs']}, availability "
        f"{100 * result['availability']:.3f} %; beside hostile peers "
        "{answered:.1%} of {requests}".format(**result["beside_hostile_peers"]),
        "p50 {p50:.4f} s, p99 {p99:.3f} s, longest {longest:.3f} s".format(**result["seconds"]),
        "aggregator: resident {:.1f} -> {:.1f} MiB, ".format(
            *(n / 2**20 for n in result["aggregator_rss_bytes"])
        )
        + "descriptors {} -> {}".format(*result["aggregator_descriptors"]),
        "it comes down to {:.1f}, later to {:.1f} MiB, at most {:.1f}; "
        "a worker at most {:.1f} MiB".format(*(n / 2**20 for n in result["memory"].values())),
        f"{'fault':<12}{'count':>6}{'back after s, median':>22}{'max':>7}",
    ]
    for kind, row in result["faults"].items():
        median, most = (
            "" if row[key] is None else f"{row[key]:.2f}"
            for key in ("back_seconds_median", "back_seconds_max")
        )
        lines.append(f"{kind:<12}{row['count']:>6}{median:>22}{most:>7}")
    codes: dict[str, collections.Counter[str]] = {}
    for said in result["hostile"]:
        codes.setdefault(said["kind"], collections.Counter()).update(said["codes"])
    lines += [f"hostile {kind}: {dict(of)}" for kind, of in codes.items()]
    lines.append(
        f"stalls of the machine: {result['stalls']}, longest {result['longest_stall_seconds']:.3f} "
        "s"
    )
    lines += [
        f"LATE {row['code']}: {row['seconds']:.3f} s, inside the aggregator "
        f"{row['inside_seconds']} s, the "
        f"machine stalled {row['stalled_seconds']:.3f} s; beside {', '.join(row['beside'])}"
        for row in result["late"]
    ]
    lines += [f"REFUSED {row['code']}: {row['words'][:300]}" for row in result["refusals"][:5]]
    return "\n".join([*lines, *(f"FAILED: {words}" for words in result["failed"])] or lines)
