"""Kills commands and stages at random moments, and checks what is left: `make test-kill`.

Each trial starts one command, sends a signal to it, to its whole process group or to the stage that it runs, and then
looks for what must never be:

- lost: something that was there before has changed, or the same command, run again, does not give what it gives when
  nobody disturbs it;
- half: an output that is neither absent nor whole, or a run that ended by itself without a run.json;
- processes: one that outlives the command;
- files: temporary files, in the system's folder for them or in the run's. Whatever appears there counts, so nothing
  else may run on the machine.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil
import yaml

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.conftest import ROOT, copy_project, draw_folders
from tests.end_to_end.test_end_to_end import CONFIG

SIGNALS = {
    "SIGKILL": [signal.SIGKILL],
    "SIGTERM": [signal.SIGTERM],
    "SIGINT": [signal.SIGINT],
    "SIGINT twice": [signal.SIGINT, signal.SIGINT],
    "SIGHUP": [signal.SIGHUP],
}
RECEIVERS = ("command", "group", "stage")
STAGES = ("ingest", "validate", "transform", "train", "evaluate", "audit", "curate", "compare")
QUICK = ["--param", "epochs=2"]
PATIENCE = 60  # seconds that a command may take to end after a signal

Files = dict[str, str]  # sha256 by path


class Subject(NamedTuple):
    """What is killed."""

    command: list[str]
    outputs: Callable[[Path], Files]  # what it makes in the folder where it runs, by a name that is the same each time
    is_whole: bool  # whether these must all be there, or all be as before
    receivers: tuple[str, ...]


class Trial(NamedTuple):
    """What happened to a command."""

    subject: str
    signals: str
    receiver: str
    after: float  # seconds
    problems: list[str]


def main() -> None:
    """Runs the trials, prints what they found, and exits with 1 if that is anything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="a subject")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="kill-") as folder:
        template = prepare(Path(folder) / "template")
        subjects = list_subjects(template)
        names = [options.only] if options.only else list(subjects)
        expected = {name: measure(subjects[name], template, Path(folder) / "undisturbed") for name in names}
        trials = []
        for number in range(options.trials):
            name = names[number % len(names)]
            trial = try_once(name, subjects[name], template, Path(folder) / "trial", *expected[name], chance)
            trials.append(trial)
            mark = "; ".join(trial.problems) or "ok"
            print(
                f"{number + 1:4} {name}: {trial.signals} to the {trial.receiver} after {trial.after:.1f} s: {mark}",
                flush=True,
            )
    found = Counter(problem.split(":")[0] for trial in trials for problem in trial.problems)
    print(
        f"{len(trials)} kills:", ", ".join(f"{found[kind]} {kind}" for kind in ("lost", "half", "processes", "files"))
    )
    sys.exit(bool(found))


def prepare(template: Path) -> Path:
    """A folder with the project, images in DVC, and a run of the improvement from which each stage can go on."""
    project = copy_project(template / "project")
    for name in ("adopt.py", "sample.py"):
        shutil.copy(ROOT / name, project)
    (project / "pipelines/config/tiny.yaml").write_text(yaml.safe_dump({"stages": CONFIG}), encoding="utf-8")
    images = draw_folders(template / "drawn")
    shutil.copytree(images.data, template / "data")
    shutil.copytree(images.test, template / "data/test")
    for command in ("git init -q", "git config user.name tests", "git config user.email tests@example.org"):
        run(command.split(), template)
    for command in ("init -q", "remote add -q -d store store", "add -q data", "push -q"):
        run([sys.executable, "-m", "dvc", *command.split()], template)
    run(["git", "add", "data.dvc", ".dvc", ".gitignore"], template)
    run(["git", "commit", "-qm", "images"], template)
    options = ["--local", "--config", "tiny", "--data", "data", "--param", "augment_to=45", *QUICK]
    run([sys.executable, "project/submit.py", *options, "--pipeline", "improvement"], template)
    (made,) = template.glob("runs/default/*")
    made.rename(made.with_name("earlier"))
    rename_in(made.with_name("earlier"), made.name)
    return template


def rename_in(folder: Path, old: str) -> None:
    """Puts the new name of a run into its run.json."""
    path = folder / "run.json"
    path.write_text(path.read_text(encoding="utf-8").replace(old, folder.name), encoding="utf-8")


def run(command: list[str], folder: Path) -> None:
    """Runs what must succeed."""
    result = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8")
    if result.returncode:
        sys.exit(f"{' '.join(command)}: {result.stdout}{result.stderr}")


def list_subjects(template: Path) -> dict[str, Subject]:
    """Everything that is killed, by its name."""

    def make_command(script: str, *options: str) -> list[str]:
        return [sys.executable, f"project/{script}.py", *options]

    data = ["--config", "tiny", "--data", "data"]
    local = ["--local", "--experiment", "killed"]
    (curated,) = template.glob("runs/default/earlier/artifacts/*/curate/data")
    subjects = {"training": Subject(make_command("submit", *local, *data, *QUICK), list_artifacts, False, RECEIVERS)}
    for stage in STAGES:
        takes = data if stage == "ingest" else ["--from-run", "runs/default/earlier"]
        command = make_command("submit", *local, "--component", stage, *takes)
        subjects[stage] = Subject(command, list_artifacts, False, RECEIVERS)
    adopt = make_command(
        "adopt", "--data", "data", "--curated", str(curated.relative_to(template)), "--yes", "--commit"
    )
    return subjects | {
        "adopt": Subject(adopt, lambda folder: hash_files(folder / "data"), True, ("command",)),
        "sample": Subject(make_command("sample"), lambda folder: hash_files(folder / "build"), True, ("command",)),
        "compile": Subject(make_command("compile"), lambda folder: hash_files(folder / "build"), False, ("command",)),
    }


