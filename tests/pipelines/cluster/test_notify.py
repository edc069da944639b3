"""Who is told how a run on a cluster ended: by its task `notify`, which is run here as a cluster would, and which asks
the server that knows the run; and by a command that waits for it.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.gcs import unanswered_port
from tests.fakes.kfp_rules import Frame, Json, progress, tasks_in_order
from tests.fakes.webhook import PATH, Webhook, open_webhook
from tests.pipelines.cluster.lab import STAGES, Lab, Outcome, evaluation, version_of

DATA = ("--data", "gs://images/numerals")
NOTIFY = {"notify": {"secret": "pipeline-webhook"}, "endpoint": {"ui": "https://kfp.example.com/"}}


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with open_webhook() as webhook:
        yield webhook


@pytest.fixture
def told(lab: Lab) -> str:
    """The name of a configuration whose runs tell a webhook."""
    return lab.configure("told", **NOTIFY)


def link(run: Json) -> str:
    return f"https://kfp.example.com/#/runs/details/{run['run_id']}"


def version(lab: Lab, run: Json) -> Json:
    return lab.server.stored["pipeline_version"][run["pipeline_version_reference"]["pipeline_version_id"]]


def frames(lab: Lab, run: Json, failed: str = "") -> list[Frame]:
    """Those of a run whose exit task is `notify`."""
    tasks = tasks_in_order(version(lab, run)["pipeline_spec"]["pipeline_spec"])
    assert tasks.pop() == "notify"
    return progress(tasks, failed=failed, exit_task="notify")


def end(lab: Lab, run: Json, failed: str = "") -> None:
    """Lets the next question about a run find its exit task running, and the one after that the run at its end."""
    lab.server.scripts[run["run_id"]] = iter(frames(lab, run, failed)[-2:])


def run_exit_task(
    lab: Lab, run: Json, secrets: dict[str, dict[str, str]], folder: Path
) -> subprocess.CompletedProcess[str]:
    """What Kubeflow Pipelines 2.17 and Kubernetes do with the exit task of the run: its values, variables, command.

    As on some servers, the state that it is told is still RUNNING. Only the address of the API is another one.
    """
    specs = version(lab, run)["pipeline_spec"]
    spec, platform = specs["pipeline_spec"], specs["platform_spec"]
    task = spec["root"]["dag"]["tasks"]["notify"]
    group = task["inputs"]["parameters"]["status"]["taskFinalStatus"]["producerTask"]
    assert task["dependentTasks"] == [group]
    placeholders = {"{{$.pipeline_job_name}}": run["display_name"], "{{$.pipeline_job_uuid}}": run["run_id"]}
    placeholders["http://ml-pipeline.kubeflow:8888"] = lab.server.url
    status = {"state": "RUNNING", "pipelineTaskName": group, "pipelineJobResourceName": "x7k2p", "error": {}}
    values: Json = {"status": status}
    for name, source in task["inputs"]["parameters"].items():
        if "runtimeValue" in source:
            value = source["runtimeValue"]["constant"]
            values[name] = placeholders.get(value, value) if isinstance(value, str) else value
    executor_input = {"inputs": {"parameterValues": values}, "outputs": {"outputFile": str(folder / "output.json")}}
    container = spec["deploymentSpec"]["executors"]["exec-notify"]["container"]
    words = [json.dumps(executor_input) if word == "{{$}}" else word for word in container["args"]]
    environment = {name: value for name, value in os.environ.items() if name != "WEBHOOK"}
    for source in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-notify"]["secretAsEnv"]:
        assert source["optional"]
        secret = secrets.get(source["secretName"], {})
        known = {
            pair["envVar"]: secret[pair["secretKey"]] for pair in source["keyToEnv"] if pair["secretKey"] in secret
        }
        environment |= known
    command = [os.environ["STAGES_PYTHON"], *container["command"][1:], *words]
    return subprocess.run(command, cwd=lab.project, env=environment, capture_output=True, text=True)


def test_a_success_is_told(lab: Lab, webhook: Webhook, told: str, tmp_path: Path):
    lab.done(*DATA, "--config", told)
    (run,) = lab.runs()
    end(lab, run)
    done = run_exit_task(lab, run, {"pipeline-webhook": {"url": webhook.url}}, tmp_path)
    assert done.returncode == 0, done.stderr
    assert webhook.texts == [f"{run['display_name']}: succeeded, {link(run)}"]
    assert run["display_name"].startswith(f"training-{version_of('numerals')[:8]}-{lab.commit}-")


def test_a_failure_in_a_part_of_the_pipeline_is_told_with_its_task(
    lab: Lab, webhook: Webhook, told: str, tmp_path: Path
):
    lab.done(*DATA, "--config", told, "--pipeline", "improvement")
    (run,) = lab.runs()
    end(lab, run, failed="exit-handler-1/before/before-train")
    done = run_exit_task(lab, run, {"pipeline-webhook": {"url": webhook.url}}, tmp_path)
    assert done.returncode == 0, done.stderr
    assert webhook.texts == [f"{run['display_name']}: failed in before-train, {link(run)}"]


def test_each_run_of_a_recurring_run_is_told(lab: Lab, webhook: Webhook, told: str, tmp_path: Path):
    lab.done(*DATA, "--config", told, "--recurring", "nightly", "--cron", "0 30 2 * * *", "--no-cache")
    (recurring,) = lab.server.stored["recurring_run"].values()
    run = lab.server.trigger(recurring)
    end(lab, run, failed="exit-handler-1/ingest")
    done = run_exit_task(lab, run, {"pipeline-webhook": {"url": webhook.url}}, tmp_path)
    assert done.returncode == 0, done.stderr
    assert webhook.texts == [f"nightlyx7k2p-1-3098215023: failed in ingest, {link(run)}"]


def test_a_stage_that_runs_alone_is_told(lab: Lab, webhook: Webhook, tmp_path: Path):
    config = lab.configure("elsewhere", notify={"secret": "chat.team-1", "key": "address"})
    lab.done(*DATA, "--config", config, "--component", "ingest", KFP_UI="https://other.example.com")
    (run,) = lab.runs()
    end(lab, run)
    done = run_exit_task(lab, run, {"chat.team-1": {"address": f"{webhook.url}\n"}}, tmp_path)
    assert done.returncode == 0, done.stderr
    assert webhook.texts == [f"{run['display_name']}: succeeded"]  # its config names no address of the pages


@pytest.mark.parametrize("trouble", ["nobody listens", "it refuses", "no secret", "no key"])
def test_a_dead_webhook_is_no_failure(lab: Lab, webhook: Webhook, told: str, trouble: str, tmp_path: Path):
    lab.done(*DATA, "--config", told)
    (run,) = lab.runs()
    end(lab, run)
    webhook.status = 500
    with unanswered_port() as port:
        addresses = {"nobody listens": {"url": f"http://127.0.0.1:{port}{PATH}"}, "it refuses": {"url": webhook.url}}
        secrets = {} if trouble == "no secret" else {"pipeline-webhook": addresses.get(trouble, {})}
        done = run_exit_task(lab, run, secrets, tmp_path)
    assert done.returncode == 0, done.stderr
    reason = {
        "nobody listens": "127.0.0.1: the webhook cannot be reached (Connection refused), so nobody was told",
        "it refuses": "127.0.0.1: the webhook answered 500, so nobody was told; check its address.",
    }.get(trouble, "there is no address; does the secret that the config names exist?")
    assert f"notify: {reason}" in done.stdout
    assert "hush" not in done.stdout + done.stderr


def test_who_waits_sees_the_task_and_gets_the_results(lab: Lab, told: str):
    """It makes no artifacts, so nobody looks for them, neither here nor in the cache."""
    lab.done(*DATA, "--config", told, "--experiment", "images")
    (run,) = lab.runs()
    lab.server.scripts[run["run_id"]] = iter(frames(lab, run))
    lab.leave(run, "evaluate/evaluation/evaluation.json", content=json.dumps(evaluation("0123.dir")))
    lab.leave(run, "ingest/examples", "validate/report", "transform/transform_graph", "train/report", "train/model")
    said = lab.done("--config", told, "--experiment", "images", "--attach", "latest")
    shown = re.findall(r"^[▶✓] (\S+) +(running|succeeded)", said, re.MULTILINE)
    assert shown[-2:] == [("notify", "running"), ("notify", "succeeded")]
    assert {task for task, _ in shown} == {*STAGES, "notify"}
    assert "cache" not in said
    assert "no artifacts found" not in said
    assert (lab.workplace / "results/metrics.json").is_file()
    lab.done("--config", told, "--experiment", "images", "--component", "evaluate", "--param", "batch_size=7")
    again = lab.runs()[-1]["runtime_config"]["parameters"]
    assert (again["batch_size"], again["from_run"]) == (7, run["run_id"])
    assert again["model_uri"].endswith("/model")


def test_a_task_that_could_not_tell_costs_no_results(lab: Lab, told: str):
    lab.done(*DATA, "--config", told)
    (run,) = lab.runs()
    tasks = {**frames(lab, run)[-1].tasks, "notify": "FAILED"}
    lab.server.scripts[run["run_id"]] = iter([Frame("SUCCEEDED", tasks)])
    lab.leave(run, "evaluate/evaluation/evaluation.json", content=json.dumps(evaluation("0123.dir")))
    said = lab.done("--config", told, "--attach", "latest")
    assert f"notify failed; its log is at {link(run)}" in said
    assert (lab.workplace / "results/metrics.json").is_file()


def test_a_failed_run_has_its_page(lab: Lab, told: str):
    lab.done(*DATA, "--config", told)
    (run,) = lab.runs()
    lab.server.scripts[run["run_id"]] = iter(frames(lab, run, failed="exit-handler-1/train")[-1:])
    lab.leave(run, "validate/report")
    outcome = lab.submit("--config", told, "--attach", "latest")
    assert (outcome.returncode, outcome.stderr) == (1, "")
    assert f"train failed; its log is at {link(run)}" in outcome.stdout
    assert "notify failed" not in outcome.stdout
    assert (lab.workplace / "runs/default" / run["run_id"] / "validate.html").is_file()


def check_hidden(lab: Lab, outcome: Outcome) -> None:
    """Nothing that is printed or kept shows the address, and nothing of it was sent to the cluster."""
    assert "hush" not in outcome.stdout + outcome.stderr
    kept = [path for path in lab.workplace.rglob("*") if path.is_file()]
    assert [path for path in kept if b"hush" in path.read_bytes()] == []
    assert "hush" not in str(lab.server.requests)


def test_a_command_that_waits_tells_of_a_success(lab: Lab, webhook: Webhook):
    def script() -> Iterator[Frame]:
        yield Frame("RUNNING", {"ingest": "RUNNING"})
        lab.leave(lab.runs()[0], "evaluate/evaluation/evaluation.json", content=json.dumps(evaluation("4567.dir")))
        yield Frame("SUCCEEDED", dict.fromkeys(STAGES, "SUCCEEDED"))

    lab.server.script = script()
    outcome = lab.submit(*DATA, "--wait", "--notify", webhook.url)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    (run,) = lab.runs()
    assert webhook.texts == [f"{run['display_name']}: succeeded, {lab.server.url}/#/runs/details/{run['run_id']}"]
    command = json.loads((lab.workplace / f"runs/default/{run['run_id']}/command.json").read_text())
    assert command["options"]["wait"]
    check_hidden(lab, outcome)


def test_a_command_that_waits_tells_of_every_other_end(lab: Lab, webhook: Webhook):
    ends = {
        "failed": ([*progress(STAGES, failed="train")[-1:]], 1, "failed in train"),
        "cancelled": ([Frame("CANCELED", {"ingest": "SUCCEEDED"})], 3, "cancelled"),
        "endless": ([Frame("RUNNING", {"ingest": "RUNNING"})], 124, "not finished after 0.03 minutes"),
    }
    for name, (script, code, said) in ends.items():
        run = lab.begin(name, script)
        outcome = lab.submit("--attach", name, "--timeout", "0.03", "--notify", webhook.url)
        assert (outcome.returncode, outcome.stderr) == (code, "")
        assert webhook.texts[-1] == f"{name}: {said}, {lab.server.url}/#/runs/details/{run['run_id']}"
        check_hidden(lab, outcome)
    assert len(webhook.texts) == len(ends)


def test_a_success_whose_results_cannot_be_fetched_is_told_too(lab: Lab, webhook: Webhook):
    run = lab.begin("trial", [Frame("SUCCEEDED", dict.fromkeys(STAGES, "SUCCEEDED"))])
    outcome = lab.submit("--attach", "trial", "--notify", webhook.url)
    assert outcome.returncode == 1
    assert "no evaluation" in outcome.stderr
    assert webhook.texts == [f"trial: succeeded, {lab.server.url}/#/runs/details/{run['run_id']}"]


def test_a_command_whose_webhook_is_dead_ends_as_the_run_did(lab: Lab):
    run = lab.begin("trial", progress(STAGES, failed="train")[-1:])
    with unanswered_port() as port:
        outcome = lab.submit("--attach", "trial", "--notify", f"http://127.0.0.1:{port}{PATH}")
    assert (outcome.returncode, outcome.stderr) == (1, "")
    said = "127.0.0.1: the webhook cannot be reached (Connection refused), so nobody was told; check its address.\n"
    assert said in outcome.stdout
    assert f"train failed; its log is at {lab.server.url}/#/runs/details/{run['run_id']}" in outcome.stdout
    check_hidden(lab, outcome)


def test_a_command_that_does_not_wait_does_not_take_an_address(lab: Lab):
    for options in (DATA, (*DATA, "--recurring", "nightly", "--cron", "0 30 2 * * *"), ("--list",)):
        outcome = lab.submit(*options, "--notify", "https://hooks.example.com/hush")
        assert (outcome.returncode, outcome.stdout) == (2, "")
        said = "--notify goes with --local, --wait or --attach; for other runs, set `notify` in the config"
        assert outcome.stderr == f"{said}.\n"
        assert "hush" not in outcome.stderr
    assert lab.server.requests == []


def test_an_address_is_checked_before_anything_is_started(lab: Lab):
    said = lab.refused(*DATA, "--wait", "--notify", "hooks.example.com/hush")
    assert said == "the address of the webhook is none; it begins with https:// and the name of a host."
    assert "would be sent unencrypted" in lab.refused(*DATA, "--wait", "--notify", "http://hooks.example.com/hush")
    assert lab.server.requests == []
