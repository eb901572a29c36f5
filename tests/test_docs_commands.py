"""Every line of every code block in the docs, up to the door of its tool: words are taken, no work is done."""

import importlib
import importlib.util
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
docs = importlib.import_module("blocks_in_docs")

DOORS = {  # what the commands of a tool call once they have read their words
    "curate": (
        "sample_corpus.build_sample_corpus pipeline.build_lvd plan.plan_build calibration.calibrate_pool "
        "doors.embed doors.dedup doors.retrieve doors.balance audit.audit_dataset "
        "reporting.explain.explain_image reporting.report.write_report"
    ),
    "pretrain": "train.pretrain plan.plan_run",
    "evaluate": "benchmark.run_benchmark pictures.visualize.run_visualize validation.validate.validate_data",
}
PRINT = {"tasks", "--preset", "--launch-file", "--version"}  # what stands in the package, and are done
OTHERS = {"cp", "export", "hf", "mkdir", "mv", "ray", "source"}  # programs of other people
WORD = re.compile(r"^(\w+)=(.*)$", re.DOTALL)
HELP_TEXTS = ROOT / "docs" / "reference" / "cli.md"
TITLED = [
    ROOT / "docs" / page for page in ("evaluate.md", "how-to/curate-a-folder.md")
]  # recipes that others name, too
EXAMPLE = re.compile(r"^`((?:curate|pretrain|evaluate|accelerate) .*)`$", re.MULTILINE)


class Reached(Exception):
    """A command has read its words and begins to work."""


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def list_commands(block) -> Iterator[list[str]]:
    """Simple commands of a bash block, word by word, variables of the block filled in; what feeds one is left out."""
    text = re.sub(r"<<'(\w+)'\n.*?^\1$", "", block.text.replace("\\\n", " "), flags=re.DOTALL | re.MULTILINE)
    variables: dict[str, str] = {}
    for line in text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        command: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("|&;"):
                while command and (found := WORD.match(command[0])):
                    variables[found[1]] = found[2]
                    command = command[1:]
                if command:
                    yield [part for word in command for part in fill_in(word, variables)]
                command = []
            elif command and command[-1] == ">":  # where the output goes
                command.pop()
            else:
                command.append(word)


def fill_in(word: str, variables: dict[str, str]) -> list[str]:
    return variables[word[1:]].split() if word.startswith("$") else [word]


def list_all() -> Iterator[tuple[Path, list[str]]]:
    for page in docs.list_pages():
        for block in docs.list_blocks(page.read_text(encoding="utf-8")):
            if block.language == "bash":
                yield from ((page, command) for command in list_commands(block))
    for example in EXAMPLE.findall(HELP_TEXTS.read_text(encoding="utf-8")):
        yield from ((HELP_TEXTS, command) for command in list_commands(docs.Block("bash", example, None, (), 0)))


COMMANDS = list(list_all())


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder like the one a page's blocks run in."""
    for part in ("packages", "pretrain", "benchmarks", "scripts"):
        (tmp_path / part).symlink_to(ROOT / part)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=[f"{name(page)}: {' '.join(words)[:60]}" for page, words in COMMANDS]
)
def test_a_line_that_is_shown_is_taken(page, words, place, monkeypatch):
    for block in (block for file in [*TITLED, page] for block in docs.list_blocks(file.read_text(encoding="utf-8"))):
        if block.language == "yaml":
            (place / block.title).write_text(block.text, encoding="utf-8")
    check(words, monkeypatch)


