"""Read, complete and check option files. The function `load.load` does all three steps.

Import BasicSR and load the plugins first, because the check looks up names in BasicSR's registries. Only the modules
`read`, `known` and `schema` work without BasicSR.
"""
