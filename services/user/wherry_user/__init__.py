"""Wherry's accounts, sign-ins and tokens."""
