"""A whole buildout.toml for tests, to be changed line by line."""

from __future__ import annotations

BUILDOUT = """\
[deployment]
name = "Test"
ca = "hosts/ca.pem"

[service.user]
listen = ["127.0.0.1:0"]
certificate = "hosts/user.pem"
key = "hosts/user.key"
database = "sqlite:///user.db"

[service.site]
listen = ["127.0.0.1:0"]
certificate = "hosts/site.pem"
key = "hosts/site.key"
database = "sqlite:///site.db"
key_encryption_key = "file:secrets/vault.key"

[service.queue]
listen = ["127.0.0.1:0"]
certificate = "hosts/queue.pem"
key = "hosts/queue.key"
database = "postgresql+psycopg://wherry@db.example/queue"

[worker]
certificate = "hosts/worker.pem"
key = "hosts/worker.key"
state = "worker"

[tokens]
signing_key_encryption_key = "file:secrets/tokens.key"

[mail]
host = "127.0.0.1"
port = 2525
security = "none"
username = "wherry"
password = "env:WHERRY_TEST_MAIL_PASSWORD"
sender = "wherry@example.org"

[access.roles]
operator = ["/O=Wherry test/CN=operator"]
worker = ["CN=worker,O=Wherry test"]

[access.rpc]
"wherry.queue.v1.JobService/GetJob" = ["owner", "operator"]
"""


def line_number(text: str, line: str) -> int:
    """Returns the number, from 1, of the one line of a text that begins so."""
    (number,) = (index for index, found in enumerate(text.splitlines(), start=1) if found.startswith(line))
    return number
