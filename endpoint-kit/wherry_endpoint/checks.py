"""`wherry-endpoint check`: what this machine lacks to be a site, each with its fix."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from wherry_endpoint import gridftp, myproxy
from wherry_endpoint.config import Config
from wherry_endpoint.errors import SandboxError
from wherry_endpoint.layout import Layout
from wherry_endpoint.readiness import ask_gridftp, ask_myproxy
from wherry_endpoint.sandbox import leave_host_processes

_SEARCH = os.pathsep.join(("/usr/sbin", "/sbin", "/usr/local/sbin", os.environ.get("PATH", "/usr/bin:/bin")))
_LIBRARY_FOLDERS = ("/usr/lib", "/usr/lib64", "/lib", "/lib64")
_MIN_FREE_BYTES = 1 << 30


@dataclass(frozen=True)
class Item:
    """One thing looked at; `fix` is None when all is well."""

    what: str
    fix: Optional[str] = None


def check_machine(config: Config, layout: Layout) -> Iterator[Item]:
    """Look at everything, in the order in which it is best put right."""
    yield from _programs(config)
    yield _host(config)
    yield from _ports(config, layout)
    yield _disk(layout)
    yield _sign_in(config)
    if config.sandbox.enabled:
        yield _namespaces()


def _programs(config: Config) -> Iterator[Item]:
    for program, debian, enterprise in (
        ("openssl", "openssl", "openssl"),
        (myproxy.PROGRAM, myproxy.DEBIAN_PACKAGE, "myproxy-server"),
        (gridftp.PROGRAM, gridftp.DEBIAN_PACKAGES[0], "globus-gridftp-server-progs"),
    ):
        found = shutil.which(program, path=_SEARCH)
        yield Item(f"program {program}", None if found else _package(debian, enterprise))
    callout = _library("libglobus_gridmap_verify_myproxy_callout.so*")
    yield Item(
        "GridFTP's MyProxy callout",
        None if callout else _package(gridftp.DEBIAN_PACKAGES[1], "globus-gridmap-verify-myproxy-callout"),
    )
    if config.sandbox.enabled:
        module = _library("security/pam_pwdfile.so")
        yield Item("PAM module pam_pwdfile", None if module else _package("libpam-pwdfile", "pam_pwdfile"))


def _package(debian: str, enterprise: str) -> str:
    if Path("/etc/debian_version").exists():
        return f"apt-get install {debian}"
    return f"dnf install {enterprise} (from EPEL)"


def _library(pattern: str) -> bool:
    return any(
        next(Path(folder).glob(deep + pattern), None) is not None for folder in _LIBRARY_FOLDERS for deep in ("", "*/")
    )


def _host(config: Config) -> Item:
    what = f"host name {config.site.host}"
    if config.site.host in config.sandbox.hosts:
        return Item(what)
    try:
        socket.getaddrinfo(config.site.host, None)
    except OSError:
        return Item(
            what, f"does not resolve here: add it to the DNS or to /etc/hosts, or correct site.host in {config.source}"
        )
    return Item(what)


def _ports(config: Config, layout: Layout) -> Iterator[Item]:
    def own_myproxy() -> None:
        ask_myproxy(config, layout)

    for name, listen, port, ask in (
        ("myproxy", config.myproxy.listen, config.myproxy.port, own_myproxy),
        ("gridftp", config.gridftp.listen, config.gridftp.port, lambda: ask_gridftp(config)),
    ):
        what = f"{name}.port {port}"
        try:
            _bind(listen, port)
        except PermissionError:
            yield Item(what, f"ports below 1024 are for root: run as root, or set {name}.port higher")
        except OSError as problem:
            try:
                ask()
            except OSError:
                yield Item(
                    what, f"cannot be used ({problem.strerror}): stop whatever has it (ss -ltnp), or change {name}.port"
                )
            else:
                yield Item(f"{what} (answering already)")
        else:
            yield Item(what)


def _bind(listen: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((listen, port))


def _disk(layout: Layout) -> Item:
    folder = layout.data if layout.data.exists() else layout.folder
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    what = f"disk space at {folder}"
    if free < _MIN_FREE_BYTES:
        return Item(
            what, f"only {free // (1 << 20)} MiB are free, 1024 are needed: free some, or choose another site.folder"
        )
    return Item(what)


def _sign_in(config: Config) -> Item:
    service = Path("/etc/pam.d") / config.myproxy.pam_service
    if config.sandbox.enabled:
        return Item("PAM service (the sandbox's own)")
    if not service.is_file():
        return Item(
            f"PAM service {service}",
            "is missing: run install and put its conf/pam-service there, or set myproxy.pam_service",
        )
    return Item(f"PAM service {service}")


def _namespaces() -> Item:
    """Tries in a child, because a process cannot leave its namespaces again."""
    what = "namespaces for the sandbox"
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            leave_host_processes()
        except SandboxError as problem:
            os.write(writing, str(problem).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        said = stream.read().decode()
    os.waitpid(child, 0)
    return Item(what, said or None)
