"""Work at a plan with Ray: python ray_job.py plan.jsonl TASKS, where the folder is shared by all nodes."""

import subprocess
import sys

import ray


@ray.remote(num_cpus=1, max_retries=-1)  # type: ignore[untyped-decorator]
def task(plan: str) -> int:
    """One task; Ray starts it again if its node is lost."""
    return subprocess.run([sys.executable, "-m", "benchmark", "work", plan], check=False).returncode


if __name__ == "__main__":
    ray.init()
    plan, tasks = sys.argv[1], int(sys.argv[2])
    sys.exit(max(ray.get([task.remote(plan) for _ in range(tasks)])))
