"""Limits of an audit, which the command line names in its help and so must not cost an import of anything."""

ENOUGH = 20
"""Fewest images that are compared in a space of features."""
MAX_IMAGES = 5000
"""Most images of each set whose features are compared, unless told otherwise."""
