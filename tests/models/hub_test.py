"""models/hub.py: what a record says of a repository of the Hugging Face hub."""

from huggingface_hub import constants

from jaxmoust.jobs.parts import pipelines
from jaxmoust.models import hub


def test_commit_is_what_the_cache_holds_for_a_revision(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--some--model"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("1234abcd")
    (folder / "snapshots" / "beef").mkdir(parents=True)
    found = [hub.commit("some/model", revision) for revision in ("", "main", "beef", "v1")]
    assert found == ["1234abcd", "1234abcd", "beef", ""] and hub.commit("other/model") == ""
    section, here = {"path": "some/model", "revision": ""}, {"path": ".", "revision": ""}
    assert pipelines.origin(section, {}) == {"commit": "1234abcd"}
    assert pipelines.origin({**here, "path": "tiny_sd"}, {}) == {} == pipelines.origin(here, {})
    assert pipelines.origin(here, {"commit": "beef"}) == {"commit": "beef"}  # of a run that started from such a one
