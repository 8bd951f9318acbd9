"""The section of the page that shows whether probabilities mean what they say."""

from edvit_tf.report.compared import SHORT
from edvit_tf.report.entries import Calibration
from edvit_tf.report.figures import note, number, table
from edvit_tf.report.results import Results


def calibration(results: Results) -> str:
    """How far the probabilities of each model are from the shares that turn out right."""
    fusion, told = results.fusion, results.fusion.validation_calibration
    if fusion.calibration is None or told is None:
        return ""

    # Up to 0.3.0 validation was counted by window.
    noun = results.data.noun
    seen = f"{told.samples} windows"
    if told.recordings is not None:
        seen = f"{told.recordings} {noun}s"
    tested = f"{fusion.tflite.recordings} {noun}s"

    rows = [
        _calibration_cells("fleet, validation, as trained", seen, 1.0, None, told.before),
        _calibration_cells("fleet, validation", seen, fusion.temperature, fusion.bound, told.after),
        _calibration_cells(
            "fleet, test, as deployed",
            tested,
            fusion.temperature,
            fusion.bound,
            fusion.calibration,
        ),
    ]
    if fusion.average_calibration is not None:
        rows.append(
            _calibration_cells(
                "fleet, average, test",
                tested,
                fusion.average_temperature,
                fusion.average_bound,
                fusion.average_calibration,
            )
        )
    for key, model in {"base": results.base, **results.rivals}.items():
        if model.calibration is not None:
            rows.append(
                _calibration_cells(
                    f"{SHORT[key]}, test",
                    tested,
                    model.temperature,
                    model.bound,
                    model.calibration,
                )
            )

    copies = results.copies_beside
    if copies is not None and copies.calibration is not None:
        rows.append(
            _calibration_cells(
                f"{SHORT['copies']}, test",
                tested,
                copies.temperature,
                copies.bound,
                copies.calibration,
            )
        )

    # up to 0.3.0 the fleet alone had one
    alike = "" if results.base.temperature is None else ", for every model alike"
    return table(["", "counted", "temperature", "ECE,\npoints", "NLL,\nnats"], rows) + note(
        f"Temperature: the one of least negative log-likelihood on validation data{alike}, "
        f"between 0.1 and 10{_bounds_said(results)}. The fleet's stands in the fusion file. "
        f"It changes no answer to a window; a {noun} of several windows is named by their mean, "
        "which may come to another class. ECE: mean distance between the highest probability and "
        "the share that is right, 15 equal bins."
    )


def _calibration_cells(
    name: str, counted_by: str, temperature: float | None, bound: float | None, found: Calibration
) -> list[str]:
    shown = "-" if temperature is None else number(temperature)
    if bound is not None:
        shown = f"{number(bound)} (bound)"
    return [name, counted_by, shown, f"{100 * found.ece:.1f}", number(found.nll)]


def _bounds_said(results: Results) -> str:
    """What a bound means, where a search stopped at one."""
    bounds = [results.fusion.bound, results.fusion.average_bound, results.base.bound]
    bounds += [model.bound for model in results.rivals.values()]
    if all(bound is None for bound in bounds):
        return ""
    return (
        "; at a bound the validation data do not say where it would end (1 where they are all "
        "named right, which says nothing of a lower one)"
    )
