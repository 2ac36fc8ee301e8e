"""The README keeps what the first one promised, in it or on a page of docs/, and is one screen and a tree."""

import re

import pytest

import dln
import dln.plotting
import dln.theory
from tests.pages import PAGES, ROOT, blocks, lines

README = PAGES["README.md"]

PROMISED = r"""
python run.py
python run.py -cn=diagonal_teacher
python run.py training.lr=0.01 model.hidden_dim=20
python run.py data.params.scale=50.0
python run.py metrics=[weight_norm,gradient_norm]
python run.py training.batch_size=10 "callbacks=[{name: switch_batch_size, params: {step: 1000, batch_size: null}}]"
python run_comparative.py
python run_comparative.py shared.training.lr=0.01
python run_comparative.py training_b.batch_size=10
python run_comparative.py training_a.model_seed=42 training_b.model_seed=999
python run_comparative.py comparative_metrics=[param_distance,param_cosine_sim]
python run_comparative.py model_metrics=[weight_norm] comparative_metrics=[param_distance]
python run.py -m training.lr=0.0005,0.001,0.002
python run.py -m training.lr=0.001,0.01 model.num_hidden=2,3,4
python run_comparative.py -m shared.training.lr=0.0005,0.001,0.002
""".strip().splitlines()
"""What the project's first README promised, to the letter."""

SECTIONS = """
Project structure
Installation
Usage
Single model experiments
Comparative experiments
Parameter sweeps
Programmatic usage
Configuration
Single config structure
Comparative config structure
Outputs
Extending the codebase
Adding new metrics
Adding new teacher matrix types
Adding new callbacks
""".strip().splitlines()
"""Its sections."""


def headings(page):
    return re.findall(r"^#+ (?:\d\. )?(.+)$", re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL), re.M)


def test_the_pages_hold_every_promised_command():
    given = {line for page in PAGES.values() for block in blocks(page, "bash") for line in lines(block)}
    assert [command for command in PROMISED if command not in given] == []


@pytest.mark.parametrize("section", SECTIONS)
def test_every_promised_section_is_in_the_readme_or_one_click_away(section):
    if section in headings(README):
        return
    linked = {f"docs/{name}" for name in re.findall(r"\]\(docs/([\w/]+\.md)", README)}
    assert [name for name in linked & {*PAGES} if section in headings(PAGES[name])] != []


def test_every_link_of_the_readme_leads_somewhere():
    links = re.findall(r"\]\(([^)#\s]+)", README)
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []
    assert len(links) > 10


def book():
    """Every page of docs/, the gallery's too."""
    return {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").rglob("*.md"))}


def test_links_of_the_book_lead_to_its_pages():
    """Only what lies in docs/ is in the book; what lies elsewhere is named, as `benchmarks/README.md`."""
    wrong = []
    for path, page in book().items():
        for link in re.findall(r"\]\(([^)#\s]+)", re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)):
            target = (path.parent / link).resolve()
            if not link.startswith("http") and not (target.is_file() and target.is_relative_to(ROOT / "docs")):
                wrong.append(f"{path.name}: {link}")
    assert wrong == []


def test_the_contents_name_every_page_once():
    named = re.findall(
        r"^ +- (?:[^:\n]+: )?([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(named) == sorted(str(path.relative_to(ROOT / "docs")) for path in book())


def test_the_readme_is_short():
    assert len(README.splitlines()) < 160


def test_from_the_readme_to_a_metric_of_ones_own_over_100_seeds_in_ten_commands():
    """A newcomer's path: the README's first command, then the tour up to the figure of the newcomer's own metric."""
    assert "docs/tour.md" in README
    tour = PAGES["docs/tour.md"]
    given = [line for block in blocks(tour, "bash") for line in lines(block)]
    (drawn,) = (i for i, line in enumerate(given) if line.startswith("dln plot") and "--metric off_diagonal" in line)
    assert any("@model_metric" in block for block in blocks(tour, "python"))
    assert "training.model_seed=0..99" in given[drawn - 1]
    assert 1 + drawn + 1 <= 10


def test_every_public_name_is_in_the_reference():
    written = {line for name, page in PAGES.items() if name.startswith("docs/api/") for line in page.splitlines()}
    named = {line.rpartition(".")[2] for line in written if line.startswith("::: ")}
    public = {*dln.__all__, *dln.theory.__all__, *dln.plotting.__all__} - {"__version__"}
    assert public - named == set()
