"""Option files: read -> normalise -> check; `load` does all three.

All but `read`, `known` and `schema` need BasicSR imported and the plugins loaded, for the names in its registries.
"""
