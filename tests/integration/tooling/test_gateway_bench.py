"""The gateway's benchmark on its real servers, in short: it measures what it says, and a refusal is no result."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from wherry_testing.deployment_processes import is_alive

from bench import callers, gateway, gateway_place
from bench.measure import Bench, BenchmarkError
from bench.report import load_targets

_TARGETS = Path(__file__).parents[3] / "bench" / "targets.toml"
_SHORT = gateway.Plan(callers=(1, 4), rounds=1, warm_up_s=0.1, measured_s=0.5)


async def test_a_short_run_measures_every_way_and_whatever_has_a_target(tmp_path: Path) -> None:
    measured = {found.name: found for found in await gateway.measure(Bench(tmp_path, lambda _: None), _SHORT)}
    for way in ("json", "grpc-web", "gateway-grpc"):
        ratio = measured[f"gateway/{way}-vs-grpc"]
        assert ratio.peer is not None
        assert "straight at the service" in ratio.peer.name
        for count in _SHORT.callers:
            assert 0 < measured[f"gateway/{way}-p50-{count}"].value <= measured[f"gateway/{way}-p99-{count}"].value
        assert {f"gateway/{way}-cpu-envoy", f"gateway/{way}-cpu-service"} <= measured.keys()
    assert all(found.value > 0 for name, found in measured.items() if "-cpu-" not in name)
    # The callers have to be able to do far more than what they measure.
    assert measured["gateway/callers-ceiling"].value > measured["gateway/json-vs-grpc"].value
    targets = {name for name in load_targets(_TARGETS) if name.startswith("gateway/")}
    assert targets
    assert targets <= measured.keys()


async def test_a_wrong_answer_is_no_result_and_nothing_is_left_running(tmp_path: Path) -> None:
    async with gateway_place.running_place(tmp_path) as place:
        known = {way.name: way for way in await gateway.known_answers(place)}
        json = known["json"]

        def call(way: callers.Way) -> callers.Round:
            return callers.call_for(way, 2, warm_up_s=0, measured_s=0.2, watched=place.watched)

        assert call(json).calls > 0
        refused = dataclasses.replace(json, headers=("authorization: Bearer none",), expected=None)
        with pytest.raises(BenchmarkError, match="status=401"):
            call(refused)
        other = dataclasses.replace(json, expected=known["grpc"].expected)
        with pytest.raises(BenchmarkError, match=re.escape(gateway_place.EMAIL)):
            call(other)
        native = ("content-type: application/grpc", "te: trailers", *refused.headers)
        with pytest.raises(BenchmarkError, match="grpc-status: 16"):  # with HTTP's status 200
            call(dataclasses.replace(known["gateway-grpc"], headers=native, expected=None))
        nowhere = dataclasses.replace(json, url="https://localhost:1/v1/users/me")
        with pytest.raises(BenchmarkError, match="json: "):
            call(nowhere)
        assert all(is_alive(pid) for pid in place.watched.values())
    assert not any(is_alive(pid) for pid in place.watched.values())
