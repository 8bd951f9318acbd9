"""report.html from what a bundle stores: one self-contained page for a reader who asks "why not one
small model?".

Reads manifest.json, results.json and, where they were stored, latency.json and tsne.npz. Accuracies
carry 95 % Wilson intervals for the number of recordings (the windows of one recording are not
independent, so none for windows); MB = 10^6 bytes.
"""

import json
from html import escape
from pathlib import Path

from edvit_tf.device.model.bundle import Bundle, open_bundle
from edvit_tf.models import architecture
from edvit_tf.report import lost
from edvit_tf.report.advice import Advice, advice
from edvit_tf.report.advised import advice_section
from edvit_tf.report.calibration import calibration
from edvit_tf.report.compared import Compared, compared, counted
from edvit_tf.report.confusion import confusion
from edvit_tf.report.data_used import data_used, usage
from edvit_tf.report.embedding import embedding, read_embedding
from edvit_tf.report.flavours import flavours
from edvit_tf.report.floor import floor_said
from edvit_tf.report.fusion_choice import fusion_choice
from edvit_tf.report.held import held
from edvit_tf.report.latency import latency
from edvit_tf.report.learning import learning
from edvit_tf.report.losing import losing
from edvit_tf.report.mistakes import mistakes, read_mistakes
from edvit_tf.report.models import models
from edvit_tf.report.parity import parity
from edvit_tf.report.results import Results, read_results
from edvit_tf.report.settings import settings
from edvit_tf.report.stages import stages
from edvit_tf.report.style import finished, page_end, page_head
from edvit_tf.report.sub_models import sub_models
from edvit_tf.report.top import top
from edvit_tf.report.trade import trade
from edvit_tf.report.verdict import verdict
from edvit_tf.report.who_knows import who_knows


def write_report(bundle_dir: Path) -> Path:
    """Writes report.html into the bundle's folder and returns its path; raises BundleError if a
    part is missing.
    """
    bundle = open_bundle(bundle_dir)
    results = read_results(bundle.path)

    # Only there after `edvit bench latency --store`.
    stored = bundle.path / "latency.json"
    beside = json.loads(stored.read_text(encoding="utf-8")) if stored.is_file() else None

    target = bundle.path / "report.html"
    target.write_text(page(bundle, results, beside), encoding="utf-8")
    return target


def page(bundle: Bundle, results: Results, beside: dict | None = None) -> str:
    """The HTML text; `beside` is what `edvit bench latency --store` kept."""
    manifest, data = bundle.manifest, results.data
    used = {device for sub in results.sub_models for device in sub.devices}
    does = "on" if results.knows_all else "split over"
    # bundles of before other architectures
    known = architecture(manifest.sub_models[0].config.get("architecture", "vit"))
    title = f"{manifest.name}: {known.TITLE} {does} {counted(len(used), 'device')}"

    facts = (
        f"{manifest.task}, {len(results.labels)} classes, "
        f"{counted(len(results.sub_models), 'sub-model')}; data: {data.named}; seed "
        f"{results.seed}; bundle {bundle.digest[:12]}"
    )

    rows = compared(bundle.fusion, results)
    advised = advice(manifest, results, bundle.path)

    links, body = "", ""
    for i, (head, html) in enumerate(_pictures(bundle, results, rows, advised)):
        links += f'<a href="#p{i}">{escape(head)}</a>'
        body += f'<section id="p{i}"><h2>{escape(head)}</h2>\n{html}</section>\n'

    body += '<section id="tables"><h2>Tables</h2>\n'
    for head, html in _tables(bundle, results, rows, advised, beside):
        body += (
            f'<details class="part"><summary><h2>{escape(head)}</h2></summary>\n{html}</details>\n'
        )
    body += "</section>"
    links += '<a href="#tables">Tables</a>'

    return finished(f"""{page_head(title)}
{_BANNER if data.synthetic else ""}<h1>{escape(title)}</h1>
<p class="soft">{escape(facts)}</p>
{_lead(advised)}
{top(results, rows)}
{_why(advised, results)}
<nav>{links}</nav>
{body}{page_end()}""")


_BANNER = (
    '<p class="banner" role="alert">SYNTHETIC DATA. A made-up stand-in took the place of the real '
    "data set: these accuracies show that the program runs, and nothing else.</p>\n"
)


def _lead(advised: Advice) -> str:
    """The recommendation; of a run below its floor that, and what to do."""
    return f'<p class="lead">{escape(advised.sentence)}</p>'


def _why(advised: Advice, results: Results) -> str:
    """The reasons, folded: what is wrong with a run is not hidden."""
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in advised.reasons)
    if not reasons:
        return ""
    is_open = " open" if floor_said(results) else ""
    return f"<details{is_open}><summary>Why</summary><ul>{reasons}</ul></details>"


def _pictures(
    bundle: Bundle, results: Results, rows: list[Compared], advised: Advice
) -> list[tuple[str, str]]:
    """(heading, HTML) of every picture that there is something to draw for."""
    shape = bundle.manifest.input.shape
    pictures = [
        ("Accuracy against what it costs", trade(results, rows)),
        ("Who knows what", who_knows(results, shape)),
        ("When devices are lost", losing(advised, results)),
        ("How the models learnt", learning(results)),
        ("Wrong answers", mistakes(read_mistakes(bundle.path), results)),
        ("Confusion matrix", confusion(results)),
        ("Features in two dimensions", _embedding(bundle)),
    ]
    return [(head, html) for head, html in pictures if html]


def _embedding(bundle: Bundle) -> str:
    """Where `edvit study tsne --store` was asked for it."""
    stored = read_embedding(bundle.path)
    return embedding(stored) if stored else ""


def _tables(
    bundle: Bundle, results: Results, rows: list[Compared], advised: Advice, beside: dict | None
) -> list[tuple[str, str]]:
    """(heading, HTML) of every table that there is something to show in; they are folded."""
    manifest = bundle.manifest
    sections = [
        ("Ways to use the devices", advice_section(advised, results)),
        ("Models compared", _said(results, rows) + models(results, rows)),
        ("Accuracy by pruning stage", stages(results)),
        ("Sub-models: size and latency", sub_models(bundle.sub_models, results)),
        ("Loss of one sub-model", lost.sub_model(results)),
    ]
    chosen = fusion_choice(results)
    if chosen:
        sections.append(("Choice of the fusion", chosen))
    if results.losses:
        sections.append(("Loss of several sub-models", lost.several(results)))
    if results.fusion.calibration is not None:
        sections.append(("Calibration", calibration(results)))

    sections.append(("Keras against TFLite", parity(results)))

    if results.flavours or results.flavours_on_validation:
        sections.append(("Flavours and runtimes", flavours(results)))
    if beside:
        sections.append(("Latency beside other runtimes", latency(beside)))

    return [
        *sections,
        ("Class groups and plan", held(manifest, results)),
        ("Data", data_used(results.data)),
        ("Training, versions, machine", settings(manifest, results)),
        ("How to run it", usage(results.data)),
    ]


def _said(results: Results, rows: list[Compared]) -> str:
    """What the figures of the fleet say, in sentences."""
    return f"<p>{escape(' '.join(verdict(results, rows)))}</p>"
