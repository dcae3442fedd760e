"""Starts the engine process under any interpreter: loads this package alone, with nothing beside it importable."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def _load_package() -> None:
    # Not by sys.path: the folder may be a virtual environment's, made for another interpreter and full of other things.
    folder = Path(__file__).resolve().parent.parent
    spec = importlib.util.spec_from_file_location(
        "wherry_worker", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(name="wherry_worker", path=str(folder))
    package = importlib.util.module_from_spec(spec)
    sys.modules["wherry_worker"] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    _load_package()
    from wherry_worker.engine.factories import FACTORIES
    from wherry_worker.engine.main import main

    main(sys.argv[1:], FACTORIES)
