"""What kfp.local prints, recorded from a run with kfp 2.13 and shortened; 2.17.3 prints the same around a task."""

import io

import pytest

from components.shared.errors import STOPS
from pipelines.compiler.spec import Task
from pipelines.local.kfp_log import ExecutorInput, WatchedLog, Watcher

INGEST = Task("before-ingest", "ingest", "ingest:1", ("before",))
TRAIN = Task("before-train", "train", "train:1", ("before",))
AGAIN = Task("after-train", "train", "train:1", ("after",))

BEGUN = """\
17:09:07.438 - INFO - Running pipeline: \x1b[95m'improvement'\x1b[0m
--------------------------------------------------------------------------------
17:09:07.441 - INFO - Executing task \x1b[96m'before-train'\x1b[0m
17:09:07.454 - INFO - Streamed logs:

    [KFP Executor 2026-11-27 17:09:07,677 INFO]: Loading KFP component "train" from components/train/component.py
    [KFP Executor 2026-11-27 17:09:07,681 INFO]: Got executor_input:
    {
        "inputs": {
            "artifacts": {
                "transform_graph": {
                    "artifacts": [
                        {
                            "name": "transform_graph",
                            "uri": "/runs/1/transform/transform_graph",
                            "metadata": {}
                        }
                    ]
                }
            },
            "parameterValues": {
                "epochs": 2,
                "learning_rate": 0.001
            }
        },
        "outputs": {
            "outputFile": "/runs/1/before-train/executor_output.json"
        }
    }
    2026-11-27 17:09:14.624077: E external/local_xla/xla/stream_executor/cuda/cuda_fft.cc:479] Unable to register
    train: epoch 1 of 2
"""
SUCCEEDED = "17:09:43.815 - INFO - Task \x1b[96m'before-train'\x1b[0m finished with status \x1b[92mSUCCESS\x1b[0m\n"
FAILED = """\
    train: epoch 2 of 2
    W0000 00:00:1764000000.000000 1234 cpu_utils.cc:1] Something that TensorFlow says
    Instructions for updating:
    {said}
17:09:43.815 - INFO - Task \x1b[96m'before-train'\x1b[0m finished with status \x1b[91mFAILURE\x1b[0m
"""


def watch(*tasks: Task) -> tuple[Watcher, io.BytesIO, WatchedLog]:
    watcher, file = Watcher(list(tasks)), io.BytesIO()
    return watcher, file, WatchedLog(file, watcher)


def test_what_a_task_has_made_is_taken_before_its_end_is_shown():
    watcher, _, log = watch(TRAIN)
    seen: list[str] = []
    watcher.on_success = lambda task: seen.append(f"success of {task.name}")
    watcher.on_change = lambda name: seen.append(f"{name} {watcher.states[name]}")
    log.write(BEGUN + SUCCEEDED)
    assert seen == ["before-train running", "success of before-train", "before-train succeeded"]


def test_a_task_is_waiting_then_running_then_done_and_each_change_is_told():
    watcher, _, log = watch(INGEST, TRAIN)
    changes: list[tuple[str, str]] = []
    watcher.on_change = lambda name: changes.append((name, watcher.states[name]))
    assert watcher.states == {"before-ingest": "waiting", "before-train": "waiting"}
    log.write(BEGUN)
    log.write(SUCCEEDED)
    assert changes == [("before-train", "running"), ("before-train", "succeeded")]
    assert watcher.states["before-ingest"] == "waiting"
    assert watcher.seconds.keys() == {"before-train"}


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_lines_count_when_they_are_complete_however_they_are_written(size: int):
    watcher, file, log = watch(TRAIN)
    text = BEGUN + SUCCEEDED
    for start in range(0, len(text), size):
        log.write(text[start : start + size])
    assert watcher.states == {"before-train": "succeeded"}
    assert "\x1b" not in file.getvalue().decode()
    assert "INFO - Executing task 'before-train'\n" in file.getvalue().decode()
    assert file.getvalue().decode().count("\n") == text.count("\n")


