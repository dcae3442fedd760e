"""register, verify, login, logout, whoami, and the tokens behind them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from wherry_client.client import open_client
from wherry_fakes.centre import FakeCentre
from wherry_testing.client_runs import FindTokenFile, Wherry

EMAIL = "alice@example.org"
PASSWORD = "correct horse battery"
LATER_OF_C1 = "passwd, unregister"
LATER_OF_C3 = "globs"
LATER_OF_C4 = "job pause, resume, retry, logs, receipt"


@pytest.mark.row("C1", missing=LATER_OF_C1)
def test_a_registered_person_verifies_signs_in_and_is_known(wherry: Wherry, centre: FakeCentre) -> None:
    assert wherry("register", "bob@example.org", "--password-stdin", stdin="bob's long one\n").status == 0
    early = wherry("login", "bob@example.org", "--password-stdin", stdin="bob's long one\n")
    assert early.status == 1
    assert "wherry verify TOKEN" in early.err
    assert wherry("verify", centre.people.mails[0][1]).status == 0
    assert wherry("login", "bob@example.org", "--password-stdin", stdin="bob's long one\n").status == 0
    known = wherry("whoami", "--json")
    assert known.json["user"]["email"] == "bob@example.org"


@pytest.mark.row("C1", missing=LATER_OF_C1)
def test_a_password_keeps_its_spaces_and_loses_only_the_line_s_end(wherry: Wherry, centre: FakeCentre) -> None:
    centre.people.register("carol@example.org", "  spaces around  ")
    assert wherry("login", "carol@example.org", "--password-stdin", stdin="  spaces around  \n").status == 0


@pytest.mark.row("C1", missing=LATER_OF_C1)
def test_a_wrong_password_fails_without_saying_which_part_was_wrong(wherry: Wherry) -> None:
    wrong = wherry("login", EMAIL, "--password-stdin", stdin="wrong one")
    unknown = wherry("login", "nobody@example.org", "--password-stdin", stdin="wrong one")
    assert (wrong.status, wrong.err) == (unknown.status, unknown.err)
    assert wrong.status == 1


@pytest.mark.row("C1", missing=LATER_OF_C1)
def test_a_password_is_no_argument_and_nobody_is_asked_where_there_is_no_terminal(wherry: Wherry) -> None:
    assert wherry("login", EMAIL, PASSWORD).status == 2
    unasked = wherry("login", EMAIL)
    assert unasked.status == 2
    assert "--password-stdin" in unasked.err


@pytest.mark.row("C1", missing=LATER_OF_C1)
def test_unfit_fields_are_named(wherry: Wherry) -> None:
    short = wherry("register", "bob@example.org", "--password-stdin", stdin="short")
    assert short.status == 2
    assert "password: must have at least 8 characters" in short.err


@pytest.mark.row("C1", missing=LATER_OF_C1)
def test_signing_out_ends_the_session_at_the_service_and_removes_the_tokens(
    signed_in: Wherry, centre: FakeCentre, token_file: FindTokenFile
) -> None:
    assert centre.people.live_sessions() == 1
    assert signed_in("logout").status == 0
    assert centre.people.live_sessions() == 0
    assert token_file() is None
    assert signed_in("logout").status == 0
    assert signed_in("whoami").status == 4


@pytest.mark.row("C1", missing=LATER_OF_C1)
def test_signing_out_keeps_the_tokens_while_the_service_cannot_be_told(
    signed_in: Wherry, centre: FakeCentre, token_file: FindTokenFile
) -> None:
    centre.away.add("user")
    assert signed_in("logout").status == 5
    assert token_file() is not None


@pytest.mark.row("C4", missing=LATER_OF_C4)
def test_the_token_file_is_readable_by_its_owner_alone(signed_in: Wherry, token_file: FindTokenFile) -> None:
    file = token_file()
    assert file is not None
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.row("C1", missing=LATER_OF_C1)
def test_a_token_near_its_end_is_renewed_before_it_is_used(
    wherry: Wherry, centre: FakeCentre, token_file: FindTokenFile
) -> None:
    centre.people.access_ttl_s = 5
    wherry("login", EMAIL, "--password-stdin", stdin=PASSWORD)
    file = token_file()
    assert file is not None
    before = json.loads(file.read_text())
    centre.people.access_ttl_s = 600
    assert wherry("whoami").status == 0
    assert centre.people.refreshes == 1
    after = json.loads(file.read_text())
    assert after["refresh_token"] != before["refresh_token"]
    assert wherry("whoami").status == 0
    assert centre.people.refreshes == 1


@pytest.mark.row("C1", missing=LATER_OF_C1)
def test_a_token_that_a_service_refuses_is_renewed_once_and_the_call_repeated(
    signed_in: Wherry, centre: FakeCentre
) -> None:
    centre.people.refuse_access_tokens()
    assert signed_in("whoami").status == 0
    assert centre.people.refreshes == 1


@pytest.mark.row("C1", missing=LATER_OF_C1)
def test_a_listing_refused_for_its_token_is_opened_again_with_a_new_one(signed_in: Wherry, centre: FakeCentre) -> None:
    centre.people.refuse_access_tokens()
    listed = signed_in("ls", "site-a:")
    assert listed.out.split() == ["data/", "notes.txt"]
    assert centre.people.refreshes == 1


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_an_ended_session_asks_for_a_sign_in_with_status_4(
    signed_in: Wherry, centre: FakeCentre, token_file: FindTokenFile
) -> None:
    centre.people.end_sessions()
    refused = signed_in("ls", "site-a:")
    assert refused.status == 4
    assert "wherry login" in refused.err
    assert token_file() is None


@pytest.mark.row("C1", missing=LATER_OF_C1)
def test_a_token_near_its_end_still_serves_while_it_cannot_be_renewed(wherry: Wherry, centre: FakeCentre) -> None:
    centre.people.access_ttl_s = 25
    wherry("login", EMAIL, "--password-stdin", stdin=PASSWORD)
    centre.away.add("user")
    assert wherry("sites").status == 0


@pytest.mark.row("C4", missing=LATER_OF_C4)
def test_processes_at_once_use_a_refresh_token_once(
    wherry: Wherry, centre: FakeCentre, start: Callable[..., subprocess.Popen[str]]
) -> None:
    centre.people.access_ttl_s = 5
    wherry("login", EMAIL, "--password-stdin", stdin=PASSWORD)
    centre.people.access_ttl_s = 600
    processes = [start("whoami") for _ in range(4)]
    for process in processes:
        _, complaint = process.communicate(timeout=60)
        assert (process.returncode, complaint) == (0, "")
    assert centre.people.refreshes == 1
    assert centre.people.live_sessions() == 1


@pytest.mark.row("C4", missing=LATER_OF_C4)
def test_threads_at_once_use_a_refresh_token_once(wherry: Wherry, centre: FakeCentre) -> None:
    centre.people.access_ttl_s = 5
    wherry("login", EMAIL, "--password-stdin", stdin=PASSWORD)
    centre.people.access_ttl_s = 600
    with open_client() as client, ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(client.accounts.me) for _ in range(6)]
        assert {answer.result(timeout=60).email for answer in answers} == {EMAIL}
    assert centre.people.refreshes == 1


@pytest.mark.row("C4", missing=LATER_OF_C4)
def test_a_damaged_token_file_says_so_and_what_to_do(signed_in: Wherry, token_file: FindTokenFile) -> None:
    file = token_file()
    assert file is not None
    file.write_text("{}")
    refused = signed_in("whoami")
    assert refused.status == 1
    assert "Delete it and sign in again" in refused.err


@pytest.mark.row("C4", missing=LATER_OF_C4)
def test_tokens_of_one_deployment_are_not_given_to_another(
    signed_in: Wherry, centre: FakeCentre, strangers: Path
) -> None:
    elsewhere = centre.write_configuration(strangers, authority="strangers")
    refused = signed_in("--config", str(elsewhere), "whoami")
    assert refused.status == 4


@pytest.mark.row("C1", missing=LATER_OF_C1)
def test_a_new_token_that_is_refused_too_is_no_reason_to_sign_in_again(
    signed_in: Wherry, centre: FakeCentre, token_file: FindTokenFile
) -> None:
    centre.people.keys_known = False
    refused = signed_in("whoami")
    assert refused.status == 5
    assert "not accepted yet" in refused.err
    centre.people.keys_known = True
    assert signed_in("whoami").status == 0


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_a_service_that_is_away_behind_the_gateway_is_named_with_status_5(
    signed_in: Wherry, centre: FakeCentre
) -> None:
    centre.away.add("site")
    begun = time.monotonic()
    refused = signed_in("sites")
    assert refused.status == 5
    assert f"The site service behind the gateway at {centre.address} is away" in refused.err
    assert time.monotonic() - begun < 20
    assert signed_in("whoami").status == 0


@pytest.mark.row("C3", missing=LATER_OF_C3)
def test_a_gateway_that_is_down_is_named_with_its_address_and_status_5(signed_in: Wherry, centre: FakeCentre) -> None:
    centre.stop()
    begun = time.monotonic()
    refused = signed_in("sites")
    assert refused.status == 5
    assert f"The gateway at {centre.address} cannot be reached." in refused.err
    assert time.monotonic() - begun < 20


@pytest.mark.row("C4", missing=LATER_OF_C4)
def test_a_gateway_of_another_authority_gets_no_password_and_is_told_apart_from_one_that_is_down(
    wherry: Wherry, centre: FakeCentre, strangers: Path
) -> None:
    elsewhere = centre.write_configuration(strangers, authority="strangers")
    refused = wherry("--config", str(elsewhere), "login", EMAIL, "--password-stdin", stdin=PASSWORD)
    assert refused.status == 5
    assert "is not one that this client believes" in refused.err
    assert "`ca`" in refused.err


@pytest.mark.row("C4", missing=LATER_OF_C4)
def test_without_an_authority_in_the_configuration_the_systems_are_asked(
    wherry: Wherry, centre: FakeCentre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "elsewhere.toml"
    file.write_text(f'gateway = "https://{centre.address}"\n')
    login = ("--config", str(file), "login", EMAIL, "--password-stdin")
    assert wherry(*login, stdin=PASSWORD).status == 5
    monkeypatch.setenv("SSL_CERT_FILE", str(centre.authorities["own"].ca))
    assert wherry(*login, stdin=PASSWORD).status == 0


@pytest.mark.row("C4", missing=LATER_OF_C4)
def test_the_library_writes_no_lines_of_its_own_beside_a_commands(
    centre: FakeCentre, strangers: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    elsewhere = centre.write_configuration(strangers, authority="strangers")
    _, said = start("--config", str(elsewhere), "verify", "token").communicate(timeout=60)
    assert said.startswith("error: The certificate of the gateway")
    assert len(said.splitlines()) == 2
