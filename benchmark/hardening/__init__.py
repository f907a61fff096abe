"""Search for defenses: attack a system, defend it, attack again with knowledge of the defense.

:mod:`.search` has the loop, :mod:`.measure` the test of one stack, :mod:`.report` the report, :mod:`.deploy` the model.
"""
