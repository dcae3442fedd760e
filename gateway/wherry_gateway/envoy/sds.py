"""Certificates as files that Envoy reads again when they are replaced (SDS from files)."""

from __future__ import annotations

from wherry_chassis.buildout import Buildout, Gateway

from wherry_gateway.envoy.extensions import Config, typed

MESH_CERTIFICATE, MESH_CA, PUBLIC_CERTIFICATE = "mesh_certificate", "mesh_ca", "public_certificate"


def secret_config(name: str) -> Config:
    """Returns the reference to a secret."""
    # Envoy watches the file's folder, and takes it from the path: without one there is an error.
    source = {"path": f"./{file_of(name)}"}
    return {"name": name, "sds_config": {"resource_api_version": "V3", "path_config_source": source}}


def file_of(name: str) -> str:
    """Returns the file that defines a secret, in Envoy's working directory."""
    return f"{name}.yaml"


def secrets(buildout: Buildout, gateway: Gateway) -> dict[str, Config]:
    """Returns the contents of those files by name. They name the operator's files, and hold no key."""
    return {
        MESH_CERTIFICATE: _certificate(MESH_CERTIFICATE, str(gateway.certificate), str(gateway.key)),
        PUBLIC_CERTIFICATE: _certificate(PUBLIC_CERTIFICATE, str(gateway.public_certificate), str(gateway.public_key)),
        MESH_CA: _resource(MESH_CA, validation_context={"trusted_ca": {"filename": str(buildout.deployment.ca)}}),
    }


def _certificate(name: str, certificate: str, key: str) -> Config:
    return _resource(
        name, tls_certificate={"certificate_chain": {"filename": certificate}, "private_key": {"filename": key}}
    )


def _resource(name: str, **fields: Config) -> Config:
    return {"resources": [typed("extensions.transport_sockets.tls.v3.Secret", name=name, **fields)]}
