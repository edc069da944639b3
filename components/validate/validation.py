"""Statistics, schema and findings of a set of examples."""

from collections import Counter
from pathlib import Path
from statistics import median
from typing import NamedTuple

from components.shared.beam import for_workers
from components.shared.errors import UserError
from components.shared.files import new_directory, new_file
from components.shared.formats.examples import ExamplesManifest, open_examples
from components.shared.formats.findings import KINDS, SEVERITIES, Finding, write_findings
from components.validate import anomalies, image_statistics
from components.validate.report import write_validation_report

CURATED_SCHEMA = Path(__file__).parents[2] / "models" / "schema.pbtxt"


class Thresholds(NamedTuple):
    label: float  # L-infinity distance between the splits' label distributions, 0 .. 1
    scalar: float  # Jensen-Shannon divergence between the splits' distributions of a scalar, 0 .. 1
    blank_contrast: float  # an image with less contrast (standard deviation of intensity, 0 .. 0.5) is blank
    imbalance_ratio: float  # a class with this many times fewer or more images than the median class


def validate_examples(
    examples: str,
    thresholds: Thresholds,
    severity: dict[str, str],
    beam_options: list[str],
    statistics_output: str,
    schema_output: str,
    findings_output: str,
    report_output: str,
    examples_uri: str = "",
) -> dict[str, int]:
    """Writes statistics per split, the schema, the findings and the report; returns the number of findings by kind.

    `examples_uri` is where workers on other machines find the examples.

    Raises:
        UserError: an option is wrong, or there are findings whose severity is `error`; then nothing is written.
    """
    _check_severity(severity)
    opened = open_examples(examples)
    manifest = opened.manifest
    with new_directory(statistics_output) as statistics_folder:
        address = for_workers(examples, examples_uri, beam_options)
        found = image_statistics.compute(address, manifest, thresholds.blank_contrast, beam_options, statistics_folder)
        statistics = anomalies.load_statistics(statistics_folder, list(manifest.splits))
        schema = (
            anomalies.read_schema(CURATED_SCHEMA) if CURATED_SCHEMA.exists() else anomalies.infer_schema(statistics)
        )
        found += anomalies.schema_findings(statistics, schema, opened)
        found += anomalies.comparison_findings(statistics, schema, thresholds.label, thresholds.scalar)
        found += imbalanced_classes(manifest, thresholds.imbalance_ratio)
        found = _with_severity(found, severity)
        _stop_on_errors(found)
        with new_directory(schema_output) as folder:
            anomalies.write_schema(schema, folder / "schema.pbtxt")
        with new_file(findings_output) as path:
            write_findings(path, found)
        write_validation_report(report_output, opened, statistics, found)
    counts = Counter(finding["kind"] for finding in found)
    return {kind: counts[kind] for kind in KINDS}


def imbalanced_classes(manifest: ExamplesManifest, ratio: float) -> list[Finding]:
    """A finding for each class of a split with `ratio` times fewer or more images than the split's median class."""
    found: list[Finding] = []
    for split, content in manifest.splits.items():
        typical = median(content.classes.values())
        for name, count in content.classes.items():
            if count * ratio <= typical or count >= typical * ratio:
                message = f"{split}/{name} has {count:,} images, the median class of {split} {typical:,.0f}."
                found.append({"kind": "imbalance", "message": message, "images": []})
    return found


def _check_severity(severity: dict[str, str]) -> None:
    for kind, value in severity.items():
        if kind not in KINDS:
            raise UserError(f"severity: '{kind}' is not a kind of finding; the kinds are {', '.join(KINDS)}.")
        if value not in SEVERITIES:
            raise UserError(
                f"severity: '{kind}' is '{value}'; it must be {', '.join(SEVERITIES[:-1])} or {SEVERITIES[-1]}."
            )


def _with_severity(found: list[Finding], severity: dict[str, str]) -> list[Finding]:
    """The findings in the order of KINDS, with their severity, without those to ignore."""
    order = list(KINDS)
    found = [{**finding, "severity": severity.get(finding["kind"], "warning")} for finding in found]
    found = [finding for finding in found if finding["severity"] != "ignore"]
    return sorted(found, key=lambda finding: (order.index(finding["kind"]), finding["images"], finding["message"]))


def _stop_on_errors(found: list[Finding], shown: int = 20) -> None:
    errors = [finding for finding in found if finding["severity"] == "error"]
    if errors:
        lines = [
            f"{error['kind']}: {error['message']} {', '.join(error['images'])}".rstrip() for error in errors[:shown]
        ]
        if len(errors) > shown:
            lines.append(f"... and {len(errors) - shown:,} more")
        raise UserError(
            "\n".join(
                [
                    "the data has errors; mend it, or lower the severity of these kinds to see them in the report:",
                    *lines,
                ]
            )
        )
