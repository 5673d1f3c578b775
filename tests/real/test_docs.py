"""The pages of the three jobs, each command as it stands there. Blocks marked `sh` are run, in one shell a page; `bash` marks what installs, which this suite
has done."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from conftest import ROOT


@pytest.mark.parametrize("page", ["bulk-label", "recommender", "scale-out"])
def test_a_page_can_be_followed_to_its_result(page, tmp_path):
    text = (ROOT / f"docs/{page}.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 4
    for folder in ("scripts", "pipelines"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    path = [str(ROOT / "target/release"), os.path.dirname(sys.executable), os.environ["PATH"]]
    env = {**os.environ, "PATH": ":".join(path), "NO_COLOR": "1", "STACK_DIR": str(ROOT / os.environ["STACK_DIR"])}
    script = "set -euxo pipefail\n" + "\n".join(blocks)
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    print(done.stdout)
