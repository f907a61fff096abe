"""The search for protections: test a system, protect it, test again under attackers who know the protection.

:mod:`.search` has the loop, :mod:`.measure` the test of one stack, :mod:`.report` the page, :mod:`.deploy` the model.
"""
