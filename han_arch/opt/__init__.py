"""Option files. The three steps are read, normalise and check; `load` does all of them.

BasicSR must be imported and the plugins loaded, because the check looks up names in BasicSR's registries. Only the
modules `read`, `known` and `schema` work without BasicSR.
"""
