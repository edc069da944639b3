"""Runs on a cluster in Python, against the stand-ins that the tests of submit.py use."""

import json
import subprocess
import sys
import textwrap
from typing import Any

import yaml

from tests.fakes.kfp_rules import Frame
from tests.pipelines.cluster.lab import Lab, evaluation, version_of
from tests.pipelines.cluster.test_waiting import HISTORY, leave_results

DONE = Frame("SUCCEEDED", dict.fromkeys(("ingest", "validate", "transform", "train", "evaluate"), "SUCCEEDED"))


def ask(lab: Lab, code: str) -> Any:
    """What `code`, a script that has a `cluster`, gives to `answer`."""
    lines = [
        f"import json, sys; sys.path.insert(0, {str(lab.project)!r})",
        "from components.shared.errors import UserError",
        "from pipelines.api.cluster import Cluster",
        f"cluster = Cluster('lab', host={lab.server.url!r})",
        "def answer(content): print('ANSWER', json.dumps(content))",
        textwrap.dedent(code),
    ]
    command = [sys.executable, "-c", "\n".join(lines)]
    result = subprocess.run(command, cwd=lab.workplace, env=lab.environment, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, ""), result
    (said,) = [line for line in result.stdout.splitlines() if line.startswith("ANSWER ")]
    return json.loads(said.removeprefix("ANSWER "))


def test_a_run_is_started_waited_for_and_opened(lab: Lab) -> None:
    lab.server.script = [Frame("RUNNING", {"ingest": "RUNNING"}), DONE]
    started = ask(
        lab,
        """
        run = cluster.start(data="gs://images/numerals", params={"epochs": 3}, experiment="mine", force=True)
        answer([run.name, run.experiment, run.link])
        """,
    )
    (run,) = lab.runs()
    assert started == [run["display_name"], "mine", f"{lab.server.url}/#/runs/details/{run['run_id']}"]
    data = {"data_uri": "gs://images/numerals", "data_version": version_of("numerals")}
    assert run["runtime_config"]["parameters"] == {**data, "epochs": 3}
    leave_results(lab, run, "1.dir")
    found = ask(
        lab,
        """
        run = cluster.find_run("latest", "mine")
        state = run.wait(minutes=1)
        tasks = [[task.name, task.stage, task.state] for task in run.tasks]
        answer([state, run.state, run.pipeline, tasks, run.history(), run.evaluation()["data_version"], run.pages])
        """,
    )
    tasks = [[name, name, "succeeded"] for name in ("ingest", "validate", "transform", "train", "evaluate")]
    epoch = dict(zip(HISTORY.splitlines()[0].split(","), (1, 0.5, 2.0, 0.25, 2.5), strict=True))
    found[3].sort(key=tasks.index)
    assert found == ["succeeded", "succeeded", "training", tasks, [epoch], "1.dir", ["index"]]


def test_pages_are_in_a_folder_of_the_experiment_or_of_its_id_if_no_folder_can_have_its_name(lab: Lab) -> None:
    run = lab.begin("one", [DONE], "ü" * 128)  # 256 bytes
    found = ask(lab, f"run = cluster.find_run({run['run_id']!r}); answer([run.experiment, str(run.folder)])")
    assert found == [run["experiment_id"], f"runs/{run['experiment_id']}/{run['run_id']}"]


def test_a_run_that_is_found_by_its_id_has_its_pages_with_its_experiment(lab: Lab) -> None:
    run = lab.begin("one", [DONE], "mine")
    found = ask(lab, f"run = cluster.find_run({run['run_id']!r}); answer([run.experiment, str(run.folder)])")
    assert found == ["mine", f"runs/mine/{run['run_id']}"]


def test_what_is_fetched_once_is_kept(lab: Lab) -> None:
    run = lab.begin("one", [DONE])
    uris = lab.leave(run, "evaluate/evaluation/evaluation.json", content=json.dumps(evaluation("1.dir")))
    read = """
        run = cluster.find_run("one")
        answer([str(run.locate("evaluation")), run.evaluation()["data_version"], run.outputs["evaluate", "evaluation"]])
        """
    first = ask(lab, read)
    assert first[1:] == ["1.dir", uris["evaluation"]]
    assert first[0].startswith(f"runs/default/{run['run_id']}/artifacts/")
    path = uris["evaluation"].removeprefix(f"{lab.gcs.uri}/")
    lab.gcs.bucket.blob(f"{path}/evaluation.json").upload_from_string("{}")
    assert ask(lab, read) == first


