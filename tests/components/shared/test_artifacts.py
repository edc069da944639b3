import inspect

import pytest
from kfp.dsl import Metrics

from components.shared.artifacts import log_metrics, name_outputs
from components.shared.errors import UserError


def test_figures_are_logged() -> None:
    metrics = Metrics()
    log_metrics(metrics, {"images": 3, "accuracy": 0.5})
    assert metrics.metadata == {"images": 3, "accuracy": 0.5}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_none_is_logged_if_one_is_not_finite(value: float) -> None:
    metrics = Metrics()
    with pytest.raises(UserError) as caught:
        log_metrics(metrics, {"accuracy": 0.5, "loss": value})
    assert str(caught.value) == (
        f"the metric loss is {value}, which is not a finite number; train with other settings."
    )
    assert metrics.metadata == {}


def test_artifacts_are_listed_as_those_of_their_stage() -> None:
    @name_outputs
    def audit(report: Metrics, val_share: float) -> None:
        report.metadata["images"] = 3

    made = Metrics()
    audit(report=made, val_share=0.5)
    assert made.metadata == {"display_name": "audit: report", "images": 3}
    assert list(inspect.signature(audit).parameters) == ["report", "val_share"]
