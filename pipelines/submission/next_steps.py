"""What to do after a run: which page to open, and which command to type, with the options of that very run."""

import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from components.shared.cloud_storage import is_address
from components.shared.errors import UserError
from components.shared.formats.comparison import Comparison
from components.shared.formats.decisions import EARLIER_FILE, SETTLED_FILE, name_reviewer
from components.shared.formats.decisions import FILE as DECISIONS
from components.shared.summary import count
from pipelines.compiler.config import Config, load_config
from pipelines.output.display import Step
from pipelines.output.index import FILE as INDEX
from pipelines.output.project import write_command
from pipelines.output.results import RESULTS, name_report, read_data_version
from pipelines.submission.commands import DEFAULTS, Command, write_option
from pipelines.submission.request import LATEST, RunRequest
from pipelines.submission.turns import LeftOut, describe_lack, find_decisions, stop_moving


class Ending(NamedTuple):
    """How a run ended, wherever it took place."""

    state: str
    folder: Path  # on this machine, with its pages
    curation: str  # how its stage curate ended; empty if it has none
    adoption: str  # the command that shows what adopting its curated folder would change; empty if it has none
    comparison: Comparison | None = None  # of what it has made with what it began with
    left_out: LeftOut = LeftOut()


def list_steps(ending: Ending, command: Command | None, turns: int = 0) -> Iterator[Step]:
    """Yields what comes next after a run.

    Args:
        ending: of the run.
        command: that asked for it; None if that is not known.
        turns: how many turns of the loop were left when it began, if it was one of several.
    """
    yield Step("look at its pages", page=ending.folder / INDEX)
    yield from list_left_out(ending.left_out, ending.folder)
    if ending.state != "succeeded" and (log := ending.folder / "run.log").is_file():
        yield Step("read what was said", page=log)
    review, disputed = ending.folder / "review.html", ending.folder / "disputed.html"
    is_disputed = disputed.is_file()
    asks = review.is_file() and _asks_for_decisions(ending, command, is_disputed=is_disputed)
    if asks:
        yield Step(f"decide on the doubted images; the page saves {DECISIONS}", page=review)
    if is_disputed:
        yield Step(f"decide on the images that people disagree about; the page saves {SETTLED_FILE}", page=disputed)
    again = list(_list_commands(ending, command, asks=asks, is_disputed=is_disputed)) if command else []
    yield from (step._replace(command=f"{step.command} --turns {turns}") for step in again) if turns else again
    if command and command.request.pipeline == "improvement" and ending.comparison:
        yield from list_length_checks(command, ending.comparison, ending.folder.name)
    if ending.adoption and ending.state == "succeeded":
        yield Step(_introduce_adoption(ending, is_only=not again), command=ending.adoption)


def list_left_out(left_out: LeftOut, folder: Path) -> Iterator[Step]:
    """Yields the page that lists what ingest left out, if there is any.

    Args:
        left_out: how much.
        folder: of the run, which has the page if its validation has ended.
    """
    pages = (folder / name_report(task, "report") for task in ("before-validate", "validate"))
    page = next((page for page in pages if page.is_file()), None)
    if page and (images := left_out.duplicates):
        which = f"the {images:,} images that ingest left out, each" if images > 1 else "the image that ingest left out,"
        reason = f"check {which} as the same picture as one of val or test: simple shapes may only look alike"
        yield Step(reason, page=page)
    if page and left_out.unreadable:
        yield Step(f"see which {count(left_out.unreadable, 'file')} ingest left out, and why", page=page)


def _introduce_adoption(ending: Ending, *, is_only: bool) -> str:
    if lack := _describe_lack(ending):
        return f"the comparison shows {lack}; to keep the new images all the same"
    return "keep the new images" if is_only else "or keep the new images"


def _describe_lack(ending: Ending) -> str:
    return describe_lack(ending.comparison) if ending.comparison else ""


def list_length_checks(command: Command, comparison: Comparison, run: str) -> Iterator[Step]:
    """Yields how to find out whether a longer training alone has brought a gain, where it may have.

    That is a training on the images of before which is as long as the new one, and a comparison with that.

    Args:
        command: that asked for the improvement.
        comparison: which it has made.
        run: its name.
    """
    epochs = comparison.get("equal_epochs", 0)
    if not epochs or describe_lack(comparison):
        return
    from pipelines.compiler.packages import build  # here, since adopt.py does without kfp
    from pipelines.compiler.stages import Stages

    config = load_config(command.request.config)
    known = build("training", Stages(config)).component_spec.inputs or {}
    params = [
        param for param in command.request.params if (name := param.partition("=")[0]) in known and name != "epochs"
    ]
    training = command.change(pipeline=None, decisions=(), params=(*params, f"epochs={epochs}"))
    comparing = RunRequest(
        command.request.experiment,
        command.request.config,
        pipeline="comparison",
        from_run=run,
        before=LATEST,
        runs=command.request.runs,
    )
    yield Step(
        f"see what {epochs:,} epochs bring on the images as they were, since a longer training may explain the gain",
        command=str(training),
    )
    yield Step("and, when that has ended, compare with it", command=str(replace(command, request=comparing)))


