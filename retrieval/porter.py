"""Porter's stemmer (Porter 1980), with the departures of its author's own programs, which Lucene keeps: bli, logi.

A word is a buffer of code points b[:n]; whatever is no letter a to z counts as a consonant.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["stem"]


def _rules(*pairs: str) -> np.ndarray:
    """uint8 [rules, 2, 8] of suffix and replacement, the length of each in its last place."""
    table = np.zeros((len(pairs), 2, 8), np.uint8)
    for i, pair in enumerate(pairs):
        for j, part in enumerate(f"{pair} ".split(" ")[:2]):
            table[i, j, : len(part)], table[i, j, 7] = list(part.encode()), len(part)
    return table


_PLURAL = _rules("sses ss", "ies i")
_EED, _ED = _rules("eed ee"), _rules("ed", "ing")
_REPAIR = _rules("at ate", "bl ble", "iz ize")
# In each step only the first suffix that fits is looked at.
_STEP2 = _rules(
    *("ational ate", "tional tion", "enci ence", "anci ance", "izer ize", "bli ble", "alli al", "entli ent", "eli e"),
    *("ousli ous", "ization ize", "ation ate", "ator ate", "alism al", "iveness ive", "fulness ful", "ousness ous"),
    *("aliti al", "iviti ive", "biliti ble", "logi log"),
)
_STEP3 = _rules("icate ic", "ative", "alize al", "iciti ic", "ical ic", "ful", "ness")
_STEP4 = _rules(
    *("al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate"),
    *("iti", "ous", "ive", "ize"),
)
_A, _E, _I, _L, _O, _S, _T, _U, _W, _X, _Y, _Z = (np.uint32(ord(letter)) for letter in "aeilostuwxyz")


@njit(cache=True, nogil=True)
def stem(b, n):
    """Stem b[:n] in place; its new length. Words of one or two characters are left as they are."""
    if n <= 2:
        return n
    n = _participles(b, _plurals(b, n))
    if b[n - 1] == _Y and _has_vowel(b, n - 1):
        b[n - 1] = _I
    if n > 1:
        n = _replace(b, n, _STEP2)
        n = _replace(b, n, _STEP3)
        n = _remove(b, n)
    return _final_e_and_l(b, n)


@njit(cache=True, nogil=True)
def _consonant(b, i):
    if b[i] == _A or b[i] == _E or b[i] == _I or b[i] == _O or b[i] == _U:
        return False
    if b[i] == _Y:
        return i == 0 or not _consonant(b, i - 1)
    return True


@njit(cache=True, nogil=True)
def _measure(b, n):
    """How often a consonant follows a vowel in b[:n]: Porter's m."""
    count, vowel = 0, False
    for i in range(n):
        consonant = _consonant(b, i)
        if consonant and vowel:
            count += 1
        vowel = not consonant
    return count


@njit(cache=True, nogil=True)
def _has_vowel(b, n):
    for i in range(n):
        if not _consonant(b, i):
            return True
    return False


@njit(cache=True, nogil=True)
def _double(b, n):
    return n >= 2 and b[n - 1] == b[n - 2] and _consonant(b, n - 1)


@njit(cache=True, nogil=True)
def _short(b, n):
    """b[:n] ends in consonant, vowel, consonant other than w, x, y, as hop- in hoping: it once ended in e."""
    if n < 3 or not _consonant(b, n - 1) or _consonant(b, n - 2) or not _consonant(b, n - 3):
        return False
    return b[n - 1] != _W and b[n - 1] != _X and b[n - 1] != _Y


@njit(cache=True, nogil=True)
def _ends(b, n, rules, i):
    """Whether b[:n] ends in the suffix of rule i."""
    size = np.int64(rules[i, 0, 7])
    if size > n or b[n - 1] != rules[i, 0, size - 1]:  # no views of the table: one costs more than the comparison
        return False
    for j in range(size - 1):
        if b[n - size + j] != rules[i, 0, j]:
            return False
    return True


@njit(cache=True, nogil=True)
def _first(b, n, rules):
    """The first rule whose suffix b[:n] ends in, -1 for none."""
    for i in range(len(rules)):
        if _ends(b, n, rules, i):
            return i
    return -1


@njit(cache=True, nogil=True)
def _apply(b, n, rule):
    """Put the replacement in the place of the suffix."""
    start, size = n - np.int64(rule[0, 7]), np.int64(rule[1, 7])
    for i in range(size):
        b[start + i] = rule[1, i]
    return start + size


@njit(cache=True, nogil=True)
def _plurals(b, n):
    if b[n - 1] != _S:
        return n
    rule = _first(b, n, _PLURAL)
    if rule >= 0:
        return _apply(b, n, _PLURAL[rule])
    return n if b[n - 2] == _S else n - 1


@njit(cache=True, nogil=True)
def _participles(b, n):
    if _first(b, n, _EED) >= 0:
        return n - 1 if _measure(b, n - 3) > 0 else n
    rule = _first(b, n, _ED)
    if rule < 0 or not _has_vowel(b, n - np.int64(_ED[rule, 0, 7])):
        return n
    n -= np.int64(_ED[rule, 0, 7])
    rule = _first(b, n, _REPAIR)
    if rule >= 0:
        return _apply(b, n, _REPAIR[rule])
    if _double(b, n):
        return n if b[n - 1] == _L or b[n - 1] == _S or b[n - 1] == _Z else n - 1
    if _measure(b, n) == 1 and _short(b, n):
        b[n] = _E
        return n + 1
    return n


@njit(cache=True, nogil=True)
def _replace(b, n, rules):
    rule = _first(b, n, rules)
    if rule >= 0 and _measure(b, n - np.int64(rules[rule, 0, 7])) > 0:
        return _apply(b, n, rules[rule])
    return n


@njit(cache=True, nogil=True)
def _remove(b, n):
    for i in range(len(_STEP4)):
        if not _ends(b, n, _STEP4, i):
            continue
        left = n - np.int64(_STEP4[i, 0, 7])
        ion = _STEP4[i, 0, 7] == 3 and _STEP4[i, 0, 1] == _O and _STEP4[i, 0, 0] == _I
        if ion and (left < 1 or (b[left - 1] != _S and b[left - 1] != _T)):
            continue
        return left if _measure(b, left) > 1 else n
    return n


@njit(cache=True, nogil=True)
def _final_e_and_l(b, n):
    whole = n  # the last rule measures the word as it was before an e went, as Porter's programs do
    if b[n - 1] == _E:
        m = _measure(b, n - 1)
        if m > 1 or (m == 1 and not _short(b, n - 1)):
            n -= 1
    if b[n - 1] == _L and _double(b, n) and _measure(b, whole) > 1:
        n -= 1
    return n
