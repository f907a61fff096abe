"""The options of `benchmark plugins`."""

from __future__ import annotations

import argparse

from benchmark import registry
from benchmark.errors import PluginError
from benchmark.parsers.options import Commands, add_folder_option

__all__ = ["add_plugins"]


def add_plugins(commands: Commands) -> None:
    """Add the command to the parser of the command line."""
    plugins = commands.add_parser(
        "plugins",
        help="list what is installed, show the settings of one plugin, or check it",
        description="List the installed plugins (benchmark plugins, or benchmark plugins attack), show one with "
        "settings (benchmark plugins attack.pgd), or run the contract suite (benchmark plugins check attack.pgd).",
    )
    plugins.add_argument(
        "kind",
        nargs="?",
        metavar="KIND | KIND.NAME | check",
        help=f"one of {', '.join(registry.KINDS)}; one plugin, such as attack.pgd; or check",
    )
    plugins.add_argument("name", nargs="?", metavar="KIND.NAME", help="after check: the plugin, such as attack.pgd")
    plugins.add_argument("--json", action="store_true", help="print JSON")
    add_folder_option(plugins, "also list the named settings (YAML) in this folder")
    plugins.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from benchmark.commands import plugins

    if options.kind == "check":
        if not options.name:
            raise PluginError("benchmark plugins check needs the name of a plugin, such as attack.pgd")
        return plugins.check_plugin(options.name, as_json=options.json)
    return plugins.main(options.kind, options.name, as_json=options.json, own=options.config_dir)
