"""What the tests of a cluster have: the project as somebody committed it, a server, a bucket, a folder to work in."""

import datetime
import hashlib
import json
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from components.shared.formats.dvc_manifest import compute_version
from tests.commands import run_command
from tests.components.shared.formats.test_comparison import COMPARISON
from tests.conftest import PATIENCE, contents
from tests.fakes.evaluation import split_metrics
from tests.fakes.gcs import Gcs
from tests.fakes.kfp_rules import Frame, Json
from tests.fakes.kfp_server import KfpServer
from tests.fakes.registry import Registry

STAGES = ["ingest", "validate", "transform", "train", "evaluate"]
TURN = [
    *(f"before-{stage}" for stage in STAGES),
    *("audit", "curate"),
    *(f"after-{stage}" for stage in STAGES),
    *("yardstick", "compare"),
]
# As a Frame names them, with the part of the pipeline that they are in.
TURN_FRAMES = [f"{task.partition('-')[0]}/{task}" if "-" in task else task for task in TURN]
CLASSES = ["i", "v", "x"]
RUNNING = "^/runs/[^/]+$"  # the request that a waiting submit.py makes
# What a stage prints that says nothing, with the addresses of its inputs and outputs.
LOG = "[KFP Executor 2026-11-22 14:05:00,000 INFO]: Got executor_input:\n{}\n"

# What lies in the bucket `images`, a data set in each of its folders.
SMILE = "\N{SLIGHTLY SMILING FACE}"
PICTURES = {
    f"{folder}/{name}": f"{folder} {name}".encode()
    for folder in ("numerals", "test", "others", SMILE)
    for name in ("i/0.png", "v/0.png", "x/.hidden")
}
MANIFEST = "dvc/files/md5/01/23456789abcdef0123456789abcdef.dir"  # lies there too; submit.py does not read it
VERSIONED = f"gs://images/{MANIFEST}"

SINGLE: dict[str, Json] = {"train": {"transformed_examples_uri": "gs://b/x", "transform_graph_uri": "gs://b/g"}}

Outcome = subprocess.CompletedProcess  # of submit.py
Process = subprocess.Popen


@cache
def find_tags(project: Path) -> dict[str, str]:
    """The tag of each image that a project's `make images` builds."""
    command = [sys.executable, "-m", "pipelines.compiler.image_tags"]
    done = subprocess.run(command, cwd=project, check=True, capture_output=True, text=True)
    return dict(image.split(":") for image in done.stdout.split())


