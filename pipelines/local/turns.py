"""Several turns of the loop on this machine: each begins with the images that the one before has made."""

import os
from collections.abc import Iterator

from components.shared.errors import UserError
from components.shared.formats.comparison import Comparison, read_comparison
from components.shared.formats.decisions import FILE as DECISIONS
from pipelines.compiler.config import load_config
from pipelines.local.record import RunRecord
from pipelines.local.submission import count_left_out, submit
from pipelines.output.console import print_line
from pipelines.output.display import Step, print_steps, print_turns
from pipelines.output.index import FILE as INDEX
from pipelines.submission.commands import Command
from pipelines.submission.next_steps import add_decisions, list_left_out, list_length_checks, write_adoption
from pipelines.submission.preparation import BEGINNING
from pipelines.submission.request import LocalOptions, RunRequest
from pipelines.submission.turns import (
    DEFAULT_SEEDS,
    Turn,
    choose_seeds,
    continue_from,
    describe_gain,
    find_adoptable,
    format_level,
    has_left_out,
    is_corrected,
    tabulate_turns,
)

REVIEW = "review.html"


def take_turns(request: RunRequest, turns: int, options: LocalOptions, webhook: str = "") -> list[RunRecord]:
    """Takes turns of the loop until one brings no gain, and says which images to adopt.

    Each is a run of the pipeline improvement, and from the second on a run of the pipeline comparison follows, with the
    version that the first began with. The first training of a later turn is the second one of the turn before, so it
    comes from the cache.

    Args:
        request: the first turn.
        turns: the most to take.
        options: how they are run.
        webhook: the address that is told how each run ended; empty for none.

    Returns:
        What is in the run.json of each run, in their order. If the last has not succeeded, the turns ended with it.

    Raises:
        UserError: a run cannot be started, or its figures cannot be kept.
    """
    config = load_config(request.config)
    current = choose_seeds(request, config)
    if current != request:
        print_line(
            f"Trains {DEFAULT_SEEDS} models of each version, to tell a gain from the noise of their seeds; --param"
            " seeds=1 trains one, and cannot tell."
        )
    records: list[RunRecord] = []
    taken: list[Turn] = []
    requests: list[RunRequest] = []
    try:
        while len(taken) < turns and (not taken or taken[-1].is_worthwhile):
            if taken:
                current = continue_from(current, taken[-1], config)
            requests.append(current)
            print_line(f"\nTurn {len(requests)} of at most {turns}, on {current.data}")
            records.append(submit(current, options, webhook, says_next=False, turns=turns - len(taken)))
            if records[-1]["state"] != "succeeded":
                break
            turn = _describe_turn(request, records[-1])
            if taken:
                print_line(f"\nWhat turn {len(requests)} has made, compared with the first version")
                records.append(submit(_compare(request, taken[0].run, turn.run), options, webhook, says_next=False))
                if records[-1]["state"] != "succeeded":
                    break
                turn = turn._replace(since_first=_read_comparison(request, records[-1]))
            taken.append(turn)
            print_line(f"\n{describe_gain(len(taken), turn)}")
    except UserError:
        if taken:  # what they have brought is not lost with the one that cannot be taken
            _print_outcome(request, taken, is_whole=False)
            print_steps(_list_steps(request, requests, taken, turns, options))
        raise
    _print_outcome(request, taken, is_whole=records[-1]["state"] == "succeeded")
    print_steps(_list_steps(request, requests, taken, turns, options))
    return records


def _describe_turn(request: RunRequest, record: RunRecord) -> Turn:
    comparison = _read_comparison(request, record)
    folder = request.runs / request.experiment / record["run"]
    return Turn(record["run"], folder, record["artifacts"]["data"], comparison, comparison, count_left_out(record))


def _read_comparison(request: RunRequest, record: RunRecord) -> Comparison:
    return read_comparison(request.runs / request.experiment / record["run"])


def _compare(request: RunRequest, first: str, last: str) -> RunRequest:
    """The comparison of what a turn has made with the version that the first turn began with."""
    return RunRequest(
        experiment=request.experiment,
        config=request.config,
        pipeline="comparison",
        from_run=last,
        before=f"{first}{BEGINNING}",
        no_cache=request.no_cache,
        runs=request.runs,
    )


def _print_outcome(request: RunRequest, taken: list[Turn], *, is_whole: bool) -> None:
    """Prints what the turns have brought, and which images to adopt.

    Args:
        request: that was made.
        taken: those that ended well.
        is_whole: whether no turn beside these was begun.
    """
    if taken:
        level = format_level(taken[0].comparison)
        print_turns(tabulate_turns(taken), level, has_left_out=has_left_out(taken), is_corrected=is_corrected(taken))
    if not is_whole:
        again = "" if request.no_cache else ", and the same command takes it from the cache"
        print_line(f"The turns ended early. What was done stays{again}.")
    if turn := find_adoptable(taken):
        number = taken.index(turn) + 1
        print_line(f"To adopt: what turn {number} has made, {os.path.relpath(turn.data)}")
    elif taken:
        page = os.path.relpath(taken[-1].folder / REVIEW)
        print_line(
            f"No turn brought a gain, so there is nothing to adopt yet; what a person decides may bring one: {page}"
        )


def _list_steps(
    request: RunRequest, requests: list[RunRequest], taken: list[Turn], turns: int, options: LocalOptions
) -> Iterator[Step]:
    """Yields what comes next after the turns that were taken to their end.

    Args:
        request: that was made.
        requests: of each turn that was begun.
        taken: those that ended well.
        turns: the most to take.
        options: how they are run.
    """
    if not taken:
        return
    adoptable, last = find_adoptable(taken), requests[len(taken) - 1]
    shown = adoptable or taken[-1]
    number = taken.index(shown)
    yield Step(f"look at the pages of turn {number + 1}", page=shown.folder / INDEX)
    yield from list_left_out(taken[0].left_out, taken[0].folder)
    yield from list_length_checks(Command(requests[number], options), shown.comparison, shown.run)
    if adoptable is taken[-1]:
        again = Command(continue_from(last, adoptable, load_config(request.config)), options)
        yield Step("take more turns", command=f"{again} --turns {turns}")
    elif (review := taken[-1].folder / REVIEW).is_file():
        yield Step(f"decide on the images that are doubted now; the page saves {DECISIONS}", page=review)
        decided = add_decisions(Command(last, options), *last.decisions, DECISIONS)
        yield Step(f"move {DECISIONS} here, and go on from there with it", command=f"{decided} --turns {turns}")
    if adoptable:
        adoption = write_adoption(request, "--from-run", adoptable.run)
        yield Step(f"keep the new images of turn {taken.index(adoptable) + 1}", command=adoption)
