"""Read, complete and check option files. The function `load.load` does all three steps.

The check uses BasicSR's registries, so the plugins must be loaded. `read`, `known` and `schema` work without BasicSR.
"""
