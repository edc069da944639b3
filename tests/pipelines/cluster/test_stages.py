"""`submit.py --component STAGE`: one stage on the cluster again, on the outputs of an earlier run in Cloud Storage."""

import re
import uuid
from collections.abc import Callable
from pathlib import Path

from tests.fakes.kfp_rules import Frame, Json
from tests.fakes.kfp_server import KUBE_PROXY, LAUNCHER, Fault, KfpServer, kubeconfig
from tests.pipelines.cluster.lab import STAGES, TURN_FRAMES, Lab, together, version_of

DONE = [Frame("SUCCEEDED", dict.fromkeys(STAGES, "SUCCEEDED"))]
INGESTED = ("ingest/examples/examples.json",)
VALIDATED = ("validate/schema/schema.pbtxt",)
TRANSFORMED = ("transform/transformed_examples/examples.json", "transform/transform_graph/saved_model.pb")
EVALUATED = ("evaluate/evaluation/evaluation.json", "evaluate/predictions")
TRAINED = ("train/model/saved_model.pb", "train/history")


def done(*cached: str) -> list[Frame]:
    """The success of a training which took these stages from the cache."""
    return [Frame("SUCCEEDED", {stage: "CACHED" if stage in cached else "SUCCEEDED" for stage in STAGES})]


def arguments(lab: Lab, body: Json) -> Json:
    assert body["runtime_config"]["pipeline_root"] == lab.root
    return body["runtime_config"]["parameters"]


def newest(lab: Lab) -> tuple[Json, str]:
    """The run that was started last, and the name of its pipeline."""
    run = lab.runs()[-1]
    pipeline_id = run["pipeline_version_reference"]["pipeline_id"]
    return run, lab.server.stored["pipeline"][pipeline_id]["display_name"]


def of(part: str, *outputs: str) -> list[str]:
    """The outputs of the tasks in a part of the improvement."""
    return [f"{part}-{output}" for output in outputs]


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
    assert re.fullmatch(rf"single-train-{lab.commit}-\d{{8}}-\d{{6}}-\w+", trained["display_name"])
    assert {"from run: first", "overridden: epochs=5"} <= set(trained["description"].splitlines())
    assert arguments(lab, lab.server.bodies("POST", "/runs")[-1]) == {
        "from_run": first["run_id"],
        "epochs": 5,
        "transformed_examples_uri": written["transformed_examples"],
        "transform_graph_uri": written["transform_graph"],
    }
    better = lab.leave(trained, *TRAINED)

    stage(lab, "evaluate", "--from-run", trained["display_name"])()
    evaluated, pipeline = newest(lab)
    assert pipeline == "single-evaluate"
    found = {"model_uri": better["model"], "examples_uri": written["examples"]}
    assert arguments(lab, evaluated) == {**found, "from_run": trained["run_id"]}

    given = {f"{name}_uri": written[name] for name in ("transformed_examples", "transform_graph")}
    # In the UI: with nothing but the addresses, whatever the description says; as a clone, which keeps the parameters;
    # and as a clone of a run that continued from one that has been deleted.
    begun = {
        name: lab.begin(name, DONE, "images", single="train", **given, **more)
        for name, more in {
            "by hand": {},
            "clone": {"from_run": first["run_id"]},
            "orphan": {"from_run": str(uuid.uuid4())},
        }.items()
    }
    begun["by hand"]["description"] = f"from run: {trained['display_name']}"
    for name, run in begun.items():
        made = lab.leave(run, *TRAINED)
        stage(lab, "evaluate", "--from-run", name)()
        found = {"model_uri": made["model"], "examples_uri": written["examples"]}
        assert arguments(lab, lab.runs()[-1]) == {**found, "from_run": run["run_id"]}

    lab.server.script = DONE
    together(
        stage(lab, "train", "--from-run", trained["run_id"], "--param", "seed=7"),
        stage(lab, "ingest", "--data", "gs://images/others"),
        stage(lab, "validate", "--from-run", first["run_id"], "--no-cache"),
    )
    again = {newest["description"].split("overridden: ")[1]: newest for newest in lab.runs()[-3:]}["seed=7"]
    # its parameters too
    assert arguments(lab, again) == {**arguments(lab, trained), "seed": 7, "from_run": trained["run_id"]}
    others = [arguments(lab, run) for run in lab.runs()[-3:] if run is not again]
    assert {"data_uri": "gs://images/others", "data_version": version_of("others")} in others
    assert {"examples_uri": written["examples"], "from_run": first["run_id"]} in others

    version = first["pipeline_version_reference"]["pipeline_version_id"]
    del lab.server.stored["pipeline_version"][version]  # of the run that the clone continued from
    stage(lab, "evaluate", "--from-run", "clone")()
    assert arguments(lab, lab.runs()[-1])["examples_uri"] == written["examples"]


