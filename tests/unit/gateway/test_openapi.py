from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from wherry_chassis.access import shipped_table
from wherry_gateway import descriptors
from wherry_gateway.openapi import document, document_bytes

pytestmark = pytest.mark.row("K1", missing="clients in other languages, the asynchronous Python client")

_METHODS = ("get", "put", "post", "delete", "patch")


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return document()


def operations(made: dict[str, Any]) -> dict[str, tuple[str, str, dict[str, Any]]]:
    return {
        operation["operationId"]: (method, path, operation)
        for path, item in made["paths"].items()
        for method, operation in item.items()
    }


def parameters(made: dict[str, Any], operation: str, place: str) -> dict[str, Any]:
    found = operations(made)[operation][2].get("parameters", [])
    return {it["name"]: it for it in found if it["in"] == place}


def schema(made: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = made["components"]["schemas"][name]
    return found


def test_the_document_is_valid_openapi_3_1(made: dict[str, Any]) -> None:
    validate(made, cls=OpenAPIV31SpecValidator)
    assert made["openapi"].startswith("3.1.")
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", made["info"]["version"])


def test_every_method_for_users_is_documented_once_and_no_other(made: dict[str, Any]) -> None:
    documented = sorted(operations(made))
    assert documented == sorted(method.name for method in descriptors.user_facing())
    assert len(documented) == sum(len(item) for item in made["paths"].values())
    for method in descriptors.user_facing():
        verb, path, operation = operations(made)[method.name]
        assert verb == method.http_method.lower()
        assert path.startswith("/v1/")
        assert method.path in operation["description"]
        assert operation["tags"] == [method.service.rpartition(".")[2]]
        assert operation["summary"]


def test_the_same_contracts_give_the_same_document() -> None:
    code = "import sys; from wherry_gateway.openapi import document_bytes; sys.stdout.buffer.write(document_bytes())"
    elsewhere = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": "1"}, capture_output=True, check=True
    )
    assert elsewhere.stdout == document_bytes()


@pytest.mark.parametrize(
    ("operation", "verb", "path", "names"),
    [
        ("WatchJob", "get", "/v1/jobs/{job}:watch", ["job"]),
        ("WatchJobs", "get", "/v1/jobs:watch", []),
        ("GetTask", "get", "/v1/jobs/{job}/tasks/{task}", ["job", "task"]),
        ("ListDirectory", "get", "/v1/sites/{site}:listDirectory", ["site"]),
        ("UpdateEndpoint", "patch", "/v1/sites/{site}/endpoints/{endpoint}", ["site", "endpoint"]),
        ("DeleteSiteSession", "delete", "/v1/users/{user}/siteSessions/{siteSession}", ["user", "siteSession"]),
        ("RefreshSession", "post", "/v1/sessions:refresh", []),
    ],
)
def test_templates_become_paths_with_parameters(
    made: dict[str, Any], operation: str, verb: str, path: str, names: list[str]
) -> None:
    assert operations(made)[operation][:2] == (verb, path)
    found = parameters(made, operation, "path")
    assert list(found) == names
    assert all(it["required"] is True and it["schema"]["type"] == "string" for it in found.values())


def test_a_path_parameter_has_its_part_of_the_whole_names_pattern(made: dict[str, Any]) -> None:
    found = parameters(made, "GetTask", "path")
    assert found["job"]["schema"]["pattern"] == "^[A-Za-z0-9-]+$"
    assert found["task"]["schema"]["pattern"] == "^[0-9]+$"
    assert parameters(made, "ListDirectory", "path")["site"]["schema"]["pattern"] == "^[a-z0-9][a-z0-9-]{0,62}$"


def test_what_is_neither_in_the_path_nor_in_the_body_stands_in_the_query(made: dict[str, Any]) -> None:
    assert list(parameters(made, "ListDirectory", "query")) == ["location.path", "location.rawPath", "depth"]
    assert list(parameters(made, "ListSiteSessions", "query")) == []
    assert list(parameters(made, "ListTasks", "query")) == ["pageSize", "pageToken", "states"]
    assert list(parameters(made, "CreateJob", "query")) == ["requestId"]
    assert list(parameters(made, "DeleteSite", "query")) == ["etag"]
    assert parameters(made, "CreateSite", "query")["siteId"]["required"] is True
    assert parameters(made, "CreateSession", "query") == {}


def test_a_patch_takes_the_resource_as_body_and_the_mask_in_the_query(made: dict[str, Any]) -> None:
    mask = parameters(made, "UpdateSite", "query")["updateMask"]
    assert mask["schema"]["type"] == "string"
    assert "required" not in mask
    body = operations(made)["UpdateSite"][2]["requestBody"]
    assert body["content"]["application/json"]["schema"]["$ref"] == "#/components/schemas/Site"
    assert body["required"] is True


def test_a_body_that_is_the_request_leaves_out_what_the_path_says(made: dict[str, Any]) -> None:
    body = operations(made)["CreateSiteSession"][2]["requestBody"]
    assert body["content"]["application/json"]["schema"]["$ref"] == "#/components/schemas/CreateSiteSessionBody"
    assert list(schema(made, "CreateSiteSessionBody")["properties"]) == ["site", "username", "password", "lifetime"]
    assert schema(made, "CreateSiteSessionBody")["required"] == ["site", "username", "password"]
    cancel = operations(made)["CancelJob"][2]["requestBody"]
    assert cancel["required"] is False
    assert schema(made, "CancelJobBody")["properties"] == {}


