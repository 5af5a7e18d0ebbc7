"""A resource server in Python with PyJWT and its PyJWKClient: ISSUER AUDIENCE JWKS_URL [COOLDOWN_MS]; a token a line on
stdin, `ok SUB` or `refused REASON` a line on stdout. By default the client fetches for an unknown kid once in 30 s, and
keeps a set for 300 s."""

import sys

import jwt

issuer, audience, jwks_url, *cooldown_ms = sys.argv[1:]
options = {"cooldown_duration": int(cooldown_ms[0]) / 1000} if cooldown_ms else {}
keys = jwt.PyJWKClient(jwks_url, **options)


def verify(token: str) -> str:
    claims = jwt.decode(
        token,
        keys.get_signing_key_from_jwt(token),
        algorithms=["EdDSA"],
        audience=audience,
        issuer=issuer,
        leeway=5,
        options={"require": ["exp", "iat", "iss", "aud", "sub", "jti", "client_id"]},
    )
    return claims["sub"]


for line in sys.stdin:
    try:
        print("ok", verify(line.strip()), flush=True)
    except jwt.PyJWTError as error:
        print("refused", str(error).replace("\n", " "), flush=True)