def check(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold one command against what it calls."""
    program, *rest = words
    if program in DOORS:
        knock(program, rest, monkeypatch)
    elif words[:2] == ["accelerate", "launch"]:
        knock(*read_launch(words[2:]), monkeypatch)
    elif program == "make":
        check_make(rest)
    elif program == "python":
        check_python(rest)
    elif "install" in rest:
        for word in rest[rest.index("install") + 1 :]:
            check_installed(word)
    else:
        assert program in OTHERS


def knock(tool: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a tool its words and stop it where the work would begin."""

    def stop(*_: object, **__: object) -> None:
        raise Reached

    for door in DOORS[tool].split():
        module, function = f"lvd_{tool}.{door}".rsplit(".", 1)
        monkeypatch.setattr(importlib.import_module(module), function, stop)
    command = typer.main.get_command(importlib.import_module(f"lvd_{tool}.cli").app)
    try:
        command.main(args=words, prog_name=tool, standalone_mode=False)
    except Reached:
        return
    assert PRINT & set(words)


def read_launch(words: list[str]) -> tuple[str, list[str]]:
    """The tool that accelerate would start, and the words it would pass on; its own are read by its own parser."""
    from accelerate.commands.launch import launch_command_parser

    launch = launch_command_parser().parse_args(words)
    assert launch.config_file is None or Path(launch.config_file).is_file()
    if launch.module:
        assert importlib.util.find_spec(f"{launch.training_script}.__main__")
    else:
        assert Path(launch.training_script).is_file()
    return launch.training_script.removeprefix("lvd_"), launch.training_script_args


def check_make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        variable = WORD.match(word)
        pattern = rf"\$\(({word.partition('=')[0]})\)|if \$\({word.partition('=')[0]}\)" if variable else rf"^{word}:"
        assert re.search(pattern, makefile, re.MULTILINE), word


def check_python(words: list[str]) -> None:
    if words[0] == "-c":
        compile(words[1], "block", "exec")
    elif words != ["-"]:  # fed by the block itself, see the test of Python blocks
        found = importlib.util.find_spec(words[1]).origin if words[0] == "-m" else words[0]
        source = Path(found).read_text(encoding="utf-8")
        assert not [word for word in words[1:] if word.startswith("--") and f'"{word}"' not in source]


def check_installed(word: str) -> None:
    """A package's folder, with extras that it has; anything else comes from an index."""
    if word.startswith("."):
        folder, _, extras = word.rstrip("]").partition("[")
        project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert set(filter(None, extras.split(","))) <= set(project.get("optional-dependencies", ()))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("curate plan --pol corpus --out x", "no such option"),
        ("curate build-lvd --pool corpus --out x embed.encoderr=y", "unknown key"),
        ("pretrain tiny data.pth=x", "unknown key"),
        ("accelerate launch --config_file packages/pretrain/launch/9gpu.yaml -m lvd_pretrain tiny", ""),
        ("accelerate launch -m lvd_pretrain tiny optim.step=3", "unknown key"),
        ("evaluate depth --ckpt x --data y depth.head=[lin.1]", "unknown key"),
        ("evaluate knn --data y", "missing option"),
        ("make quickstat", "quickstat"),
        ("python -m benchmarks.curate.growth_curve --fodler x", "--fodler"),
        ('uv pip install -e "./packages/curate[nsfw]"', "nsfw"),
        ("curat plan", ""),
    ],
    ids=lambda value: value[:40],
)
def test_a_line_with_a_slip_is_not_taken(line, complaint, place, monkeypatch):
    (command,) = list_commands(docs.Block("bash", line, None, (), 0))
    with pytest.raises((Exception, SystemExit)) as caught:
        check(command, monkeypatch)
    assert complaint in f"{caught.value}{getattr(caught.value, 'format_message', str)()}".lower()


@pytest.mark.parametrize("page", docs.list_pages(), ids=name)
def test_every_block_is_run_or_says_what_it_needs(page):
    text = page.read_text(encoding="utf-8")
    blocks = docs.list_blocks(text)  # raises at a block that is none of the languages that are run or shown
    assert {need for block in blocks for need in block.needs} | set(docs.list_said("page needs", text)) <= set(
        docs.NEEDS
    )
    assert set(docs.list_said("given", text)) <= set(docs.GIVEN)
    assert text.count("<!-- needs:") == sum(bool(block.needs) for block in blocks)
    for block in blocks:
        if block.language == "yaml":
            used = any(block.title in other.text for other in blocks if other.language == "bash" and block.title)
            assert used, f"line {block.line}: YAML has a title and a command that reads it"
        if block.language in docs.EDITS:
            assert block.title
            assert page in (ROOT / "docs" / "contributing").glob("add-*.md"), "nothing applies the changes of this page"
        if block.language == "python":
            compile(block.text, name(page), "exec")
        for body in re.findall(r"python - <<'(\w+)'\n(.*?)^\1$", block.text, re.DOTALL | re.MULTILINE):
            compile(body[1], name(page), "exec")


@pytest.mark.parametrize(
    "text",
    [
        "```bash\ncurate plan\n",
        "```\nsomething\n```\n",
        "```json\n{}\n```\n",
        "- item\n    ```bash\n    make\n    ```\n",
        "<!-- needs: gpu -->\n\n```bash\nmake\n```\n",
    ],
    ids=["not closed", "no language", "a language nobody runs", "indented", "a comment apart"],
)
def test_a_block_that_nobody_would_run_is_refused(text):
    with pytest.raises(ValueError, match=r"line [12]"):
        docs.list_blocks(text)
