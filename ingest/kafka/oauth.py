"""OAUTHBEARER: tokens from a token endpoint by client credentials, kept until shortly before they expire."""

import asyncio
import base64
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import AuthenticationFailedError

REFUSED = (400, 401, 403, 404)
EARLY = 30.0  # seconds before its expiry that a token is replaced


class Token(NamedTuple):
    """An access token; `expires_at` in seconds of the caller's clock."""

    text: str
    expires_at: float


@dataclass(slots=True)
class ClientCredentials:
    """What aiokafka asks for a token at each new connection.

    Raises AuthenticationFailedError where the endpoint refuses us, and OSError where it cannot be
    reached: those two the client survives; any other exception would end its background tasks.
    """

    url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str | None = None
    timeout: float = 10.0
    clock: Callable[[], float] = field(default=lambda: asyncio.get_running_loop().time())
    _token: Token | None = field(default=None, repr=False)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def token(self) -> str:
        """A token that is valid for a while yet."""
        async with self._lock:
            if self._token is None or self.clock() >= self._token.expires_at:
                asked_at = self.clock()
                answer = await asyncio.to_thread(self._ask)
                self._token = parsed(answer, asked_at)
            return self._token.text

    def extensions(self) -> dict[str, str]:
        return {}

    def _ask(self) -> bytes:
        try:
            with urllib.request.urlopen(self._request(), timeout=self.timeout) as response:
                answer: bytes = response.read(1_000_000)
                return answer
        except urllib.error.HTTPError as error:
            with error:
                if error.code in REFUSED:
                    raise AuthenticationFailedError(f"the token endpoint answered {error.code}") from None
                raise OSError(f"the token endpoint answered {error.code}") from None
        except ValueError as error:
            raise AuthenticationFailedError(f"oauth_token_url: {error}") from None

    def _request(self) -> urllib.request.Request:
        form = {"grant_type": "client_credentials"} | ({"scope": self.scope} if self.scope else {})
        pair = f"{quote(self.client_id, safe='')}:{quote(self.client_secret, safe='')}"
        headers = {
            "Authorization": "Basic " + base64.b64encode(pair.encode()).decode(),
            "Accept": "application/json",
        }
        if not self.url.startswith(("https://", "http://")):
            raise ValueError("must begin with https:// or http://")
        return urllib.request.Request(self.url, urlencode(form).encode(), headers)


AbstractTokenProvider.register(ClientCredentials)


def parsed(answer: bytes, asked_at: float) -> Token:
    """The token in a token endpoint's answer; raises AuthenticationFailedError where there is none."""
    try:
        body: Any = json.loads(answer)
        text, lifetime = body["access_token"], float(body.get("expires_in", 300))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise AuthenticationFailedError("the token endpoint's answer holds no access_token") from None
    if not isinstance(text, str):
        raise AuthenticationFailedError("the token endpoint's access_token is no text")
    return Token(text, asked_at + max(lifetime - EARLY, lifetime / 2))
