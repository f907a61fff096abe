"""docs/tasks.md names the plugins of each task."""

from __future__ import annotations

from benchmark import registry
from benchmark.api import EVERY_TASK, Component
from tests.house.checkout import ROOT

KINDS = tuple(kind for kind in registry.KINDS if kind != "tracker")
BEGIN, END = "<!-- tasks: tests/house/test_tasks.py -->\n", "<!-- end of tasks -->"


def plugins_of(task: str) -> list[str]:
    """Names of this distribution's plugins that declare a task, by kind."""
    found = []
    for declared in registry.declared():
        if declared.distribution == registry.DISTRIBUTION and declared.kind in KINDS:
            plugin = registry.load(declared.kind, declared.name)
            assert issubclass(plugin, Component)
            if task in plugin.tasks:
                found.append(f"`{declared.kind}={declared.name}`")
    return sorted(found, key=lambda name: (KINDS.index(name[1:].split("=")[0]), name))


def table() -> str:
    """Rows of the tasks besides classification."""
    rows = [f"| {task} | {', '.join(plugins_of(task))} |\n" for task in sorted(EVERY_TASK - {"classification"})]
    return "| task | plugins |\n|---|---|\n" + "".join(rows)


def test_the_table_of_tasks_is_what_plugins_declare() -> None:
    text = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    shown = text.partition(BEGIN)[2].partition(END)[0]
    assert shown == table(), f"docs/tasks.md should have:\n{table()}"
