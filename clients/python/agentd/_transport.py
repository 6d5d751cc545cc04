# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 over a unix socket, with connections that are kept, one deadline for all that a call
does, and a limit for all that it reads. http.client parses the answers.
"""

from __future__ import annotations

import errno
import http.client
import io
import os
import random
import socket
import time
from collections import deque
from typing import Any, BinaryIO, cast

from ._errors import AgentdError, BadAnswer, TimedOut, Unreachable

HEADER = 64 << 10  # bytes of an answer before its body
IDLE = 30.0  # seconds that a connection is kept: less than the agent's
KEPT = 8  # connections
FIRST_PAUSE, LONGEST_PAUSE = 0.001, 0.050  # between attempts to connect while the queue is full
LONGEST_QUEUE = 10.0  # seconds of such attempts
UNSENT = 1.0  # seconds for the answer to a request that could not be sent


class Broken(Exception):
    """The connection ended before anything of the answer came."""


class _Raw(io.RawIOBase):
    """Reads a socket until a deadline, at most so many bytes."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.end, self.left, self.began, self.paused = sock, 0.0, 0, False, False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.paused:
            return None
        if self.left <= 0:
            raise BadAnswer("the answer is too long")
        self.sock.settimeout(remaining(self.end))
        n = self.sock.recv_into(buffer, min(len(buffer), self.left))
        self.left -= n
        self.began = self.began or n > 0
        return n


class _Reader(io.BufferedReader):
    """The reader of a connection. It outlives the answers that http.client closes."""

    def close(self) -> None:
        pass

    def empty(self) -> bool:
        """Reports whether nothing was read beyond what was asked for."""
        raw = cast(_Raw, self.raw)
        raw.paused = True
        try:
            return not self.peek(1)
        finally:
            raw.paused = False


class _Connection:
    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.process, self.used, self.fresh = sock, os.getpid(), 0.0, True
        self.raw = _Raw(sock)
        self.reader = _Reader(self.raw)

    def makefile(self, _: str) -> BinaryIO:  # for HTTPResponse
        return cast(BinaryIO, self.reader)

    def exchange(self, head: bytes, body: bytearray | None, method: str, end: float, limit: int) -> tuple[http.client.HTTPResponse, bytes]:
        self.raw.end, self.raw.left, self.raw.began = end, HEADER + limit + 1, False
        unsent = None
        try:
            self.sock.settimeout(remaining(end))
            self.sock.sendall(head + body if body else head)
        except (BrokenPipeError, ConnectionResetError) as e:
            if not self.fresh:
                raise Broken from e
            # The agent answers some new connections, and closes them without reading.
            unsent, self.raw.end = e, min(end, time.monotonic() + UNSENT)
        response = http.client.HTTPResponse(cast(socket.socket, self), method=method)
        try:
            response.begin()
            octets = _body(response, limit)
        except (http.client.HTTPException, OSError, ValueError) as e:
            if isinstance(e, TimeoutError):
                raise
            if not self.raw.began:
                raise Broken from (unsent or e)
            why = "it is cut off" if isinstance(e, (http.client.IncompleteRead, OSError)) else type(e).__name__
            raise BadAnswer(f"the answer is not HTTP, or not complete: {why}") from None
        if unsent is not None:
            response.will_close = True
        return response, octets


def _body(response: http.client.HTTPResponse, limit: int) -> bytes:
    """Reads the body of an answer, at most limit bytes."""
    length = response.length
    if length is None or length <= limit:
        octets = response.read(limit + 1)
        if length is not None and len(octets) != length:
            raise http.client.IncompleteRead(b"")
        if len(octets) <= limit:
            return octets
    raise BadAnswer(f"the answer is longer than {limit} bytes")


def remaining(end: float) -> float:
    """Returns the seconds until a deadline, or fails."""
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class Transport:
    """Sends requests over the socket at one path. Any thread may use it, and any child process."""

    def __init__(self, path: str, variable: str) -> None:
        self.path, self.variable = path, variable
        self._idle: deque[_Connection] = deque()  # the one that was used last is the last

    def send(self, method: str, target: str, body: bytearray | None, end: float, limit: int) -> tuple[int, str, bytes]:
        """Returns status, media type and body of the answer."""
        head = f"{method} {target} HTTP/1.1\r\nHost: agentd\r\n"
        if body is not None:
            head += "Content-Type: application/json\r\n"
        if method != "GET":
            head += f"Content-Length: {len(body or b'')}\r\n"
        try:
            return self._send((head + "\r\n").encode("ascii"), body, method, end, limit)
        except TimeoutError as e:
            failure: AgentdError = TimedOut(f"ask agentd on {self.path}: the time for the call is over")
            cause: BaseException | None = e
        except (Broken, OSError) as e:
            cause = e.__cause__ if isinstance(e, Broken) else e
            failure = Unreachable(f"ask agentd on {self.path}: {_words(cause)}", self._hint(cause))
        raise failure from cause

    def _send(self, head: bytes, body: bytearray | None, method: str, end: float, limit: int) -> tuple[int, str, bytes]:
        while True:
            c = self._kept() or _Connection(self._dial(end))
            keep = False
            try:
                response, octets = c.exchange(head, body, method, end, limit)
                keep = not response.will_close and c.reader.empty()
            except Broken:
                # Every request may be sent twice without harm. The agent was started again, perhaps.
                if c.fresh:
                    raise
                continue
            finally:
                self._put(c, keep)
            return response.status, response.headers.get("Content-Type", ""), octets

    def _kept(self) -> _Connection | None:
        while self._idle:
            try:
                c = self._idle.pop()
            except IndexError:  # another thread took it
                break
            # The agent knows who connected: a connection of the parent is not the child's.
            if c.process == os.getpid() and time.monotonic() - c.used < IDLE:
                return c
            c.sock.close()
        return None

    def _put(self, c: _Connection, keep: bool) -> None:
        if keep and len(self._idle) < KEPT:
            c.used, c.fresh = time.monotonic(), False
            self._idle.append(c)
        else:
            c.sock.close()

    def _dial(self, end: float) -> socket.socket:
        """Connects. While the queue of the socket is full, the kernel answers EAGAIN at once
        (connect(2)). Then it tries again, after random pauses, so that clients do not come together.
        """
        patience, pause = min(end, time.monotonic() + LONGEST_QUEUE), FIRST_PAUSE
        full: OSError | None = None
        while True:
            s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                s.settimeout(remaining(end))
                s.connect(self.path)
                return s
            except (BlockingIOError, TimeoutError) as e:
                s.close()
                if isinstance(e, BlockingIOError):
                    full = e
                if full is None or time.monotonic() + pause >= patience:
                    raise full or e
            except BaseException:
                s.close()
                raise
            time.sleep(random.uniform(pause / 2, pause))
            pause = min(2 * pause, LONGEST_PAUSE)

    def _hint(self, cause: BaseException | None) -> str:
        number = cause.errno if isinstance(cause, OSError) else None
        if number in (errno.ENOENT, errno.ECONNREFUSED):
            return f"is agentd running? {self.variable} names another socket"
        if number == errno.EAGAIN:
            return "so many programs connect at once that the queue of the socket stays full: try again later"
        if number in (errno.EACCES, errno.EPERM):
            return "is this user in the group of the socket?"
        return "try again"

    def close(self) -> None:
        """Closes the connections that are kept."""
        while (c := self._kept()) is not None:
            c.sock.close()


def _words(cause: BaseException | None) -> str:
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return "the connection ended before an answer came"
