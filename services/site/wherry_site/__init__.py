"""Wherry's sites, site sign-ins and credential vault."""
