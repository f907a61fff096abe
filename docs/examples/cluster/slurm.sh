#!/bin/bash
# Work at a plan with a Slurm array: sbatch --array=0-15 slurm.sh plan.jsonl
# Tasks may start late, be requeued or be cancelled; send the same array again and it goes on.
#SBATCH --job-name=benchmark
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@60
#SBATCH --output=benchmark-%A_%a.log
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"
exec benchmark work "${1:-plan.jsonl}"
