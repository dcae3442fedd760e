"""Builds a Wherry deployment out of one declared file."""
