"""Who gets in: shared tokens for a role, and signed tokens that expire and grant streams by name. A token is in a hello or in a header."""

from streamcodec.server.auth.access import Access
from streamcodec.server.auth.grant import Grant
from streamcodec.server.auth.keys import TokenKeys
from streamcodec.server.auth.tokens import Tokens

__all__ = ["Access", "Grant", "TokenKeys", "Tokens"]
