"""Kills commands and stages at random moments, and checks what is left: `make test-kill`.

Each trial starts one command several times in the same folder, each time sends a signal to it, to its process group,
as the terminal does, to the server that forks its stages or to the stage that runs, which leads a group of its own, at
last lets it run to its end, and looks for what must never be:

- lost: something that was there before has changed, or the command, when nobody disturbs it any more, does not give
  what it gives in a fresh folder;
- half: an output that is neither absent nor whole, a run that ended by itself without a run.json, one that failed
  without a sentence, or an exit code that calls a success what was none;
- processes: one that outlives the command;
- files: temporary files, in the folder for them, which each trial has for itself, or in the run's.
"""

import argparse
import contextlib
import hashlib
import itertools
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
from multiprocessing.pool import ThreadPool
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
RECEIVERS = ("command", "group", "server", "stage")
STAGES = ("ingest", "validate", "transform", "train", "evaluate", "audit", "curate", "compare")
COLD = ("training", "ingest", "train")  # are killed with --cold as well, which makes a quarter of the runs
QUICK = ["--param", "epochs=2"]
KILLS = 8  # of a trial
START = 0.2  # seconds in which Python itself starts, and prints a trace of a Ctrl-C that no program can catch
PAGES = "pages"  # begins the names of what submit.py keeps of a run, besides its artifacts
PATIENCE = 120  # seconds that a command may take to end after a signal, beside other trials
SLOWER = 5  # times as long as undisturbed, which a run may take more if it goes on without the server that was killed
SERVER, EXECUTOR = "pipelines.local.fork_server", "kfp.dsl.executor_main"  # modules, in the commands of processes

Files = dict[str, str]  # sha256 by path


class Subject(NamedTuple):
    """What is killed."""

    command: list[str]
    outputs: Callable[[Path], Files]  # what it makes in the folder where it runs, by a name that is the same each time
    is_whole: bool  # whether these must all be there, or all be as before
    receivers: tuple[str, ...]
    kept: tuple[str, ...] = ("runs/default", "data")  # folders that it must not change


class Kill(NamedTuple):
    """When and how a command is killed."""

    signals: str
    receivers: tuple[str, ...]  # the first that is there at the moment gets the signals
    moment: float  # 0 is when the command has begun, 1 its end when nobody disturbs it


class Outcome(NamedTuple):
    """What came of a kill."""

    kill: Kill
    receiver: str  # who got the signals
    problems: list[str]

    def __str__(self) -> str:
        return f"{self.kill.signals} to {self.receiver} at {self.kill.moment:.0%}"


def main() -> None:
    """Runs the trials, prints what they found, and exits with 1 if that is anything."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # what nohup ignores, the commands would inherit
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="a subject")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="trials at once (default: a core each)")
    options = parser.parse_args()
    found: Counter[str] = Counter()
    hit: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="kill-") as folder, ThreadPool(options.jobs) as pool:
        template = prepare(Path(folder) / "template")
        subjects = list_subjects(template)
        names = [options.only] if options.only else list(subjects)
        expected = {name: measure(subjects[name], template, Path(folder) / "undisturbed") for name in names}

        def attempt(trial: tuple[int, str, list[Kill]]) -> tuple[list[Outcome], list[str]]:
            number, name, kills = trial
            place = Path(folder) / f"trial-{number}"
            outcomes, problems = try_one(kills, subjects[name], template, place, *expected[name])
            print(f"{number:4} {name}: {'; '.join(map(str, outcomes))}:", "; ".join(problems) or "ok", flush=True)
            return outcomes, problems

        trials = draw_trials(options.kills, options.seed, names, subjects)
        for outcomes, problems in pool.imap_unordered(attempt, trials):
            hit.update(outcome.receiver for outcome in outcomes)
            found.update(problem.split(":")[0] for problem in problems)
    hits = ", ".join(f"{count} to {receiver}" for receiver, count in hit.most_common())
    counts = ", ".join(f"{found[kind]} {kind}" for kind in ("lost", "half", "processes", "files"))
    print(f"{options.kills} kills, {hits}: {counts}")
    sys.exit(bool(found))


def draw_trials(
    kills: int, seed: int, names: list[str], subjects: dict[str, Subject]
) -> list[tuple[int, str, list[Kill]]]:
    """Number, subject and kills of each trial: the subjects in turn, the rest at random."""
    chance = random.Random(seed)

    def draw(receivers: tuple[str, ...]) -> Kill:
        return Kill(chance.choice(list(SIGNALS)), tuple(chance.sample(receivers, len(receivers))), chance.random())

    drawn = []
    for number, first in enumerate(range(0, kills, KILLS)):
        name = names[number % len(names)]
        drawn.append((number, name, [draw(subjects[name].receivers) for _ in range(min(KILLS, kills - first))]))
    return drawn


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
    subjects = {"training": Subject(make_command("submit", *local, *data, *QUICK), list_outputs, False, RECEIVERS)}
    for stage in STAGES:
        takes = data if stage == "ingest" else ["--from-run", "runs/default/earlier"]
        command = make_command("submit", *local, "--component", stage, *takes)
        subjects[stage] = Subject(command, list_outputs, False, RECEIVERS)
    for name in COLD:
        warm = subjects[name]
        subjects[f"cold-{name}"] = warm._replace(command=[*warm.command, "--cold"])
    adopt = make_command(
        "adopt", "--data", "data", "--curated", str(curated.relative_to(template)), "--yes", "--commit"
    )
    return subjects | {
        "adopt": Subject(adopt, lambda folder: hash_files(folder / "data"), True, ("command",), ("runs/default",)),
        "sample": Subject(make_command("sample"), lambda folder: hash_files(folder / "build"), True, ("command",)),
        "compile": Subject(make_command("compile"), lambda folder: hash_files(folder / "build"), False, ("command",)),
    }


def hash_files(folder: Path, place: Path | None = None) -> Files:
    """The files below a folder; where they name the place, as examples.json does, that makes no difference."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]

    def read(path: Path) -> bytes:
        content = path.read_bytes()
        return content.replace(str(place).encode(), b"") if place else content

    return {str(path.relative_to(folder)): hashlib.sha256(read(path)).hexdigest() for path in files}