class Lab(NamedTuple):
    project: Path  # with the configuration `lab`
    server: KfpServer
    gcs: Gcs
    workplace: Path  # where submit.py is called, and leaves results/
    environment: dict[str, str]
    registry: Registry

    @property
    def root(self) -> str:
        """The pipeline root of `lab`."""
        return f"{self.gcs.uri}/runs"

    @property
    def commit(self) -> str:
        return git(self.project, "rev-parse", "--short=12", "HEAD")

    def find_image(self, stage: str) -> str:
        return f"{self.registry.host}/pipelines/{stage}:{find_tags(self.project)[stage]}"

    @property
    def program(self) -> str:
        """How commands begin that are to be typed in the workplace."""
        return f"python {os.path.relpath(self.project / 'submit.py', self.workplace)}"

    def start(self, *options: str | Path, **environment: str) -> Process:
        command = [sys.executable, *self._complete(options)]
        pipes: Any = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.workplace, env=self._complete_environment(environment), **pipes)

    def submit(self, *options: str | Path, **environment: str) -> Outcome:
        complete = self._complete_environment(environment)
        return run_command(self._complete(options), folder=self.workplace, environment=complete, timeout=PATIENCE)

    def _complete(self, options: Iterable[str | Path]) -> list[str]:
        words = list(map(str, options))
        config = [] if "--config" in words or "--local" in words else ["--config", "lab"]
        return [str(self.project / "submit.py"), *words, *config]

    def _complete_environment(self, environment: dict[str, str]) -> dict[str, str]:
        complete = {**self.environment, "KFP_HOST": self.server.url, **environment}
        return {name: value for name, value in complete.items() if value}

    def done(self, *options: str | Path, **environment: str) -> str:
        """What submit.py prints on its way to success."""
        outcome = self.submit(*options, **environment)
        assert (outcome.returncode, outcome.stderr) == (0, ""), outcome
        return outcome.stdout

    def refused(self, *options: str | Path, status: int = 1, **environment: str) -> str:
        """The one sentence with which submit.py refuses; nothing is made or changed, there or here."""
        before, asked = contents(self.workplace), len(self.server.requests)
        outcome = self.submit(*options, **environment)
        assert (outcome.returncode, outcome.stdout) == (status, ""), outcome
        assert re.fullmatch(r"[^\n]+\n", outcome.stderr), outcome.stderr
        made = [request for request in self.server.requests[asked:] if request.method != "GET"]
        assert made == []
        assert contents(self.workplace) == before
        return outcome.stderr.strip()

    def configure(self, name: str, **changes: Any) -> str:
        """Writes the configuration `lab` with changes under this name, which is returned."""
        config = yaml.safe_load((self.project / "pipelines/config/lab.yaml").read_text())
        (self.project / f"pipelines/config/{name}.yaml").write_text(yaml.safe_dump({**config, **changes}))
        return name

    def begin(
        self,
        name: str,
        script: Iterable[Frame],
        experiment: str = "default",
        single: str = "",
        pipeline: str = "training",
        uploaded_as: str = "",
        **given: Any,
    ) -> Json:
        """Starts a run that goes as the script says, as somebody else did before, with the parameters `given`.

        The pipeline is that of its YAML, unless it was `uploaded_as` another one.
        """
        from kfp.client import Client

        authority = str(self.server.ca_file) if self.server.ca_file else None
        client = Client(host=self.server.url, ssl_ca_cert=authority)
        package = self.project / (f"build/components/{single}.yaml" if single else f"build/{pipeline}.yaml")
        pipeline = uploaded_as or (f"single-{single}" if single else pipeline)
        self.server.script = script
        experiment_id = client.create_experiment(experiment).experiment_id
        pipeline_id = client.get_pipeline_id(pipeline) or client.upload_pipeline(str(package), pipeline).pipeline_id
        version_id = client.list_pipeline_versions(pipeline_id).pipeline_versions[0].pipeline_version_id
        version = {"pipeline_id": pipeline_id, "version_id": version_id}
        parameters = SINGLE.get(single, {"data_uri": "gs://images/numerals", "data_version": "0123.dir"}) | given
        run = client.run_pipeline(experiment_id, name, params=parameters, pipeline_root=self.root, **version)
        return self.server.stored["run"][run.run_id]

    def runs(self) -> list[Json]:
        """What the server has, oldest first."""
        return list(self.server.stored["run"].values())

    def leave(self, run: Json, *outputs: str, content: str | None = None) -> dict[str, str]:
        """Puts something at each TASK/OUTPUT, or TASK/OUTPUT/FILE, of the run; returns the URIs of the outputs.

        Beside the outputs of a task is its log, as KFP keeps it.
        """
        uris = {}
        bucket, root = self.gcs.uri, self.server.find_root(run)
        assert root.startswith(f"{bucket}/")
        pipeline = self.server.specs[run["run_id"]]["pipelineInfo"]["name"]
        folder = f"{root.removeprefix(f'{bucket}/').rstrip('/')}/{pipeline}/{run['run_id']}"
        attempts = {task: str(uuid.uuid4()) for task in dict.fromkeys(output.split("/")[0] for output in outputs)}
        for task, attempt in attempts.items():
            self.gcs.bucket.blob(f"{folder}/{task}/{attempt}/executor-logs-0").upload_from_string(LOG)
        for output in outputs:
            task, name, *file = output.split("/")
            path = f"{folder}/{task}/{attempts[task]}/{name}"
            self.gcs.bucket.blob("/".join([path, *file])).upload_from_string(output if content is None else content)
            uris[name] = f"{self.gcs.uri}/{path}"
        return uris


