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
_TINY = 64  # orders of even smaller sets are not worth keeping


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


def make_key(*words: int) -> int:
    """Derives one 64-bit key from integers, in their order; words are read modulo 2^64."""
    key = 0
    for word in words:
        key = _mix_int((key + _GOLDEN) & _WORD) ^ _mix_int(int(word) & _WORD)
    return _mix_int(key)


def _mix_int(x: int) -> int:
    """`mix` of one word; for a few of them numpy's overhead is the larger part."""
    x ^= x >> 30
    x = x * 0xBF58476D1CE4E5B9 & _WORD
    x ^= x >> 27
    x = x * 0x94D049BB133111EB & _WORD
    return x ^ (x >> 31)


def _feistel(place: np.ndarray, low_bits: np.ndarray, num_high: np.ndarray, round_keys: np.ndarray) -> np.ndarray:
    """Permutes [0, num_high * 2^low_bits): low and high part, in turns, are shifted by a hash of the other.

    The low part is XORed; the high part is moved modulo num_high, by the product of a 32-bit hash and
    num_high, so that no division is needed. Each half-round can be undone, so the whole is a bijection.
    """
    low_mask = (_U(1) << low_bits) - _U(1)
    low, high = place & low_mask, place >> low_bits
    for i in range(0, _NUM_ROUNDS, 2):
        low ^= mix(high ^ round_keys[i]) & low_mask
        high += ((mix(low ^ round_keys[i + 1]) >> _U(32)) * num_high) >> _U(32)
        np.minimum(high, high - num_high, out=high)  # below num_high the difference wraps and is huge
    return (high << low_bits) | low


def _walk(place: np.ndarray, size: np.ndarray, epoch_key: np.ndarray) -> np.ndarray:
    """Permutes [0, size) by cycle walking: a place thrown out of range is permuted again until it returns.

    The network's domain is size rounded up to a multiple of about its square root, so that fewer than one
    place in sqrt(size) walks at all. size and epoch_key are [n] or [1].
    """
    low_bits = ((np.frexp(size.astype(np.float64))[1] + 1) // 2).astype(_U)  # frexp counts the bits
    num_high = (size + (_U(1) << low_bits) - _U(1)) >> low_bits
    round_keys = fold(epoch_key[None, :], np.arange(_NUM_ROUNDS)[:, None])
    out = _feistel(place, low_bits, num_high, round_keys)
    astray = np.flatnonzero(out >= size)
    while astray.size:
        bits, high, limit = (_of(values, astray) for values in (low_bits, num_high, size))
        again = _feistel(out[astray], bits, high, _of(round_keys, astray))
        out[astray] = again
        astray = astray[again >= limit]
    return out


def _of(values: np.ndarray, which: np.ndarray | slice) -> np.ndarray:
    return values if values.shape[-1] == 1 else values[..., which]


@lru_cache(maxsize=8192)  # at most 8 KiB each
def _order(epoch_key: int, size: int) -> np.ndarray:
    """One epoch of a small set, as a table: uint16 [size]."""
    return np.argsort(fold(epoch_key, np.arange(size))).astype(np.uint16)


def _look_up(place: np.ndarray, size: np.ndarray, epoch_key: np.ndarray) -> np.ndarray:
    """Permutes [0, size), size below 4,096, by the hashes of its members; arguments as `_walk`.

    mix is a bijection, so no two members of an epoch tie and every sorting algorithm agrees.
    """
    if epoch_key.size == 1 == size.size:
        return _order(int(epoch_key[0]), int(size[0]))[place].astype(np.int64)
    # Bring the positions of an epoch together: by 16 bits of its key, which sort by radix. Keys that share them only
    # cut the runs of one another; sequences of one key and several sizes are distinguished.
    by_run = np.argsort((epoch_key >> _U(48)).astype(np.uint16), kind="stable")
    keys, sizes = epoch_key[by_run], np.broadcast_to(size, epoch_key.shape)[by_run]
    starts = np.flatnonzero(np.concatenate([[True], (keys[1:] != keys[:-1]) | (sizes[1:] != sizes[:-1])]))
    bounds = [*starts.tolist(), keys.size]
    keys, sizes, place = keys[starts], sizes[starts], place[by_run]
    member = np.empty(place.shape, np.int64)
    if sizes.max() < _TINY:  # many epochs of few images: all orders of one size at once
        run = np.repeat(np.arange(starts.size), np.diff(bounds))
        for one in np.unique(sizes):
            runs, mine = np.flatnonzero(sizes == one), np.flatnonzero(sizes[run] == one)
            orders = np.argsort(fold(keys[runs, None], np.arange(one)), axis=1)
            member[mine] = orders[np.searchsorted(runs, run[mine]), place[mine]]
    else:
        for a, b, key, one in zip(bounds[:-1], bounds[1:], keys.tolist(), sizes.tolist(), strict=True):
            member[a:b] = _order(key, one)[place[a:b]]
    out = np.empty_like(member)
    out[by_run] = member
    return out


def shuffled(position: np.ndarray, size: np.ndarray | int, key: np.ndarray | int) -> np.ndarray:
    """Reads positions of endless sequences of epochs, each one a permutation of [0, size) of its own.

    Any position costs the same: nothing before it is computed. Sets below 4,096 are ordered by the hashes
    of their members (each order equally likely; a Feistel network is visibly uneven on a handful of items);
    larger sets by a keyed Feistel network of eight half-rounds with cycle walking.

    Args:
        position: int64 [n], >= 0, below 2^63; epoch = position // size.
        size: number of members, 1 <= size < 2^62; one for all positions, or [n].
        key: see `make_key`; one for all positions, or uint64 [n]: positions of several sequences at once.
    Returns: int64 [n] in [0, size).
    Source: Black and Rogaway 2002, Ciphers with arbitrary finite domains (cycle walking; the mixed-radix
    Feistel network).
    """
    position = np.asarray(position, np.int64).astype(_U)
    size, key = np.atleast_1d(np.asarray(size, _U)), np.atleast_1d(np.asarray(key, _U))
    out = np.empty(position.shape, np.int64)
    small = size < _SORTED_BELOW
    for permute, mine, chunk in ((_look_up, small, 1 << 16), (_walk, ~small, 1 << 14)):
        which = None if mine.all() else np.flatnonzero(mine)
        for start in range(0, position.size if which is None else which.size, chunk):
            part = slice(start, start + chunk) if which is None else which[start : start + chunk]
            out[part] = permute(*_in_epochs(position[part], _of(size, part), _of(key, part)))
    return out


def _in_epochs(position: np.ndarray, size: np.ndarray, key: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns place in the epoch [n], size [n] or [1] and epoch key [n], or [1] where all are of one epoch."""
    epoch = position // size
    place = position - epoch * size
    if key.size == 1 and size.size == 1 and epoch.size and epoch[0] == epoch[-1] and epoch.min() == epoch.max():
        epoch = epoch[:1]
    return place, size, fold(key, epoch.astype(np.int64))
