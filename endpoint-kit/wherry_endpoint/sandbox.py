"""The private file system and process space of a demonstration site.

A sandbox site must not touch the machine: no account, no PAM service, no host name is added to it. So its servers
run in a mount namespace whose root is a small temporary file system: the machine's programs read-only, an `/etc` of
the site's own, the site's folder where it lies, and the accounts' files under the root path. Whoever signs in at the
site sees nothing else of the machine. They run in a process namespace too: when its first process ends, the kernel
ends all the others.
"""

from __future__ import annotations

import os
import pwd
import socket
from pathlib import Path

from wherry_endpoint.config import Config
from wherry_endpoint.errors import SandboxError
from wherry_endpoint.layout import Layout
from wherry_endpoint.linux import (
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    MS_BIND,
    MS_NODEV,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    bind_read_only,
    change_root,
    mount,
    unshare,
)

_PROGRAMS = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
# What the servers' libraries read below /etc: loader, name service, TLS defaults, time zone. Nothing with secrets.
_ETC = (
    *("alternatives", "crypto-policies", "gai.conf", "globus", "host.conf", "ld.so.cache", "ld.so.conf"),
    *(
        "ld.so.conf.d",
        "localtime",
        "nsswitch.conf",
        "pki/tls",
        "protocols",
        "resolv.conf",
        "services",
        "ssl/openssl.cnf",
    ),
)
_DEVICES = ("null", "zero", "full", "random", "urandom")
_REFUSE_ALL = "auth required pam_deny.so\naccount required pam_deny.so\n"


def leave_host_processes() -> None:
    """Give the next child of this process a process namespace of its own (and an ordinary user the right to mount)."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        if uid == 0:
            unshare(CLONE_NEWPID)
            return
        unshare(CLONE_NEWUSER | CLONE_NEWPID)
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")
    except OSError as problem:
        raise SandboxError(
            f"the sandbox needs namespaces and this machine refuses them ({problem}): run serve as root (in a "
            "container: with CAP_SYS_ADMIN), or allow user namespaces to ordinary users "
            "(sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)"
        ) from problem


def enter_sandbox(config: Config, layout: Layout) -> socket.socket:
    """Build the site's root file system and move into it; returns the socket where its system log arrives."""
    root = layout.sandbox_root
    try:
        unshare(CLONE_NEWNS)
        mount("none", Path("/"), flags=MS_REC | MS_PRIVATE)
        mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=16m")
        _show_programs(root)
        _make_etc(root, config, layout)
        _make_devices(root)
        for name in ("proc", "run", "root", "tmp", "var"):
            (root / name).mkdir(mode=0o755)
        (root / "tmp").chmod(0o1777)
        _show(layout.folder, root)
        _show_data(layout.data, root, config.root_path)
        system_log = _listen_system_log(root)
        change_root(root)
    except OSError as problem:
        raise SandboxError(f"the sandbox's file system could not be made in {root}: {problem}") from problem
    return system_log


def hide_secrets(layout: Layout) -> None:
    """Give this process, about to become GridFTP, a view without the authorities' keys and the password hashes.

    For an ordinary user's sandbox this matters most: there every file of the site belongs to the one user as whom
    GridFTP serves everybody.
    """
    unshare(CLONE_NEWNS)
    for folder in (layout.hosts_ca.parent, layout.passwords.parent):
        mount("tmpfs", folder, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV, "mode=0700,size=4k")


def _show_programs(root: Path) -> None:
    for name in _PROGRAMS:
        outside = Path("/") / name
        if outside.is_symlink():
            (root / name).symlink_to(outside.readlink())
        elif outside.is_dir():
            (root / name).mkdir(mode=0o755)
            bind_read_only(outside, root / name)


def _copy(outside: Path, inside: Path) -> None:
    """Copy a file or folder: small configuration, as it is now. A link is followed only at the top: resolv.conf
    often points into /run, while /etc/alternatives is a folder of links that must stay links.
    """
    if outside.is_dir():
        inside.mkdir(mode=0o755, parents=True)
        for child in outside.iterdir():
            if child.is_symlink():
                (inside / child.name).symlink_to(child.readlink())
            else:
                _copy(child, inside / child.name)
    elif outside.is_file() and os.access(outside, os.R_OK):
        inside.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        inside.write_bytes(outside.read_bytes())
        inside.chmod(0o644)


def _make_etc(root: Path, config: Config, layout: Layout) -> None:
    etc = root / "etc"
    etc.mkdir(mode=0o755)
    for name in _ETC:
        if Path("/etc", name).exists():
            _copy(Path("/etc", name), etc / name)
    accounts = layout.passwd.read_text(encoding="ascii")
    groups = layout.group.read_text(encoding="ascii")
    if os.geteuid() == 0:
        accounts += "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
        groups += "root:x:0:\nnogroup:x:65534:\n"
    else:
        # After the accounts, which share this number: the first line with a number gives the name it is shown by.
        me = pwd.getpwuid(os.geteuid())
        if f"\n{me.pw_name}:" not in "\n" + accounts:
            accounts += f"{me.pw_name}:x:{me.pw_uid}:{me.pw_gid}::/:/bin/sh\n"
    (etc / "passwd").write_text(accounts, encoding="ascii")
    (etc / "group").write_text(groups, encoding="ascii")
    (etc / "hosts").write_text(_host_names(layout), encoding="utf-8")
    (etc / "pam.d").mkdir(mode=0o755)
    (etc / "pam.d" / "other").write_text(_REFUSE_ALL, encoding="ascii")
    (etc / "pam.d" / config.myproxy.pam_service).write_bytes(layout.pam_service.read_bytes())
    (etc / "grid-security").mkdir(mode=0o755)
    gsi = Path("/etc/grid-security/gsi.conf")
    if gsi.is_file():
        (etc / "grid-security" / "gsi.conf").write_bytes(gsi.read_bytes())


def _host_names(layout: Layout) -> str:
    """The site's own names first, then the machine's: the first answer counts."""
    machine = Path("/etc/hosts")
    return layout.hosts.read_text(encoding="utf-8") + (
        machine.read_text(encoding="utf-8", errors="replace") if machine.is_file() else ""
    )


def _make_devices(root: Path) -> None:
    (root / "dev").mkdir(mode=0o755)
    for name in _DEVICES:
        (root / "dev" / name).touch(mode=0o666)
        mount(f"/dev/{name}", root / "dev" / name, flags=MS_BIND)


def _show(outside: Path, root: Path) -> None:
    """Show the folder `outside` at its own path below `root`: the configuration files name it so."""
    inside = root / outside.relative_to("/")
    inside.mkdir(mode=0o755, parents=True, exist_ok=True)
    mount(str(outside), inside, flags=MS_BIND | MS_REC)


def _show_data(data: Path, root: Path, root_path: str) -> None:
    inside = root / root_path.lstrip("/")
    if inside == root or inside.exists():
        raise SandboxError(
            f"gridftp.root_path: {root_path!r} is taken by another folder in the sandbox: choose another"
        )
    inside.mkdir(mode=0o755, parents=True)
    mount(str(data), inside, flags=MS_BIND | MS_REC)


def _listen_system_log(root: Path) -> socket.socket:
    """MyProxy says what happens to the system log only; here that is a socket of the supervisor's."""
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    # A socket's path is limited to 107 bytes, and a site's folder may lie deep: bind by a short relative name.
    before = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.chdir(root / "dev")
        log.bind("log")
        Path("log").chmod(0o666)  # every server of the sandbox may write here
    finally:
        os.fchdir(before)
        os.close(before)
    log.setblocking(False)
    return log
