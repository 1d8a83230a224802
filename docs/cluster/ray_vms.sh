#!/bin/bash
# A cluster of Ray on machines that one reaches by ssh, and a study on it. Every machine has the repository and its .venv
# at the same path, with the extra `ray`, and sees /shared.
#   bash docs/cluster/ray_vms.sh experiments/domain_gap.py:cifar10 docs/cluster/resources.toml HEAD WORKER...
# Run as far as: `ray start --head` with two cores on one machine (RAY_AUTH_MODE=disabled) and a study of four stages on
# it, whose numbers were those of SLURM's; ssh and further machines not.
set -eu
config=$1 resources=$2 head=$3
shift 3
here=$PWD
ssh "$head" "cd $here && .venv/bin/ray start --head --port=6379 --num-cpus=0"
for worker in "$@"; do
    ssh "$worker" "cd $here && .venv/bin/ray start --address=$head:6379"
done
ssh "$head" "cd $here && .venv/bin/jaxmoust study --config=$config --workdir=/shared/runs/study --engine=ray \
  --ray_address=$head:6379 --resources=$resources"