def test_methods_without_a_body_have_none(made: dict[str, Any]) -> None:
    for verb, _, operation in operations(made).values():
        assert ("requestBody" in operation) == (verb in ("post", "patch"))


def test_numbers_of_64_bits_are_strings_and_smaller_ones_are_not(made: dict[str, Any]) -> None:
    progress = schema(made, "JobProgress")["properties"]
    assert progress["bytesTotal"]["type"] == "string"
    assert progress["bytesTotal"]["format"] == "int64"
    assert progress["bytesPerSecond"]["type"] == "number"
    assert schema(made, "Endpoint")["properties"]["port"]["type"] == "integer"


def test_enums_are_names_and_each_name_is_explained(made: dict[str, Any]) -> None:
    state = schema(made, "JobState")
    assert state["type"] == "string"
    assert "JOB_STATE_WAITING_FOR_SIGN_IN" in state["enum"]
    assert "- `JOB_STATE_SUCCEEDED`: All of it was done." in state["description"]


def test_well_known_types_are_what_json_makes_of_them(made: dict[str, Any]) -> None:
    assert schema(made, "Job")["properties"]["createTime"]["format"] == "date-time"
    lifetime = schema(made, "CreateSiteSessionBody")["properties"]["lifetime"]
    assert re.fullmatch(lifetime["pattern"], "43200s")
    assert "At least 60 s and at most 2592000 s." in lifetime["description"]
    deleted = operations(made)["DeleteSite"][2]["responses"]["200"]
    assert deleted["content"]["application/json"]["schema"] == {"type": "object", "additionalProperties": False}
    assert schema(made, "ErrorInfo")["properties"]["metadata"]["additionalProperties"] == {"type": "string"}
    assert schema(made, "Location")["properties"]["rawPath"]["contentEncoding"] == "base64"


def test_rules_become_constraints(made: dict[str, Any]) -> None:
    registration = schema(made, "CreateUserRequest")
    assert registration["required"] == ["email", "password"]
    assert (
        registration["properties"]["email"] | {"format": "email", "maxLength": 254}
        == (registration["properties"]["email"])
    )
    assert registration["properties"]["password"]["minLength"] == 8
    assert registration["properties"]["password"]["format"] == "password"
    assert schema(made, "CopyOperation")["properties"]["items"]["maxItems"] == 1000
    assert schema(made, "CopyOperation")["required"] == ["items"]
    priority = schema(made, "Job")["properties"]["priority"]
    assert (priority["minimum"], priority["maximum"]) == (0, 9)
    each = schema(made, "CertificateAuthority")["properties"]["namespaces"]
    assert (each["maxItems"], each["items"]) == (16, {"type": "string", "maxLength": 1000})


def test_a_choice_says_how_many_of_it_are_set(made: dict[str, Any]) -> None:
    choices = "`copy`, `remove`, `makeDirectory`, `rename`, `changeMode`, `checksum`"
    assert f"Exactly one of {choices} is set." in schema(made, "Job")["description"]
    assert schema(made, "Job")["properties"]["state"]["readOnly"] is True
    assert "readOnly" not in schema(made, "Job")["properties"]["copy"]


def test_a_stream_is_lines_of_json_or_events(made: dict[str, Any]) -> None:
    streams = {method.name for method in descriptors.user_facing() if method.server_streaming}
    for name, (_, _, operation) in operations(made).items():
        content = operation["responses"]["200"]["content"]
        expected = {"application/x-ndjson", "text/event-stream"} if name in streams else {"application/json"}
        assert set(content) == expected, name
    watch = operations(made)["WatchJob"][2]["responses"]["200"]["content"]["text/event-stream"]
    assert watch["schema"]["$ref"] == "#/components/schemas/WatchJobResponse"


def test_a_token_is_asked_for_except_by_what_anyone_may_call(made: dict[str, Any]) -> None:
    assert made["security"] == [{"bearer": []}]
    assert made["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    public = {name for name, (_, _, operation) in operations(made).items() if operation.get("security") == []}
    assert public == {method.name for method in descriptors.user_facing() if method.public}
    assert "CreateSession" in public


def test_a_deployments_own_access_table_decides_what_needs_a_token() -> None:
    closed = {**shipped_table(), "wherry.user.v1.UserService/CreateUser": frozenset({"operator"})}
    made = document(descriptors.methods_under(closed))
    assert "security" not in operations(made)["CreateUser"][2]
    assert operations(made)["CreateSession"][2]["security"] == []


def test_errors_are_a_status_with_a_reason(made: dict[str, Any]) -> None:
    for _, _, operation in operations(made).values():
        assert operation["responses"]["default"] == {"$ref": "#/components/responses/Error"}
    error = made["components"]["responses"]["Error"]["content"]["application/json"]["schema"]
    assert error == {"$ref": "#/components/schemas/Status"}
    kinds = schema(made, "Status")["properties"]["details"]["items"]["anyOf"]
    assert {"$ref": "#/components/schemas/ErrorInfo"} in kinds
    info = schema(made, "ErrorInfo")["properties"]
    assert info["@type"] == {"const": "type.googleapis.com/google.rpc.ErrorInfo"}
    assert {"reason", "domain", "metadata"} <= set(info)


def test_nothing_is_without_words(made: dict[str, Any]) -> None:
    ours = {f"{file.package}.{it.name}" for file in descriptors.contracts().file for it in file.message_type}
    assert ours
    for name, found in made["components"]["schemas"].items():
        assert found["description"], name
    for name, (_, _, operation) in operations(made).items():
        assert operation["description"], name
        assert all(it["description"] for it in operation.get("parameters", [])), name
    assert all(tag["description"] for tag in made["tags"])
