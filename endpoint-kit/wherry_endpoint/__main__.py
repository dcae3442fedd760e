"""The command line: ``wherry-endpoint``, or ``python3 -m wherry_endpoint``."""

from __future__ import annotations

import sys

from wherry_endpoint.commands import main

if __name__ == "__main__":
    sys.exit(main())
