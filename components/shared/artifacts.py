"""What stages record about their artifacts for KFP to show."""

import functools
import math
from collections.abc import Callable, Collection, Mapping
from typing import ParamSpec, Protocol

from components.shared.errors import UserError

# The most classes of which artifacts' metadata hold figures. KFP hands the metadata of all inputs to a stage in one
# argument of its command, which Linux limits to 128 KiB; what is larger is in the artifacts' files.
MOST_CLASSES = 100
PLACEHOLDER = "{{$"  # what Kubeflow Pipelines replaces, wherever it stands

Parameters = ParamSpec("Parameters")


def name_outputs(function: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Decorates the function of a component: its artifacts are listed as those of its stage, audit: report.

    Kubeflow Pipelines keeps this entry of the metadata as the artifact's name. Without it that is the name of the
    output, which is `report` for six stages, on a page that lists the artifacts of all of them.
    """

    @functools.wraps(function)
    def named(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        for name, value in kwargs.items():  # of the inputs nothing is kept
            if hasattr(value, "metadata"):
                value.metadata["display_name"] = f"{function.__name__}: {name.replace('_', ' ')}"
        function(*args, **kwargs)

    return named


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
