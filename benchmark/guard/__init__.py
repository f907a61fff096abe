"""Process state shared by all plugins, such as torch's modes and the environment, which each must leave unchanged.

Around a call into a plugin, :func:`guarded` restores what was changed and names the plugin. An exit requested by a
plugin is the plugin's error; only the user ends the process, see :func:`listening`.
"""

from benchmark.guard.generators import drawn
from benchmark.guard.guard import RENDEZVOUS, guarded
from benchmark.guard.interrupt import Terminated, listening

__all__ = ["RENDEZVOUS", "Terminated", "drawn", "guarded", "listening"]
