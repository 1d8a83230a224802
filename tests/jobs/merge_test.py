"""Laws of jobs/merge.py: a merged pipeline is a plain folder that holds what was merged."""

import json

from jaxmoust.generate import text_to_image
from jaxmoust.models import stable_diffusion


def test_merge_leaves_the_pipeline_that_its_digest_names(cli, tmp_path):
    line = "merge --config=configs/merge.py --config.pipeline.path=tiny_sd --workdir={work}"
    assert cli(line, work=tmp_path / "work").code == 0
    result = json.loads((tmp_path / "work" / "result.json").read_text())
    assert text_to_image.digest(stable_diffusion.load(str(tmp_path / "work" / "pipeline"))) == result["generator"]
