"""Wherry's workers: lease tasks and drive gfal2."""
