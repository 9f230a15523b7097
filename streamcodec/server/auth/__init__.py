"""Who gets in: shared tokens for a role, signed tokens that expire and grant streams by name, or whomever an authentication URL lets in.

A token is in a hello or in a header. What it grants is looked at for as long as its session lives.
"""

from streamcodec.server.auth.access import Access
from streamcodec.server.auth.asking import AuthUrl
from streamcodec.server.auth.grant import Grant
from streamcodec.server.auth.keys import TokenKeys
from streamcodec.server.auth.permits import Permits
from streamcodec.server.auth.tokens import Tokens

__all__ = ["Access", "AuthUrl", "Grant", "Permits", "TokenKeys", "Tokens"]