def test_a_stage_of_an_improvement_runs_on_what_it_ran_on_then(lab: Lab):
    """Both trainings leave artifacts of the same names."""
    done = [Frame("SUCCEEDED", dict.fromkeys(TURN_FRAMES, "SUCCEEDED"))]
    whole = lab.begin("whole", done, "images", pipeline="improvement")
    lost = lab.begin("lost", done, "images", pipeline="improvement", data_version="4567.dir")
    before = lab.leave(whole, *of("before", *INGESTED, *EVALUATED))
    middle = lab.leave(whole, "audit/issues", "curate/data/manifest.csv")
    after = lab.leave(whole, *of("after", *INGESTED, *EVALUATED, *TRAINED))
    yardstick = lab.leave(whole, "yardstick/predictions", "yardstick/evaluation/evaluation.json")
    lab.leave(lost, *of("before", *EVALUATED))  # not the ingestion of before
    lab.leave(lost, "audit/issues", "curate/changes", *of("after", *INGESTED))
    # Another turn on the same images: KFP does again only what the decisions change.
    cached = dict.fromkeys([*(task for task in TURN_FRAMES if task.startswith("before/")), "audit"], "CACHED")
    cached["before/before-evaluate"] = "SUCCEEDED"
    decided = lab.begin(
        "decided",
        [Frame("SUCCEEDED", {**dict.fromkeys(TURN_FRAMES, "SUCCEEDED"), **cached})],
        "images",
        pipeline="improvement",
        decisions_uris={"anna": "gs://b/decisions.csv"},
    )
    judged = lab.leave(decided, *of("before", *EVALUATED))
    lab.leave(decided, "curate/data/manifest.csv", *of("after", *INGESTED, *EVALUATED, *TRAINED))
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
    assert {parameters.pop("from_run") for parameters in given.values()} == {whole["run_id"]}
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
    stage(lab, "curate", "--from-run", "decided")()
    assert arguments(lab, lab.runs()[-1]) == {
        "from_run": decided["run_id"],
        "decisions_uris": {"anna": "gs://b/decisions.csv"},
        "examples_uri": before["examples"],
        "issues_uri": middle["issues"],
        "predictions_uri": judged["predictions"],
    }
    refused = lab.refused("--component", "curate", "--from-run", "lost")
    advice = "run the stage that makes it, or name a run that has it."
    assert refused == f"run lost has no artifact 'examples' that is up to date; {advice}"


def test_a_stage_whose_artifacts_the_earlier_run_lacks_is_refused(lab: Lab):
    earlier = lab.begin("earlier", DONE, "others", epochs=7)
    lab.leave(earlier, *INGESTED, *VALIDATED, *TRAINED)
    run = lab.begin("lost", done("validate", "transform", "train"), "images")
    lab.leave(run, *INGESTED)
    lost = lab.configure("lost", pipeline_root="gs://no-such-bucket/runs")
    elsewhere = lab.begin("elsewhere", DONE, "others")
    del elsewhere["runtime_config"]["pipeline_root"]  # started in the UI, without one
    messages = together(
        lambda: lab.refused("--component", "train", "--experiment", "images"),
        lambda: lab.refused("--component", "evaluate", "--from-run", run["run_id"]),
        lambda: lab.refused("--component", "train", "--from-run", "elsewhere", "--config", lost),
    )
    missing = (
        "run lost has no artifact '{}' that is up to date; run the stage that makes it, or name a run that has it."
    )
    assert messages[:2] == [missing.format("transformed_examples"), missing.format("model")]
    assert messages[2].startswith(
        f"gs://no-such-bucket/runs/training/{elsewhere['run_id']}: not found in Cloud Storage"
    )


