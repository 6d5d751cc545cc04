# SPDX-License-Identifier: Apache-2.0
"""Asks agentd, the attestation agent of this machine, for evidence, keys and its state.

    import agentd
    with agentd.Client() as agent:
        document = agent.evidence(nonce, audience="billing.example")

The library does not verify evidence: the relying party does.
"""

from . import types
from ._client import Admin, Client, Signer, key_proof_message
from ._errors import (
    AgentdError,
    BadAnswer,
    Forged,
    Misuse,
    NotPermitted,
    Problem,
    Sealed,
    TimedOut,
    Unavailable,
    Unreachable,
)
from ._secret import Secret
from .codes import Code
from .documents import Unverified, credential, unverified
from .types import SigningKey

__all__ = [
    "Admin", "AgentdError", "BadAnswer", "Client", "Code", "Forged", "Misuse", "NotPermitted", "Problem",
    "Sealed", "Secret", "Signer", "SigningKey", "TimedOut", "Unavailable", "Unreachable", "Unverified",
    "credential", "key_proof_message", "types", "unverified",
]  # fmt: skip
