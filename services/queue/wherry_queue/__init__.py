"""Wherry's jobs, tasks and leases."""
