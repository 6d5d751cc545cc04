# SPDX-License-Identifier: Apache-2.0
"""The few rules of DER that the extensions of AMD's certificates need."""
from strict import need


def element(data, tag):
    """element gives the content of the one DER element that data is."""
    need(len(data) >= 2 and data[0] == tag, "another DER type")
    need(data[1] < 0x80 and len(data) == 2 + data[1], "not exactly one short DER element")
    return data[2:]


def integer(data):
    """integer gives a non-negative DER INTEGER."""
    content = element(data, 2)
    need(content and content[0] < 0x80, "not an integer from 0")
    need(len(content) == 1 or content[0] or content[1] >= 0x80, "a padded integer")
    return int.from_bytes(content, "big")
