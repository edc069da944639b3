"""What to do after a run: which page to open, and which command to type, with the options of that very run."""

import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from components.shared.cloud_storage import is_address
from pipelines.output.display import Step
from pipelines.submission.request import RunRequest

DEFAULTS = RunRequest(experiment="default", config="")
DECISIONS = "decisions.csv"


def write_command(request: RunRequest, *, runner: str) -> str:
    """The command that asks for a run, without the options that have their defaults.

    Args:
        request: what is asked for.
        runner: how a run on this machine takes place; empty: it takes place on a cluster.
    """
    words = ["python", "submit.py", *(["--local"] if runner else [])]
    if runner not in ("", "subprocess"):
        words += ["--runner", runner]
    if request.config != ("local" if runner else "gke"):
        words += ["--config", request.config]
    for name in ("experiment", "runs", "pipeline", "component", "data", "test_data", "rev", "decisions", "schema"):
        words += _write_option(request, name)
    for param in request.params:
        words += ["--param", param]
    for name in ("from_run", "before"):
        words += _write_option(request, name)
    return shlex.join(words + ["--no-cache"] * request.no_cache)


def _write_option(request: RunRequest, name: str) -> list[str]:
    value = getattr(request, name)
    return [f"--{name.replace('_', '-')}", str(value)] if value not in (None, getattr(DEFAULTS, name)) else []


def list_steps(request: RunRequest, *, runner: str, folder: Path, state: str, has_curated: bool) -> Iterator[Step]:
    """Yields what comes next after a run on this machine.

    Args:
        request: what was run.
        runner: how.
        folder: of the run, with its index.
        state: how it ended.
        has_curated: whether it made the next version of the images.
    """
    yield Step("look at its pages", page=folder / "index.html")
    again = write_command(request, runner=runner)
    if state != "succeeded":
        yield Step("read what was said", page=folder / "run.log")
        yield Step("run it again", command=again)
        return
    if has_curated:
        if (folder / "review.html").is_file():
            yield Step(f"decide on the doubted images; the page saves {DECISIONS}", page=folder / "review.html")
        decided = replace(request, decisions=request.decisions or DECISIONS)
        yield Step("run again with your decisions", command=write_command(decided, runner=runner))
        yield Step("or keep the new images", command=write_adoption(request, folder.name))
    elif request.pipeline in (None, "training") and not request.component and request.data:
        turn = replace(request, pipeline="improvement")
        yield Step("audit the images and try the next version", command=write_command(turn, runner=runner))


def write_adoption(request: RunRequest, run: str) -> str:
    """The command that makes what a run has curated the next version.

    It shows what it would do, and does it with --yes. What DVC does not track becomes a new data set, `data` if that
    name is free, else DIR.
    """
    data = request.data or ""
    words = ["python", "adopt.py", "--data"]
    if data and not is_address(data) and Path(f"{data.rstrip('/')}.dvc").is_file():
        words.append(data)
    else:
        words += ["DIR" if Path("data").exists() or Path("data.dvc").exists() else "data", "--new"]
    words += _write_option(request, "experiment") + _write_option(request, "runs")
    return shlex.join([*words, "--from-run", run])
