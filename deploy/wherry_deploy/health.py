"""Asking the services whether they serve, as an operator."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2
from wherry_chassis.buildout import Buildout
from wherry_chassis.command import read_material
from wherry_chassis.tls import Material

# By name, because the stubs' types do not know the methods.
_CHECK = "/grpc.health.v1.Health/Check"
_REQUEST = health_pb2.HealthCheckRequest
_ANSWER_WITHIN_S = 2.0


def operator_material(buildout: Buildout) -> Material:
    """Returns the certificate with which this machine's operator calls: `operator.pem` beside the authority's, which
    `init` makes; where there is none, the user service's own, which may ask for health too.

    Raises:
        BuildoutError: neither can be read.
    """
    certificate = buildout.deployment.ca.with_name("operator.pem")
    key = certificate.with_suffix(".key")
    if not (certificate.exists() and key.exists()):
        certificate, key = buildout.service.user.certificate, buildout.service.user.key
    return read_material(certificate, key, buildout.deployment.ca).current()


async def is_serving(address: str, material: Material) -> bool:
    """Tells whether the service at `host:port` says SERVING to a caller with this certificate."""
    async with grpc.aio.secure_channel(address, _credentials(material)) as channel:
        check = channel.unary_unary(_CHECK, _REQUEST.SerializeToString, health_pb2.HealthCheckResponse.FromString)
        try:
            answer = await check(_REQUEST(), timeout=_ANSWER_WITHIN_S)
        except grpc.aio.AioRpcError:
            return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING


def service_is_answering(address: str, material: Material) -> bool:
    """Tells whether a service of this deployment is what answers at `host:port`, whatever it says."""
    with grpc.secure_channel(address, _credentials(material)) as channel:
        check = channel.unary_unary(_CHECK, _REQUEST.SerializeToString, health_pb2.HealthCheckResponse.FromString)
        try:
            check(_REQUEST(), timeout=_ANSWER_WITHIN_S)
        except grpc.RpcError:
            return False
    return True


def connectable(address: str) -> str:
    """Returns what a client on this machine connects to for a service that listens on `host:port`."""
    host, _, port = address.rpartition(":")
    if host.strip("[]") in ("0.0.0.0", "::", "*", ""):  # noqa: S104  # replaced here, not listened on
        return f"localhost:{port}"
    return address


def _credentials(material: Material) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(material.ca, material.key, material.chain)
