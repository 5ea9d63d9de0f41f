"""The snippet of docs/scaling.md runs as printed, on two processes."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/scaling.md"


def test_the_snippet_runs_on_two_processes(tmp_path):
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert code.count("1024") == 4
    assert "torchrun --nproc-per-node 4 million.py" in PAGE.read_text()
    # A grid of 64 x 64, and what every rank has at the end.
    told = "\nanswer = f'{y.shape[1]} {float(layer.qkv.weight.grad.abs().sum()):.6g}'\n"
    told += "open(f'rank-{distributed.get_rank()}', 'w').write(answer)\n"
    (tmp_path / "million.py").write_text(code.replace("1024", "64") + told)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    answer = subprocess.run(
        [*launcher, "million.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert answer.returncode == 0, answer.stderr
    answers = [(tmp_path / f"rank-{rank}").read_text().split() for rank in (0, 1)]
    assert answers[0] == answers[1]
    assert answers[0][0] == "2048"
