"""Channels to the user, site and queue services: mutual TLS, straight to their addresses."""

from __future__ import annotations

import json
from typing import Literal

import grpc
from wherry.queue.v1 import file_service_pb2_grpc, job_service_pb2_grpc
from wherry.site.v1 import site_service_pb2_grpc
from wherry.user.v1 import user_service_pb2_grpc

from wherry_client.configuration import Configuration, read_pem

ServiceName = Literal["user", "site", "queue"]

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
    # Finds dead connections under a watch. Not more often: a server counts pings without data between them against us,
    # and watches carry a message every 30 s.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
]


class Connection:
    """One channel for each service, opened when first needed, and the stubs on them."""

    def __init__(self, configuration: Configuration) -> None:
        self._addresses = configuration.services
        credentials = grpc.ssl_channel_credentials(
            root_certificates=read_pem(configuration, "ca"),
            private_key=read_pem(configuration, "key"),
            certificate_chain=read_pem(configuration, "certificate"),
        )
        self._channels = {
            address: grpc.secure_channel(address, credentials, options=_OPTIONS)
            for address in (self._addresses.user, self._addresses.site, self._addresses.queue)
        }
        user = self._channels[self._addresses.user]
        site = self._channels[self._addresses.site]
        queue = self._channels[self._addresses.queue]
        self.users = user_service_pb2_grpc.UserServiceStub(user)
        self.sessions = user_service_pb2_grpc.SessionServiceStub(user)
        self.sites = site_service_pb2_grpc.SiteServiceStub(site)
        self.site_sessions = site_service_pb2_grpc.SiteSessionServiceStub(site)
        self.jobs = job_service_pb2_grpc.JobServiceStub(queue)
        self.files = file_service_pb2_grpc.FileServiceStub(queue)

    def address_of(self, service: ServiceName) -> str:
        """Returns the `host:port` of a service."""
        address: str = getattr(self._addresses, service)
        return address

    def close(self) -> None:
        """Closes the channels; what runs on them ends."""
        for channel in self._channels.values():
            channel.close()
