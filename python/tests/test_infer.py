"""The table of learned recipes: what a type's line says, and what counts as wrong."""

from __future__ import annotations

from mlxport.recipes.infer import Learned, line, table


def test_a_wrong_recipe_is_wrong_whatever_the_command_said() -> None:
    """The verdict of the command is not believed where the bits differ."""
    good = Learned("llama", both="identical", first="identical", carried="refused", tensors=25, rows=12)
    bad = Learned("gpt2", both="identical", first="identical", wrong=["both, size 1: a differs"])
    assert "| llama | identical | identical | refused | 25 | 12 |" in line(good)
    assert "| gpt2 | WRONG |" in line(bad)
    assert "1 identical, 0 cannot be said, 1 wrong, 0 without an example" in table([good, bad])


def test_a_type_without_an_example_is_told_with_the_reason() -> None:
    """It counts neither for nor against the command."""
    none = Learned("olmo", why=["size 1: PeerError: no such package"])
    cannot = Learned("falcon_h1", both="cannot", first="cannot", why=["a.weight (3): scaled"])
    text = table([none, cannot])
    assert "PeerError: no such package" in text and "a.weight (3): scaled" in text
    assert "0 identical, 1 cannot be said, 0 wrong, 1 without an example" in text
