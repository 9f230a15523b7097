"""Tokens open roles, each its own."""

import pytest

from streamcodec.server import Tokens


@pytest.mark.parametrize("token", [None, "", "anything"])
@pytest.mark.parametrize("role", ["publish", "listen"])
def test_a_role_without_tokens_is_open_to_everybody(role, token):
    assert Tokens().allows(role, token)


@pytest.mark.parametrize("token", [None, "", "wrong", "s3cre", "s3crets", "hear-me"])
def test_a_role_with_tokens_is_closed_to_everybody_else(token):
    assert not Tokens(publish=["s3cret", "other"], listen=["hear-me"]).allows("publish", token)


def test_each_of_several_tokens_opens_its_role_and_no_other():
    tokens = Tokens(publish=["first", "sécond"], listen=["third"])
    assert tokens.allows("publish", "first")
    assert tokens.allows("publish", "sécond")
    assert tokens.allows("listen", "third")
    assert not tokens.allows("listen", "first")


def test_guarding_one_role_leaves_the_other_open():
    assert Tokens(publish=["first"]).allows("listen", None)
