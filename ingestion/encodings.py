"""Vietnamese text before Unicode: TCVN3 (ABC fonts) and Windows-1258, to and from Unicode NFC.

TCVN3 is TCVN 5712:1993 table VN3: 67 lower-case letters and 7 capitals in one byte each. The other capitals do not
exist in it: ABC fonts of the "H" kind draw lower-case codes as capitals, so that the case of such text is lost.
"""

from __future__ import annotations

import codecs
import functools
import unicodedata

_TCVN3 = {
    0xA0: "\u00a0",
    0xA1: "Ă",
    0xA2: "Â",
    0xA3: "Ê",
    0xA4: "Ô",
    0xA5: "Ơ",
    0xA6: "Ư",
    0xA7: "Đ",
    0xA8: "ă",
    0xA9: "â",
    0xAA: "ê",
    0xAB: "ô",
    0xAC: "ơ",
    0xAD: "ư",
    0xAE: "đ",
    0xB5: "à",
    0xB6: "ả",
    0xB7: "ã",
    0xB8: "á",
    0xB9: "ạ",
    0xBB: "ằ",
    0xBC: "ẳ",
    0xBD: "ẵ",
    0xBE: "ắ",
    0xC6: "ặ",
    0xC7: "ầ",
    0xC8: "ẩ",
    0xC9: "ẫ",
    0xCA: "ấ",
    0xCB: "ậ",
    0xCC: "è",
    0xCE: "ẻ",
    0xCF: "ẽ",
    0xD0: "é",
    0xD1: "ẹ",
    0xD2: "ề",
    0xD3: "ể",
    0xD4: "ễ",
    0xD5: "ế",
    0xD6: "ệ",
    0xD7: "ì",
    0xD8: "ỉ",
    0xDC: "ĩ",
    0xDD: "í",
    0xDE: "ị",
    0xDF: "ò",
    0xE1: "ỏ",
    0xE2: "õ",
    0xE3: "ó",
    0xE4: "ọ",
    0xE5: "ồ",
    0xE6: "ổ",
    0xE7: "ỗ",
    0xE8: "ố",
    0xE9: "ộ",
    0xEA: "ờ",
    0xEB: "ở",
    0xEC: "ỡ",
    0xED: "ớ",
    0xEE: "ợ",
    0xEF: "ù",
    0xF1: "ủ",
    0xF2: "ũ",
    0xF3: "ú",
    0xF4: "ụ",
    0xF5: "ừ",
    0xF6: "ử",
    0xF7: "ữ",
    0xF8: "ứ",
    0xF9: "ự",
    0xFA: "ỳ",
    0xFB: "ỷ",
    0xFC: "ỹ",
    0xFD: "ý",
    0xFE: "ỵ",
}
_UNDEFINED = "\ufffe"
_TONES = "\u0300\u0301\u0303\u0309\u0323"


def _western(byte: int) -> str:
    """What Windows-1252 shows at 0x80–0x9F: quotes and dashes that programs set into ABC text."""
    return bytes([byte]).decode("cp1252", "replace").replace("\ufffd", _UNDEFINED)


_TCVN3_TABLE = "".join(chr(b) if b < 0x80 else _western(b) if b < 0xA0 else _TCVN3.get(b, _UNDEFINED) for b in range(256))
_CP1258_TABLE = "".join(bytes([b]).decode("cp1258", "replace").replace("\ufffd", _UNDEFINED) for b in range(256))
_TABLES = {"tcvn3": _TCVN3_TABLE, "windows-1258": _CP1258_TABLE}
_TO_TCVN3 = {ord(c): b for b, c in enumerate(_TCVN3_TABLE) if c != _UNDEFINED}


def decode(data: bytes, encoding: str) -> str:
    """Text of `data` in NFC; `encoding` is one of the contract's. Raises UnicodeDecodeError at a byte that is no letter."""
    if encoding == "tcvn3":
        return codecs.charmap_decode(data, "strict", _TCVN3_TABLE)[0]  # type: ignore[arg-type]  # typeshed lacks str tables
    if encoding == "windows-1258":
        return unicodedata.normalize("NFC", data.decode("cp1258"))
    return data.decode("utf-8")


def tcvn3_to_unicode(text: str | bytes) -> str:
    """TCVN3 as Unicode NFC. A `str` is TCVN3 that was read as ISO-8859-1; what is no TCVN3 in it stays as it is."""
    return decode(text, "tcvn3") if isinstance(text, bytes) else text.translate(_replacements("tcvn3"))


def cp1258_to_unicode(text: str | bytes) -> str:
    """Windows-1258 as Unicode NFC. A `str` is Windows-1258 that was read as ISO-8859-1."""
    if isinstance(text, bytes):
        return decode(text, "windows-1258")
    return unicodedata.normalize("NFC", text.translate(_replacements("windows-1258")))


def unicode_to_tcvn3(text: str) -> bytes:
    """The inverse; a capital with a tone becomes its small letter. Raises UnicodeEncodeError for what TCVN3 lacks."""
    known = "".join(c if ord(c) in _TO_TCVN3 else c.lower() for c in unicodedata.normalize("NFC", text))
    return codecs.charmap_encode(known, "strict", _TO_TCVN3)[0]


def unicode_to_cp1258(text: str) -> bytes:
    """The inverse: a tone without a letter of its own there follows as combining mark. Raises UnicodeEncodeError."""
    out = bytearray()
    for letter in unicodedata.normalize("NFC", text):
        try:
            out += letter.encode("cp1258")
        except UnicodeEncodeError:
            parts = unicodedata.normalize("NFD", letter)
            base = unicodedata.normalize("NFC", "".join(c for c in parts if c not in _TONES))
            out += (base + "".join(c for c in parts if c in _TONES)).encode("cp1258")
    return bytes(out)


@functools.cache
def _replacements(encoding: str) -> dict[int, str]:
    return {b: c for b, c in enumerate(_TABLES[encoding]) if c not in (chr(b), _UNDEFINED)}
