"""Writers killed with SIGKILL in the middle of their work, on every store that lives in files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("power_cut_program.py")


@pytest.mark.parametrize(
    ("url", "times"),
    [
        ("file:///{}/sessions?durable=0&lock_timeout=0.5", 50),
        ("file:///{}/sessions?durable=1&lock_timeout=0.5", 10),
        ("sqlite:///{}/sessions.db?durable=0&lock_timeout=0.5", 50),
        ("sqlite:///{}/sessions.db?durable=1&lock_timeout=0.5", 10),
    ],
    ids=["file", "file-durable", "sqlite", "sqlite-durable"],
)
def test_a_killed_writer_leaves_what_it_acknowledged_and_nothing_by_halves(url, times, tmp_path):
    bare = {name: value for name, value in os.environ.items() if not name.startswith("COV")}  # or it takes ages
    command = [sys.executable, "-W", "error", PROGRAM, url.format(tmp_path), str(times)]
    done = subprocess.run(command, env=bare, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"True {times}\n", ""), done.stderr
    if url.startswith("file"):
        left = list((tmp_path / "sessions").rglob("*"))
        files = {path.name for path in left if path.is_file()}
        kinds = {path.name[:-3] for path in left if path.is_dir()}
        assert files <= {"format", "new"}, "marks or records are left when there is nothing any more"
        assert kinds <= {"records", "users"}
