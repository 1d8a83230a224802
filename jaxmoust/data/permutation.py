"""Keyed permutations that need no table: which image stands at which place of which epoch.

Everything is exact 64-bit integer arithmetic, so that a draw is the same on every machine, numpy version and
process count. numpy's own generators do not promise that their shuffles stay the same between versions.
"""

from functools import lru_cache

import numpy as np

_U = np.uint64
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: the increment of splitmix64
_WORD = (1 << 64) - 1
_NUM_ROUNDS = 8  # half-rounds; each half is re-keyed four times
_SORTED_BELOW = 4096  # smaller sets are ordered by their hashes, see `shuffled`
_CHUNK = 1 << 14  # positions worked on at a time: the temporaries stay in the cache


def mix(x: np.ndarray) -> np.ndarray:
    """Scrambles words: a bijection of [0, 2^64) in which each input bit moves about half of the output bits.

    Source: the finaliser of splitmix64 (Steele, Lea and Flood 2014; constants of Stafford's variant 13).
    """
    x = x ^ (x >> _U(30))
    x *= _U(0xBF58476D1CE4E5B9)
    x ^= x >> _U(27)
    x *= _U(0x94D049BB133111EB)
    x ^= x >> _U(31)
    return x


def fold(key: np.ndarray | int, data: np.ndarray | int) -> np.ndarray:
    """Derives keys [...] from a key and integer data; for one key, different data give different keys."""
    # np.array, not a scalar: numpy warns about wrapping scalars and wraps arrays in silence.
    step = np.atleast_1d(np.asarray(data, np.int64)).astype(_U) * _U(_GOLDEN)
    return mix(np.atleast_1d(np.asarray(key, _U)) + step + _U(_GOLDEN))


@lru_cache(maxsize=1024)
def make_key(*words: int) -> int:
    """Derives one 64-bit key from integers, in their order; words are read modulo 2^64."""
    key = np.zeros(1, _U)
    for word in words:
        key = mix(key + _U(_GOLDEN)) ^ mix(np.array([int(word) & _WORD], _U))
    return int(mix(key)[0])


def _feistel(place: np.ndarray, low_bits: int, num_high: int, round_keys: np.ndarray) -> np.ndarray:
    """Permutes [0, num_high * 2^low_bits): low and high part, in turns, are shifted by a hash of the other.

    The low part is XORed; the high part is moved modulo num_high, by the product of a 32-bit hash and
    num_high, so that no division is needed. Each half-round can be undone, so the whole is a bijection.
    """
    low, high = place & _U((1 << low_bits) - 1), place >> _U(low_bits)
    for i in range(0, _NUM_ROUNDS, 2):
        low ^= mix(high ^ round_keys[i]) & _U((1 << low_bits) - 1)
        high += ((mix(low ^ round_keys[i + 1]) >> _U(32)) * _U(num_high)) >> _U(32)
        np.minimum(high, high - _U(num_high), out=high)  # below num_high the difference wraps and is huge
    return (high << _U(low_bits)) | low


def _walk(place: np.ndarray, size: int, round_keys: np.ndarray) -> np.ndarray:
    """Permutes [0, size) by cycle walking: a place thrown out of range is permuted again until it returns.

    The network's domain is size rounded up to a multiple of about its square root, so that fewer than one
    place in sqrt(size) walks at all.
    """
    low_bits = (size.bit_length() + 1) // 2
    num_high = -(-size >> low_bits)
    out = _feistel(place, low_bits, num_high, round_keys)
    astray = np.flatnonzero(out >= _U(size))
    while astray.size:
        keys = round_keys if round_keys.shape[1] == 1 else round_keys[:, astray]
        again = _feistel(out[astray], low_bits, num_high, keys)
        out[astray] = again
        astray = astray[again >= _U(size)]
    return out


def shuffled(position: np.ndarray, size: int, key: int) -> np.ndarray:
    """Reads positions of an endless sequence of epochs, each one a permutation of [0, size) of its own.

    Any position costs the same: nothing before it is computed. Sets below 4,096 are ordered by the hashes
    of their members (each order equally likely; a Feistel network is visibly uneven on a handful of items);
    larger sets by a keyed Feistel network of eight half-rounds with cycle walking.

    Args:
        position: int64 [n], >= 0, below 2^63; epoch = position // size.
        size: number of members, 1 <= size < 2^62.
        key: see `make_key`.
    Returns: int64 [n] in [0, size).
    Source: Black and Rogaway 2002, Ciphers with arbitrary finite domains (cycle walking; the mixed-radix
    Feistel network).
    """
    position = np.asarray(position, np.int64).astype(_U)
    out = np.empty(position.shape, np.int64)
    for start in range(0, position.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        epoch = position[part] // _U(size)
        place = position[part] - epoch * _U(size)
        if epoch.min() == epoch.max():
            epochs, which = epoch[:1], None
        else:
            epochs, which = np.unique(epoch, return_inverse=True)
        epoch_keys = fold(key, epochs.astype(np.int64))
        if size < _SORTED_BELOW:
            # mix is a bijection, so no two members tie and every sorting algorithm agrees.
            order = np.argsort(fold(epoch_keys[:, None], np.arange(size)), axis=1)
            out[part] = order[0 if which is None else which, place.astype(np.int64)]
        else:
            round_keys = fold(epoch_keys[None, :], np.arange(_NUM_ROUNDS)[:, None])
            out[part] = _walk(place, size, round_keys if which is None else round_keys[:, which])
    return out
