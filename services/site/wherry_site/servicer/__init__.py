"""Translates between the contract's messages and the domain, and nothing else."""
