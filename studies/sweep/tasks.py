"""The tasks by name; a new one is added to the list."""

from __future__ import annotations

from labctl.studies.sweep.infer_task import InferTask
from labctl.studies.sweep.leakage_task import LeakageTask
from labctl.studies.sweep.task import SweepTask

TASKS: dict[str, SweepTask] = {task.name: task for task in (InferTask(), LeakageTask())}
