import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lvd_evaluate import cli

FAST = ["linear.min_steps=20", "linear.epochs=0", "linear.batch_size=32", "bootstrap=200"]


def _main(monkeypatch, capsys, *words) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command in this process."""
    monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    captured = capsys.readouterr()
    return int(caught.value.code or 0), captured.out, captured.err


def test_benchmark_prints_one_table_and_the_paths(monkeypatch, capsys, run_folder, corpus, tmp_path):
    out = tmp_path / "out"
    words = ["benchmark", "--ckpt", run_folder, "--data", corpus, "--baseline", "pixels:8", "--out", out, *FAST]
    code, printed, _ = _main(monkeypatch, capsys, *words)
    assert code == 0
    assert "| model | kNN top-1 (95 %) | linear top-1 (95 %) | difference, kNN | difference, linear |" in printed
    assert printed.count("| tiny |") == 1
    assert f"results: {out / 'results.jsonl'}" in printed
    assert (out / "report.html").is_file()
    code, again, _ = _main(monkeypatch, capsys, "report", out)
    assert code == 0
    assert again.split("\n\nreport")[0] == printed.split("\n\nresults")[0]


@pytest.mark.parametrize(("command", "title"), [("knn", "kNN"), ("linear", "linear")])
def test_one_probe_alone(monkeypatch, capsys, run_folder, corpus, tmp_path, command, title):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("knn:\n  neighbours: [5]\n")
    words = [command, "--ckpt", run_folder, "--data", corpus, "--out", tmp_path / "out", recipe, *FAST]
    code, printed, _ = _main(monkeypatch, capsys, *words)
    assert code == 0
    assert f"| model | {title} top-1 (95 %) |" in printed


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--ckpt", "nowhere", "--data", "{corpus}"], "nowhere: no such folder"),
        (["--ckpt", "{run}", "--data", "./nothing"], "no such file or folder"),
        (["--ckpt", "{run}", "--data", "{corpus}", "knn.temprature=1"], "the nearest is 'knn.temperature'"),
        (["--ckpt", "{run}", "--data", "{corpus}", "data.label=kind"], "there are image, label"),
        (["--ckpt", "{run}", "--data", "{corpus}", "none.yaml"], "none.yaml: no such file"),
        (["--ckpt", "{run}", "--data", "{corpus}", "a.yaml", "b"], "'b': expected key=value"),
        (["--ckpt", "{run}", "--data", "{corpus}", "data.image_size=30"], "data.image_size=28"),
        (["--ckpt", "{run}", "--data", "{corpus}", "--out", "{run}/models/step_2/config.json"], "config.json"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(monkeypatch, capsys, run_folder, corpus, tmp_path, words, expected):
    words = [word.format(run=run_folder, corpus=corpus) for word in words]
    out = [] if "--out" in words else ["--out", tmp_path]
    code, printed, err = _main(monkeypatch, capsys, "knn", *out, *words)
    assert code == 2
    assert printed == ""
    (line,) = [line for line in err.splitlines() if line.startswith("evaluate: error:")]
    assert expected in line
    assert "Traceback" not in err


@pytest.mark.parametrize("words", [[], ["knn"], ["knn", "--ckpt", "x"], ["dance"]])
def test_usage_errors_are_exit_code_2(words):
    assert CliRunner().invoke(cli.app, words).exit_code == 2


def test_a_full_disk_is_one_line(monkeypatch, capsys, run_folder, corpus, tmp_path):
    import errno

    from lvd_evaluate import features

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(features, "publish_folder", full)
    code, _, err = _main(monkeypatch, capsys, "knn", "--ckpt", run_folder, "--data", corpus, "--out", tmp_path)
    assert code == 2
    assert "No space left on device; what was published before is whole" in err


def test_our_own_mistakes_keep_their_traceback(monkeypatch, run_folder, tmp_path):
    from lvd_evaluate import benchmark

    def broken(*arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(benchmark, "open_task", broken)
    words = ["evaluate", "knn", "--ckpt", str(run_folder), "--data", "x", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_validate_says_what_is_there_and_what_is_unusable(monkeypatch, capsys, corpus):
    code, printed, _ = _main(monkeypatch, capsys, "validate", corpus)
    assert code == 0
    assert "45" in printed
    code, printed, _ = _main(monkeypatch, capsys, "validate", corpus, "data.label=kind")
    assert code == 2
    assert "no column 'kind'" in printed


def test_visualize_prints_the_pictures_it_drew(monkeypatch, capsys, run_folder, tmp_path, make_image):
    files = [tmp_path / f"{label}.jpg" for label in range(2)]
    for label, file in enumerate(files):
        file.write_bytes(make_image(label, np.random.default_rng(label)))
    words = ["visualize", *files, "--ckpt", run_folder, "--out", tmp_path / "out", "data.image_size=56"]
    code, printed, _ = _main(monkeypatch, capsys, *words)
    assert code == 0
    assert len(printed.split()) >= 3
    assert all(Path(line).read_bytes().startswith(b"\x89PNG") for line in printed.split())


def test_tasks_are_listed_and_become_a_recipe(monkeypatch, capsys, tmp_path):
    from lvd_evaluate.recipes import build_benchmark

    code, printed, _ = _main(monkeypatch, capsys, "tasks")
    assert code == 0
    assert "ade20k" in printed
    code, printed, _ = _main(monkeypatch, capsys, "tasks", "cifar10", "ade20k")
    (tmp_path / "all.yaml").write_text(printed)
    assert [task.name for task in build_benchmark(tmp_path / "all.yaml", []).assignments] == ["cifar10", "ade20k"]
    code, _, err = _main(monkeypatch, capsys, "tasks", "cifar11")
    assert code == 2
    assert "cifar10" in err


def test_a_report_without_results_is_named(monkeypatch, capsys, tmp_path):
    code, _, err = _main(monkeypatch, capsys, "report", tmp_path)
    assert code == 2
    assert "holds no results.jsonl" in err


def test_help_imports_nothing_heavy():
    script = (
        "import sys; sys.argv = ['evaluate', '--help']\n"
        "from lvd_evaluate.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "heavy = {'torch', 'numpy', 'transformers', 'datasets', 'matplotlib', 'omegaconf'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for command in (*cli.PROBES, "benchmark", "visualize", "validate", "tasks", "report"):
        assert command.replace("_", "-") in result.stdout