def hash_files(folder: Path) -> Files:
    """The files below a folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def list_artifacts(folder: Path) -> Files:
    """The outputs of the stages of the run that was killed; an output that is a folder counts as one."""
    outputs = [path for path in folder.glob("runs/killed/*/artifacts/*/*/*") if path.name != "executor_output.json"]
    digests = {path: hash_files(path) if path.is_dir() else hash_files(path.parent)[path.name] for path in outputs}
    return {"/".join(path.parts[-2:]): json.dumps(digest) for path, digest in digests.items()}


def measure(subject: Subject, template: Path, folder: Path) -> tuple[Files, float]:
    """What the command makes when nobody disturbs it, twice the same, and how many seconds it takes."""
    made = []
    for _ in range(2):
        shutil.copytree(template, folder, symlinks=True)
        started = time.monotonic()
        run(subject.command, folder)
        seconds = time.monotonic() - started
        made.append(subject.outputs(folder))
        shutil.rmtree(folder)
    assert made[0]
    if subject.is_whole:
        assert made[0] == made[1]
    return {name: digest for name, digest in made[0].items() if made[1][name] == digest}, seconds


def try_once(
    name: str, subject: Subject, template: Path, folder: Path, expected: Files, seconds: float, chance: random.Random
) -> Trial:
    """Kills the command once and looks at what is left."""
    signals, receiver = chance.choice(list(SIGNALS)), chance.choice(subject.receivers)
    after = chance.uniform(0, seconds)
    shutil.copytree(template, folder, symlinks=True)
    before, temporary = subject.outputs(folder), set(os.listdir(tempfile.gettempdir()))
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(subject.command, cwd=folder, stdout=said, stderr=said, start_new_session=True)
    time.sleep(after)
    send(SIGNALS[signals], receiver, process)
    problems = []
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        problems.append(f"processes: the command goes on after {PATIENCE} s")
    problems += find_processes(process.pid)
    is_silenced = signals == "SIGKILL" and receiver != "stage"  # then submit.py can clean nothing
    problems += find_half(folder, subject, before, expected, is_silenced)
    problems += [f"files: {path}" for path in set(os.listdir(tempfile.gettempdir())) - temporary]
    problems += find_lost(name, subject, template, folder, expected)
    if b"Traceback" in (folder / "said").read_bytes():
        problems.append("half: a trace")
    if problems:
        print((folder / "said").read_text(encoding="utf-8", errors="replace"))
    shutil.rmtree(folder)
    return Trial(name, signals, receiver, after, problems)


def send(signals: list[signal.Signals], receiver: str, process: subprocess.Popen[bytes]) -> None:
    """Sends the signals, a moment apart; without a stage, to the command."""
    with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
        stages = psutil.Process(process.pid).children()
        for each in signals:
            if receiver == "group":
                os.killpg(process.pid, each)
            elif receiver == "stage" and stages:
                stages[0].send_signal(each)
            else:
                process.send_signal(each)
            time.sleep(0.2)


def find_processes(session: int) -> list[str]:
    """What still runs of the command's session; it is ended."""
    end = time.monotonic() + 20
    while left := list_session(session):
        if time.monotonic() > end:
            for process in left:
                process.kill()
            return [f"processes: {' '.join(process.cmdline()[:6])}" for process in left]
        time.sleep(0.1)
    return []


def list_session(session: int) -> list[psutil.Process]:
    """The processes of a session that run."""
    found = []
    for process in psutil.process_iter(["status"]):
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(process.pid) == session and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def find_half(folder: Path, subject: Subject, before: Files, expected: Files, is_silenced: bool) -> list[str]:
    """Outputs that are neither absent nor whole, and runs that do not say how they ended."""
    made = subject.outputs(folder)
    if subject.is_whole:
        problems = [] if made in (before, expected) else ["half: some of the old and some of the new"]
    else:
        wrong = [name for name, digest in made.items() if name in expected and digest != expected[name]]
        problems = [f"half: {name}" for name in wrong if ".partial." not in name]
    for run_folder in folder.glob("runs/killed/*"):
        left = [path for path in run_folder.rglob("*") if path.name.startswith((".partial.", "tmp-"))]
        if not is_silenced:
            problems += [f"files: {path.name}" for path in left]
            problems += [] if (run_folder / "run.json").is_file() else ["half: no run.json"]
        if (run_folder / "run.json").is_file():
            state = json.loads((run_folder / "run.json").read_text(encoding="utf-8"))["state"]
            if state == "succeeded" and not expected.keys() <= made.keys():
                problems.append("half: succeeded without outputs")
    return problems


def find_lost(name: str, subject: Subject, template: Path, folder: Path, expected: Files) -> list[str]:
    """What was there before and has changed, and whether the command now gives what it gives undisturbed."""
    problems = []
    for kept in ("runs/default", "data") if name != "adopt" else ("runs/default",):
        if hash_files(template / kept) != hash_files(folder / kept):
            problems.append(f"lost: {kept} has changed")
    shutil.rmtree(folder / "runs/killed", ignore_errors=True)
    try:
        run(subject.command, folder)
    except SystemExit as error:
        return [*problems, f"lost: the next attempt fails: {error}"]
    made = subject.outputs(folder)
    if {path: made.get(path) for path in expected} != expected:
        problems.append("lost: the next attempt gives something else")
    if left := [path for path in folder.rglob(".partial.*") if "default" not in path.parts]:
        problems.append(f"files: {left[0].name} after the next attempt")
    return problems


if __name__ == "__main__":
    main()
