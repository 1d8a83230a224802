"""The notebooks: as they lie in the repository, and executed, cell after cell, on images that come with the package.

A notebook's code is plain Python, so that no Jupyter is needed here: its cells run in one fresh namespace, and what a
cell ends with is shown as Jupyter shows it.
"""

import ast
import csv
import importlib.util
import os
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import planted_equivalence
import pytest
import tiny_backbone
from PIL import Image

from jaxmoust.data.sources.registry import open_source
from jaxmoust.data.synthetic.store import open_synthetic
from jaxmoust.jobs.parts.configure import configuration
from jaxmoust.report import notebook as frame

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "notebooks").glob("*.ipynb"))


def sources(notebook: dict, kind: str = "code") -> dict[str, str]:
    return {cell["id"]: cell["source"] for cell in notebook["cells"] if cell["cell_type"] == kind}


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


@pytest.fixture
def execute(monkeypatch, tmp_path):
    """Runs a notebook, or some of its cells, with other parameters.

    Returns: its names, and what each cell showed: HTML text or PNG bytes.
    """

    def run(name: str, cells: tuple[str, ...] = (), **parameters: object) -> tuple[dict, dict]:
        monkeypatch.chdir(tmp_path)  # the notebooks find the repository themselves
        names, shown = {}, {}
        found = sources(read(ROOT / "notebooks" / f"{name}.ipynb"))
        for key, source in ((key, found[key]) for key in cells or found):
            tree = ast.parse(source)
            last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, f"{name}, {key}", "exec"), names)
            if key == "parameters":
                assert set(parameters) <= set(names), "a parameter that the notebook does not have"
                names |= parameters
            value = eval(compile(ast.Expression(last.value), f"{name}, {key}", "eval"), names) if last else None
            for form in ("_repr_html_", "_repr_png_"):
                shown |= {key: getattr(value, form)()} if hasattr(value, form) else {}
        return names, shown

    return run


# --- as they lie there -----------------------------------------------------------------------------------------------


