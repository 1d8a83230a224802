"""How long a study of many stages takes to plan: to lay it out and to check everything before the first stage runs.

Run: python experiments/speed/planning.py --seeds=600
Processor time of one process on an empty store, stages of the quickstart at that many seeds (x86_64, jax 0.10.2,
nothing beside; the last line of another day):

    seeds  stages  imports and configuration  laid out  checked   all
        3      64                      2.3 s     0.2 s    5.7 s   8.2 s
       60   1,033                      2.5 s     0.7 s    5.5 s   8.6 s
      600  10,213                      2.3 s     6.1 s    6.8 s  15.2 s

Stages that differ by seed alone are checked once. What is left of the checks at three seeds is tracing: a step of each
fine-tuning, generator and classifier, and each pipeline that is opened.
"""

import argparse
import itertools
import tempfile
import time
from pathlib import Path

from jaxmoust.jobs.parts.configure import configuration
from jaxmoust.jobs.study import Study
from jaxmoust.runtime import parallel


def main() -> None:
    """Plans once, and prints a line of the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="experiments/quickstart.py")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    parallel.use_all_cores()
    seeds = ",".join(map(str, range(args.seeds)))
    _, config, _ = configuration(args.config, [f"--config.seeds={seeds},"], "study")
    moments = [0.0, time.process_time()]
    with tempfile.TemporaryDirectory() as folder:
        study = Study(dict(config), Path(folder) / "stages")
        moments.append(time.process_time())
        study.check(Path(folder) / "study")
    moments.append(time.process_time())
    parts = [b - a for a, b in itertools.pairwise(moments)]
    print(f"{args.seeds:9,}{len(study.experiment.stages):8,}", *(f"{one:8.1f} s" for one in (*parts, moments[-1])))


if __name__ == "__main__":
    main()