def test_the_progress_of_a_task_is_what_its_stage_said_last():
    watcher, _, log = watch(TRAIN, AGAIN)
    log.write(BEGUN)
    assert watcher.progress == {"before-train": "epoch 1 of 2"}
    log.write("    train: epoch 2 of 2\n    evaluate: of another stage\n")
    assert watcher.progress == {"before-train": "epoch 2 of 2"}
    assert watcher.measure_seconds("before-train") > 0
    assert watcher.measure_seconds("after-train") == 0


def test_the_executor_tells_what_it_was_given():
    watcher, _, log = watch(INGEST, TRAIN)
    log.write(BEGUN)
    inputs = {"transform_graph": "/runs/1/transform/transform_graph"}
    assert watcher.read_executor_input("before-train") == ExecutorInput({"epochs": 2, "learning_rate": 0.001}, inputs)
    assert watcher.read_executor_input("before-ingest") == ExecutorInput({}, {})


def test_an_executor_that_was_stopped_while_it_told_was_given_nothing():
    watcher, _, log = watch(TRAIN)
    log.write(BEGUN[: BEGUN.index('"outputs"')])
    assert watcher.read_executor_input("before-train") == ExecutorInput({}, {})


TRACE = """Traceback (most recent call last):
      File "training.py", line 1, in fit
    ValueError: first

    During handling of the above exception, another exception occurred:

    Traceback (most recent call last):
      File "training.py", line 2, in fit
        raise KeyError("x")
    KeyError: 'x'
    in two lines"""


@pytest.mark.parametrize(
    ("said", "words"),
    {
        "its sentence": (f"{STOPS}\n    the loss is not a number.", "the loss is not a number."),
        "of two lines": (f"{STOPS}\n    train/i:\n    2 damaged images.", "train/i:\n2 damaged images."),
        "a trace": (TRACE, "unexpected, run.log has the trace: KeyError: 'x'\nin two lines"),
        "below a trace": (f"{TRACE}\n    {STOPS}\n    no room.", "no room."),
        "of another program": ("no such option", "Instructions for updating:\nno such option"),
    }.values(),
)
def test_the_last_words_of_a_task_are_its_sentence(said: str, words: str):
    watcher, _, log = watch(TRAIN)
    log.write(BEGUN + FAILED.replace("{said}", said))
    assert watcher.states == {"before-train": "failed"}
    assert watcher.find_last_words("before-train") == words


def test_a_task_that_says_nothing_was_perhaps_killed():
    watcher, _, log = watch(TRAIN)
    log.write(BEGUN + FAILED.splitlines()[-1] + "\n")
    assert watcher.find_last_words("before-train") == "it ended without a word, as if killed; see run.log."


def test_a_log_that_cannot_be_written_does_not_end_the_run():
    watcher = Watcher([TRAIN])
    with open("/dev/full", "wb", buffering=0) as full:
        log = WatchedLog(full, watcher)
        log.write(BEGUN)
        log.write(SUCCEEDED)
    assert watcher.states == {"before-train": "succeeded"}
    assert log.problem
    assert log.problem.strerror == "No space left on device"


def test_the_last_words_of_a_task_are_the_sentence_that_it_ends_with():
    watcher, _, log = watch(TRAIN)
    sentence = "[v2]/a.png: not an image; remove it.\ntrain/b.png: the same."
    noise = "    Unable to import IPython: No module named 'IPython'.\n    Instructions for updating:\n"
    log.write(f"{BEGUN}{noise}    {STOPS}\n" + sentence.replace("\ntrain", "\n    train") + "\n")
    log.write("    W0000 00:00:1764000000.000000 1234 cpu_utils.cc:1] Something\n" + FAILED.splitlines()[-1] + "\n")
    assert watcher.find_last_words("before-train") == sentence


def test_tasks_that_run_no_container_are_left_aside():
    watcher, _, log = watch(TRAIN)
    log.write("17:09:07.441 - INFO - Executing task 'importer'\n17:09:07.442 - INFO - Task 'importer' finished with ")
    log.write("status SUCCESS\n")
    assert watcher.states == {"before-train": "waiting"}
