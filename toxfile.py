"""tox finds pyenv's interpreters too: the shims on PATH answer only for the versions pyenv has switched on."""

import os
from pathlib import Path

_versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
os.environ.setdefault("TOX_DISCOVER", "\n".join(sorted(str(path) for path in _versions.glob("3.*/bin/python"))))