def _asks_for_decisions(ending: Ending, command: Command | None, *, is_disputed: bool) -> bool:
    """Whether a person has to decide.

    Where curate failed, that is usually because its policy would drop too many images. Where the new images brought no
    gain, more decisions may, first those on what people disagree about.
    """
    files = command.request.decisions if command else ()
    is_decided = any(PurePosixPath(file).name != EARLIER_FILE for file in files)
    may_help = not is_decided or (bool(_describe_lack(ending)) and not is_disputed)
    return ending.state == ending.curation and (ending.state == "failed" or (ending.state == "succeeded" and may_help))


def _list_commands(ending: Ending, command: Command, *, asks: bool, is_disputed: bool) -> Iterator[Step]:
    request = command.request
    if asks:
        # Of a person who decides alone on the page, it saves the earlier decisions again, but nobody else's.
        is_saved = [PurePosixPath(file).name for file in request.decisions] == [DECISIONS]
        yield _decide_again(command, *(() if is_saved else request.decisions), DECISIONS)
    elif is_disputed:
        yield _decide_again(command, *request.decisions, SETTLED_FILE)
    elif ending.state != "succeeded":
        words = "once the cause is corrected, run it again" if ending.state == "failed" else "run it again"
        yield Step(words, command=str(command))
    elif request.pipeline in (None, "training") and not request.component and request.data:
        if files := _list_uncommitted(request):
            yield Step("commit this version with its figures", command=f"git add {shlex.join(files)} && git commit")
        # Without their version, --rev, these are the images that a run may have left decisions about.
        earlier = "" if request.rev else find_decisions(ending.folder.parent, Path(request.data))
        improvement = command.change(pipeline="improvement", decisions=(earlier,) if earlier else ())
        yield Step("audit the images and try the next version", command=str(improvement))


def _list_uncommitted(request: RunRequest) -> list[str]:
    """What a commit of the data and its figures takes; nothing where DVC does not track what was measured."""
    pointer = Path(f"{(request.data or '').rstrip('/')}.dvc")
    version = read_data_version(RESULTS)
    if request.rev or not pointer.is_file() or not version or version not in pointer.read_text(encoding="utf-8"):
        return []
    files = [str(pointer), str(pointer.with_name(".gitignore")), str(RESULTS)]
    return [file for file in files if _is_changed(file)]


def _is_changed(file: str) -> bool:
    """Whether git has something to commit there; not where it is not installed, or has no repository."""
    command = ["git", "status", "--porcelain", "--", file]
    try:
        return bool(subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True).stdout)
    except FileNotFoundError:
        return False


def _decide_again(command: Command, *files: str) -> Step:
    """The same run with these decisions, of which a page has just saved the last file, in place of an older one."""
    return Step(f"move {files[-1]} here, and run again with it", command=str(add_decisions(command, *files)))


def add_decisions(command: Command, *files: str) -> Command:
    """The command with these files of decisions; the last takes the place of an older one of the same person."""
    *others, saved = files
    others = [file for file in others if name_reviewer(file) != name_reviewer(saved)]
    return command.change(decisions=(*others, saved))


def write_adoption(request: RunRequest, *source: str) -> str:
    """The command that makes what a run has curated the next version.

    It shows what it would do, and does it with --yes. What DVC does not track becomes a new data set, `data` if that
    name is free, else DIR.

    Args:
        request: that the run was started by.
        source: the option that names what it curated: --from-run or --curated, with its value.
    """
    if not request.data:
        words = ["--data", "DIR"]  # which it was is not known
    elif not is_address(request.data) and Path(f"{request.data.rstrip('/')}.dvc").is_file():
        words = write_option(request, "data")
    else:
        words = ["--data", "DIR" if Path("data").exists() or Path("data.dvc").exists() else "data", "--new"]
    words += write_option(request, "experiment") + write_option(request, "runs")
    return write_command("adopt.py", *words, *source)


def write_next_turn(command: Command, data: str, decisions: str = "") -> str:
    """The command that takes the next turn of the loop on a data set that was adopted from a run.

    The data set has the test images in it, and what has moved from val to train. Of a stage that ran alone the
    parameters are not those of the pipeline.

    Args:
        command: that asked for the run.
        data: the data set.
        decisions: the file of what people had decided about its images; empty if there is none.
    """
    request = command.request
    try:
        config = load_config(request.config)
    except UserError:  # it has gone since, which the command will say
        config = Config(name=request.config)
    turn = command.change(
        pipeline=request.pipeline or "improvement",
        component=None,
        data=data,
        test_data=None,
        rev=None,
        decisions=(decisions,) if decisions else (),
        params=stop_moving(() if request.component else request.params, config),
        from_run=DEFAULTS.from_run,
    )
    return str(turn)
