"""Builds the contracts: Python messages, gRPC stubs, their types, and one descriptor set for Envoy, buf and grpcurl."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ContractsBuildHook(BuildHookInterface[Any]):
    """Runs protoc before every build, editable ones too, so that generated code is never committed."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Generates `gen/` from the `.proto` files beside this one."""
        root = Path(self.root)
        if not (root / "wherry").is_dir():
            return
        gen = root / "gen"
        shutil.rmtree(gen, ignore_errors=True)
        gen.mkdir()
        generate(root, gen)


def generate(root: Path, gen: Path) -> None:
    """Writes the generated tree of the contracts under `root` to `gen`; raises RuntimeError when protoc refuses."""
    protoc = importlib.import_module("grpc_tools.protoc")
    google_api = importlib.import_module("google.api")
    validation = gen / "validate.binpb"
    validation.write_bytes(_validation_descriptors())
    includes = [
        f"-I{root}",
        f"-I{Path(importlib.import_module('grpc_tools').__path__[0]) / '_proto'}",
        f"-I{Path(next(iter(google_api.__path__))).parent.parent}",
        f"--descriptor_set_in={validation}",
    ]
    protos = sorted(str(path.relative_to(root)) for path in (root / "wherry").rglob("*.proto"))
    # protoc finds the mypy plugins by PATH; an isolated build environment has them beside its interpreter.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    outputs = [f"--{kind}_out={gen}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    descriptors = gen / "wherry" / "contracts.binpb"
    descriptors.parent.mkdir()
    descriptor_flags = ["--include_imports", "--include_source_info", f"--descriptor_set_out={descriptors}"]
    extra = ["google/rpc/error_details.proto"]  # Envoy prints error details as JSON only if it knows their types
    for arguments in (
        [*includes, *outputs, *protos],
        [*includes, *descriptor_flags, *protos, *extra],
        [
            f"--descriptor_set_in={validation}",
            f"--python_out={gen}",
            f"--mypy_out={gen}",
            "buf/validate/validate.proto",
        ],
    ):
        if protoc.main(["protoc", *arguments]) != 0:
            raise RuntimeError("protoc refused the contracts; its message is above")
    validation.unlink()
    for package in ("wherry", "buf"):
        (gen / package / "py.typed").touch()


def _validation_descriptors() -> bytes:
    """Returns the descriptor set of `buf/validate/validate.proto` out of the protovalidate library.

    The library ships the compiled descriptor and not the source; protoc takes either.
    """
    from google.protobuf import descriptor_pb2

    found = descriptor_pb2.FileDescriptorSet()
    for name in ("descriptor", "duration", "field_mask", "timestamp"):
        importlib.import_module(f"google.protobuf.{name}_pb2").DESCRIPTOR.CopyToProto(found.file.add())
    library = importlib.import_module("protovalidate._gen.buf.validate.validate_pb")
    found.file.add().ParseFromString(library._DESC.proto.to_binary())
    return found.SerializeToString()
