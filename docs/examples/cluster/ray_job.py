"""Work at a plan with Ray: python ray_job.py plan.jsonl TASKS, in a folder that all nodes share."""

import subprocess
import sys

import ray


@ray.remote(num_cpus=1, max_retries=10, retry_exceptions=True)  # type: ignore[untyped-decorator]
def task(plan: str) -> None:
    """One task; Ray starts it again if it is killed or its node is lost, and it goes on."""
    subprocess.run([sys.executable, "-m", "benchmark", "work", plan], check=True)


if __name__ == "__main__":
    ray.init()
    ray.get([task.remote(sys.argv[1]) for _ in range(int(sys.argv[2]))])
