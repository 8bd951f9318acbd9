"""What `tokenizers` takes each character for: python -m tests.support.wordpiece_ranges prints the
ranges of edvit_tf/device/model/wordpiece_characters.py.
"""

from tokenizers.normalizers import NFD, BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

SURROGATES = range(0xD800, 0xE000)  # no characters by themselves


def classes() -> dict[str, list[int]]:
    """Code points by the names of wordpiece_characters.py."""
    off = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    clean = BertNormalizer(**{**off, "clean_text": True})
    apart = BertNormalizer(**{**off, "handle_chinese_chars": True})
    bare = BertNormalizer(**{**off, "strip_accents": True})
    split = BertPreTokenizer()
    decomposed = NFD().normalize_str

    found: dict[str, list[int]] = {}
    for code in range(0x110000):
        if code in SURROGATES:
            continue
        character = chr(code)
        cleaned = clean.normalize_str(character)
        words = [word for word, _ in split.pre_tokenize_str(f"a{character}a")]
        is_mark = bare.normalize_str(character) == ""
        # before a mark of the lowest class, and behind one of the highest
        moved = decomposed(f"a{character}\u0334") == f"a\u0334{character}"
        moved = moved or decomposed(f"a\u0345{character}") == f"a{character}\u0345"
        for name, is_one in (
            ("SPACES", cleaned == " "),
            ("DROPPED", cleaned == ""),
            ("IDEOGRAPHS", apart.normalize_str(character) != character),
            ("MARKS", is_mark),
            ("MOVED", moved and not is_mark),
            ("DECOMPOSED", decomposed(character) != character),
            ("PUNCTUATION", words == ["a", character, "a"]),
        ):
            if is_one:
                found.setdefault(name, []).append(code)
    return found


def ranges(codes: list[int]) -> str:
    """Ascending code points as "9-a d 20"."""
    runs: list[list[int]] = []
    for code in codes:
        if runs and runs[-1][1] == code - 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return " ".join(f"{low:x}" if low == high else f"{low:x}-{high:x}" for low, high in runs)


if __name__ == "__main__":
    for name, codes in classes().items():
        print(f'{name} = "{ranges(codes)}"')
