"""The project in Python, for notebooks and scripts: what compile.py and submit.py do, and what runs have made.

    from pipelines.api import Machine, make_frame

    machine = Machine()
    run = machine.start(data="data", pipeline="improvement", params={"epochs": 20})
    make_frame(run.issues()).head()
    run.page("audit")

A mistake is a UserError, with the sentence that the command line has for it.
"""

from components.shared.errors import UserError
from pipelines.api.cluster import Cluster, ClusterRun
from pipelines.api.machine import Machine, MachineRun
from pipelines.api.packages import compile_packages
from pipelines.api.run import Run, Task
from pipelines.api.show import Gallery, Page, make_frame
from pipelines.cluster.checks import Check

__all__ = [
    "Check",
    "Cluster",
    "ClusterRun",
    "Gallery",
    "Machine",
    "MachineRun",
    "Page",
    "Run",
    "Task",
    "UserError",
    "compile_packages",
    "make_frame",
]
