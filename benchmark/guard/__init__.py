"""State that plugins of one process share and must leave as they found it: torch's modes, the environment, and more.

Around a call into a plugin, :func:`guarded` puts back what was changed and names who changed it. An exit that a plugin
asks for is an error of the plugin; only a person ends the process, see :func:`listening`.
"""

from benchmark.guard.generators import drawn
from benchmark.guard.guard import RENDEZVOUS, guarded
from benchmark.guard.interrupt import Terminated, listening

__all__ = ["RENDEZVOUS", "Terminated", "drawn", "guarded", "listening"]
