# SPDX-License-Identifier: Apache-2.0
"The two clients."

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Literal, Protocol

from . import types
from ._calls import OPERATIONS, AdminCalls, BothCalls, ClientCalls
from ._errors import BadAnswer, Problem, Unavailable, problem
from ._secret import Octets
from ._transport import Transport
from ._wire import Operation, T, decode, load, members, request

MARGIN = 15.0  # seconds that a call has besides those after which the agent gives up


class Signer(Protocol):
    """Signs a message, such as the method `sign` of an Ed25519 key of the package cryptography."""

    def __call__(self, message: bytes, /) -> bytes: ...


class _Socket(BothCalls):
    VARIABLE = ""
    USUAL = ""

    def __init__(self, socket: str | os.PathLike[str] | None = None, *, timeout: float | None = None, wait: bool = False) -> None:
        path = os.fspath(socket) if socket is not None else ""
        self._transport = Transport(path or os.environ.get(self.VARIABLE) or self.USUAL, self.VARIABLE)
        self._timeout, self._wait = timeout, wait

    def close(self) -> None:
        """Closes connections that are kept for later requests. The client remains usable."""
        self._transport.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def log_cel_json(self, *, start: int | None = None, timeout: float | None = None) -> bytes:
        """The measurement log from record `start` on, as a TCG Canonical Event Log in JSON."""
        return self._raw(OPERATIONS["log"], {"start": start, "format": "cel-json"}, timeout)

    def _answer(self, of: type[T], operation: Operation, values: dict[str, Any], timeout: float | None) -> T:
        return decode(of, load(self._raw(operation, values, timeout)))

    def _raw(self, operation: Operation, values: dict[str, Any], timeout: float | None) -> bytes:
        if timeout is None:
            timeout = self._timeout if self._timeout is not None else operation.seconds + MARGIN
        end = time.monotonic() + timeout
        target, body = request(operation, values)
        try:
            while True:
                answer = self._transport.send(operation.method, target, body, end, operation.limit)
                if answer[0] == 200:
                    return answer[2]
                refusal = _refusal(*answer)
                pause = refusal.retry_after
                # What the agent refuses so, it has not begun.
                if not self._wait or not pause or refusal.status not in (429, 503) or time.monotonic() + pause >= end:
                    raise refusal
                time.sleep(pause)
        finally:
            if body is not None:
                body[:] = bytes(len(body))


def _refusal(status: int, media: str, octets: bytes) -> Problem:
    if media == "application/problem+json":
        p = members(types.Problem, load(octets), "Problem")
        if p["code"]:
            return problem(p)
    raise BadAnswer(f"unexpected HTTP status {status}")


class Client(_Socket, ClientCalls):
    """Asks the agent on this machine. Each method is one operation of docs/api.md.

    socket: path of the agent's socket. Default: the variable AGENTD_SOCKET, or the usual path.

    timeout: seconds for each call, with all that it waits for. Default: 15 more than those after
    which the agent gives up.

    wait: whether a call that the agent refuses with `retry_after`, because it is busy, is repeated
    after that, while there is time.

    Any thread may use a client, and so may a child process after fork.
    """

    VARIABLE = "AGENTD_SOCKET"
    USUAL = "/run/agentd/agentd.sock"
    _known: tuple[int, types.Self] | None = None

    def __enter__(self) -> Client:
        return self

    def evidence_with_key(
        self,
        nonce: Octets,
        public_key: Octets,
        sign: Signer | Callable[[bytes], bytes],
        *,
        audience: str | None = None,
        firmware_log: bool | None = None,
        freshness: Literal["fresh", "anchored"] | None = None,
        ima: bool | None = None,
        ima_start: int | None = None,
        log: Literal["whole", "from", "none"] | None = None,
        log_start: int | None = None,
        user_data: Octets | None = None,
        timeout: float | None = None,
    ) -> bytes:
        """Evidence that names a public key (DER SubjectPublicKeyInfo), with a proof that this process
        has its private half. `sign` gets the message and returns the signature: Ed25519; ECDSA on
        P-256, P-384 or P-521 with SHA-256, SHA-384 or SHA-512, in DER; or RSA-PSS with SHA-256 and a
        salt of 32 bytes. The other parameters are those of `evidence`.

        What the agent said of itself and of this process is remembered. If it is not so any more,
        the client asks and signs once more.
        """
        if timeout is None:
            timeout = self._timeout if self._timeout is not None else OPERATIONS["evidence"].seconds + MARGIN
        end = time.monotonic() + timeout
        again = True
        while True:
            me = self._me(end - time.monotonic())
            proof = sign(key_proof_message(me, nonce, audience))
            try:
                return self.evidence(
                    nonce, audience=audience, firmware_log=firmware_log, freshness=freshness, ima=ima,
                    ima_start=ima_start, key_proof=proof, log=log, log_start=log_start, public_key=public_key,
                    user_data=user_data, timeout=end - time.monotonic(),
                )
            except Problem as e:
                if e.code != "bad-key-proof" or not again:
                    raise
            again, self._known = False, None

    def _me(self, timeout: float) -> types.Self:
        """Who this process is to the agent that ran when that was asked last."""
        known = self._known
        if known is None or known[0] != os.getpid():
            known = self._known = (os.getpid(), self.self(timeout=timeout))
        return known[1]


class Admin(_Socket, AdminCalls):
    """Administrates the agent, as root. Its parameters are those of Client; the variable is
    AGENTD_ADMIN_SOCKET.
    """

    VARIABLE = "AGENTD_ADMIN_SOCKET"
    USUAL = "/run/agentd/admin.sock"

    def __enter__(self) -> Admin:
        return self


def key_proof_message(me: types.Self, nonce: Octets, audience: str | None = None) -> bytes:
    """Returns what a caller signs to prove that it has a key: docs/evidence.md, section 6."""

    def part(octets: Octets) -> bytes:
        return len(octets).to_bytes(8, "big") + bytes(octets)

    numbers = (n.to_bytes(8, "big") for n in (me.uid, me.pid, me.started))
    return b"".join(map(part, (b"agentd/key-proof/1", nonce, (audience or "").encode(), me.agent_key, *numbers)))
