"""What is known of what a configuration refers to: its content, wherever it lies."""

import shutil
from pathlib import Path

import pytest

from jaxmoust.jobs.parts.inputs import content_digest


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "weights" / "unet").mkdir(parents=True)
    (tmp_path / "weights" / "model_index.json").write_text("{}")
    (tmp_path / "weights" / "unet" / "model.safetensors").write_bytes(b"one")
    return tmp_path / "weights"


def test_content_digest_is_of_what_lies_in_a_folder_wherever_that_is(folder):
    before = content_digest(folder)
    assert before == content_digest(shutil.copytree(folder, folder.with_name("elsewhere"))) != ""
    (folder / ".cache").mkdir()
    (folder / ".cache" / "lock").write_text("a process")
    assert content_digest(folder) == before
    (folder / "unet" / "model.safetensors").write_bytes(b"two")
    assert content_digest(folder) != before


def test_content_digest_counts_what_a_file_is_called_in_its_folder_but_not_alone(folder):
    file = folder / "unet" / "model.safetensors"
    inside, alone = content_digest(folder), content_digest(file)
    other = file.rename(file.with_name("other.safetensors"))
    assert content_digest(folder) != inside and content_digest(other) == alone


def test_content_digest_of_a_name_of_the_hub_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert content_digest(Path("stable-diffusion-v1-5/stable-diffusion-v1-5")) == content_digest(Path("tiny_sd")) == ""
