"""Which encoding a text has that is not UTF-8: told from how its bytes lie, or not told at all.

Western text in Windows-1252 has its accents singly or by twos between ASCII letters, as letters. East Asian text has
pairs of bytes, mostly from the part of its table where the common characters are, in long runs. Where neither is so,
`charset-normalizer` may know a script of single bytes. What stays in doubt is refused: wrong letters are noticed by
nobody until a customer looks for them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

WESTERN: Final = "cp1252"
NAMES: Final = {
    WESTERN: "Windows-1252",
    "cp1250": "Windows-1250 (Central European)",
    "cp1251": "Windows-1251 (Cyrillic)",
    "cp1254": "Windows-1254 (Turkish)",
    "cp1256": "Windows-1256 (Arabic)",
    "gb18030": "GB18030 (Chinese)",
    "big5hkscs": "Big5 (Chinese)",
    "cp932": "Shift JIS (Japanese)",
    "euc_jp": "EUC-JP (Japanese)",
    "cp949": "EUC-KR (Korean)",
}
"""Python's names, and what to call them."""
_RUN: Final = re.compile(rb"[\x80-\xff]+")
_LONG_RUN: Final = 4
_IN_RUNS: Final = 0.2
"""Of the bytes beyond ASCII that may lie in long runs in Western text: an ellipsis, a row of signs."""
_COMMON: Final = 0.7
"""Of the pairs that must be common characters of their table."""
_KANA: Final = 0.2
_HANGUL: Final = 0.95
_ODD_SIGNS: Final = re.compile(r"[^\W\d_][\xa1-\xbf\xd7\xf7\x80-\x9f][^\W\d_]")

_TURKISH: Final = re.compile("[ðþýÐÞ]")  # ğ, ş, ı as Windows-1252 shows them
_ICELANDIC_OR_CZECH: Final = re.compile("[áéíóúæÁÉÍÓÚÆ]")

Pair = tuple[int, int]
_EAST: Final[dict[str, Callable[[Pair], bool]]] = {
    "cp949": lambda pair: 0xB0 <= pair[0] <= 0xC8 and pair[1] >= 0xA1,  # syllables
    "gb18030": lambda pair: 0xB0 <= pair[0] <= 0xD7 and pair[1] >= 0xA1,  # first level, by sound
    "big5hkscs": lambda pair: 0xA4 <= pair[0] <= 0xC6,  # the frequent ones
}
_JAPANESE: Final[dict[str, Callable[[Pair], bool]]] = {  # kana
    "euc_jp": lambda pair: pair[0] in (0xA4, 0xA5) and pair[1] >= 0xA1,
    "cp932": lambda pair: pair[0] in (0x82, 0x83),
}


def encoding_of(sample: bytes) -> str | None:
    """Python's name of the encoding of some lines that are not UTF-8; None where it is in doubt.

    Args:
        sample: whole lines, with bytes beyond ASCII; more of them tell it better.
    """
    runs = _RUN.findall(sample)
    high = sum(map(len, runs))
    if high and sum(len(run) for run in runs if len(run) >= _LONG_RUN) <= _IN_RUNS * high:
        return _latin(sample)
    return _east_asian(sample) or _single_byte(sample)


def candidates(sample: bytes) -> list[str]:
    """The encodings that some lines could have, for a refusal."""
    return [name for name in NAMES if name != WESTERN and _decodes(sample, name)]


def _latin(sample: bytes) -> str | None:
    text = sample.decode(WESTERN, "replace")
    if _TURKISH.search(text) and not _ICELANDIC_OR_CZECH.search(text):
        return "cp1254"
    if not _ODD_SIGNS.search(text) and "\ufffd" not in text:
        return WESTERN
    central = sample.decode("cp1250", "replace")
    if not _ODD_SIGNS.search(central) and "\ufffd" not in central:
        return "cp1250"
    return _east_asian(sample)


def _east_asian(sample: bytes) -> str | None:
    for name, is_kana in _JAPANESE.items():
        if _decodes(sample, name) and _share(sample, is_kana, name) >= _KANA:
            return name
    shares = {name: _share(sample, common, name) for name, common in _EAST.items() if _decodes(sample, name)}
    if shares.get("cp949", 0) >= _HANGUL:
        return "cp949"
    shares.pop("cp949", None)
    best = max(shares, key=lambda name: shares[name], default=None)
    others = [share for name, share in shares.items() if name != best]
    if best is None or shares[best] < _COMMON or any(share > shares[best] - 0.15 for share in others):
        return None
    return best


def _share(sample: bytes, common: Callable[[Pair], bool], encoding: str) -> float:
    """Of the characters of two bytes, how many are common ones; punctuation is left out."""
    pairs = []
    for letter in sample.decode(encoding):
        code = letter.encode(encoding)
        if len(code) == 2 and (letter.isalnum() or letter == "ー"):
            pairs.append((code[0], code[1]))
    return sum(map(common, pairs)) / len(pairs) if pairs else 0.0


def _single_byte(sample: bytes) -> str | None:
    from charset_normalizer import from_bytes  # two tenths of a second to import, for few files

    best = from_bytes(sample, cp_isolation=["cp1251", "cp1256", "koi8_r", "cp1253", "cp1255", "cp874"]).best()
    return best.encoding if best is not None and best.encoding in NAMES and best.coherence > 0 else None


def _decodes(sample: bytes, encoding: str) -> bool:
    try:
        sample.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
