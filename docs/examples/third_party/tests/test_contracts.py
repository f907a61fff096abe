"""Every plugin of this distribution keeps the promises of its kind: one named test per plugin and rule."""

from importlib.metadata import entry_points

from benchmark.testing import contract

OURS = [e.name for e in entry_points(group="benchmark") if e.dist is not None and e.dist.name == "acme-attacks"]

test_contract = contract.tests(*OURS)
