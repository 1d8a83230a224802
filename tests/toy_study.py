"""An experiment of made-up configurations, for tests that lay it out: a few fields a task, and no file is read."""

import copy

from jaxmoust.config import Field
from jaxmoust.runtime.folder import identity
from jaxmoust.study.expand import DATA, complete_study, expand

SEED = {"seed": Field(5, int)}
TRAIN = {"train": {"num_steps": Field(10, int), "batch_size": Field(8, int)}}
PIPELINE = {"pipeline": {"path": Field("", str)}}
SCHEMAS = {
    "diffuse": {**SEED, "data": DATA, "method": {"name": Field("edm", str)}, **TRAIN},
    "finetune": {
        **SEED,
        "data": DATA,
        **PIPELINE,
        "method": {"rank": Field(4, int), "learn_tokens": Field(0, int), "prior": Field("", str)},
        **TRAIN,
    },
    "sample": {
        **SEED,
        "generator": Field("", str),
        "autoguidance": Field("", str),
        "name": Field("", str),
        "num_images": Field(40, int),
    },
    "text_to_image": {
        **SEED,
        "data": DATA,
        **PIPELINE,
        "name": Field("", str),
        "num_images": Field(40, int),
        "from_real": Field(False, bool),
        "hard": {"scores": Field("", str), "part": Field(0.4, float)},
    },
    "imported": {"data": DATA, "path": Field("", str), "name": Field("", str)},
    "clip_score": {"clip": Field("", str), "set": Field("", str)},
    "score": {
        **{name: Field("", str) for name in ("checkpoint", "set", "score")},
        "folds": Field(0, int),
        "part": Field(1.0, float),
    },
    "domain": {**SEED, "set": Field("", str), "classifier": Field("", str), "data": DATA, **TRAIN},
    "measure": {
        "set": Field("", str),
        "extractor": {"name": Field("classifier"), "path": Field("", str)},
        "data": DATA,
    },
    "classify": {
        **SEED,
        "order_seed": Field(None, int | None),
        "data": {**DATA, "synthetic": Field((), tuple), "scores": Field((), str | tuple)},
        "sampler": {"name": Field("random", str), "shares": Field({}, dict)},
        "method": {"pretrained": Field("", str)},
        **TRAIN,
    },
}
FILES = {
    "fit.py": {"task": "diffuse"},
    "tune.py": {"task": "finetune", "pipeline": {"path": "public"}},
    "sample.py": {"task": "sample"},
    "external.py": {"task": "text_to_image", "pipeline": {"path": "public"}},
    "clip.py": {"task": "clip_score"},
    "score.py": {"task": "score", "score": "confidence"},
    "domain.py": {"task": "domain"},
    "measure.py": {"task": "measure"},
    "train.py": {"task": "classify"},
}
SHARE = {"name": "share", "shares": {"real": 0.5, "a": 0.5}}


def arm(name, sets=(), **differs):
    """An arm of real images and sets, with what differs of the classifier."""
    return {"name": name, "title": name.title(), "sets": sets, **differs}


def diagnostic(kind, of, arm="", **differs):
    """An entry of the tables domains and measures."""
    return {"set": of, "arm": arm, "config": f"{kind}.py", **differs}


def experiment():
    """Four arms of one internal generator, at two seeds."""
    arms = (
        arm("real"),
        arm("mixed", ("a",), sampler=SHARE),
        arm("both", ("a", "b"), sampler=SHARE),
        arm("union", ("a",)),
    )
    return {
        "task": "study",
        "name": "toy",
        "question": "?",
        "baseline": "real",
        "seeds": (0, 1),
        "data": {"source": "digits"},
        "generators": {"g": "fit.py"},
        "sets": {
            "a": {"generator": "g", "config": "sample.py"},
            "b": {"generator": "g", "config": "sample.py", "num_images": 80},
            "unused": {"generator": "g", "config": "sample.py", "num_images": 7},
        },
        "scores": {"sure": {"arm": "real", "config": "score.py"}},
        "classifier": "train.py",
        "arms": arms,
    }


def read(path):
    """What a file says. Raises: ValueError: there is none."""
    if path not in FILES:
        raise ValueError(f"no {path}")
    return copy.deepcopy(FILES[path])


def completed(config, **changes):
    """The complete configuration, with changes as a command line gives them."""
    return complete_study(config, changes, read, SCHEMAS.__getitem__)


def lay_out(config, contents=lambda job: {}):
    """The experiment; `contents` gives the digests of what a job's configuration names."""
    return expand(completed(config), SCHEMAS.__getitem__, lambda job: identity(job, contents(job), ("data.path",)))