def version_of(folder: str) -> str:
    """The version of a folder of the bucket `images`; tests/pipelines/data compares such ones with DVC's."""
    names = sorted(name for name in PICTURES if name.startswith(f"{folder}/"))
    files = [(name.removeprefix(f"{folder}/"), hashlib.md5(PICTURES[name]).hexdigest()) for name in names]
    return compute_version(files)


def finished(process: Process) -> Outcome:
    try:
        stdout, stderr = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return Outcome(process.args, process.returncode, stdout, stderr)


def together(*calls: Callable[[], Any]) -> list[Any]:
    """The results of calls that wait for processes, three at a time."""
    with ThreadPoolExecutor(3) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to this"
        time.sleep(0.02)


def asked(server: KfpServer, run: Json) -> int:
    """How often somebody asked how the run goes."""
    return sum(request.path == f"/runs/{run['run_id']}" for request in server.requests)


def minutes_ago(number: int) -> str:
    """That moment, as the server writes it."""
    moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=number)
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def begin_earlier(run: Json, moment: str) -> None:
    """Makes all that a run does have begun at that moment."""
    for node in run["run_details"]["task_details"]:
        node["start_time"] = moment
        for status in node["state_history"]:
            status["update_time"] = moment


def packages(server: KfpServer) -> dict[str, Json]:
    """The pipeline specs that were uploaded as versions, by the name of the version."""
    uploads = [request for request in server.requests if request.path == "/pipelines/upload_version"]
    return {request.query["name"]: next(yaml.safe_load_all(request.body)) for request in uploads}


def cached_stages(spec: Json) -> set[str]:
    """Those that KFP may take from its cache."""
    return {name for name, task in spec["root"]["dag"]["tasks"].items() if task["cachingOptions"]}


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path, message: str) -> None:
    who = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
    git(folder, "add", ".")
    git(folder, *who, "commit", "--quiet", "--message", message)


def evaluation(data_version: str) -> Json:
    """The content of evaluate's evaluation.json, its figures by that stage's own code."""
    rows = {"label": ["i", "v", "x", "x"], "prediction": ["i", "v", "v", "x"], "loss": [0.1, 0.2, 2, 0.3]}
    alike = {"confidence": 0.9, "width": 20, "height": 20, "aspect_ratio": 1.0}
    rows = {**rows, **alike, "ink_fraction": [0.1, 0.2, 0.3, 0.4]}
    scored = split_metrics(rows, CLASSES, 2)
    origin = {"data_version": data_version, "trained_on": data_version, "settings": {"epochs": 2}, "classes": CLASSES}
    return json.loads(json.dumps({**origin, "train": {"images": 9}, "val": scored, "test": scored}))


def comparison() -> Json:
    """The content of compare's comparison.json, with figures that are not in other documents."""
    accuracy = {"before": 0.5, "after": 0.75, "change": 0.25, "low": -0.125, "high": 0.5}
    new = {"images": 3, "accuracy": 0.625, "accuracy_interval": [0.3, 0.9], "macro_f1": 0.5, "same_images": False}
    split = {**COMPARISON["splits"]["val"], "accuracy": accuracy, "mcnemar_p": 0.03125, "new_data": new}
    counts = {"relabelled": 1, "moved": 2, "dropped": 3, "added": 4, "altered": 5, "augmented": 6000}
    splits = {"val": split, "test": {**split, "new_data": None}}
    return {**COMPARISON, "classes": CLASSES, "splits": splits, "data": {**COMPARISON["data"], **counts}}


def clean_environment(folder: Path, gcs_environment: dict[str, str]) -> dict[str, str]:
    """Without what the one who runs the tests has set up: a cluster, credentials, a DVC cache."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("KFP_", "KUBE", "GOOGLE_", "CLOUDSDK_", "DVC_", "FORCE_", "NO_COLOR", "TTY_"))
    }
    own = {
        "HOME": str(folder),
        "KUBECONFIG": str(folder / "no-kubeconfig"),
        "NO_GCE_CHECK": "true",  # google.auth would look for a metadata server, for ten seconds
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(folder / "dvc"),
        "NO_PROXY": "*",
        "COLUMNS": "150",
    }
    return {**inherited, **own, **gcs_environment}
