"""The parts of a page that stand between two marks; the scripts beside this one make them anew."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["filled"]


def filled(text: str, made: Mapping[str, str]) -> str:
    """The page with every part made anew, by its mark: `<!-- mark -->`, and at its end `<!-- end of mark -->`.

    A mark may say after a colon how the part is made; its end does not repeat that.
    """
    for mark, part in made.items():
        begin, end = f"<!-- {mark} -->\n", f"<!-- end of {mark.partition(':')[0]} -->\n"
        before, _, rest = text.partition(begin)
        text = before + begin + part + end + rest.partition(end)[2]
    return text
