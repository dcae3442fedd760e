"""The engine process: the standard library and gfal2, nothing else, so that any interpreter with gfal2 runs it."""
