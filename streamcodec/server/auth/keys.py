"""The keys that sign tokens and prove them: a JSON Web Key Set (RFC 7517) of HS256 secrets and Ed25519 pairs.

All keys of a set are valid at once. To replace a key, add the new one, issue tokens with it, and take the old one away when its last
token has expired. A server needs public keys alone where tokens are signed with Ed25519.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm
from jwt.utils import base64url_decode, base64url_encode

from streamcodec.errors import InputError
from streamcodec.server.auth.grant import Grant

__all__ = ["ALGORITHMS", "LEEWAY_S", "TokenKeys", "check_time", "unproved"]

ALGORITHMS = ("EdDSA", "HS256")
LEEWAY_S = 30.0
"""Clocks of two machines differ by so much at most: a token is good so much earlier and later than it says."""
_MAX_KEYS = 16
_SECRET_BYTES = 32


class TokenKeys:
    """Some keys, of which the first one that can sign signs. `TokenKeys.parse` reads them, `serialize` writes them."""

    def __init__(self, keys: Sequence[dict[str, str]]) -> None:
        if not 1 <= len(keys) <= _MAX_KEYS:
            raise InputError(f"there are {len(keys)} keys, expected 1 to {_MAX_KEYS}")
        self._keys = list(keys)
        self._read = [_read(key, at) for at, key in enumerate(keys, 1)]
        ids = [key.get("kid") for key in keys]
        if None in ids or len(set(ids)) != len(ids):
            raise InputError("each key needs a 'kid' of its own")

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"TokenKeys({', '.join(f'{key.key_id} ({key.algorithm_name})' for key in self._read)})"

    @classmethod
    def parse(cls, text: str) -> TokenKeys:
        """Read a JSON Web Key Set. Raises `InputError`, which tells no part of a key."""
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict) or not isinstance(keys := found.get("keys"), list) or not all(isinstance(k, dict) for k in keys):
            raise InputError('this is no JSON Web Key Set, expected {"keys": [...]}: `streamcodec token new-key` writes one')
        return cls(keys)

    @classmethod
    def generate(cls, algorithm: str) -> TokenKeys:
        """A new key for "EdDSA" or "HS256"."""
        if algorithm == "HS256":
            key = {"kty": "oct", "k": base64url_encode(secrets.token_bytes(_SECRET_BYTES)).decode()}
        elif algorithm == "EdDSA":
            key = OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate(), as_dict=True)
        else:
            raise InputError(f"{algorithm!r} is no algorithm here, expected {' or '.join(ALGORITHMS)}")
        return cls([{**key, "alg": algorithm, "kid": secrets.token_hex(4)}])

    @property
    def ids(self) -> list[str]:
        """Their names, in order."""
        return [key["kid"] for key in self._keys]

    @property
    def thumbprints(self) -> list[str]:
        """What tells each key from every other one, also from another of its name; it tells nothing about a secret."""
        return [_thumbprint(key) for key in self._keys]

    def before(self, others: TokenKeys) -> TokenKeys:
        """These keys, then `others`."""
        return TokenKeys([*self._keys, *others._keys])

    def public(self) -> TokenKeys:
        """What proves tokens and cannot sign any. Raises `InputError` for a secret, which does both."""
        if any(key["kty"] != "OKP" for key in self._keys):
            raise InputError("an HS256 key is a secret that proves and signs: only EdDSA keys have a public half")
        return TokenKeys([{name: value for name, value in key.items() if name != "d"} for key in self._keys])

    def serialize(self) -> str:
        """As a JSON Web Key Set: a secret, unless these are public."""
        return json.dumps({"keys": self._keys}, indent=1) + "\n"

    def sign(self, grant: Grant) -> str:
        """A token for `grant`, by the first key that can sign. Raises `InputError`."""
        for key, read in zip(self._keys, self._read, strict=True):
            if key["kty"] == "oct" or "d" in key:
                return jwt.encode(grant.claims(), read, algorithm=read.algorithm_name, headers={"kid": key["kid"]})
        raise InputError("these keys are public: they prove tokens, and sign none")

    def find(self, token: str) -> tuple[str, Grant]:
        """The thumbprint of the key that has signed `token`, and its grant, whether that is good now or not.

        Raises `LookupError` where none of these keys has signed it, and `InputError` for claims that make no sense; neither tells a part of
        the token.
        """
        try:
            wanted = jwt.get_unverified_header(token).get("kid")
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise LookupError("the token is no JSON Web Token") from None
        for key, read in zip(self._keys, self._read, strict=True):
            if wanted in (None, read.key_id) and (grant := _proved(token, read)) is not None:
                return _thumbprint(key), grant
        raise LookupError("no key of this server has signed the token, or it lacks an 'exp'")

    def prove(self, token: str, clock: Callable[[], float]) -> Grant:
        """The grant of `token`, which one of these keys has signed and which is good now by `clock` (s since 1970).

        Raises `InputError`, which tells no part of the token.
        """
        try:
            _, grant = self.find(token)
        except LookupError as exc:
            raise InputError(str(exc)) from None
        check_time(grant, clock())
        return grant


def check_time(grant: Grant, now: float) -> None:
    """Raise `InputError` unless the token with this grant is good at `now` (s since 1970)."""
    if now > grant.expires + LEEWAY_S:
        raise InputError(f"the token expired {now - grant.expires:.0f} s ago")
    if now < grant.not_before - LEEWAY_S:
        raise InputError(f"the token is not good for another {grant.not_before - now:.0f} s")


def unproved(token: str) -> Grant:
    """What `token` says that it grants, whoever has made it. Raises `InputError`, which tells no part of it."""
    try:
        return Grant.of(jwt.decode(token, options={"verify_signature": False}))
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise InputError("the token is no JSON Web Token") from None


def _proved(token: str, key: jwt.PyJWK) -> Grant | None:
    # Times are compared by the caller's clock.
    options: Any = {"require": ["exp"], "verify_exp": False, "verify_nbf": False, "verify_iat": False}
    try:
        claims = jwt.decode(token, key, algorithms=[key.algorithm_name], options=options)
    except jwt.PyJWTError:
        return None
    return Grant.of(claims)


def _thumbprint(key: dict[str, str]) -> str:
    public = {name: key[name] for name in ("kty", "crv", "x") if name in key} if key["kty"] == "OKP" else {"kty": "oct", "k": key["k"]}
    return hashlib.sha256(json.dumps(public, sort_keys=True).encode()).hexdigest()


def _read(key: dict[str, str], at: int) -> jwt.PyJWK:
    algorithm = {"oct": "HS256", "OKP": "EdDSA"}.get(str(key.get("kty")))
    if algorithm is None or key.get("alg", algorithm) != algorithm or key.get("crv", "Ed25519") != "Ed25519":
        raise InputError(f"key {at} is of another kind, expected a secret for HS256 or an Ed25519 key for EdDSA")
    try:
        short = algorithm == "HS256" and len(base64url_decode(key["k"])) < _SECRET_BYTES
        read = jwt.PyJWK(key, algorithm)
    except (jwt.PyJWTError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"key {at} is damaged") from None
    if short:
        raise InputError(f"key {at} is too short, expected {_SECRET_BYTES} bytes or more")
    return read