def list_artifacts(folder: Path) -> Files:
    """The outputs of the stages of the run that was killed; an output that is a folder counts as one."""
    outputs = [path for path in folder.glob("runs/killed/*/artifacts/*/*/*") if path.name != "executor_output.json"]
    digests = {
        path: hash_files(path, folder) if path.is_dir() else hash_files(path.parent, folder)[path.name]
        for path in outputs
    }
    return {"/".join(path.parts[-2:]): json.dumps(digest) for path, digest in digests.items()}


def list_outputs(folder: Path) -> Files:
    """The same, with the pages of the run and the figures in results/, which submit.py copies when a run has ended."""
    pages = {f"{PAGES}/{path.name}": path for path in folder.glob("runs/killed/*/*.html")}
    read = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in pages.items()}
    return list_artifacts(folder) | read | {PAGES: json.dumps(hash_files(folder / "results"))}


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


def try_one(
    kills: list[Kill], subject: Subject, template: Path, folder: Path, expected: Files, seconds: float
) -> tuple[list[Outcome], list[str]]:
    """Kills the command in a new folder, says what is left that should not be, and removes the folder."""
    shutil.copytree(template, folder, symlinks=True)
    outcomes = [try_kill(kill, subject, template, folder, expected, seconds) for kill in kills]
    problems = [problem for outcome in outcomes for problem in outcome.problems]
    problems += find_lost(subject, folder, expected)
    shutil.rmtree(folder)
    return outcomes, problems


def try_kill(kill: Kill, subject: Subject, template: Path, folder: Path, expected: Files, seconds: float) -> Outcome:
    """Kills the command once, and says what is left that should not be."""
    shutil.rmtree(folder / "runs/killed", ignore_errors=True)
    temporary = folder / "temporary"
    temporary.mkdir()
    before, drafts = subject.outputs(folder), find_drafts(folder)
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            subject.command,
            cwd=folder,
            env={**os.environ, "TMPDIR": str(temporary)},
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    time.sleep(START + kill.moment * max(seconds - START, 0))
    receiver = send(kill, process)
    problems = []
    patience = PATIENCE + SLOWER * seconds
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        problems.append(f"processes: the command goes on after {patience:.0f} s")
    problems += find_processes(process.pid)
    is_silenced = kill.signals == "SIGKILL" and receiver in ("the command", "the group")  # then it can clean nothing
    problems += find_half(folder, subject, before, expected, is_silenced)
    problems += find_untold(folder, process.returncode)
    left = [*temporary.iterdir(), *(find_drafts(folder) - drafts)]
    problems += [f"files: {path.name}" for path in left if not is_silenced]
    for kept in subject.kept:
        if hash_files(template / kept) != hash_files(folder / kept):
            problems.append(f"lost: {kept} has changed")
    if b"Traceback" in (folder / "said").read_bytes():
        problems.append("half: a trace")
    outcome = Outcome(kill, receiver, problems)
    if problems:
        print(outcome, (folder / "said").read_text(encoding="utf-8", errors="replace"), sep="\n")
    shutil.rmtree(temporary)
    return outcome