def test_of_a_run_that_failed_only_what_its_stages_finished_is_taken(lab: Lab):
    """A pod that is lost while it uploads leaves a part, and what never ran took nothing from the cache."""
    older = lab.begin("older", DONE, "others")
    lab.leave(older, *INGESTED, *VALIDATED, *TRANSFORMED, *TRAINED)
    cut = {**dict.fromkeys(STAGES[:3], "SUCCEEDED"), "train": "FAILED(2)", "evaluate": "OMITTED"}
    run = lab.begin("cut", [Frame("FAILED", cut)], "images")
    written = lab.leave(run, *INGESTED, *VALIDATED, *TRANSFORMED, TRAINED[0])
    missing = (
        "run cut has no artifact 'model' that is up to date; run the stage that makes it, or name a run that has it."
    )
    assert lab.refused("--component", "evaluate", "--from-run", "cut") == missing
    lab.server.script = DONE
    stage(lab, "train", "--from-run", "cut")()
    assert arguments(lab, lab.runs()[-1])["transformed_examples_uri"] == written["transformed_examples"]


def test_what_the_earlier_run_took_from_the_cache_is_found(lab: Lab):
    """KFP takes from its cache what a task of the same image, parameters and inputs wrote.

    It knows a pipeline by the name in its YAML.
    """
    first = lab.begin("first", DONE, "others")
    written = lab.leave(first, *INGESTED, *VALIDATED, *TRANSFORMED, *TRAINED)
    other = lab.begin("other data", DONE, "others", data_version="4567.dir")
    lab.leave(other, *INGESTED, *VALIDATED, *TRANSFORMED, *TRAINED)
    longer = lab.begin("longer", done("ingest", "validate", "transform"), "images", epochs=7)
    better = lab.leave(longer, *TRAINED, *EVALUATED)
    broken = lab.begin(
        "broken", [Frame("FAILED", {**dict.fromkeys(STAGES[:3], "CACHED"), "train": "FAILED"})], "others"
    )
    lab.leave(broken, "train/executor-logs-0")
    gone = lab.begin("gone", DONE, "images")
    gone["pipeline_version_reference"]["pipeline_version_id"] = str(uuid.uuid4())  # was deleted since
    again = lab.begin("again", done(*STAGES[:4]), "images", uploaded_as="numerals-2e54")
    lab.leave(again, *EVALUATED)
    lab.server.script = DONE
    together(*(stage(lab, "evaluate", "--from-run", run["run_id"]) for run in (longer, again)))
    models = {run["runtime_config"]["parameters"]["model_uri"]: arguments(lab, run) for run in lab.runs()[-2:]}
    assert models == {
        uri: {"model_uri": uri, "examples_uri": written["examples"], "from_run": run["run_id"]}
        for uri, run in ((better["model"], longer), (written["model"], again))
    }
    # A stage that was given nothing but what is the first run's: the rest is still that of the run it went on from.
    stage(lab, "audit", "--from-run", "longer")()
    audited, _ = newest(lab)
    assert arguments(lab, audited) == {"examples_uri": written["examples"], "from_run": longer["run_id"]}
    stage(lab, "evaluate", "--from-run", audited["display_name"])()
    assert arguments(lab, lab.runs()[-1])["model_uri"] == better["model"]
    # With another schema that model would be another one.
    stage(lab, "validate", "--from-run", "longer")()
    outcome = lab.submit(
        "--component", "evaluate", "--from-run", newest(lab)[0]["display_name"], "--experiment", "images"
    )
    assert "has no artifact 'model' that is up to date; run the stage that makes it" in outcome.stderr


