"""Checks of the access table: total, and with somebody in every role that the deployment needs."""

from __future__ import annotations

import importlib.resources

from google.protobuf import descriptor_pb2
from wherry_chassis.access import build_table
from wherry_chassis.buildout import Buildout

from wherry_deploy.findings import Finding, Findings

_OF_OURS = "wherry."
_NEEDED = ("user-service", "site", "queue", "worker", "gateway")


def known_rpcs() -> frozenset[str]:
    """Returns every RPC of the contracts, as `wherry.user.v1.UserService/GetUser`."""
    contracts = descriptor_pb2.FileDescriptorSet()
    contracts.ParseFromString(importlib.resources.files("wherry").joinpath("contracts.binpb").read_bytes())
    return frozenset(
        f"{file.package}.{service.name}/{method.name}"
        for file in contracts.file
        if file.package.startswith(_OF_OURS)
        for service in file.service
        for method in service.method
    )


def check_access(buildout: Buildout) -> Findings:
    """Looks at what `[access]` leaves out; that its words mean something is seen when the file is read."""
    for role, subjects in buildout.access.roles.items():
        if role in _NEEDED and not subjects:
            yield Finding(("access", "roles", role), "names nobody, and without one the deployment cannot work")
    for method in sorted(known_rpcs() - build_table(buildout.access).rpcs.keys()):
        yield Finding(("access", "rpc"), f"{method} has no line, so that nobody may call it: add one")