def send(kill: Kill, process: subprocess.Popen[bytes]) -> str:
    """Sends the signals to the first of the receivers that is there, and says who that was."""
    there = find_receivers(process)
    name, receive = next((there[each] for each in kill.receivers if each in there), ("nobody", None))
    if receive:
        for number in SIGNALS[kill.signals]:
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):  # it has just ended
                receive(number)
            time.sleep(0.2)
    return name


def find_receivers(process: subprocess.Popen[bytes]) -> dict[str, tuple[str, Callable[[int], None]]]:
    """Who can get a signal now, in words, and how.

    A stage is forked by the server, whose command line it shares, or started by submit.py itself. What else these two
    start, such as git, is no receiver.
    """
    if process.poll() is not None:
        return {}
    there: dict[str, tuple[str, Callable[[int], None]]] = {
        "command": ("the command", process.send_signal),
        "group": ("the group", lambda number: os.killpg(process.pid, number)),
    }
    for child in list_children(psutil.Process(process.pid)):
        if is_running_module(child, SERVER):
            there["server"] = ("the server", child.send_signal)
            for forked in list_children(child):
                if is_running_module(forked, SERVER):
                    there["stage"] = ("the forked stage", forked.send_signal)
        elif is_running_module(child, EXECUTOR):
            there["stage"] = ("the cold stage", child.send_signal)
    return there


def list_children(parent: psutil.Process) -> list[psutil.Process]:
    """The children of a process; none when it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return parent.children()
    return []


def is_running_module(process: psutil.Process, module: str) -> bool:
    """Whether a process was started as `python -m MODULE`, or was forked by one that was."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return ("-m", module) in itertools.pairwise(process.cmdline())
    return False


def find_processes(session: int) -> list[str]:
    """What still runs of the command's session; it is ended."""
    end = time.monotonic() + 20
    while left := list_session(session):
        if time.monotonic() > end:
            found = []
            for process in left:
                with contextlib.suppress(psutil.Error):  # it has ended meanwhile
                    found.append(f"processes: {' '.join(process.cmdline()[:6])}")
                    process.kill()
            return found
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
    made, before = (
        {name: digest for name, digest in files.items() if ".partial." not in name}
        for files in (subject.outputs(folder), before)
    )
    if subject.is_whole:
        problems = [] if made in (before, expected) else ["half: some of the old and some of the new"]
    else:
        wrong = [
            name
            for name, digest in made.items()
            if name in expected and digest not in (expected[name], before.get(name))
        ]
        problems = [f"half: {name}" for name in wrong]
    for run_folder in folder.glob("runs/killed/*"):
        if not is_silenced:
            problems += [f"files: {path.name}" for path in run_folder.rglob("tmp-*")]
            problems += [] if (run_folder / "run.json").is_file() else ["half: no run.json"]
        if (run_folder / "run.json").is_file():
            state = json.loads((run_folder / "run.json").read_text(encoding="utf-8"))["state"]
            awaited = {name for name in expected if not (is_silenced and name.startswith(PAGES))}
            if state == "succeeded" and not awaited <= made.keys():
                problems.append("half: succeeded without outputs")
    return problems


def find_untold(folder: Path, code: int | None) -> list[str]:
    """Runs that failed and do not say why, or of which the exit code says that they succeeded."""
    problems = []
    for path in folder.glob("runs/killed/*/run.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["state"] == "failed" and not any(task.get("message") for task in record["stages"].values()):
            problems.append("half: failed without a sentence")
        if code == 0 and record["state"] != "succeeded":
            problems.append(f"half: exits with 0, but has {record['state']}")
    return problems


def find_drafts(folder: Path) -> set[Path]:
    """What is being written, apart from the run that was there before."""
    return {path for path in folder.rglob(".partial.*") if "default" not in path.parts}


def find_lost(subject: Subject, folder: Path, expected: Files) -> list[str]:
    """Whether the command, undisturbed after the kills, gives what it gives in a fresh folder."""
    shutil.rmtree(folder / "runs/killed", ignore_errors=True)
    try:
        run(subject.command, folder)
    except SystemExit as error:
        return [f"lost: the next attempt fails: {error}"]
    problems = []
    made = subject.outputs(folder)
    if {path: made.get(path) for path in expected} != expected:
        problems.append("lost: the next attempt gives something else")
    problems += [f"files: {path.name} after the next attempt" for path in find_drafts(folder)]
    return problems


if __name__ == "__main__":
    main()
