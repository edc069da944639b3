"""`submit.py --component STAGE`: one stage on the cluster again, on what an earlier run left in Cloud Storage."""

import re
from collections.abc import Callable

from tests.cluster.lab import STAGES, TURN, Lab, together
from tests.kfp_rules import Frame, Json

DONE = [Frame("SUCCEEDED", dict.fromkeys(STAGES, "SUCCEEDED"))]
INGESTED = ("ingest/examples/examples.json",)
VALIDATED = ("validate/schema/schema.pbtxt",)
TRANSFORMED = ("transform/transformed_examples/examples.json", "transform/transform_graph/saved_model.pb")
EVALUATED = ("evaluate/evaluation/metrics.json", "evaluate/predictions")
TRAINED = ("train/model/saved_model.pb", "train/history")


def arguments(lab: Lab, body: Json) -> Json:
    assert body["runtime_config"]["pipeline_root"] == lab.root
    return body["runtime_config"]["parameters"]


def newest(lab: Lab) -> tuple[Json, str]:
    """The run that was started last, and the name of its pipeline."""
    run = lab.runs()[-1]
    pipeline_id = run["pipeline_version_reference"]["pipeline_id"]
    return run, lab.server.stored["pipeline"][pipeline_id]["display_name"]


def stage(lab: Lab, name: str, *options: str) -> Callable[[], str]:
    return lambda: lab.done("--component", name, *options, "--experiment", "images")


def test_a_stage_runs_on_what_an_earlier_run_left_and_the_next_on_that(lab: Lab):
    first = lab.begin("first", DONE, "images")
    lab.leave(first, *TRANSFORMED)  # of an attempt that failed
    written = lab.leave(first, *INGESTED, *VALIDATED, *TRANSFORMED, *TRAINED)
    lab.begin("failed", [Frame("FAILED")], "images")  # latest is the latest success
    lab.server.script = DONE

    stage(lab, "train", "--param", "epochs=5")()
    trained, pipeline = newest(lab)
    assert pipeline == "single-train"
    assert re.fullmatch(rf"single-train-{lab.tag}-\d{{8}}-\d{{6}}-\w+", trained["display_name"])
    assert {"from run: latest", "overridden: epochs=5"} <= set(trained["description"].splitlines())
    assert arguments(lab, lab.server.bodies("POST", "/runs")[-1]) == {
        "epochs": 5,
        "transformed_examples_uri": written["transformed_examples"],
        "transform_graph_uri": written["transform_graph"],
    }
    better = lab.leave(trained, *TRAINED)

    stage(lab, "evaluate", "--from-run", trained["display_name"])()
    evaluated, pipeline = newest(lab)
    assert pipeline == "single-evaluate"
    assert arguments(lab, evaluated) == {"model_uri": better["model"], "examples_uri": written["examples"]}

    together(
        stage(lab, "train", "--from-run", trained["run_id"], "--param", "seed=7"),
        stage(lab, "ingest", "--data", "gs://images/others"),
        stage(lab, "validate", "--from-run", first["run_id"], "--no-cache"),
    )
    again = {newest["description"].split("overridden: ")[1]: newest for newest in lab.runs()[-3:]}["seed=7"]
    assert arguments(lab, again) == {**arguments(lab, trained), "seed": 7}  # its parameters too
    others = [arguments(lab, run) for run in lab.runs()[-3:] if run is not again]
    assert {"data_uri": "gs://images/others"} in others
    assert {"examples_uri": written["examples"]} in others


def test_a_stage_of_an_improvement_runs_on_what_it_ran_on_then(lab: Lab):
    """Both trainings leave artifacts of the same names; a cached ingestion of before leaves none."""
    done = [Frame("SUCCEEDED", dict.fromkeys(TURN, "SUCCEEDED"))]
    runs = {name: lab.begin(name, done, "images", pipeline="improvement") for name in ("whole", "cached")}
    whole, cached = runs["whole"], runs["cached"]
    before = lab.leave(whole, *INGESTED, *EVALUATED)
    middle = lab.leave(whole, "audit/issues", "curate/data/manifest.csv")
    after = lab.leave(whole, *INGESTED, *EVALUATED, *TRAINED)
    yardstick = lab.leave(whole, "yardstick/predictions", "yardstick/evaluation/metrics.json")
    lab.leave(cached, *EVALUATED)
    lab.leave(cached, "audit/issues", "curate/changes", *INGESTED)
    lab.server.script = DONE

    together(
        stage(lab, "curate", "--from-run", "whole", "--param", "augment_to=7"),
        stage(lab, "compare", "--from-run", "whole"),
        stage(lab, "evaluate", "--from-run", "whole"),
    )
    given = {}
    for run in lab.runs()[-3:]:
        pipeline_id = run["pipeline_version_reference"]["pipeline_id"]
        given[lab.server.stored["pipeline"][pipeline_id]["display_name"]] = run["runtime_config"]["parameters"]
    assert given["single-curate"] == {
        "augment_to": 7,
        "examples_uri": before["examples"],
        "issues_uri": middle["issues"],
        "predictions_uri": before["predictions"],
    }
    assert given["single-compare"] == {
        "before_evaluation_uri": before["evaluation"],
        "before_predictions_uri": before["predictions"],
        "after_evaluation_uri": after["evaluation"],
        "after_predictions_uri": after["predictions"],
        "yardstick_predictions_uri": yardstick["predictions"],
        "examples_uri": before["examples"],
    }
    assert given["single-evaluate"] == {"examples_uri": after["examples"], "model_uri": after["model"]}
    refused = lab.refused("--component", "curate", "--from-run", "cached")
    assert refused == "run cached has no artifact 'examples' of its own; take a run that made it."


def test_a_stage_whose_artifacts_the_earlier_run_lacks_is_refused(lab: Lab):
    run = lab.begin("cached", DONE, "images")  # what comes from KFP's cache is in the folder of another run
    lab.leave(run, *INGESTED)
    lost = lab.configure("lost", pipeline_root="gs://no-such-bucket/runs")
    elsewhere = lab.begin("elsewhere", DONE, "others")
    del elsewhere["runtime_config"]["pipeline_root"]  # started in the UI, without one
    messages = together(
        lambda: lab.refused("--component", "train", "--experiment", "images"),
        lambda: lab.refused("--component", "evaluate", "--from-run", run["run_id"]),
        lambda: lab.refused("--component", "train", "--from-run", "elsewhere", "--config", lost),
    )
    missing = "run cached has no artifact '{}' of its own; take a run that made it."
    assert messages[:2] == [missing.format("transformed_examples"), missing.format("model")]
    assert messages[2].startswith(f"gs://no-such-bucket/runs/training/{elsewhere['run_id']}: no such bucket or object")
