"""Generates the page's client from the contracts: TypeScript in `src/gen`, never committed.

Starts from the descriptor set that the Python side is built from. What only servers read (validation rules, HTTP
mappings) is taken out first: the page carries its descriptors along, and each byte goes over people's lines.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from google.api import annotations_pb2
from google.protobuf import descriptor_pb2
from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
GENERATED = HERE / "src" / "gen"
_SERVERS_ONLY = ("buf/validate/", "google/api/")
_HTTP: Any = annotations_pb2.http  # typed as a plain field in its stubs, though it is an extension
_ERRORS = ("google/rpc/status.proto", "google/rpc/error_details.proto")


def main() -> int:
    """Generates; returns protoc's exit code."""
    contracts = descriptor_pb2.FileDescriptorSet()
    contracts.ParseFromString(resources.files("wherry").joinpath("contracts.binpb").read_bytes())
    files = _needed({file.name: file for file in contracts.file})
    for file in files:
        _strip(file)
    wanted = [file.name for file in files if not file.name.startswith("google/protobuf/")]
    # protoc-gen-es is a script that asks the PATH for node; what npm installed is asked for nothing else.
    plugin = HERE / "node_modules" / ".bin" / "protoc-gen-es"
    with tempfile.TemporaryDirectory(dir=HERE, prefix=".gen-") as folder:
        fresh = Path(folder) / "gen"
        fresh.mkdir()
        descriptors = Path(folder) / "page.binpb"
        descriptors.write_bytes(descriptor_pb2.FileDescriptorSet(file=files).SerializeToString())
        run: Any = protoc.main  # it has no types
        code = run(
            [
                "protoc",
                f"--descriptor_set_in={descriptors}",
                f"--plugin=protoc-gen-es={plugin}",
                f"--es_out={fresh}",
                "--es_opt=target=ts",
                *wanted,
            ]
        )
        if code == 0:
            shutil.rmtree(GENERATED, ignore_errors=True)
            fresh.rename(GENERATED)
    return int(code)


def _needed(
    files: dict[str, descriptor_pb2.FileDescriptorProto],
) -> list[descriptor_pb2.FileDescriptorProto]:
    """Returns the files with methods for users, those that tell errors, and what they import; imports first."""
    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def add(name: str) -> None:
        if name in found or name.startswith(_SERVERS_ONLY):
            return
        for imported in files[name].dependency:
            add(imported)
        found[name] = files[name]

    for name, file in files.items():
        methods = (method for service in file.service for method in service.method)
        if any(method.options.HasExtension(_HTTP) for method in methods):
            add(name)
    for name in _ERRORS:
        add(name)
    return list(found.values())


def _strip(file: descriptor_pb2.FileDescriptorProto) -> None:
    """Takes out the options that others have added to protobuf's own, and the imports that brought them."""
    kept = [name for name in file.dependency if not name.startswith(_SERVERS_ONLY)]
    del file.dependency[:]
    file.dependency.extend(kept)
    file.DiscardUnknownFields()  # options of extensions that this process does not know: the validation rules
    for service in file.service:
        for method in service.method:
            method.options.ClearExtension(_HTTP)


if __name__ == "__main__":
    with contextlib.chdir(HERE):
        sys.exit(main())