def test_runs_are_listed_and_ended(lab: Lab) -> None:
    lab.begin("one", [DONE])
    lab.begin("two", [Frame("RUNNING", {"ingest": "RUNNING"})] * 99)
    listed = ask(
        lab,
        """
        runs = cluster.list_runs()
        runs[0].terminate()
        answer([[run.name for run in runs], runs[0].state in ("cancelling", "cancelled")])
        """,
    )
    assert listed == [["two", "one"], True]
    assert lab.runs()[1]["state"] in ("CANCELING", "CANCELED", "FAILED")


def test_checks_are_rows(lab: Lab) -> None:
    checks = ask(lab, "answer(cluster.check(data='gs://images/numerals'))")
    assert [name for name, *_ in checks] == ["endpoint", "credentials", "experiment", "bucket", "data", "images"]
    assert checks[1] == ["credentials", True, "accepted"]
    assert checks[4] == ["data", True, version_of("numerals")]


def test_a_recurring_run_is_made_paused_and_deleted(lab: Lab) -> None:
    ask(
        lab,
        """
        cluster.schedule("nightly", "0 30 2 * * *", data="gs://images/numerals", force=True)
        cluster.change_schedule("nightly", "pause")
        answer(True)
        """,
    )
    (made,) = lab.server.stored["recurring_run"].values()
    assert (made["display_name"], made["trigger"]["cron_schedule"]["cron"]) == ("nightly", "0 30 2 * * *")
    assert made["status"] == "DISABLED"
    ask(lab, "cluster.change_schedule('nightly', 'delete'); answer(True)")
    assert not lab.server.stored["recurring_run"]


def test_mistakes_are_the_sentences_of_the_command_line(lab: Lab) -> None:
    run = lab.begin("one", [DONE])
    said = ask(
        lab,
        """
        said = []
        def attempt(*names, **options):
            try:
                cluster.start(*names, **options)
            except UserError as error:
                said.append(str(error))
        attempt(rev="v1")
        attempt(data="gs://images/numerals", experiment="a+b")
        try:
            cluster.find_run("nowhere")
        except UserError as error:
            said.append(str(error))
        for attempt in (
            lambda: cluster.find_run("one").wait(minutes=0),
            lambda: cluster.find_run("one").page(),
            lambda: cluster.change_schedule("nightly", "stop"),
            lambda: cluster.list_runs(".."),
            lambda: Cluster("lab", hots="https://kfp.example"),
        ):
            try:
                attempt()
            except UserError as error:
                said.append(str(error))
        answer(said)
        """,
    )
    assert said[3:] == [
        "minutes is 0; it must be above 0.",
        f"run one: has no pages in runs/default/{run['run_id']}; `wait` fetches those of a cluster's run.",
        "the change 'stop' does not exist. There are: delete, pause, resume.",
        "--experiment '..': its runs go into a folder of this name, and no folder can have it; give a name without "
        "slashes and of at most 255 bytes, such as numerals.",
        "the setting of the endpoint 'hots' does not exist. Did you mean host? There are: ca_file, client_id, "
        "header_file, host, kube_context, namespace, token_file, ui, user_namespace.",
    ]
    assert said[:3] == [
        "--rev goes with --data, the folder it is a version of.",
        "--experiment 'a+b': must be a name without + and %.",
        "run nowhere: there is no run of that name; --list shows the newest.",
    ]
    assert lab.runs() == [run]


def test_the_configuration_is_read_like_that_of_the_command_line(lab: Lab) -> None:
    name = lab.configure("told", endpoint={"ui": "https://ui.example"})
    assert yaml.safe_load((lab.project / f"pipelines/config/{name}.yaml").read_text())["endpoint"]
    lab.begin("one", [DONE])
    link = ask(lab, f"answer(Cluster('told', host={lab.server.url!r}).find_run('one').link)")
    assert link.startswith("https://ui.example/#/runs/details/")
