"""Starts an engine process whose doors are folders; as the real boot.py, under any interpreter."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_TREE = Path(__file__).resolve().parents[3]


def _load(name: str, file: Path, *, package: bool = False) -> ModuleType:
    folders = [str(file.parent)] if package else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=folders)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    _load("wherry_worker", _TREE / "services/worker/wherry_worker/__init__.py", package=True)
    doors = _load("folder_doors", Path(__file__).with_name("folder_doors.py"))
    from wherry_worker.engine.main import main

    main(sys.argv[1:], {"folder": doors.folder_engine})