def test_pipelines_that_cannot_be_read_are_passed_over_in_the_search_for_what_came_from_the_cache(lab: Lab):
    first = lab.begin("first", DONE)
    written = lab.leave(first, *INGESTED, *VALIDATED, *TRANSFORMED, *TRAINED)
    refusals = {"hidden": (403, None), "damaged": (500, b'{"error": "no manifest", "code": 13}')}
    for name, (status, body) in refusals.items():
        version = lab.begin(name, DONE, single="train", uploaded_as=name)["pipeline_version_reference"]
        path = f"/versions/{version['pipeline_version_id']}$"
        lab.server.faults.append(Fault("GET", path, status, body=body))
    lab.leave(lab.begin("again", done(*STAGES[:4])), *EVALUATED)
    lab.server.script = DONE
    lab.done("--component", "evaluate", "--from-run", "again")
    assert lab.server.faults == []
    assert arguments(lab, lab.runs()[-1])["model_uri"] == written["model"]


def test_a_run_of_an_uploaded_yaml_is_known_by_the_name_in_it_and_not_by_that_of_the_upload(lab: Lab):
    first = lab.begin("first", DONE, "images")
    older = lab.leave(first, *INGESTED, *VALIDATED, *TRANSFORMED, *TRAINED)
    given = {f"{name}_uri": older[name] for name in ("transformed_examples", "transform_graph")}
    trained = [Frame("SUCCEEDED", {"train": "SUCCEEDED"})]
    by_hand = lab.begin("by hand", trained, "images", single="train", uploaded_as="train-7d1e", epochs=9, **given)
    better = lab.leave(by_hand, *TRAINED)
    clone = {**given, "from_run": first["run_id"]}
    lost = lab.begin("lost", trained, "images", single="train", uploaded_as="train-7d1e", epochs=8, **clone)
    lab.server.script = DONE
    stage(lab, "evaluate", "--from-run", by_hand["run_id"])()
    assert arguments(lab, lab.runs()[-1]) == {
        "from_run": by_hand["run_id"],
        "examples_uri": older["examples"],
        "model_uri": better["model"],
    }
    # Not the older model, though its address can be found.
    assert lab.refused("--component", "evaluate", "--from-run", "lost") == (
        f"run lost: its artifact 'model' is not at {lab.root}/single-train/{lost['run_id']}/train, where the run wrote "
        "it; run the stage that makes it with --no-cache, or name a run that has it."
    )
    del lost["runtime_config"]["pipeline_root"]  # as that of a run which the plain client has started
    assert lab.refused("--component", "evaluate", "--from-run", "lost") == (
        f"run lost: its artifact 'model' is not at {lab.root}/single-train/{lost['run_id']}/train, by the config's "
        "pipeline_root, as the run names none; run the stage that makes it with --no-cache, or name a run that has it."
    )


def test_an_artifact_that_was_deleted_is_not_taken_from_an_earlier_task_of_the_run(lab: Lab):
    """Of the task that wrote it something may still be there."""
    done = [Frame("SUCCEEDED", dict.fromkeys(TURN_FRAMES, "SUCCEEDED"))]
    run = lab.begin("turn", done, pipeline="improvement")
    lab.leave(run, *of("before", *INGESTED, *TRAINED, *EVALUATED))
    lab.leave(run, *of("after", *INGESTED, *EVALUATED), "after-train/report")
    lab.leave(lab.begin("first", DONE), *INGESTED, *TRAINED, *EVALUATED)
    lab.server.script = DONE
    lost = (
        f"run turn: its artifact 'model' is not at {lab.root}/improvement/{run['run_id']}/after-train, where the run "
        "wrote it; run the stage that makes it with --no-cache, or name a run that has it."
    )
    assert lab.refused("--component", "evaluate", "--from-run", "turn") == lost
    assert lab.refused("--pipeline", "comparison", "--before", "first", "--from-run", "turn") == lost


def test_what_a_stage_took_is_taken_again_though_a_later_artifact_of_that_name_was_deleted(lab: Lab):
    done = [Frame("SUCCEEDED", dict.fromkeys(TURN_FRAMES, "SUCCEEDED"))]
    run = lab.begin("turn", done, "images", pipeline="improvement")
    before = lab.leave(run, *of("before", *INGESTED, *EVALUATED), "audit/issues")
    lab.leave(run, *of("after", *EVALUATED))
    lab.server.script = DONE
    stage(lab, "curate", "--from-run", "turn")()
    assert arguments(lab, lab.runs()[-1]) == {
        "from_run": run["run_id"],
        "examples_uri": before["examples"],
        "issues_uri": before["issues"],
        "predictions_uri": before["predictions"],
    }


