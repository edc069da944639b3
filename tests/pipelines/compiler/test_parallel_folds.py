"""The audit whose folds are tasks of their own, compiled, and run by kfp's local runner."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from tests.conftest import ROOT, run_python

CONFIG = "parallel_folds: 3\nstages: {audit: {parameters: {folds: 4, repeats: 2, epochs: 7}}}\n"


def test_each_repeat_is_a_loop_of_so_many_at_once(project: Path) -> None:
    (project / "pipelines/config/many.yaml").write_text(CONFIG, encoding="utf-8")
    done = run_python("compile.py", "--config", "many", cwd=project)
    assert done.returncode == 0, done.stderr
    spec = next(yaml.safe_load_all((project / "build/improvement.yaml").read_text(encoding="utf-8")))
    tasks = spec["root"]["dag"]["tasks"]
    loops = {name: task for name, task in tasks.items() if "parameterIterator" in task}
    assert [json.loads(task["parameterIterator"]["items"]["raw"]) for task in loops.values()] == 2 * [[0, 1, 2, 3]]
    assert [task["iteratorPolicy"] for task in loops.values()] == 2 * [{"parallelismLimit": 3}]
    judges = {}
    for loop, task in loops.items():
        ((judge, inner),) = spec["components"][task["componentRef"]["name"]]["dag"]["tasks"].items()
        judges[judge] = (loop, inner["inputs"]["parameters"])
    assert list(judges) == ["judge-1", "judge-2"]
    for repeat, (_, given) in enumerate(judges.values()):
        constants = {name: value.get("runtimeValue", {}).get("constant") for name, value in given.items()}
        assert [constants[name] for name in ("repeat", "folds", "epochs")] == [repeat, 4, 7]
    first, last = (loop for loop, _ in judges.values())
    assert tasks[last]["dependentTasks"] == ["before", first]
    assert tasks["audit"]["inputs"]["parameters"]["verdicts_uris"]["taskOutputParameter"]["producerTask"] == last


RUN = """
import sys
from kfp import dsl, local
from pipelines.compiler.config import Config, StageConfig
from pipelines.compiler.stages import Stages, import_artifact
from pipelines.improvement import audit_images

examples, root, python = sys.argv[1:]
audit = StageConfig(parameters={"folds": 2, "repeats": 1, "epochs": 1})
stages = Stages(Config(name="parallel", parallel_folds=2, stages={"audit": audit}))

@dsl.pipeline(name="parallel")
def parallel(examples_uri: str):
    audit_images(stages, examples=import_artifact("examples", examples_uri, "Dataset"), content="auto", seed=1)

sys.executable = python  # that of the stages
local.init(local.SubprocessRunner(use_venv=False), pipeline_root=root)
parallel(examples_uri=examples)
"""


EXAMPLES = """
import sys
from pathlib import Path
from tests.conftest import draw_folders, ingest_folder

root = Path(sys.argv[1])
ingest_folder(draw_folders(root).data, root / "examples")
"""


def test_kfp_runs_the_folds_and_then_the_audit_which_judges_nothing_itself(tmp_path: Path) -> None:
    """With one repeat: kfp.local 2.17 gives a loop that takes another's outputs the item of the loop instead."""
    python = os.environ["STAGES_PYTHON"]
    subprocess.run([python, "-W", "ignore", "-c", EXAMPLES, tmp_path], check=True, cwd=ROOT, capture_output=True)
    command = [sys.executable, "-c", RUN, tmp_path / "examples", tmp_path / "root", python]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    folds = sorted(path.parts[-5] for path in (tmp_path / "root").rglob("*.verdict"))
    assert folds == ["for-loop-2-iteration-0", "for-loop-2-iteration-1"]
    assert "audit: 2 of 2 folds were finished before" in done.stdout
    assert done.stdout.count(" is finished, ") == 2
    (issues,) = (tmp_path / "root").rglob("issues")
    with issues.open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 36
