"""Damage to bytes that fits any file format: flipped bits, cuts, moved and repeated parts, extreme numbers."""

import random
from collections.abc import Callable

_EXTREME = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)


def damaged(rng: random.Random, data: bytes, other: bytes = b"") -> bytes:
    """Return data with one to four kinds of damage. `other` is a second file, of which a part may be spliced in."""
    result = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        rng.choice(_WAYS)(rng, result, other)
    return bytes(result)


def _place(rng: random.Random, data: bytearray) -> int:
    """Return an index; headers, in which most is decided, are hit as often as the rest."""
    return rng.randrange(min(len(data), rng.choice((64, 64, 512, 1 << 30)))) if data else 0


def _flip(rng: random.Random, data: bytearray, other: bytes) -> None:
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        if data:
            data[_place(rng, data)] ^= 1 << rng.randrange(8)


def _set(rng: random.Random, data: bytearray, other: bytes) -> None:
    if data:
        data[_place(rng, data)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _number(rng: random.Random, data: bytearray, other: bytes) -> None:
    size, at = rng.choice((2, 4, 4, 8)), _place(rng, data)
    value = rng.choice((*_EXTREME, rng.randrange(1 << 32))) % (1 << 8 * size)
    data[at : at + size] = value.to_bytes(size, rng.choice(("big", "little")))


def _cut(rng: random.Random, data: bytearray, other: bytes) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _drop(rng: random.Random, data: bytearray, other: bytes) -> None:
    at = _place(rng, data)
    del data[at : at + rng.choice((1, 2, 4, 16, 200))]


def _repeat(rng: random.Random, data: bytearray, other: bytes) -> None:
    at, size = _place(rng, data), rng.choice((1, 4, 12, 64, 300))
    data[at:at] = data[at : at + size] * rng.choice((1, 1, 2, 50))


def _swap(rng: random.Random, data: bytearray, other: bytes) -> None:
    one, two = sorted((_place(rng, data), _place(rng, data)))
    size = min(rng.choice((1, 4, 16, 64)), two - one)
    data[one : one + size], data[two : two + size] = data[two : two + size], data[one : one + size]


def _noise(rng: random.Random, data: bytearray, other: bytes) -> None:
    at = _place(rng, data)
    data[at:at] = rng.randbytes(rng.choice((1, 3, 16, 100)))


def _splice(rng: random.Random, data: bytearray, other: bytes) -> None:
    data[_place(rng, data) :] = other[rng.randrange(len(other) + 1) :]


_WAYS: tuple[Callable[[random.Random, bytearray, bytes], None], ...] = (
    _flip, _flip, _flip, _set, _set, _number, _number, _cut, _drop, _repeat, _swap, _noise, _splice,
)  # fmt: skip
