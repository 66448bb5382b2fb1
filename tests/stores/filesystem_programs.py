"""What the filesystem tests run in processes of their own: ``python filesystem_programs.py <name> <directory>``."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from session_mw.errors import ConfigurationError, StoreBusyError, StoreError
from session_mw.testing.contract import new_record


def fork_keeps_no_lock(path):
    """A process that dies in the middle of a write lets go of its lock, although a child of it lives on."""
    from session_mw.stores.filesystem import FilesystemStore
    from session_mw.stores.filesystem_format import name_of
    from session_mw.stores.filesystem_tree import Work

    store = FilesystemStore(path, durable=False, lock_timeout=20)
    record = new_record()
    store.create(record)
    told, tell = os.pipe()
    wait, go = os.pipe()
    parent = os.fork()
    if parent == 0:
        locked, never = threading.Event(), threading.Event()

        def hold():
            with Work(store.tree, 1) as work:
                work.lock("records", name_of(record.id))
                locked.set()
                never.wait()

        threading.Thread(target=hold, daemon=True).start()
        locked.wait()
        if os.fork() == 0:
            os.close(go)
            assert store.load(record.id) == record
            os.write(tell, b".")
            os.read(wait, 1)  # lives until the test ends
            os._exit(0)
        never.wait()
    os.read(told, 1)
    try:
        FilesystemStore(path, durable=False, lock_timeout=0.01).touch(record.id, 2**31, 2**31)
    except StoreBusyError:
        print("locked")
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    print("touched", store.touch(record.id, 2**31, 2**31))
    os.close(go)


def unprivileged(path):
    """As somebody who may not write there: every refusal says what to do."""
    from session_mw.stores.filesystem import FilesystemStore

    root, closed = Path(path, "s"), Path(path, "closed")
    if os.getuid() == 0:
        os.chown(path, 65534, 65534)
        os.seteuid(65534)
    closed.mkdir(0o300)  # may be passed through, and not read
    FilesystemStore(closed / "s").initialize()
    closed.chmod(0o700)
    store = FilesystemStore(root)
    record = new_record(user_id=None)
    store.create(record)
    for directory in (*root.glob("records-*"), root):
        directory.chmod(0o500)
    for call in (lambda: store.delete(record.id), FilesystemStore(root / "x").initialize):
        try:
            call()
        except StoreError as error:
            print(str(error).replace(path, ""))
    print("loaded", store.load(record.id) == record)
    (file,) = root.glob("records-*/*")
    file.chmod(0)
    try:
        store.load(record.id)
    except StoreError as error:
        print(str(error).replace(path, ""))
    for directory in (root, *root.glob("records-*")):
        directory.chmod(0o700)
    os.seteuid(os.getuid())


def without_flock(_):
    """On a system without it the module says so, and nothing else does."""
    sys.modules["fcntl"] = None
    from session_mw.stores.url import store_from_url

    store_from_url("memory:")
    try:
        store_from_url("file:///x")
    except ConfigurationError as error:
        print(error)


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