def test_a_run_whose_pipeline_was_never_uploaded_is_as_good_as_others(lab: Lab):
    from kfp.client import Client

    lab.server.script = DONE
    client = Client(host=lab.server.url)
    package, parameters = lab.project / "build/training.yaml", {"data_uri": "gs://images/numerals"}
    experiment = client.create_experiment("images").experiment_id
    begun = client.run_pipeline(
        experiment, "from a notebook", str(package), params=parameters, pipeline_root=lab.root, enable_caching=True
    )
    run = lab.server.stored["run"][begun.run_id]
    assert "pipeline_version_reference" not in run
    written = lab.leave(run, *INGESTED, *VALIDATED, *TRANSFORMED, *TRAINED)
    stage(lab, "evaluate", "--from-run", run["run_id"])()
    assert arguments(lab, lab.runs()[-1]) == {
        "from_run": run["run_id"],
        "examples_uri": written["examples"],
        "model_uri": written["model"],
    }


def test_what_a_run_without_a_root_left_is_looked_for_where_the_cluster_puts_it(lab: Lab, tmp_path: Path):
    """As a run has none that the plain client started; the ConfigMap kfp-launcher of its namespace says where."""
    with KfpServer(folder=tmp_path) as server:
        lab = lab._replace(server=server)
        path = kubeconfig(server, tmp_path / "kubeconfig")
        environment = {"KFP_HOST": "", "KUBECONFIG": str(path)}
        evaluate = ("--component", "evaluate", "--from-run", "plain")
        run = lab.begin("plain", DONE)
        lab.leave(run, *INGESTED, *TRAINED)  # of another run, as it were
        del run["runtime_config"]["pipeline_root"]
        lab.leave(lab.begin("cached", done(*STAGES[:4])), *EVALUATED)
        lab.server.script, server.prefix = DONE, KUBE_PROXY

        cached = lab.refused("--component", "evaluate", "--from-run", "cached", **environment)
        assert cached.startswith("run cached has no artifact 'model' that is up to date; ")
        inside = f"minio://mlpipeline/v2/artifacts/training/{run['run_id']}"
        assert lab.refused(*evaluate, **environment) == (
            f"run plain: its outputs lie at {inside}, which is not in Cloud Storage; start it with a pipeline_root, "
            "which is gs://BUCKET/FOLDER."
        )
        server.kubernetes.put("ConfigMap", LAUNCHER, namespace="others", data={"defaultPipelineRoot": lab.root})
        server.kubernetes.put("ConfigMap", LAUNCHER, data={"defaultPipelineRoot": f"{lab.gcs.uri}/cluster/"})
        lost = f"{lab.gcs.uri}/cluster/training/{run['run_id']}/train, where the run wrote it"
        assert lab.refused(*evaluate, **environment) == (
            f"run plain: its artifact 'model' is not at {lost}; run the stage that makes it with --no-cache, or name a "
            "run that has it."
        )
        written = lab.leave(run, *INGESTED, *TRAINED)
        lab.done(*evaluate, **environment)
        assert arguments(lab, lab.runs()[-1]) == {
            "from_run": run["run_id"],
            "examples_uri": written["examples"],
            "model_uri": written["model"],
        }
        # Who may not read it is told where the outputs were looked for.
        server.kubernetes.users["hers"] = "anna@example.com"
        server.kubernetes.rights["anna@example.com"] = {"kubeflow": {"services/proxy"}}
        kubeconfig(server, path, token="hers")
        lab.gcs.bucket.delete_blobs(list(lab.gcs.bucket.list_blobs(prefix=f"runs/training/{run['run_id']}/train")))
        assert lab.refused(*evaluate, **environment) == (
            f"run plain: its artifact 'model' is not at {lab.root}/training/{run['run_id']}/train, by the config's "
            "pipeline_root, as the run names none; run the stage that makes it with --no-cache, or name a run that has "
            "it."
        )
