"""Read, complete and check option files. The function `load.load` does all three steps.

Load the plugins first, because the check uses BasicSR's registries. Only `read`, `known` and `schema` need no BasicSR.
"""
