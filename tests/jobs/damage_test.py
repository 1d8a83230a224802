"""Files of a finished run that are flipped, cut, emptied or lost: noticed, and made again by the same command."""

import json
import shutil
from pathlib import Path

import pytest

from jaxmoust.jobs.parts.configure import configuration
from jaxmoust.jobs.parts.job import do
from jaxmoust.jobs.parts.registry import BadInput
from jaxmoust.runtime.folder import damaged

GENERATOR = {
    "data.n_base": 40,
    "model.channel_multipliers": "1,",
    "model.base_channels": 4,
    "train.num_steps": 4,
    "train.checkpoint_steps": 2,
}
CLASSIFIER = {"data.n_base": 40, "train.num_steps": 4, "train.checkpoint_steps": 2}
# What no result depends on: the machine, what a curve has lost, and words about a format.
UNIMPORTANT = ("environment.json", "metrics.jsonl", "checkpoints/README.md")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES = (flip, cut, empty, Path.unlink)


def make(path, folder, fields, **more):
    words = [f"--config.{name}={value}" for name, value in {**fields, **more}.items()]
    config = configuration(path, words)[1]
    return config, do(config, folder).result


@pytest.fixture(scope="module")
def trained(tmp_path_factory, request):
    """(configuration, folder, result) of a classifier."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(request.config.rootpath)
        folder = tmp_path_factory.mktemp("trained") / "run"
        return folder, *make("configs/classifier/digits_resnet.py:quick", folder, CLASSIFIER)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, request):
    """(folder, configuration, result) of a generator."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(request.config.rootpath)
        folder = tmp_path_factory.mktemp("fitted") / "run"
        return folder, *make("configs/generator/digits_edm.py:quick", folder, GENERATOR)


def kinds(folder: Path) -> list[str]:
    """One file of each kind that a run leaves: of the many of a checkpoint, those of the newest."""
    files = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    return [name for name in files if "tensorboard" not in name and not name.startswith("checkpoints/2/")]


def without_seconds(result):
    return {k: v for k, v in result.items() if k != "seconds"}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the checkpoint that was skipped
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_made_again_or_refused_by_the_same_command(trained, tmp_path, damage):
    whole, config, result = trained
    healed = 0
    for i, name in enumerate(kinds(whole)):
        folder = tmp_path / str(i)
        shutil.copytree(whole, folder)
        damage(folder / name)
        noticed = bool(damaged(folder))
        assert noticed or name in UNIMPORTANT or (name == "digests.json" and damage is Path.unlink), name
        outcome = do(config, folder)
        assert json.loads(json.dumps(without_seconds(outcome.result))) == json.loads(
            json.dumps(without_seconds(result))
        )
        assert bool(outcome.found) != noticed and not damaged(folder), name
        assert (folder / name).exists() or not noticed or "/" in name  # Orbax names its files anew
        healed += noticed
    assert healed >= 8


@pytest.mark.parametrize("damage", DAMAGES)
def test_reader_refuses_a_damaged_run_and_names_the_remedy(trained, tmp_path, damage):
    """Before it reads one number of it, so that no result stands on it."""
    whole, *_ = trained
    for i, name in enumerate(kinds(whole)):
        if name in UNIMPORTANT or (name == "digests.json" and damage is Path.unlink):
            continue
        folder = tmp_path / str(i)
        shutil.copytree(whole, folder)
        damage(folder / name)
        config = configuration("configs/evaluate.py", [f"--config.checkpoint={folder}"])[1]
        with pytest.raises(
            BadInput, match=r"is damaged: .* not as its run left it\. Run the command that made it again"
        ):
            do(config, tmp_path / "evaluated")
        assert not (tmp_path / "evaluated").exists()


def test_generator_whose_checkpoints_were_removed_is_trained_again(fitted, tmp_path):
    """The same bits, and what samples from it names the remedy until then."""
    whole, config, result = fitted
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "checkpoints")
    sample = configuration("configs/sample/edm.py", [f"--config.generator={folder}", "--config.num_images=4"])[1]
    with pytest.raises(BadInput, match="Run the command that made it again"):
        do(sample, tmp_path / "set")
    again = do(config, folder)
    assert not again.found and again.result["generator"] == result["generator"]
    assert do(sample, tmp_path / "set").result["generator"] == result["generator"]


def test_another_runs_files_are_not_taken_for_its_own(trained, fitted, tmp_path):
    """As scores of another classifier, or adapters under another digest than the result says: whole, not its own."""
    folder = tmp_path / "run"
    shutil.copytree(trained[0], folder)
    (folder / "draws.json").write_text('{"step_edges": [0, 4]}')
    shutil.rmtree(folder / "checkpoints")
    shutil.copytree(fitted[0] / "checkpoints", folder / "checkpoints")
    assert "draws.json" in damaged(folder) and any(name.startswith("checkpoints/4/state") for name in damaged(folder))
    assert damaged(folder, deep=False) == ["draws.json"]
