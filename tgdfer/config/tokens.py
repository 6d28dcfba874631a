"""Count CLIP's tokens: the byte pair encoding of open_clip, whose import takes seconds."""

import gzip
import html
from functools import cache
from itertools import pairwise

from tgdfer.config.clip_models import open_clip_folder

MERGES = 49152 - 256 - 2
"""How many lines of the vocabulary are merges; the first line is a heading."""
PATTERN = r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def count_tokens(text: str) -> int:
    """The number of tokens of a text, with start and end."""
    import ftfy
    import regex

    plain = html.unescape(html.unescape(ftfy.fix_text(text))).lower()
    words = regex.findall(PATTERN, plain, regex.IGNORECASE)
    return 2 + sum(1 if word in ("<start_of_text>", "<end_of_text>") else _pieces(word) for word in words)


def _pieces(word: str) -> int:
    """Into how many pieces a word is divided: the most frequent pair is merged until none is in the vocabulary."""
    ranks, letters = _ranks(), _letters()
    *first, last = (letters[byte] for byte in word.encode())
    pieces = [*first, f"{last}</w>"]
    while len(pieces) > 1:
        best = min(pairwise(pieces), key=lambda pair: ranks.get(pair, MERGES))
        if best not in ranks:
            break
        merged: list[str] = []
        for piece in pieces:
            if merged and (merged[-1], piece) == best:
                merged[-1] += piece
            else:
                merged.append(piece)
        pieces = merged
    return len(pieces)


@cache
def _ranks() -> dict[tuple[str, ...], int]:
    data = gzip.decompress((open_clip_folder() / "bpe_simple_vocab_16e6.txt.gz").read_bytes())
    lines = data.decode().split("\n")[1 : MERGES + 1]
    return {tuple(line.split()): rank for rank, line in enumerate(lines)}


@cache
def _letters() -> list[str]:
    """The character that the vocabulary has for each byte: printable ones are themselves."""
    itself = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in itself else next(others)) for byte in range(256)]
