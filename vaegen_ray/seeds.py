"""One seed, many independent random streams, each addressed by name and index.

A stream is a pure function of (seed, name, index): nothing is carried along, so nothing has to be saved. A checkpoint
that knows its step can draw the same order and the same noise again, and a member of a bundle draws what it would
draw alone.
"""

import hashlib

STREAMS = (
    *("init", "order", "noise", "dropout", "evaluation", "split", "sample"),
    *("augmentation", "mollification", "asleep", "amortization", "attack", "classifiers", "corruption", "generation"),
    *("tetrominoes", "information", "inference", "search"),
)


def stream_seed(seed: int, name: str, index: int = 0) -> int:
    """The 63-bit seed of stream ``name`` at ``index`` (an epoch, a block of steps) under the trial's ``seed``."""
    assert name in STREAMS, name
    digest = hashlib.blake2b(f"{seed}/{name}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
