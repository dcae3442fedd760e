from __future__ import annotations

import pytest
from wherry_user.clock import random_secret


@pytest.mark.row("U2")
def test_a_mailed_token_can_be_typed_as_an_argument() -> None:
    secrets = {random_secret() for _ in range(500)}
    assert len(secrets) == 500
    assert all(secret.isalnum() and len(secret) == 64 for secret in secrets)
