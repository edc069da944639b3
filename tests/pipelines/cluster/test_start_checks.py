"""What `submit.py` looks for before it sends anything, because the run would fail of it minutes later."""

import re

import pytest

from tests.fakes.kfp_rules import Frame
from tests.fakes.kfp_server import KfpServer
from tests.pipelines.cluster.lab import STAGES, Lab, together
from tests.pipelines.cluster.test_checks import OldServer, answer_always

DATA = ("--data", "gs://images/numerals")
DONE = [Frame("SUCCEEDED", dict.fromkeys(STAGES, "SUCCEEDED"))]


def test_images_that_the_registry_lacks_are_refused(lab: Lab):
    """A pod would wait for them for ever. Nodes may have them all the same, which --force says."""
    lab.registry.missing |= {"pipelines/train", "pipelines/evaluate"}
    nightly = ("--recurring", "nightly", "--cron", "0 30 2 * * *")
    images = f"{lab.find_image('evaluate')}, {lab.find_image('train')}"
    for options in (DATA, (*DATA, *nightly)):
        assert lab.refused(*options) == f"{images}: not in the registry; run: make images push REGISTRY=..."
    assert lab.server.stored["pipeline"] == {}
    lab.done(*DATA, "--force")
    assert len(lab.runs()) == 1


def test_a_registry_that_cannot_be_asked_is_one_line_and_no_refusal(lab: Lab, closed_port: int):
    """The cluster may read what this machine does not."""
    forbidden, page = answer_always(403, "application/json"), answer_always(404, "text/html")
    hosts = {
        f"127.0.0.1:{closed_port}": "the registry does not answer (ConnectionError); is `registry` in the config "
        "right?",
        f"127.0.0.1:{forbidden.server_port}": "the registry does not let you read (403); ask for the role Artifact "
        "Registry Reader, or run: gcloud auth application-default login",
        f"127.0.0.1:{page.server_port}": "what answers is no registry of images (text/html); is `registry` in the "
        "config right?",
    }
    for number, (host, said) in enumerate(hosts.items()):
        printed = lab.done(*DATA, "--config", lab.configure(f"away{number}", registry=f"{host}/pipelines"))
        first, second, *_ = printed.splitlines()
        assert re.fullmatch(rf"not checked: {host}(/pipelines/\w+:\w+)?: {re.escape(said)}", first)
        assert second == f"started {lab.runs()[number]['display_name']}"
    forbidden.shutdown()
    page.shutdown()


def test_addresses_where_nothing_is_are_refused(lab: Lab):
    run = lab.begin("earlier", DONE)
    lab.leave(run, "transform/transformed_examples/examples.json", "transform/transform_graph/saved_model.pb")
    nothing = f"{lab.gcs.uri}/nothing"
    train = ("--component", "train", "--param")
    bucket = lab.configure("no-bucket", pipeline_root="gs://no-such-bucket/runs")
    elsewhere = lab.configure("no-address", pipeline_root="/tmp/runs")
    advice = "give the address of what a run has left there."
    artifact, half, in_no_bucket, schema, decisions, root, path = together(
        lambda: lab.refused(*train, f"transform_graph_uri={nothing}"),
        lambda: lab.refused(*train, f"transform_graph_uri={lab.gcs.uri}/runs/training/{run['run_id']}/trans"),
        lambda: lab.refused(*train, "transform_graph_uri=gs://no-such-bucket/a"),
        lambda: lab.refused(*DATA, "--schema", nothing),
        lambda: lab.refused(*DATA, "--pipeline", "improvement", "--decisions", nothing),
        lambda: lab.refused(*DATA, "--config", bucket),
        lambda: lab.refused(*DATA, "--config", elsewhere),
    )
    assert artifact == f"transform_graph_uri: nothing lies at {nothing} in Cloud Storage; {advice}"
    assert half.startswith(f"transform_graph_uri: nothing lies at {lab.gcs.uri}/runs/training/")
    assert in_no_bucket == f"transform_graph_uri: nothing lies at gs://no-such-bucket/a in Cloud Storage; {advice}"
    assert schema == f"curated_schema_uri: nothing lies at {nothing} in Cloud Storage; {advice}"
    assert decisions == f"{nothing}: not found in Cloud Storage; check the address."
    assert root == "gs://no-such-bucket/runs: not found in Cloud Storage; check pipeline_root in the config."
    assert path == "'/tmp/runs': not a place in Cloud Storage; pipeline_root must be gs://BUCKET/FOLDER."
    assert lab.server.stored["pipeline"].keys() == {run["pipeline_version_reference"]["pipeline_id"]}


def test_a_bucket_that_cannot_be_asked_is_one_line_and_no_refusal(lab: Lab):
    forbidden = answer_always(403, "application/json")
    printed = lab.done(*DATA, STORAGE_EMULATOR_HOST=f"http://127.0.0.1:{forbidden.server_port}")
    forbidden.shutdown()
    (doubt,) = [line for line in printed.splitlines() if line.startswith("not checked: ")]
    assert doubt.startswith(f"not checked: {lab.root}: permission refused (403 GET ")
    assert doubt.endswith("give the account of this run the role Storage Object Viewer on the bucket.")
    assert f"started {lab.runs()[0]['display_name']}" in printed.splitlines()


def test_decisions_in_the_bucket_are_read_before_the_start(lab: Lab):
    lab.gcs.bucket.blob("decisions.csv").upload_from_string(
        f"sha256,filename,label,decision,new_label,decided_at\n{'0' * 64},train/i/a.png,i,maybe,,\n"
    )
    file = f"{lab.gcs.uri}/decisions.csv"
    said = lab.refused(*DATA, "--pipeline", "improvement", "--decisions", file)
    assert said.startswith(f"{file}, line 2: ")
    assert "'maybe'" in said


def test_a_server_that_is_too_old_or_has_users_is_refused(lab: Lab):
    with OldServer() as old, KfpServer(multi_user=True) as shared:
        aged = lab.refused(*DATA, "--host", old.url)
        team = lab.refused(*DATA, "--host", shared.url)
        assert [request.method for request in (*old.requests, *shared.requests) if request.method != "GET"] == []
    assert aged == f"{old.url} runs Kubeflow Pipelines 2.2.0; this project needs 2.3 or a newer 2.x."
    assert team == f"{shared.url} is in multi-user mode; name your namespace with --user-namespace."


@pytest.mark.parametrize("option", ["--attach", "--terminate", "--from-run"])
def test_a_name_that_the_database_cannot_compare_is_refused(lab: Lab, option: str):
    stage = ("--component", "train") if option == "--from-run" else ()
    assert lab.refused(*stage, option, "run 🙂") == (
        "the name of the run: has '🙂', which the database of Kubeflow Pipelines cannot hold; use another."
    )
