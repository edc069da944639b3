"""A run on this machine, watched: what the command and each of its tasks cost."""

import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from components.shared.errors import UserError
from pipelines.local.record import RunRecord, find_record

ROOT = Path(__file__).parents[1]
FORK_SERVER = "pipelines.local.fork_server"  # stands in the command line of the server and of the stages it forks


@dataclass
class Watched:
    """A run that has ended well."""

    seconds: float  # of the whole command
    record: RunRecord
    folder: Path
    peaks: dict[str, int]  # by task: the most memory of its processes, in bytes; see _Watcher
    anonymous_peaks: dict[str, int]  # likewise, without pages of files, which the kernel may drop and read again
    cpu_seconds: dict[str, float]  # by task: of its processes, without what the fork server imports
    epochs: list[float] = field(default_factory=list)  # when each ended, by time.perf_counter


def watch_run(runs: Path, *arguments: str | Path, project: Path = ROOT) -> Watched:
    """Runs `submit.py --local` with these arguments, and measures it.

    Args:
        runs: The folder of the runs, in which nothing else runs.
        arguments: Of submit.py, beside --local and --runs.
        project: The folder of the submit.py.

    Raises:
        UserError: The run failed.
    """
    earlier = set(runs.glob("[!.]*/*"))
    command = [sys.executable, "-u", str(project / "submit.py"), "--local", "--runs", str(runs), *map(str, arguments)]
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=runs.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    watcher = _Watcher(process, runs)
    watcher.start()
    said = watcher.follow()
    seconds = time.perf_counter() - started
    watcher.join()
    made = set(runs.glob("[!.]*/*")) - earlier
    if process.wait() or len(made) != 1:
        raise UserError(f"{' '.join(command)}: failed:\n{said}")
    (folder,) = made
    record = find_record(runs, "", str(folder))
    return Watched(seconds, record, folder, watcher.peaks, watcher.anonymous_peaks, watcher.sum_cpu(), watcher.epochs)


class _Watcher(threading.Thread):
    """Looks up to ten times a second at the processes of the task that runs now, and at the log.

    Their memory is counted as proportional set size: pages that several processes have, such as those that a stage
    shares with the server it is forked from, count for each as its part.
    """

    def __init__(self, process: subprocess.Popen[str], runs: Path) -> None:
        super().__init__()
        self._process = process
        self._runs = runs
        self._logs = set(runs.glob("[!.]*/*/run.log"))
        self._task = ""
        self._cpu: dict[tuple[str, int], float] = {}  # by task and process
        self.peaks: dict[str, int] = {}
        self.anonymous_peaks: dict[str, int] = {}
        self.epochs: list[float] = []

    def follow(self) -> str:
        """Reads what the command says to its end, and takes from it which task runs."""
        assert self._process.stdout
        lines = []
        for line in self._process.stdout:
            lines.append(line)
            if line.split()[2:3] == ["running"]:
                self._task = line.split()[1]
        return "".join(lines)

    def sum_cpu(self) -> dict[str, float]:
        """The CPU seconds of each task."""
        total: dict[str, float] = {}
        for (task, _), seconds in self._cpu.items():
            total[task] = total.get(task, 0) + seconds
        return total

    def run(self) -> None:
        """Looks until the command has ended."""
        while self._process.poll() is None:
            started = time.perf_counter()
            if self._task:
                self._look(self._task)
            looked = time.perf_counter() - started  # long where a process has gigabytes
            for log in set(self._runs.glob("[!.]*/*/run.log")) - self._logs:
                ended = log.read_text(encoding="utf-8").count("train: epoch ")
                self.epochs += [time.perf_counter()] * (ended - len(self.epochs))
            time.sleep(max(0.1, 20 * looked))

    def _look(self, task: str) -> None:
        memory = anonymous = 0
        for process in list_stage_processes(self._process.pid):
            try:
                sizes = read_memory(process.pid)
                memory += sizes["Pss"]
                anonymous += sizes["Pss_Anon"] + sizes["Pss_Shmem"]
                self._cpu[task, process.pid] = sum(process.cpu_times()[:2])
            except (psutil.Error, OSError):  # it has ended
                continue
        self.peaks[task] = max(self.peaks.get(task, 0), memory)
        self.anonymous_peaks[task] = max(self.anonymous_peaks.get(task, 0), anonymous)


def read_memory(process: int) -> dict[str, int]:
    """The bytes of memory of a process, by the names that the kernel has for its kinds (man 5 proc, smaps_rollup)."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    return {name.rstrip(":"): int(size) * 1024 for name, size, _ in map(str.split, lines)}


def list_stage_processes(command: int) -> list[psutil.Process]:
    """The processes of the stage that a command runs; not the server that they are forked from."""
    processes: list[psutil.Process] = []
    try:
        for child in psutil.Process(command).children():
            if FORK_SERVER not in child.cmdline():
                processes.append(child)
            processes += child.children(recursive=True)
    except psutil.Error:  # one has ended meanwhile; the next look counts
        pass
    return processes
