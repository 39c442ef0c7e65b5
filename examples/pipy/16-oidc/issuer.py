"""An issuer of OpenID Connect for trying out: everybody who comes is logged in as USER.

issuer.py PORT CLIENT SECRET [USER]: discovery, authorization with PKCE, tokens signed with RS256,
keys. Needs PyJWT and cryptography.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa


class Issuer(ThreadingHTTPServer):
    """What it has given out, and its key."""

    daemon_threads = True

    def __init__(self, port: int, client: str, secret: str, user: str) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.client, self.secret, self.user = client, secret, user
        self.codes: dict[str, dict[str, str]] = {}
        # What a test wants to be different in the next token.
        self.instead: dict[str, object] = {}
        self.rotate()

    def rotate(self) -> None:
        """Sign with a new key from now on."""
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.kid = secrets.token_hex(4)

    def token(self, nonce: str) -> str:
        """Who has logged in, signed."""
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": self.client,
            "sub": self.user,
            "name": self.user.title(),
            "email": f"{self.user}@example.com",
            "nonce": nonce,
            "iat": now,
            "exp": now + 300,
        }
        return jwt.encode(
            {**claims, **self.instead}, self.key, algorithm="RS256", headers={"kid": self.kid}
        )

    def keys(self) -> dict[str, object]:
        """What tokens are verified with."""
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return {"keys": [{**public, "kid": self.kid, "use": "sig", "alg": "RS256"}]}


class Handler(BaseHTTPRequestHandler):
    """The endpoints."""

    protocol_version = "HTTP/1.1"
    server: Issuer

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, content: object = None, **headers: str) -> None:
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """Discovery, keys and logins."""
        url = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        here = self.server.url
        match url.path:
            case "/.well-known/openid-configuration":
                self._answer(
                    200,
                    {
                        "issuer": here,
                        "authorization_endpoint": f"{here}/authorize",
                        "token_endpoint": f"{here}/token",
                        "jwks_uri": f"{here}/keys",
                    },
                )
            case "/keys":
                self._answer(200, self.server.keys())
            case "/authorize" if (
                asked.get("client_id") == self.server.client
                and asked.get("response_type") == "code"
                and asked.get("code_challenge_method") == "S256"
            ):
                code = secrets.token_urlsafe()
                self.server.codes[code] = asked
                back = urlencode({"code": code, "state": asked["state"]})
                self._answer(302, location=f"{asked['redirect_uri']}?{back}")
            case _:
                self._answer(400, {"error": "invalid_request"})

    def do_POST(self) -> None:
        """Give a token for a code."""
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        asked = {name: values[0] for name, values in parse_qs(body).items()}
        # A code is good once.
        begun = self.server.codes.pop(asked.get("code", ""), None)
        digest = hashlib.sha256(asked.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if (
            begun is None
            or asked.get("client_secret") != self.server.secret
            or asked.get("redirect_uri") != begun["redirect_uri"]
            or challenge != begun["code_challenge"]
        ):
            return self._answer(400, {"error": "invalid_grant"})
        token = self.server.token(begun["nonce"])
        return self._answer(200, {"token_type": "Bearer", "id_token": token, "access_token": "x"})


if __name__ == "__main__":
    port, client, secret, *user = sys.argv[1:]
    Issuer(int(port), client, secret, *(user or ["alice"])).serve_forever()
