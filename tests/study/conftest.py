"""Experiments of several kinds, of made-up configurations."""

import pytest
from toy_study import SHARE, arm, diagnostic, experiment


@pytest.fixture
def external():
    """Stable Diffusion as it is, with adapters, and fine-tuned whole, beside an internal generator."""
    config = experiment()
    config["generators"] |= {
        "adapted": "tune.py",
        "whole": {"config": "tune.py", "method": {"rank": 0}},
        "words": {"config": "tune.py", "method": {"learn_tokens": 1}},
    }
    for generator in ("", "adapted", "whole", "words"):
        config["sets"][f"set_{generator}"] = {"generator": generator, "config": "external.py"}
    config["arms"] += tuple(arm(f"arm_{name}", (f"set_{name}",)) for name in ("", "adapted", "whole", "words"))
    config["arms"] += (arm("two", ("a", "set_adapted")),)
    return config


@pytest.fixture
def grid(external):
    """Two base sets; of one generator, a set for each; and one generator that has seen the larger base set always."""
    config = external
    config["data"]["n_base"] = 100
    config["generators"]["much"] = {"config": "fit.py", "seed": 6, "data": {"n_base": 100}}
    config["sets"]["much"] = {"generator": "much", "config": "sample.py"}
    config["domains"] = {"gap": diagnostic("domain", "a", "a_10")}
    config["baseline"] = ("real_10", "real_100")
    config["arms"] = tuple(
        arm(f"{name}_{n}", sets, **({} if n == 100 else {"data": {"n_base": 10}}))
        for n in (10, 100)
        for name, sets in (("real", ()), ("a", ("a",)), ("much", ("much",)), ("as_it_is", ("set_",)), ("b", ("b",)))
    )
    return config


@pytest.fixture
def started():
    """An arm that begins as another's classifier, which itself begins as that of a third."""
    config = experiment()
    config["arms"] = (
        arm("real"),
        arm("last", ("a",), start="middle"),
        arm("middle", start="first"),
        arm("first", ("b",), sampler=SHARE),
    )
    return config


@pytest.fixture
def diagnosed():
    """Both kinds of diagnostics, with the classifier of an arm and without, at one seed and at all."""
    config = experiment()
    config["domains"] = {"gap": diagnostic("domain", "a", "real"), "alone": diagnostic("domain", "unused", seeds="all")}
    config["measures"] = {"near": diagnostic("measure", "a", "real"), "pixels": diagnostic("measure", "b")}
    return config
