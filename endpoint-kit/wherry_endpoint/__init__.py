"""The endpoint kit: one tool that turns a machine in front of a file system into a Wherry site.

It stands alone: the standard library of Python 3.9 or later and the ``openssl`` command.
"""

from __future__ import annotations

__version__ = "0.1.0"
