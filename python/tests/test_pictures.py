"""Prompts with pictures: which a port's own generation reads in pieces."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from mlxport.pictures import read_in_pieces


def model(text: Any = None, **own: Any) -> Any:
    """A port of two parts."""
    return SimpleNamespace(language_model=text or SimpleNamespace(), **own)


def test_a_port_that_says_nothing_reads_in_pieces() -> None:
    assert read_in_pieces(model(), {})


def test_a_part_that_takes_no_pieces_decides() -> None:
    assert not read_in_pieces(model(no_chunked_prefill=True), {})
    assert not read_in_pieces(model(SimpleNamespace(no_chunked_prefill=True)), {})


def test_a_policy_is_asked_with_what_comes_beside_the_tokens() -> None:
    def policy(*, prefill_kwargs: dict[str, Any], **_: Any) -> bool:
        return "mask" not in prefill_kwargs

    assert read_in_pieces(model(chunked_prefill_policy=policy), {})
    assert not read_in_pieces(model(chunked_prefill_policy=policy), {"mask": 1})