def test_notebooks_are_the_four_that_the_readme_names():
    readme = (ROOT / "README.md").read_text()
    assert len(FILES) == 4 and all(f"notebooks/{path.name}" in readme for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_notebook_is_valid_and_holds_nothing_that_was_left_by_a_run(path):
    notebook = read(path)
    nbformat.validate(notebook)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert notebook["metadata"] == {"kernelspec": kernel, "language_info": {"name": "python"}}
    for cell in notebook["cells"]:
        assert cell["metadata"] == ({"tags": ["parameters"]} if cell["id"] == "parameters" else {})
        assert cell["cell_type"] == "markdown" or (cell["outputs"] == [] and cell["execution_count"] is None)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_notebook_says_what_each_of_its_few_cells_shows(path):
    cells = read(path)["cells"]
    code = [i for i, cell in enumerate(cells) if cell["cell_type"] == "code"]
    assert len(code) <= 10 and [cells[i]["id"] for i in code[:2]] == ["install", "parameters"]
    for i in code:
        assert cells[i - 1]["cell_type"] == "markdown" and cells[i]["source"].count("\n") < 30


def test_notebooks_install_alike_and_name_no_address():
    assert len({sources(read(path))["install"] for path in FILES}) == 1
    for path in FILES:
        assert "://" not in path.read_text() and 'REPOSITORY = ""' in sources(read(path))["install"]


@pytest.mark.parametrize(("code", "extra"), [(0, "[gpu]"), (9, "")])
def test_install_takes_the_gpu_build_exactly_where_the_driver_answers(execute, monkeypatch, tmp_path, code, extra):
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\nexit {code}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    names, _ = execute("finetune_stable_diffusion", cells=("install",))
    monkeypatch.setattr(names["Path"], "glob", lambda folder, pattern: [])  # no TPU either
    assert names["accelerator"]() == extra
    monkeypatch.setattr(names["Path"], "glob", lambda folder, pattern: [folder / pattern])
    assert names["accelerator"]() == (extra or "[tpu]")


def test_other_lines_for_stable_diffusion_15_fit_their_configurations():
    """The lines that are to take the others' place set the same names, and fields that the configurations have."""
    cell = sources(read(ROOT / "notebooks" / "finetune_stable_diffusion.ipynb"))["parameters"]
    names, others = {}, {}
    exec(cell, names)
    exec("\n".join(line.removeprefix("# ") for line in cell.splitlines() if line.startswith("# ")), others)
    assert {"PIPELINE", "FIT", "SAMPLE", "DATA", "PROMPT", "NUM_STEPS"} <= set(others) <= set(names)
    assert set(others["DATA"]) == set(names["DATA"])
    fit, sample = (str(ROOT / others[key]) for key in ("FIT", "SAMPLE"))
    _, config, _ = configuration(fit, [])
    assert config["train"]["num_steps"] == others["NUM_STEPS"] and config["pipeline"]["path"] == others["PIPELINE"]
    shared = {"pipeline.path": "", "prompts.template": others["PROMPT"]}
    shared |= {f"data.{name}": value for name, value in others["DATA"].items()}
    for path, own in ((fit, {"train.num_steps": others["NUM_STEPS"]}), (sample, {})):
        configuration(path, [f"--config.{name}={value}" for name, value in (shared | own).items()])


# --- executed --------------------------------------------------------------------------------------------------------


@pytest.fixture
def my_images(tmp_path) -> Path:
    """A folder of one's own: twelve digits of each class to learn from, four to be judged on."""
    for split, count in (("train", 12), ("test", 4)):
        digits = open_source("digits", split)
        for k, name in enumerate(digits.class_names):
            folder = tmp_path / "my images" / split / f"digit {name}"
            folder.mkdir(parents=True)
            for key in np.flatnonzero(digits.labels == k)[:count]:
                Image.fromarray(digits.read(int(key))[..., 0]).save(folder / f"{key}.png")
    return tmp_path / "my images"


def test_quickstart_answers_for_a_folder_of_images(execute, my_images, tmp_path):
    """And the study asks of a folder alone: no generator from outside, which would know nothing of its classes."""
    given = {"SOURCE": "folder", "PATH": str(my_images), "RECIPE": "photos", "N_BASE": 0, "QUICK": ",quick"}
    _, shown = execute("quickstart", **given, SEEDS="0", WORKDIR=str(tmp_path / "runs" / "mine"))
    with open(tmp_path / "runs" / "mine" / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and {(row["n_base"], row["n_test"]) for row in rows} == {("120", "40")}
    assert shown["images"].startswith(b"\x89PNG")
    assert shown["page"].startswith("<iframe") and "digit 3" in shown["page"] and "Real + EDM" in shown["page"]


def test_finetuned_pipeline_is_drawn_from_merged_and_read_by_torch(execute, tmp_path):
    fit, sample = "configs/generator/digits_tiny_sd_lora.py:quick", "configs/sample/tiny_sd.py:quick"
    _, shown = execute(
        "finetune_stable_diffusion",
        **{"FIT": fit, "SAMPLE": sample, "NUM_STEPS": 4, "NUM_IMAGES": 20, "WORKDIR": str(tmp_path / "lora")},
    )
    before, after = (open_synthetic(tmp_path / "lora" / name) for name in ("before", "after"))
    assert before.shape == after.shape == (32, 32, 3) and len(before) == len(after) == 20
    # Four steps of small adapters: the same pictures from the same noise, but not to the last bit.
    one, other = (made.images(np.arange(20)).astype(float) for made in (before, after))
    assert 0 < np.abs(one - other).mean() < 16
    assert {"real", "before", "after"} <= set(shown)
    assert (tmp_path / "lora" / "merged" / "pipeline" / "model_index.json").is_file()
    assert ("torch" in shown) == all(importlib.util.find_spec(name) for name in ("torch", "peft"))


@pytest.fixture
def patches(tmp_path) -> Path:
    """Patches of the two photographs that come with scikit-learn, a class each, as `make photographs` cuts them."""
    spec = importlib.util.spec_from_file_location("assets", ROOT / "experiments" / "assets" / "photographs.py")
    assets = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(assets)
    two = {name: package for name, package in assets.IMAGES.items() if package.startswith("sklearn")}
    assets.write(tmp_path / "patches", two)
    return tmp_path / "patches"


def test_photographs_go_through_two_rungs_and_their_classifier_and_adapters_are_packed(execute, patches, tmp_path):
    """In a process that has used JAX before, as other tests have; run again, everything is found."""
    backbone = tiny_backbone.write_backbone(tmp_path / "backbone")
    given = {"PATH": str(patches), "BACKBONE": str(backbone), "IMAGE_PX": 8, "N_BASE": 16, "QUICK": ",quick"}
    given |= {"WORKDIR": str(tmp_path / "runs"), "LORA_STEPS": 4, "NUM_IMAGES": 8, "TAKE": "sd_lora_20"}
    names, shown = execute("photographs", **given)
    assert {"images", "probe", "external", "generated"} <= set(shown)
    assert "Real only, 4" in shown["probe"] and "external SD + LoRA" in shown["external"]
    with zipfile.ZipFile(names["archive"]) as archive:
        packed = set(archive.namelist())
    assert {"classifier/model.safetensors", "classifier/README.md", "predictions.csv", "lora_0.safetensors"} <= packed
    before = sorted(path.stat().st_mtime_ns for path in names["STORE"].glob("*/result.json"))
    execute("photographs", **given)
    assert sorted(path.stat().st_mtime_ns for path in names["STORE"].glob("*/result.json")) == before


def test_how_many_recovers_a_planted_law_from_a_results_file(execute, tmp_path, capsys):
    rows = planted_equivalence.rows(*planted_equivalence.plant())
    with open(tmp_path / "results.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    given = {"RESULTS": [str(tmp_path / "results.csv")], "N_BASE": 1000, "N_REAL_PLUS": 500}
    names, shown = execute("how_many_synthetic_images", **given)
    a, b = planted_equivalence.STUDY
    true = 1000 * np.exp(a * 1000) * np.expm1(b * 500 / 1000)
    low, high = names["fit"].n_syn(1000, 500).interval
    assert low < true < high
    said = capsys.readouterr().out
    assert said.startswith("Beside 1,000 real images, 500 more would help as much as") and "No answer" in said
    assert all(title in shown["samplers"] for title in names["SAMPLERS"])
    assert shown["charts"].count("svg viewBox") >= 3 and "Exchange rates" in shown["charts"]


def test_how_many_as_it_lies_there_says_what_was_found_on_digits(execute, capsys):
    _, shown = execute("how_many_synthetic_images")
    assert "No number of synthetic images can be named" in capsys.readouterr().out
    assert "The learning curve of real images" in shown["charts"]


def test_notebook_stops_where_a_command_fails(execute, tmp_path):
    with pytest.raises(RuntimeError, match="jaxmoust study ended with code 2"):
        execute("quickstart", SEEDS="1,1", QUICK=",quick", WORKDIR=str(tmp_path / "mine"))
    assert not (tmp_path / "mine").exists()


def test_how_many_says_what_to_give_where_no_results_lie(execute):
    with pytest.raises(ValueError, match=r"give the results\.csv of a study"):
        execute("how_many_synthetic_images", RESULTS=["no/results.csv"])


def test_frame_of_a_folder_without_a_page_is_refused(tmp_path):
    with pytest.raises(ValueError, match="give the folder of a study that has finished"):
        frame.page(tmp_path)


def test_frame_holds_its_document_escaped():
    shown = frame.Frame('<p title="a">b</p>', 300)._repr_html_()
    assert 'srcdoc="&lt;p title=&#34;a&#34;&gt;b&lt;/p&gt;"' in shown and "height: 300px" in shown
