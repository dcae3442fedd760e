"""The channel to the deployment's gateway: gRPC over TLS, without a certificate of one's own."""

from __future__ import annotations

import json

import grpc
from wherry.queue.v1 import file_service_pb2_grpc, job_service_pb2_grpc
from wherry.site.v1 import site_service_pb2_grpc
from wherry.user.v1 import user_service_pb2_grpc

# What may be repeated when the answer is lost: it changes nothing, or its request_id makes it harmless. Never the
# trade of a refresh token: the second use of one ends the session.
_REPEATABLE = {
    "wherry.user.v1.UserService": ["GetUser"],
    "wherry.site.v1.SiteService": ["ListSites", "GetSite"],
    "wherry.site.v1.SiteSessionService": ["ListSiteSessions", "GetSiteSession"],
    "wherry.queue.v1.JobService": [
        "CreateJob", "GetJob", "ListJobs", "CancelJob", "ListTasks", "GetTask", "ListAttempts", "ListFailures",
    ],
}  # fmt: skip
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [
                {"service": service, "method": method} for service, methods in _REPEATABLE.items() for method in methods
            ],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.2s",
                "maxBackoff": "2s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
_OPTIONS: list[tuple[str, str | int]] = [
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.enable_http_proxy", 0),  # straight to the address, whatever https_proxy says
    # A gateway that was restarted is found again within this time; the library's own pauses grow to two minutes.
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # Finds dead connections under a watch. Not more often: a server counts pings without data between them against us,
    # and watches carry a message every 20 s.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
]


class Connection:
    """The channel, opened when first needed, and the stubs on it.

    Args:
        gateway: `host:port`, the host as in the gateway's certificate.
        authorities: those by which it is believed, PEM.
    """

    def __init__(self, gateway: str, authorities: bytes) -> None:
        credentials = grpc.ssl_channel_credentials(root_certificates=authorities)
        self._channel = grpc.secure_channel(gateway, credentials, options=_OPTIONS)
        self.users = user_service_pb2_grpc.UserServiceStub(self._channel)
        self.sessions = user_service_pb2_grpc.SessionServiceStub(self._channel)
        self.sites = site_service_pb2_grpc.SiteServiceStub(self._channel)
        self.site_sessions = site_service_pb2_grpc.SiteSessionServiceStub(self._channel)
        self.jobs = job_service_pb2_grpc.JobServiceStub(self._channel)
        self.files = file_service_pb2_grpc.FileServiceStub(self._channel)

    def close(self) -> None:
        """Closes the channel; what runs on it ends."""
        self._channel.close()
