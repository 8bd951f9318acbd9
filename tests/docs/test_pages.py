"""The docs: their commands are those of the code, their pages exist, their sentences are short."""

import ast
import importlib.util
import json
import re
import tomllib

import pytest

from tests.support.commands import ROOT
from tests.support.doc_blocks import (
    LANGUAGES,
    MARKS,
    PAGES,
    Block,
    blocks,
    commands,
    ours,
    parse,
)

NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
BLOCKS = [block for page in PAGES for block in blocks(page)]
SUFFIXES = (".py", ".md")
LONG = 30  # words of a sentence
SHARE = 0.10  # of the sentences of a page, that may be longer


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_a_block_says_what_it_is(block: Block):
    assert block.language in LANGUAGES, "sh or python where it is run, else text"
    if block.language not in ("sh", "python"):
        return

    assert not block.mark or block.mark.startswith(MARKS) or block.mark.startswith("generated")
    reason = block.mark.partition("not run: ")[2]
    assert "not run" not in block.mark or len(reason.split()) >= 3, "say why"


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.language in ("toml", "json")], ids=lambda block: block.place
)
def test_a_block_of_data_can_be_read(block: Block):
    assert (tomllib.loads if block.language == "toml" else json.loads)(block.text)


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.language == "sh"], ids=lambda block: block.place
)
def test_the_programs_of_ours_take_what_a_block_gives_them(block: Block):
    given = [words for words in map(ours, commands(block.text)) if words]
    assert [said for said in map(parse, given) if said] == []
    assert given or not block.mark.startswith("checked"), "nothing of ours is in it"


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.language == "python"], ids=lambda block: block.place
)
def test_what_a_block_takes_from_the_package_is_there(block: Block):
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("edvit_tf"):
            module = importlib.import_module(node.module)
            for one in node.names:
                if not hasattr(module, one.name):
                    importlib.import_module(f"{node.module}.{one.name}")


def test_a_wrong_option_would_be_told():
    for line in (
        "edvit plan --no-such-option",
        "edvit no-such-command",
        "sudo FOLDER=/x /opt/bin/python -m edvit_tf.device gtzan --no-such-option  # said",
        "ssh pi sudo /opt/bin/python3 -m edvit_tf.device.update /opt/gtzan no-such-command",
        "cat x | python recipes/gtzan.py \\\n    --no-such-option &",
    ):
        (words,) = [words for words in map(ours, commands(line)) if words]
        assert "ends with 2" in parse(words)


def test_the_reference_is_what_the_code_says():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    pages = generate.pages()
    assert len(pages) >= 5
    behind = [path.name for path, text in pages.items() if path.read_text("utf-8") != text]
    assert behind == [], "run `python docs/generate.py`"


def test_every_page_that_is_named_is_there():
    rooms = ("edvit_tf", "recipes", "tests", "docs")
    files = [file for room in rooms for file in (ROOT / room).rglob("*") if file.suffix in SUFFIXES]
    files += [*ROOT.glob("*.md"), *ROOT.glob("*.py"), ROOT / ".ci" / "run"]
    assert len(files) > 500
    missing = set()
    for file in files:
        for name in re.findall(r"\bdocs/[\w/]+\.(?:md|png|svg|py)\b", file.read_text("utf-8")):
            if not (ROOT / name).exists():
                missing.add(f"{file.relative_to(ROOT)}: {name}")
    assert missing == set()


def test_every_recipe_has_its_data_s_layout():
    page = (ROOT / "docs" / "howto" / "recipes.md").read_text("utf-8")
    recipes = [recipe.name for recipe in (ROOT / "recipes").glob("*.py")]
    assert [name for name in recipes if f"| `recipes/{name}` |" not in page] == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 130


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_sentences_are_short(page):
    """Under 30 words, but for one in ten; the lab book is a record, and may be denser."""
    if page.parent.name == "lab_book":
        pytest.skip("the lab book is a record")
    lengths = words_of_sentences(page.read_text("utf-8"))
    long = sum(length > LONG for length in lengths)
    assert long <= SHARE * len(lengths), f"{long} of {len(lengths)} have over {LONG} words"


def words_of_sentences(text: str) -> list[int]:
    """The words of each sentence of Markdown; code, tables and headings have none."""
    text = re.sub(r"^```.*?^```$|<!--.*?-->", "", text, flags=re.M | re.S)
    rows = [row for row in text.splitlines() if not row.strip().startswith(("|", "#"))]
    found = []
    text = re.sub(r"^ *(?:[-*]|\d+\.) ", "\n\n", "\n".join(rows), flags=re.M)
    for paragraph in re.split(r"\n\s*\n", text):
        paragraph = re.sub(r"`[^`]*`", "CODE", " ".join(paragraph.split()))
        sentences = re.split(r"(?<=[.!?])\s+(?=[A-Z*\"(])", paragraph)
        found += [len(s.split()) for s in sentences if len(s.split()) > 2]
    return found


def test_words_are_counted_by_sentence():
    text = (
        "# A heading of five words\n\nOne two three. Four five six `a b c`.\n\n- A b c\n- D e f g\n"
    )
    assert words_of_sentences(text) == [3, 4, 3, 4]
