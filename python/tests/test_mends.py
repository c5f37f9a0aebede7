"""The findings' pages: each mend has one, its patch is what is installed, and nothing in a page can drift from what was measured."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from mlxport.atlas.mends import FINDINGS, page
from mlxport.atlas.mends.finding import Finding, Real, mended, of_type, root
from mlxport.atlas.mends.run import sides

DOCS = Path(__file__).parents[2] / "docs" / "atlas"
# Ports of which the findings were run. Of the others nothing is told yet, so there are no pages to hold.
RUN = [one for one in FINDINGS if page.measured_file(DOCS, one.port).is_file()]
NAMES = [one.page for one in RUN]


@pytest.mark.parametrize("finding", RUN, ids=NAMES)
def test_a_page_says_what_is_installed_and_what_was_measured(finding: Finding) -> None:
    text = (DOCS / finding.page).read_text()
    parts = page.sections(text)
    assert tuple(parts) == page.HEADINGS and all(parts.values())
    if importlib.util.find_spec(finding.package) is None:
        pytest.skip(f"not run: {finding.port} is not installed")
    held = page.read(DOCS, finding.port).get(finding.name, {})
    assert text == page.written(finding, parts["What"], held), "run `python -m mlxport.atlas.mends --write`"
    assert set(held["types"]) == set(finding.types), "a type was not run: `python -m mlxport.atlas.mends`"
    for kind, one in held["types"].items():
        assert one["found"] and one["verdict"] == "pass", f"{kind} is not mended"
        assert "fail" not in one["scenarios"].values()


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda one: one.page)
def test_a_patch_applies_to_the_installed_port_and_is_python(finding: Finding) -> None:
    installed = root(finding.package)
    if installed is None:
        pytest.skip(f"not run: {finding.port} is not installed")
    for file, (old, new) in mended(finding, installed).items():
        assert old != new
        compile(new, file, "exec")


def test_all_findings_of_a_type_apply_together() -> None:
    for finding in FINDINGS:
        installed = root(finding.package)
        if installed is None:
            continue
        for kind in finding.types:
            texts: dict[str, str] = {}
            for one in of_type(FINDINGS, finding.port, kind):
                for file, pieces in one.edits.items():
                    text = texts.get(file) or (installed / file).read_text()
                    for old, new in pieces:
                        assert old in text, f"{kind}: {one.page} does not apply beside the others"
                        text = text.replace(old, new)
                    texts[file] = text


def test_the_atlas_leads_to_every_page_and_every_page_is_a_findings() -> None:
    atlas = DOCS.with_suffix(".md").read_text()
    assert [name for name in NAMES if f"(atlas/{name})" not in atlas] == []
    assert sorted(file.name for file in DOCS.glob("*.md")) == sorted(NAMES)
    assert NAMES
    for port in {finding.port for finding in RUN}:
        assert page.tabled(atlas, FINDINGS, port) == atlas, "run `python -m mlxport.atlas.mends --write`"
        known = {finding.name for finding in FINDINGS if finding.port == port}
        assert set(json.loads(page.measured_file(DOCS, port).read_text())) == known


def test_a_type_with_two_findings_is_run_with_the_other_mended() -> None:
    one = Finding("mlx-lm", "one", "", ("a", "b"), {}, {})
    two = Finding("mlx-lm", "two", "", ("a",), {}, {}, scenario="batch", real=(Real("a", "A", {}),))
    found = {side.folder: side for side in sides([one, two], [one, two], sizes=False)}
    assert sorted(found) == ["mlx-lm/a/mended", "mlx-lm/a/one", "mlx-lm/a/two", "mlx-lm/b/mended", "mlx-lm/b/one"]
    assert found["mlx-lm/a/two"].scenarios == "batch" and found["mlx-lm/a/mended"].finding is None
    assert len(sides([two], [one, two], sizes=True)) == 2


def test_a_piece_changed_within_a_line_names_that_line() -> None:
    text = "a = 1\nb = f(2)\n\nc = 3\n"
    assert page._changed(text, "f(2)", "f(3)") == (2, "b = f(2)")
    assert page._changed(text, "c = 3\n", "d = 4\nc = 3\n") == (4, "c = 3")
