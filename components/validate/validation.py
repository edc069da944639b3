"""Statistics, schema and findings of a set of examples."""

from collections import Counter
from statistics import median
from typing import NamedTuple

from components.shared.beam import choose_address
from components.shared.errors import UserError
from components.shared.files import new_directory, new_file
from components.shared.formats import schema as schema_format
from components.shared.formats.examples import ExamplesManifest, open_examples
from components.shared.formats.findings import KINDS, SEVERITIES, Finding, write_findings
from components.validate.anomalies import (
    compare_splits,
    find_anomalies,
    infer_schema,
    load_statistics,
    read_curated_schema,
)
from components.validate.image_statistics import compute_statistics
from components.validate.report import write_validation_report


class Thresholds(NamedTuple):
    """From where on something is a finding."""

    label: float  # L-infinity distance between the splits' label distributions, 0 .. 1
    scalar: float  # Jensen-Shannon divergence between the splits' distributions of a scalar, 0 .. 1
    blank_contrast: float  # an image with less contrast (standard deviation of intensity, 0 .. 0.5) is blank
    imbalance_ratio: float  # a class with this many times fewer or more images than the median class


def validate_examples(
    examples: str,
    *,
    curated_schema_uri: str = "",
    thresholds: Thresholds,
    severity: dict[str, str],
    beam_options: list[str],
    statistics_output: str,
    schema_output: str,
    findings_output: str,
    report_output: str,
    examples_uri: str = "",
) -> dict[str, int]:
    """Writes statistics per split, the schema, the findings and the report.

    The arguments are those of the component (component.py); `examples_uri` is where workers on other machines find the
    examples.

    Returns:
        The number of findings by kind.

    Raises:
        UserError: An option is wrong, or there are findings whose severity is `error`; then nothing is written.
    """
    _check_severity(severity)
    opened = open_examples(examples)
    opened.check_images()
    address = choose_address(examples, examples_uri, beam_options)
    with new_directory(statistics_output) as folder:
        findings = compute_statistics(
            opened,
            address=address,
            blank_contrast=thresholds.blank_contrast,
            beam_options=beam_options,
            output=folder,
        )
        statistics = load_statistics(folder, list(opened.manifest.splits))
        schema = read_curated_schema(curated_schema_uri) if curated_schema_uri else infer_schema(statistics)
        findings += find_anomalies(statistics, schema, opened)
        findings += compare_splits(
            statistics, schema, label_threshold=thresholds.label, scalar_threshold=thresholds.scalar
        )
        findings += find_imbalance(opened.manifest, thresholds.imbalance_ratio)
        findings = _apply_severity(findings, severity)
        _stop_on_errors(findings, curated_schema_uri)
        with new_directory(schema_output) as schema_folder:
            schema_format.write_schema(schema_folder / schema_format.FILE, schema)
        with new_file(findings_output) as path:
            write_findings(path, findings)
        write_validation_report(
            report_output, examples=opened, statistics=statistics, findings=findings, is_inferred=not curated_schema_uri
        )
    counts = Counter(finding["kind"] for finding in findings)
    return {kind: counts[kind] for kind in KINDS}


def find_imbalance(manifest: ExamplesManifest, ratio: float) -> list[Finding]:
    """Finds the classes of a split with `ratio` times fewer or more images than the split's median class."""
    findings: list[Finding] = []
    for split, content in manifest.splits.items():
        typical = median(content.classes.values())
        for name, count in content.classes.items():
            if count * ratio <= typical or count >= typical * ratio:
                message = f"{split}/{name} has {count:,} images, the median class of {split} {typical:,.0f}."
                findings.append({"kind": "imbalance", "message": message, "images": []})
    return findings


def _check_severity(severity: dict[str, str]) -> None:
    for kind, value in severity.items():
        if kind not in KINDS:
            raise UserError(f"severity: '{kind}' is not a kind of finding; the kinds are {', '.join(KINDS)}.")
        if value not in SEVERITIES:
            raise UserError(
                f"severity: '{kind}' is '{value}'; it must be {', '.join(SEVERITIES[:-1])} or {SEVERITIES[-1]}."
            )


def _apply_severity(findings: list[Finding], severity: dict[str, str]) -> list[Finding]:
    """The findings in the order of KINDS, with their severity, without those to ignore."""
    order = list(KINDS)
    judged: list[Finding] = [{**finding, "severity": severity.get(finding["kind"], "warning")} for finding in findings]
    shown = [finding for finding in judged if finding["severity"] != "ignore"]

    def place(finding: Finding) -> tuple[int, list[str], str]:
        message = finding["message"] if finding["images"] else ""  # the others come in the order of the classes
        return order.index(finding["kind"]), finding["images"], message

    return sorted(shown, key=place)


def _stop_on_errors(findings: list[Finding], schema: str, shown: int = 20) -> None:
    """Ends the run if a finding is an error, with one sentence for the schema and one for all else."""
    errors = [finding for finding in findings if finding["severity"] == "error"]
    misfits = [_shorten_finding(error) for error in errors if error["kind"] == "schema"]
    others = [f"{error['kind']}: {_shorten_finding(error)}" for error in errors if error["kind"] != "schema"]
    sentences = []
    if misfits:
        place = schema or "the schema inferred from them"
        advice = "correct the images or the schema, or leave it out to infer one"
        sentences.append(f"the images do not fit {place}: {_join(misfits, shown)}; {advice}.")
    if others:
        advice = "correct the images, or lower the severity of these kinds to see them in the report"
        sentences.append(f"the images have errors: {_join(others, shown)}; {advice}.")
    if sentences:
        raise UserError("\n".join(sentences))


def _join(parts: list[str], shown: int) -> str:
    more = [f"{len(parts) - shown:,} more"] if len(parts) > shown else []
    return "; ".join([*parts[:shown], *more])


def _shorten_finding(finding: Finding, shown: int = 3) -> str:
    """What was found, with a few of its images."""
    images = finding["images"]
    message = finding["message"].rstrip(".")
    if not images:
        return message
    more = f" and {len(images) - shown:,} more" if len(images) > shown else ""
    return f"{message} ({', '.join(images[:shown])}{more})"
