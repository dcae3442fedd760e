"""Starts the engine process under any interpreter: loads our two packages, with nothing beside them importable."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def _load_package(name: str) -> None:
    # Not by sys.path: the folder may be a virtual environment's, made for another interpreter and full of other things.
    folder = Path(__file__).resolve().parent.parent.parent / name
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(name=name, path=str(folder))
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    for one in ("wherry_gridftp", "wherry_worker"):
        _load_package(one)
    from wherry_worker.engine.factories import FACTORIES
    from wherry_worker.engine.main import main

    main(sys.argv[1:], FACTORIES)
