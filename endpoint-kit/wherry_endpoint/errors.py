"""What the kit says when it cannot go on. Every message names the remedy."""

from __future__ import annotations


class EndpointError(Exception):
    """Something the site's administrator can put right; the message says what and how."""


class ConfigError(EndpointError):
    """The configuration file holds something the kit does not understand."""


class ToolError(EndpointError):
    """A program the kit stands on is missing or failed."""


class SandboxError(EndpointError):
    """The private file system of a demonstration site could not be made."""


class ServeError(EndpointError):
    """A server did not start, or did not stay up."""
