"""Where everything lies in a site's folder. Nothing else knows these names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wherry_endpoint.config import Config


@dataclass(frozen=True)
class Layout:
    """The paths below `folder`; `data` holds the sandbox accounts' files and may lie elsewhere."""

    folder: Path
    data: Path

    @classmethod
    def of(cls, config: Config) -> Layout:
        """The layout that `config` asks for."""
        return cls(config.site.folder, config.sandbox.data or config.site.folder / "data")

    @property
    def hosts_ca(self) -> Path:
        """The authority that signs this site's servers."""
        return self.folder / "authorities" / "hosts"

    @property
    def users_ca(self) -> Path:
        """The authority that signs this site's users; MyProxy is its hand."""
        return self.folder / "authorities" / "users"

    @property
    def host_certificate(self) -> Path:
        """What the site's servers show to their clients."""
        return self.folder / "host" / "hostcert.pem"

    @property
    def host_key(self) -> Path:
        """The host certificate's private key."""
        return self.folder / "host" / "hostkey.pem"

    @property
    def host_names(self) -> Path:
        """The OpenSSL extensions the host certificate was made with: tells whether it still fits."""
        return self.folder / "host" / "names.cnf"

    @property
    def trust(self) -> Path:
        """The directory of trusted authorities: this site's own two and nothing else."""
        return self.folder / "certificates"

    @property
    def conf(self) -> Path:
        """The servers' configurations: nothing in here is secret."""
        return self.folder / "conf"

    @property
    def myproxy_conf(self) -> Path:
        """MyProxy's configuration."""
        return self.conf / "myproxy.conf"

    @property
    def mapper(self) -> Path:
        """The program that turns an account name into a certificate subject."""
        return self.conf / "mapper"

    @property
    def gridftp_conf(self) -> Path:
        """GridFTP's configuration."""
        return self.conf / "gridftp.conf"

    @property
    def gridftp_authz(self) -> Path:
        """Names the callout by which GridFTP maps a certificate to an account."""
        return self.conf / "gridftp-authz.conf"

    @property
    def users_ca_copy(self) -> Path:
        """The users' authority again, where a process that has become the mapped user can read it."""
        return self.conf / "users_ca.pem"

    @property
    def pam_service(self) -> Path:
        """How MyProxy checks passwords, in the form of a file of /etc/pam.d."""
        return self.conf / "pam-service"

    @property
    def units(self) -> Path:
        """systemd units, for the administrator to put into place."""
        return self.folder / "systemd"

    @property
    def passwords(self) -> Path:
        """Hashes of the sandbox accounts' passwords, in pam_pwdfile's format."""
        return self.folder / "private" / "passwords"

    @property
    def passwd(self) -> Path:
        """The sandbox accounts, in /etc/passwd's format."""
        return self.conf / "passwd"

    @property
    def group(self) -> Path:
        """The sandbox accounts' groups, in /etc/group's format."""
        return self.conf / "group"

    @property
    def hosts(self) -> Path:
        """The sandbox's host names, in /etc/hosts's format."""
        return self.conf / "hosts"

    @property
    def myproxy_store(self) -> Path:
        """MyProxy wants a repository even when it only issues; it stays empty."""
        return self.folder / "private" / "myproxy-store"

    @property
    def run(self) -> Path:
        """What belongs to the running servers."""
        return self.folder / "run"

    @property
    def lock(self) -> Path:
        """Held by the one ``serve`` that may use this folder."""
        return self.run / "lock"

    @property
    def sandbox_root(self) -> Path:
        """An empty folder over which the sandbox builds its root file system, seen by nobody else."""
        return self.run / "root"

    @property
    def gridftp_log(self) -> Path:
        """The named pipe by which GridFTP's sessions reach the supervisor."""
        return self.run / "gridftp.log"

    @property
    def myproxy_pid(self) -> Path:
        """MyProxy's process number, as it writes it."""
        return self.run / "myproxy.pid"
