# SPDX-License-Identifier: Apache-2.0
"""Reads documents and credentials, and verifies nothing.

A program cannot be convinced by evidence that it fetched itself, or that another one gave to it. An
attacker can have written every part of what `unverified` returns. The relying party verifies, with
`agentctl verify` or the Go package verify.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from . import types
from ._errors import BadAnswer
from ._secret import Octets, Secret
from ._wire import decode, load

EVIDENCE = 36 << 20  # bytes of a document, at most
CREDENTIAL = 1 << 20  # bytes of a credential, as systemd limits them


class Unverified(NamedTuple):
    """What a document claims."""

    evidence: types.Evidence
    statement: types.Statement


def unverified(document: Octets) -> Unverified:
    """Returns what a document of evidence claims. Nothing of it was verified.

    It fails with BadAnswer if the document is not of the form of docs/evidence.md. A verifier is
    stricter. Keep the document itself: what is parsed cannot be verified any more.
    """
    if len(document) > EVIDENCE:
        raise BadAnswer(f"the document is longer than {EVIDENCE} bytes", "")
    evidence = decode(types.Evidence, load(bytes(document)))
    statement = decode(types.Statement, load(evidence.statement))
    for what, found, known in (("document", evidence.type, "agentd/evidence/2"), ("statement", statement.type, "agentd/statement/2")):
        if found != known:
            raise BadAnswer(f"the {what} is of another type than {known}", "install a later version of this library")
    return Unverified(evidence, statement)


def credential(name: str) -> Secret:
    """Returns a credential of this service, which systemd took from the agent when it started it
    (docs/credentials.md). It fails with FileNotFoundError if the unit does not load one of that name.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise FileNotFoundError("CREDENTIALS_DIRECTORY is not set: this program is not a service that loads credentials")
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise ValueError("a credential has the name of a file, without a folder")
    with open(os.path.join(folder, name), "rb", buffering=0) as f:
        octets = bytearray()
        while piece := f.read(1 + CREDENTIAL - len(octets)):
            octets += piece
    if len(octets) > CREDENTIAL:
        raise ValueError(f"the credential is longer than {CREDENTIAL} bytes")
    return Secret(octets)
