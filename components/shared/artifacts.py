"""What stages record about their artifacts for KFP to show."""

import math
from collections.abc import Collection, Mapping
from typing import Protocol

from components.shared.errors import UserError

# The most classes of which artifacts' metadata hold figures. KFP hands the metadata of all inputs to a stage in one
# argument of its command, which Linux limits to 128 KiB; what is larger is in the artifacts' files.
MOST_CLASSES = 100
PLACEHOLDER = "{{$"  # what Kubeflow Pipelines replaces, wherever it stands


class MetricsArtifact(Protocol):
    """kfp.dsl.Metrics, which is imported in components alone."""

    def log_metric(self, metric: str, value: float) -> None:
        """Records a figure."""


def can_list_classes(classes: Collection[str]) -> bool:
    """Whether artifacts' metadata can name each class: there are not too many, and kfp takes none for a placeholder."""
    return len(classes) <= MOST_CLASSES and not any(PLACEHOLDER in name for name in classes)


def log_metrics(metrics: MetricsArtifact, figures: Mapping[str, float]) -> None:
    """Records figures, if all of them are finite.

    kfp would write NaN and infinity as they are into the JSON of its executor, which no reader of JSON takes.

    Args:
        metrics: The artifact.
        figures: By name.

    Raises:
        UserError: A figure is not a finite number.
    """
    for name, value in figures.items():
        if not math.isfinite(value):
            raise UserError(f"the metric {name} is {value}, which is not a finite number; train with other settings.")
    for name, value in figures.items():
        metrics.log_metric(name, value)
