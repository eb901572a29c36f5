"""Code blocks of the docs, run as they stand; those that need time, a GPU, a network or data are left to others."""

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
docs, run_docs = map(importlib.import_module, ("blocks_in_docs", "run_docs"))


def runs_here(page: Path) -> bool:
    text = page.read_text(encoding="utf-8")
    blocks = [] if docs.list_said("page needs", text) else docs.list_blocks(text)
    return any(block.language in run_docs.RUNNERS and not block.needs for block in blocks)


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    """One for all pages: what several suppose to be there is made once."""
    return run_docs.Runner(tmp_path_factory.mktemp("docs"), at_hand=())


@pytest.mark.slow
@pytest.mark.parametrize("page", filter(runs_here, docs.list_pages()), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run(page, runner, capfd):
    assert runner.run_page(page), capfd.readouterr().out


def write(folder: Path, text: str) -> Path:
    page = folder / "page.md"
    page.write_text(text)
    return page


def test_blocks_share_a_folder_in_which_titled_ones_are_files(tmp_path):
    text = """
```yaml title="recipe.yaml"
a: 1
```

```bash
cp recipe.yaml copy.yaml
```

```python
assert open("copy.yaml").read() == "a: 1\\n"
```
"""
    assert run_docs.Runner(tmp_path).run_page(write(tmp_path, text))


def test_a_page_finds_the_environment_where_a_checkout_has_it(tmp_path):
    text = "```bash\nsource .venv/bin/activate\npython -c 'import lvd_curate, lvd_pretrain, lvd_evaluate'\n```\n"
    assert run_docs.Runner(tmp_path).run_page(write(tmp_path, text))


@pytest.mark.parametrize(
    "block", ["```bash\nfalse | true\n```", "```bash\necho $nothing\n```", "```python\n1 / 0\n```"]
)
def test_a_block_that_fails_is_told_and_ends_its_page(block, tmp_path, capsys):
    (tmp_path / "pages").mkdir()
    page = write(tmp_path, f"{block}\n\n```bash\ntouch {tmp_path}/later\n```\n")
    assert not run_docs.Runner(tmp_path / "pages").run_page(page)
    assert f"{page}:1: FAILED" in capsys.readouterr().out
    assert not (tmp_path / "later").exists()


@pytest.mark.parametrize(("at_hand", "runs"), [((), False), (("data",), False), (("data", "gpu"), True)])
def test_a_block_is_run_where_all_that_it_needs_is_at_hand(at_hand, runs, tmp_path):
    page = write(tmp_path, f"<!-- needs: gpu, data -->\n```bash\ntouch {tmp_path}/ran\n```\n")
    assert run_docs.Runner(tmp_path, at_hand).run_page(page)
    assert (tmp_path / "ran").exists() == runs
    page.write_text(
        page.read_text().replace("data", "time").replace("gpu, ", "") + "\n<!-- page needs: gpu, data -->\n"
    )
    assert run_docs.Runner(tmp_path, [*at_hand, "time"]).run_page(page)
    assert (tmp_path / "ran").exists() == runs


def test_what_pages_suppose_is_made_once_whether_it_is_said_or_typed(tmp_path, monkeypatch):
    monkeypatch.setitem(docs.GIVEN, "world", f"echo made >> {tmp_path}/log\necho deep > world\n")
    runner = run_docs.Runner(tmp_path)
    assert runner.run_page(write(tmp_path, "<!-- given: world -->\n\n```bash\ngrep deep world\n```\n"))
    typed = f"```bash\n{docs.GIVEN['world']}grep deep world\n```\n"
    assert runner.run_page(write(tmp_path, typed))
    assert (tmp_path / "log").read_text() == "made\n"
