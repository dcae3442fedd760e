"""Wherry's Python client and the wherry command."""
