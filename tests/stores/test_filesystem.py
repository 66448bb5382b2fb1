"""FilesystemStore: the contract, what it leaves on disk, what it refuses, what it makes of damage and of crashes."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from operator import methodcaller
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from session_mw.config import SessionConfig
from session_mw.core.operations import Outcome
from session_mw.errors import ConfigurationError, StoreBusyError, StoreError
from session_mw.home import build_manager
from session_mw.stores import filesystem, filesystem_calls, filesystem_format, filesystem_tree
from session_mw.stores.filesystem import FilesystemStore
from session_mw.stores.filesystem_format import DamagedError, decode, encode, name_of
from session_mw.stores.filesystem_tree import Work
from session_mw.testing import StoreContract, samples
from session_mw.testing.contract import new_record

NOW = samples.NOW


class TestFilesystemStore(StoreContract):
    """A command is what begins with a lock, or reads without one."""

    @pytest.fixture(autouse=True)
    def _hear(self, monkeypatch):
        self.heard = {}
        lock, load = Work.lock, filesystem_calls.Calls.load

        def tell(tree):
            self.heard.get(id(tree), int)()

        monkeypatch.setattr(Work, "lock", lambda work, *args, **how: (tell(work.tree), lock(work, *args, **how))[1])
        monkeypatch.setattr(filesystem_calls.Calls, "load", lambda store, key: (tell(store.tree), load(store, key))[1])

    def make_store(self, tmp_path):
        return FilesystemStore(tmp_path / "s", durable=False)

    open_again = make_store

    def before_each_command(self, store, tell):
        self.heard[id(store.tree)] = tell

    def lose_record(self, store, id):
        file_of(Path(store.tree.root), id).unlink()


class TestDurableFilesystemStore(StoreContract):
    def make_store(self, tmp_path):
        return FilesystemStore(tmp_path / "s", lock_timeout=30).aio()

    open_again = make_store


def test_what_the_kit_does_not_ask():
    assert TestFilesystemStore.left_out() == {
        "test_listing_without_an_index_is_refused": "can_list is True",
        "test_payload_over_the_limit_is_refused": "payload_limit is None",
        "test_purge_leaves_expiry_to_the_backend": "expires_itself is False",
    }


@pytest.fixture
def root(tmp_path):
    return tmp_path / "sessions"


@pytest.fixture
def store(root):
    store = FilesystemStore(root, durable=False, lock_timeout=0.02)
    store.initialize()
    return store


def file_of(root, id):
    name = hashlib.sha256(id.encode()).hexdigest()
    return root / f"records-{name[:2]}" / name


def marks(root, user="alice"):
    """The files that are marked as the user's."""
    name = hashlib.sha256(user.encode()).hexdigest()
    directory = root / f"users-{name[:2]}" / name
    return {path.name for path in directory.iterdir()} if directory.exists() else set()


def deadlines(root):
    """Every marked deadline, by the file it is of."""
    found = {}
    for path in root.glob("expiry-*/*"):
        name, _, deadline = path.name.partition(".")
        assert path.parent.name == f"expiry-{int(deadline) // 300}"
        found.setdefault(name, set()).add(int(deadline))
    return found


class Crash(BaseException):
    """The process dies here."""


class Locked:
    """Another writer, holding the lock of a directory."""

    def __init__(self, directory):
        self.directory = directory

    def __enter__(self):
        self.descriptor = os.open(self.directory, os.O_RDONLY)
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)
        return self

    def __exit__(self, *exc):
        os.close(self.descriptor)


# arguments and URLs


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"directory": ""}, "needs the path of a directory"),
        ({"directory": "a\0b"}, "needs the path of a directory"),
        ({"directory": b"bytes"}, "needs the path of a directory"),
        ({"directory": "x", "lock_timeout": 0}, "lock_timeout must be"),
        ({"directory": "x", "lock_timeout": float("nan")}, "lock_timeout must be"),
        ({"directory": "x", "lock_timeout": 3601}, "lock_timeout must be"),
    ],
)
def test_bad_arguments_are_refused(arguments, says):
    with pytest.raises(ConfigurationError, match=says):
        FilesystemStore(**arguments)


def test_a_relative_path_stays_where_it_was_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = FilesystemStore("s")
    monkeypatch.chdir("/")
    store.initialize()
    assert (tmp_path / "s" / "format").read_bytes() == b"session_mw filesystem store 1\n"
    assert repr(store) == f"<FilesystemStore {tmp_path}/s>"


def test_save_path_is_the_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def root(**settings):
        return build_manager(SessionConfig(**settings)).store.tree

    assert root(store="file:", save_path=f"{tmp_path}/a #?%é").root == f"{tmp_path}/a #?%é"
    assert root(store="FILE:", save_path="below/it").root == f"{tmp_path}/below/it"
    assert root(store="file:", save_path="x").durable
    assert not root(store="file:?durable=no", save_path="x").durable


# on disk


def test_everything_is_its_owners_alone_from_the_first_byte(root, monkeypatch):
    """Whatever the umask, and without a change of mode afterwards."""
    seen = []
    write = os.write

    def look_and_write(descriptor, data):
        seen.append(os.fstat(descriptor).st_mode & 0o777)
        return write(descriptor, data)

    def never(*args, **options):
        raise AssertionError("a mode was changed")

    monkeypatch.setattr(os, "write", look_and_write)
    monkeypatch.setattr(os, "chmod", never)
    monkeypatch.setattr(os, "fchmod", never)
    before = os.umask(0)
    try:
        store = FilesystemStore(root)
        store.create(new_record())
    finally:
        os.umask(before)
    monkeypatch.undo()
    modes = {path.relative_to(root).parts[0][:6]: path.stat().st_mode & 0o777 for path in root.rglob("*")}
    assert modes == dict.fromkeys(["format", "record", "users-", "expiry"], 0o600)
    directories = {path.stat().st_mode & 0o777 for path in (root, *root.rglob("*")) if path.is_dir()}
    assert directories == {0o700}
    assert seen == [0o600, 0o600]


def test_a_tight_umask_does_no_harm(root):
    before = os.umask(0o077)
    try:
        store = FilesystemStore(root, durable=False)
        record = new_record()
        assert store.create(record)
        assert store.touch(record.id, NOW + 1, NOW + 9000)
    finally:
        os.umask(before)
    assert file_of(root, record.id).stat().st_mode & 0o777 == 0o600


def test_no_name_on_disk_tells_an_id_or_a_user(root, store):
    record = new_record(user_id="../../etc/passwd")
    store.create(record)
    store.create(new_record(user_id="/"))
    names = {part for path in root.rglob("*") for part in path.relative_to(root).parts}
    assert not any(record.id in name or "passwd" in name or len(name) > 100 for name in names)
    assert file_of(root, record.id).is_file()
    assert marks(root, "../../etc/passwd") == {file_of(root, record.id).name}


def test_the_file_is_laid_out_as_the_docs_say(root, store):
    record = new_record(login_ip="192.0.2.1", lifetime=5, version=7)
    store.create(record)
    data = file_of(root, record.id).read_bytes()
    fields = struct.unpack(">BBqqII", data[:26])
    assert fields == (1, 0, record.last_activity, record.expires_at, len(data) - 30, zlib.crc32(data[30:]))
    assert data[26:30] == zlib.crc32(data[:26]).to_bytes(4, "big")
    assert msgspec.msgpack.decode(data[30:]) == [
        record.id,
        record.digest,
        "alice",
        record.created_at,
        record.absolute_expires_at,
        5,
        "192.0.2.1",
        None,
        7,
        record.payload,
        None,
    ]


def test_a_durable_write_is_on_disk_before_it_is_answered(root, monkeypatch):
    """What was written before a rename is synced before it, and the directory after it; a touch waits for nothing."""
    store = FilesystemStore(root)
    done = []
    fsync, rename, unlink = os.fsync, os.rename, os.unlink

    def name_of(descriptor):
        return Path(f"/proc/self/fd/{descriptor}").readlink().name.rstrip("0123456789abcdef")

    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(f"sync {name_of(fd)}"), fsync(fd)))
    monkeypatch.setattr(os, "rename", lambda *args, **at: (done.append("rename"), rename(*args, **at)))
    monkeypatch.setattr(os, "unlink", lambda name, **at: (done.append("unlink"), unlink(name, **at)))

    def steps(call):
        done.clear()
        call()
        return done.copy()

    record, new = new_record(), new_record()
    written = ["unlink", "sync new", "rename", "sync records-"]
    created = ["sync sessions", "sync sessions", "unlink", "sync new", "sync users-", "sync ", *written[-2:]]
    above = f"sync {root.parent.name.rstrip('0123456789abcdef')}"
    assert steps(store.initialize) == [*written[:-1], "sync sessions", above]
    assert steps(lambda: store.create(record)) == created, "new shards, a new user"
    assert steps(lambda: store.save(structs.replace(record, version=2), 1)) == written
    assert steps(lambda: store.touch(record.id, NOW + 9, NOW + 9999)) == []
    rotated = steps(lambda: store.rotate(new, record.id, 2, until=NOW + 60))
    rotated = [step for step in rotated if step != "sync sessions"]
    assert rotated == ["unlink", "sync new", "sync ", *written[-2:], *written, "unlink"]
    assert steps(lambda: store.delete(new.id)) == ["unlink", "sync records-", "unlink"]
    assert store.load(record.id).closed
    store.create(new_record())
    assert steps(lambda: store.delete_user("alice")) == ["unlink", "sync records-", "unlink"]


def test_nothing_waits_for_the_disk_unless_durable(store, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: pytest.fail("it waited"))
    record = new_record()
    store.create(record)
    store.rotate(new_record(), record.id, 1, until=NOW)
    assert store.delete_user("alice") == 1
    assert store.purge(NOW * 2, 10) == 1


def test_a_touch_leaves_the_payload_where_it_is(root, store):
    record = new_record(payload=os.urandom(20_000))
    store.create(record)
    file = file_of(root, record.id)
    before, inode = file.read_bytes(), file.stat().st_ino
    assert store.touch(record.id, NOW + 60, NOW + 9000)
    after = file.read_bytes()
    assert file.stat().st_ino == inode
    assert after[30:] == before[30:]
    assert after[:30] != before[:30]
    written = file.stat().st_mtime_ns
    assert store.touch(record.id, NOW, NOW)
    assert file.stat().st_mtime_ns == written, "an equal value is never written"


def test_a_touch_under_way_is_waited_for(root, store, monkeypatch):
    """A reader takes no lock; what it sees half-written it reads again, under the lock."""
    record = new_record()
    store.create(record)
    file = file_of(root, record.id)
    whole = file.read_bytes()
    file.write_bytes(b"\1" + b"\xff" * 29 + whole[30:])
    seen = threading.Event()
    load = store.tree.load

    def load_and_tell(name):
        try:
            return load(name)
        except DamagedError:
            seen.set()
            raise

    monkeypatch.setattr(store.tree, "load", load_and_tell)
    store._wait = 20
    with ThreadPoolExecutor(1) as pool:
        with Locked(file.parent):
            reading = pool.submit(store.load, record.id)
            assert seen.wait(20)
            file.write_bytes(whole)
        assert reading.result() == record


# what is refused


def test_a_directory_that_others_may_write_to_is_refused(root):
    for mode in (0o770, 0o702, 0o777):
        root.mkdir(exist_ok=True)
        root.chmod(mode)
        with pytest.raises(StoreError, match=r"others may write to this directory; take that from them \(chmod go-w\)"):
            FilesystemStore(root).initialize()
        assert list(root.iterdir()) == []
    root.chmod(0o750)
    FilesystemStore(root).initialize()


def test_a_directory_that_others_may_replace_is_refused(root):
    root.parent.chmod(0o777)
    with pytest.raises(StoreError, match="others may write to the directory above it, and put another in its place"):
        FilesystemStore(root).initialize()
    assert not root.exists()
    root.parent.chmod(0o1777)  # as /tmp, where everybody may only rename what is theirs
    FilesystemStore(root).initialize()


@pytest.mark.parametrize("kind", ["records", "users"])
def test_a_part_that_others_may_write_to_is_refused(root, store, kind):
    record = new_record()
    store.create(record)
    (part,) = root.glob(f"{kind}-*")
    part.chmod(0o777)
    with pytest.raises(StoreError, match="others may write"):
        store.load(record.id) if kind == "records" else store.list_user("alice")


def test_a_directory_of_somebody_else_is_refused(root, store, monkeypatch):
    record = new_record()
    store.create(record)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    for call in (lambda: store.load(record.id), lambda: store.create(new_record()), FilesystemStore(root).initialize):
        with pytest.raises(StoreError, match=r"belongs to another user \(uid \d+\); run as that user"):
            call()


def test_a_file_of_somebody_else_is_refused(root, store, monkeypatch):
    record = new_record()
    store.create(record)
    fstat, owner = os.fstat, os.geteuid()

    def one_file_is_not_ours(descriptor):
        found = fstat(descriptor)
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            return found
        return os.stat_result((*found[:4], owner + 1, *found[5:]))

    monkeypatch.setattr(os, "fstat", one_file_is_not_ours)
    with pytest.raises(StoreError, match="it is no file of ours"):
        store.load(record.id)


def test_a_directory_with_something_else_in_it_is_refused(root):
    root.mkdir()
    (root / "sess_1234").touch()
    with pytest.raises(StoreError, match="is not empty, and no session store; pass another directory"):
        FilesystemStore(root).initialize()
    assert [path.name for path in root.iterdir()] == ["sess_1234"]


def test_another_format_is_refused(root, store):
    for data in (b"session_mw filesystem store 2\n", b"", b"session_mw filesystem store 1\n and more"):
        (root / "format").write_bytes(data)
        with pytest.raises(StoreError, match="is a session store of another format"):
            FilesystemStore(root).initialize()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.touch(), "is no directory, or a symbolic link"),
        (lambda path: path.symlink_to(path.parent / "real", target_is_directory=True), "or a symbolic link"),
        (lambda path: path.symlink_to(path.parent / "nowhere"), "is no directory, or a symbolic link"),
    ],
    ids=["file", "symlink", "dangling"],
)
def test_no_directory_is_refused(root, make, says):
    (root.parent / "real").mkdir()
    make(root)
    for path in (root, f"{root}/", f"{root}/."):
        with pytest.raises(StoreError, match=says) as caught:
            FilesystemStore(path).initialize()
        assert isinstance(caught.value.__cause__, OSError)
    assert list((root.parent / "real").iterdir()) == []


def test_the_directory_above_must_exist(root):
    with pytest.raises(StoreError, match="create the directory above it, or pass another"):
        FilesystemStore(root / "a" / "b").initialize()


# symbolic links inside


def secret(root):
    """A file of ours that lies outside, and must stay as it is."""
    path = root.parent / "secret"
    path.write_text("as it was")
    return path


def test_no_link_in_place_of_a_record_is_followed(root, store):
    record, other = new_record(), new_record()
    store.create(record)
    store.create(other)
    outside = secret(root)
    file = file_of(root, record.id)
    for target in (outside, file_of(root, other.id), root / "nowhere"):
        file.unlink()
        file.symlink_to(target)
        for call in (
            lambda: store.load(record.id),
            lambda: store.save(structs.replace(record, version=2), 1),
            lambda: store.touch(record.id, NOW + 9, NOW + 9000),
            lambda: store.close(record.id, 1, until=NOW),
            lambda: store.rotate(new_record(), record.id, 1, until=NOW),
        ):
            with pytest.raises(StoreError, match="is damaged"):
                call()
        assert store.create(record) is False
    assert store.delete(record.id) is Outcome.DELETED
    assert outside.read_text() == "as it was"
    assert store.load(other.id) == other


def test_no_link_in_place_of_a_temporary_file_is_followed(root, store):
    record, outside = new_record(), secret(root)
    store.create(record)
    (file_of(root, record.id).parent / "new").symlink_to(outside)
    assert store.save(structs.replace(record, version=2, payload=b"changed"), 1) is Outcome.SAVED
    assert outside.read_text() == "as it was"
    assert not file_of(root, record.id).is_symlink()


@pytest.mark.parametrize("kind", ["records", "users", "expiry"])
def test_no_link_in_place_of_a_directory_is_followed(root, store, kind):
    record = new_record()
    store.create(record)
    (part,) = root.glob(f"{kind}-*")
    elsewhere = root.parent / "elsewhere"
    part.rename(elsewhere)
    part.symlink_to(elsewhere, target_is_directory=True)
    before = sorted(elsewhere.rglob("*"))
    calls = {
        "records": [lambda: store.load(record.id), lambda: store.delete(record.id)],
        "users": [lambda: store.list_user("alice"), lambda: store.create(new_record())],
        "expiry": [lambda: store.purge(NOW * 2, 5), lambda: store.create(new_record())],
    }
    for call in calls[kind]:
        with pytest.raises(StoreError, match="a symbolic link, which is never followed"):
            call()
    assert sorted(elsewhere.rglob("*")) == before


def test_no_link_in_place_of_a_users_directory_or_a_mark_is_followed(root, store):
    store.create(new_record())
    (user,) = root.glob("users-*/*")
    elsewhere = root.parent / "elsewhere"
    user.rename(elsewhere)
    user.symlink_to(elsewhere, target_is_directory=True)
    for call in (methodcaller("list_user", "alice"), methodcaller("delete_user", "alice")):
        with pytest.raises(StoreError, match="a symbolic link"):
            call(store)
    user.unlink()
    elsewhere.rename(user)
    record, outside = new_record(), root.parent / "made"
    (user / file_of(root, record.id).name).symlink_to(outside)
    with pytest.raises(StoreError, match="a symbolic link"):
        store.create(record)
    assert not outside.exists()


def test_the_format_is_no_link(root, store):
    (root / "format").rename(root.parent / "format")
    (root / "format").symlink_to(root.parent / "format")
    with pytest.raises(StoreError, match="it is a symbolic link"):
        FilesystemStore(root).initialize()


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("s")  # the path would be too long
    Path("s").rename(path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, make_socket], ids=["fifo", "directory", "socket"])
def test_something_else_in_place_of_a_record_is_refused_at_once(root, store, make, monkeypatch):
    monkeypatch.chdir(root.parent)
    record = new_record()
    store.create(record)
    file = file_of(root, record.id)
    file.unlink()
    make(file)
    with pytest.raises(StoreError, match="is damaged"):
        store.load(record.id)
    with pytest.raises(StoreError, match="is damaged"):
        store.touch(record.id, NOW, NOW)


# damage


def damaged(data):
    """Every way in which a file can be cut off, and many in which it can be changed."""
    yield from (data[:length] for length in range(len(data)))
    yield from (data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :] for at in range(len(data)))
    yield data + b"\0"


def with_body(data, body):
    """A file whose checksums are right."""
    fields = data[:18] + struct.pack(">II", len(body), zlib.crc32(body))
    return fields + zlib.crc32(fields).to_bytes(4, "big") + body


def test_a_damaged_record_is_a_fault_and_never_served():
    record = new_record()
    data, name = encode(record), name_of(record.id)
    assert decode(data, name) == record
    ways = list(damaged(data))
    assert len(ways) == 2 * len(data) + 1
    for bad in ways:
        with pytest.raises(DamagedError, match=r"incomplete|its format is"):
            decode(bad, name)
    bodies = [b"", b"\x90", b"\xc1", b"\x9b", msgspec.msgpack.encode({}), b"\x9b\xa1\xff" + b"\xc0" * 10, b"\x9b\x01"]
    for body in bodies:
        with pytest.raises(DamagedError, match="its body is no record") as caught:
            decode(with_body(data, body), name)
        assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(DamagedError, match="it holds the record of another id"):
        decode(data, name_of("another"))


BAD = {
    "cut off": lambda data: data[:40],
    "empty": lambda data: b"",
    "half a large one": lambda data: data[:12_000],
    "grown": lambda data: data + b"x" * 9000,
    "later format": lambda data: b"\2" + data[1:],
    "header changed": lambda data: data[:9] + bytes([data[9] ^ 1]) + data[10:],
}


@pytest.mark.parametrize("spoil", BAD.values(), ids=BAD)
def test_a_damaged_file_says_which_and_can_be_removed(root, store, spoil, caplog):
    bad, good = new_record(payload=b"x" * 20_000), new_record()
    store.create(good)
    store.create(bad)
    file = file_of(root, bad.id)
    file.write_bytes(spoil(file.read_bytes()))
    assert store.load(bad.id) is None, "it is no session"
    (told,) = caplog.messages
    assert re.fullmatch(f"{root}: records-../{file.name} is damaged .*; delete it", told)
    for call in (
        lambda: store.save(structs.replace(bad, version=2), 1),
        lambda: store.delete(bad.id, expected_version=1),
        lambda: store.close(bad.id, 1, until=NOW),
        lambda: store.rotate(new_record(), bad.id, 1, until=NOW),
    ):
        with pytest.raises(StoreError, match=f"{root}: records-../{file.name} is damaged .*; delete it") as caught:
            call()
        assert caught.value.__cause__ is not None
    assert store.create(bad) is False, "its id is taken all the same"
    assert store.list_user("alice") == [good], "the rest of the list still works"
    assert store.delete(bad.id) is Outcome.DELETED
    assert store.load(bad.id) is None
    assert store.list_user("alice") == [good]
    assert marks(root) == {file_of(root, good.id).name}, "its mark is gone, too"


def test_a_damaged_file_is_not_read_for_its_size(root, store, caplog):
    record = new_record()
    store.create(record)
    os.truncate(file_of(root, record.id), 2**40)  # a hole; nobody has that much memory
    assert store.load(record.id) is None
    assert "is damaged (its body is incomplete)" in caplog.text


def test_a_touch_of_a_damaged_file_is_refused(root, store):
    record = new_record()
    store.create(record)
    file_of(root, record.id).write_bytes(b"\1 cut off")
    with pytest.raises(StoreError, match="is damaged"):
        store.touch(record.id, NOW, NOW)


def test_damage_does_not_stop_a_sweep(root, store):
    """Nobody can open it, and its deadline as it was marked has come."""
    records = [new_record(expires_at=NOW) for _ in range(3)]
    for record in records:
        store.create(record)
    for record in records[:2]:
        file_of(root, record.id).write_bytes(b"")
    assert store.purge(NOW - 1, 10) == 0
    assert store.purge(NOW, 10) == 3
    assert list(root.glob("records-*/*")) == []
    assert deadlines(root) == {}
    assert store.list_user("alice") == []
    assert marks(root) == set()


def test_delete_user_takes_what_is_damaged(root, store):
    records = [new_record() for _ in range(3)]
    for record in records:
        store.create(record)
    file_of(root, records[0].id).write_bytes(b"")
    assert store.delete_user("alice") == 2, "it was no live record"
    assert list(root.glob("records-*/*")) == []
    assert list(root.glob("users-*/*")) == []


# faults


def test_a_deleted_directory_is_not_an_empty_store(root, store):
    record = new_record()
    store.create(record)
    calls = [
        methodcaller("load", record.id),
        methodcaller("create", new_record()),
        methodcaller("touch", record.id, NOW, NOW),
        methodcaller("list_user", "alice"),
        methodcaller("list_user", "bob"),
        methodcaller("delete_user", "bob"),
        methodcaller("purge", NOW * 2, 5),
    ]
    shutil.rmtree(root)
    for again in range(2):
        for call in calls:
            with pytest.raises(StoreError, match="a part of it is missing; it must not be deleted while it is in use"):
                call(store)
        if not again:
            root.mkdir(0o700)  # as where a disk is no longer mounted
    store.teardown()
    assert store.load(record.id) is None, "opened anew, it is made anew"


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "the disk is full; make room"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "read-only; make it writable"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_a_write_that_fails_changes_nothing_and_leaves_nothing(root, store, monkeypatch, number, says):
    record = new_record()
    store.create(record)
    write = os.write

    def fail(descriptor, data):
        write(descriptor, data[:20])
        raise OSError(number, os.strerror(number), "/a/path")

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(StoreError, match=f"^{root}: {says}") as caught:
        store.save(structs.replace(record, version=2), 1)
    assert isinstance(caught.value.__cause__, OSError)
    assert store.load(record.id) == record
    assert not list(root.glob("*/new"))


def test_a_write_in_many_parts_is_one(root, store, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:100]))
    record = new_record(payload=os.urandom(1000))
    store.create(record)
    assert store.load(record.id) == record


@pytest.mark.parametrize(
    "changes",
    [{"login_user_agent": "secret\ud800"}, {"user_id": "secret\udfff"}, {"expires_at": 2**63}, {"version": 2**64}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_value_that_the_format_cannot_hold_is_refused_unseen(root, store, changes):
    old = new_record()
    store.create(old)
    before = sorted(root.rglob("*"))
    bad = new_record(**changes)
    for attempt in (
        lambda: store.create(bad),
        lambda: store.rotate(bad, old.id, 1, until=NOW),
        lambda: store.save(structs.replace(bad, id=old.id), 1),
    ):
        with pytest.raises(StoreError, match=f"^{root}: a value that the format cannot hold") as caught:
            attempt()
        assert "secret" not in str(caught.value)
    assert store.load(old.id) == old
    assert sorted(root.rglob("*")) == before


def program(name, path):
    """Run one of filesystem_programs; its output."""
    command = [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    file = Path(__file__).with_name("filesystem_programs.py")
    done = subprocess.run([*command, file, name, path], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_no_write_where_nothing_may_be_written():
    directory = tempfile.mkdtemp()  # others may come as far as this, unlike tmp_path
    try:
        assert program("unprivileged", directory) == [
            "/s: access denied; it must belong to the user this runs as",
            "/s/x: access denied; it must belong to the user this runs as",
            "loaded True",
            "/s: access denied; it must belong to the user this runs as",
        ]
    finally:
        shutil.rmtree(directory)


def test_without_flock_it_says_so():
    (line,) = program("without_flock", "")
    assert line == (
        'FilesystemStore needs flock, which this system lacks; use SQLiteStore: store="sqlite:///sessions.db"'
    )


def test_a_child_does_not_keep_its_parents_lock(root):
    assert program("fork_keeps_no_lock", root) == ["locked", "touched True"]


# locks and faces


def test_a_lock_that_is_not_free_in_time(root, store):
    record = new_record()
    store.create(record)
    changed = structs.replace(record, version=2)
    writes = [
        methodcaller("create", record),
        methodcaller("save", changed, 1),
        methodcaller("save", changed, 1, payload_only=True),
        methodcaller("touch", record.id, NOW + 9, NOW + 9999),
        methodcaller("delete", record.id),
        methodcaller("close", record.id, 1, until=NOW),
        methodcaller("rotate", new_record(), record.id, 1, until=NOW),
        methodcaller("delete_user", "alice"),
        methodcaller("purge", NOW * 2, 10),
    ]
    before = sorted(root.rglob("*"))
    with Locked(file_of(root, record.id).parent):
        for face in (store, store.inline()):
            for write in writes:
                with pytest.raises(StoreBusyError):
                    write(face)
            assert face.load(record.id) == record, "readers do not wait for writers"
            assert face.list_user("alice") == [record]
    assert (store.inline()._wait, FilesystemStore(root).inline()._wait) == (0.02, 0.05)
    with pytest.raises(StoreBusyError, match="another writer held the lock") as caught, Locked(root):
        FilesystemStore(root, lock_timeout=0.001).initialize()
    assert isinstance(caught.value.__cause__, BlockingIOError)
    assert {path for path in root.rglob("*") if path not in before} <= set(root.glob("records-*"))
    assert store.list_user("alice") == [record]


def test_delete_user_that_cannot_go_on_says_what_it_did(root, store):
    for prefix in "abcdefgh":
        store.create(new_record(prefix * 24))
    last = max(marks(root))
    with (
        Locked(root / f"records-{last[:2]}"),
        pytest.raises(StoreError, match="7 sessions were deleted, then") as caught,
    ):
        store.delete_user("alice")
    assert not isinstance(caught.value, StoreBusyError), "which would mean that nothing was changed"
    assert isinstance(caught.value.__cause__, StoreBusyError)
    assert store.delete_user("alice") == 1


def test_a_lock_ends_with_its_call_whoever_has_a_copy(root, store):
    """Such as a child that was forked in C, where nothing could close it."""
    record = new_record()
    store.create(record)
    with Work(store.tree, 0) as work:
        copy = os.dup(work.lock("records", file_of(root, record.id).name))
    assert store.touch(record.id, NOW + 1, NOW + 9000)
    os.close(copy)


def test_rotations_lock_in_one_order(store, monkeypatch):
    """Or of two, each could wait for what the other has."""
    lock, locked = Work.lock, []
    monkeypatch.setattr(Work, "lock", lambda work, *what, **how: (locked.append(what), lock(work, *what, **how))[1])
    records = [new_record() for _ in range(9)]
    store.create(records[0])
    for old, new in pairwise(records):
        locked.clear()
        assert store.rotate(new, old.id, 1, until=NOW + 60) is Outcome.SAVED
        (kind, _), *shards = locked
        assert kind == "users"
        assert shards == sorted({("records", name_of(old.id)[:2]), ("records", name_of(new.id)[:2])})


def test_listing_waits_for_what_moves_a_users_sessions(root, store):
    store.create(new_record())
    (shard,) = root.glob("users-*")
    with Locked(shard), pytest.raises(StoreBusyError):
        store.list_user("alice")
    with Locked(shard), pytest.raises(StoreBusyError):
        store.rotate(new_record(), "x", 1, until=NOW)
    with Locked(shard):
        assert store.rotate(new_record(user_id=None), "x", 1, until=NOW) is Outcome.GONE


def test_the_awaited_face_waits_on_a_thread(root):
    store = FilesystemStore(root, durable=False)
    store.initialize()
    record = new_record()
    store.create(record)

    async def story():
        aio = store.aio()
        with Locked(file_of(root, record.id).parent):
            waiting = asyncio.create_task(aio.touch(record.id, NOW + 9, NOW + 9999))
            await asyncio.sleep(0)  # it was declined inline, and hopped
            assert not waiting.done()
            assert await aio.load(record.id) == record
        assert await waiting is True

    asyncio.run(story())
    assert store.load(record.id).last_activity == NOW + 9


def test_the_inline_face_makes_no_directory(root):
    store = FilesystemStore(root)
    with pytest.raises(StoreBusyError, match=r"not opened yet, and that may wait; call initialize\(\)"):
        store.inline().load("x")
    assert not root.exists()

    async def story():
        assert await store.aio().load("x") is None

    asyncio.run(story())
    assert store.inline().load("x") is None, "opened by the hop"


def test_what_waits_for_the_disk_is_declined_inline(root):
    store = FilesystemStore(root)
    record = new_record()
    store.create(record)
    for write in (methodcaller("create", new_record()), methodcaller("rotate", new_record(), record.id, 1, until=1)):
        with pytest.raises(StoreBusyError, match="a durable write waits for the disk"):
            write(store.inline())
    assert store.inline().touch(record.id, NOW + 1, NOW + 9000) is True, "which waits for nothing"
    assert store.inline().load(record.id).last_activity == NOW + 1


def test_what_goes_through_many_files_is_declined_inline(store, monkeypatch):
    monkeypatch.setattr(filesystem, "INLINE_LIST", 2)
    for count in (1, 2):
        store.create(new_record(expires_at=NOW))
        assert len(store.inline().list_user("alice")) == count
    store.create(new_record(expires_at=NOW))
    for call in (
        methodcaller("list_user", "alice"),
        methodcaller("delete_user", "alice"),
        methodcaller("purge", NOW, 1),
    ):
        with pytest.raises(StoreBusyError, match="too long for an event loop"):
            call(store.inline())

    async def story():
        aio = store.aio()
        assert len(await aio.list_user("alice")) == 3
        assert await aio.purge(NOW, 2) == 2
        assert await aio.delete_user("alice") == 1

    asyncio.run(story())


# crashes: between any two steps


def crash_at(monkeypatch, owner, name, count=1):
    """Die instead of the *count*-th call of ``owner.name`` from now."""
    real, left = getattr(owner, name), [count]

    def call(*args, **options):
        left[0] -= 1
        if left[0] < 0:
            return real(*args, **options)
        if left[0] == 0:
            raise Crash
        return real(*args, **options)

    monkeypatch.setattr(owner, name, call)


def no_tidying(monkeypatch):
    """A process that dies removes nothing on its way."""
    monkeypatch.setattr(os, "unlink", lambda *args, **at: None)


def test_a_crash_before_the_record_leaves_marks_that_heal(root, store, monkeypatch):
    record = new_record()
    for step in ("write", "rename"):
        (file_of(root, record.id).parent / "new").unlink(missing_ok=True)
        with monkeypatch.context() as patch:
            crash_at(patch, os, step)
            no_tidying(patch)
            with pytest.raises(Crash):
                store.create(record)
        assert marks(root) == {file_of(root, record.id).name}
        assert (file_of(root, record.id).parent / "new").exists()
        assert store.load(record.id) is None
        assert store.list_user("alice") == []
        assert list(root.glob("users-*/*")) == [], "healed"
    assert store.create(record), "and what the dead writer left is written over"
    assert store.load(record.id) == record
    assert list(root.glob("*/new")) == []


def test_a_mark_whose_record_is_being_made_is_left_alone(root, store, monkeypatch):
    """The writer has the record's lock from before the mark until the record is there."""
    record = new_record()
    with monkeypatch.context() as patch:
        crash_at(patch, os, "write")
        with pytest.raises(Crash):
            store.create(record)
    with Locked(file_of(root, record.id).parent):
        assert store.list_user("alice") == []
        assert marks(root) == {file_of(root, record.id).name}
    seen = []
    read = store.tree.read

    def made_meanwhile(shard, name):
        seen.append(name)
        if len(seen) == 2:  # after the listing looked, before it healed
            store.tree.read = read
            file_of(root, record.id).write_bytes(encode(record))
        return read(shard, name)

    store.tree.read = made_meanwhile
    assert store.list_user("alice") == []
    assert marks(root) == {file_of(root, record.id).name}
    assert store.list_user("alice") == [record]


def test_a_crash_right_after_a_write_leaves_no_record_without_its_marks(root, store, monkeypatch):
    record = new_record()
    name = file_of(root, record.id).name
    store.create(record)
    write = Work.write

    def write_and_die(*args):
        write(*args)
        raise Crash

    monkeypatch.setattr(Work, "write", write_and_die)
    with pytest.raises(Crash):
        store.save(structs.replace(record, version=2, user_id="bob", expires_at=NOW + 5), 1)
    assert [found.version for found in store.list_user("bob")] == [2]
    assert deadlines(root) == {name: {record.expires_at, NOW + 5}}
    with pytest.raises(Crash):
        store.close(record.id, 2, until=NOW + 3)
    assert store.list_user("bob") == []
    assert deadlines(root) == {name: {record.expires_at, NOW + 5, NOW + 3}}
    with pytest.raises(Crash):
        store.create(other := new_record())
    assert store.list_user("alice") == [other]


def test_a_crash_after_the_record_ended_leaves_marks_that_heal(root, store, monkeypatch):
    endings = [
        lambda record: store.delete(record.id),
        lambda record: store.close(record.id, 1, until=NOW + 60),
        lambda record: store.save(structs.replace(record, version=2, user_id="bob"), 1),
    ]
    for end in endings:
        record = new_record()
        store.create(record)
        with monkeypatch.context() as patch:
            patch.setattr(store, "_unmark", lambda *args: (_ for _ in ()).throw(Crash))
            with pytest.raises(Crash):
                end(record)
        assert marks(root) == {file_of(root, record.id).name}
        assert store.list_user("alice") == []
        assert marks(root) == set()
    assert [record.version for record in store.list_user("bob")] == [2]


def test_marks_that_were_healed_before_their_record_ended(root, store):
    """A listing was faster than the call that ended the record."""
    record = new_record()
    store.create(record)
    (user,) = root.glob("users-*/*")
    shutil.rmtree(user)
    assert store.delete(record.id) is Outcome.DELETED


def test_delete_user_passes_over_marks_that_lead_nowhere(root, store, monkeypatch):
    record = new_record()
    store.create(record)
    with monkeypatch.context() as patch:
        patch.setattr(store, "_unmark", lambda *args: (_ for _ in ()).throw(Crash))
        with pytest.raises(Crash):
            store.save(structs.replace(record, version=2, user_id="bob"), 1)
    assert store.delete_user("alice") == 0
    assert list(root.glob("users-*/*")) == [root / f"users-{name_of('bob')[:2]}" / name_of("bob")]
    assert len(store.list_user("bob")) == 1


def test_a_crash_in_a_rotation_leaves_the_old_or_both(root, store, monkeypatch):
    for count in (1, 2):
        old, new = new_record(), new_record()
        store.create(old)
        with monkeypatch.context() as patch:
            crash_at(patch, os, "rename", count)
            with pytest.raises(Crash):
                store.rotate(new, old.id, 1, until=NOW + 60)
        assert store.load(old.id) == old
        assert store.load(new.id) == (None if count == 1 else new)
        listed = {record.id for record in store.list_user("alice")}
        assert listed == ({old.id} if count == 1 else {old.id, new.id})
        store.delete_user("alice")


def test_what_a_killed_writer_left_is_not_written_into(root, store):
    record = new_record()
    store.create(record)
    (file_of(root, record.id).parent / "new").write_bytes(b"x" * 20_000)
    changed = structs.replace(record, version=2)
    assert store.save(changed, 1) is Outcome.SAVED
    assert store.load(record.id) == changed


def test_a_crash_in_a_sweep_leaves_no_record_without_a_mark(root, store, monkeypatch):
    record = new_record(expires_at=NOW)
    store.create(record)
    store.touch(record.id, NOW, NOW + 9000)
    for step in ("mark", "remove"):
        with monkeypatch.context() as patch:
            crash_at(patch, Work, step)
            with pytest.raises(Crash):
                store.purge(NOW, 5)
        assert deadlines(root) == {file_of(root, record.id).name: {NOW} if step == "mark" else {NOW, NOW + 9000}}
    assert store.purge(NOW + 9000, 5) == 1


def test_a_listing_reads_the_sessions_of_one_user(store, monkeypatch):
    for number in range(60):
        store.create(new_record(user_id=f"user {number % 20}"))
    read = []
    load = store.tree.load
    monkeypatch.setattr(store.tree, "load", lambda name: (read.append(name), load(name))[1])
    monkeypatch.setattr(os, "scandir", lambda *args: pytest.fail("a scan"))
    listed = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda descriptor: (listed.append(descriptor), listdir(descriptor))[1])
    assert len(store.list_user("user 7")) == 3
    assert (len(read), len(listed)) == (3, 1)
    assert store.list_user("nobody") == []
    assert len(read) == 3


def test_a_strange_file_among_the_marks_is_passed_over(root, store):
    record = new_record(expires_at=NOW)
    store.create(record)
    (user,) = root.glob("users-*/*")
    (bucket,) = root.glob("expiry-*")
    for name in ("x", ".nfs0001", "a" * 64 + "b", file_of(root, record.id).name.upper()):
        (user / name).touch()
        (bucket / name).touch()
        (bucket / f"{name}.5").touch()
    (bucket / f"{file_of(root, record.id).name}.²").touch()
    for name in ("expiry-", "expiry-x", "expiry--", "other"):
        (root / name).mkdir(0o700)
    assert store.list_user("alice") == [record]
    assert store.purge(NOW * 2, 10) == 1


def test_a_directory_that_vanishes_under_a_mark_is_made_again(root, store, monkeypatch):
    """Who removed the last mark of a user removes the directory, perhaps just when somebody has opened it."""
    opened, tries = Work.open, []

    def open_and_lose(self, name, parent=None):
        descriptor = opened(self, name, parent)
        if parent is not None and name == name_of("alice") and len(tries) < 2:
            tries.append(name)
            os.rmdir(name, dir_fd=parent)
        return descriptor

    monkeypatch.setattr(Work, "open", open_and_lose)
    record = new_record()
    store.create(record)
    assert len(tries) == 2
    assert store.list_user("alice") == [record]


def test_two_who_make_a_directory_at_the_same_time(store, monkeypatch):
    """Both find it missing; the second finds it made."""
    mkdir, path_mkdir = os.mkdir, Path.mkdir
    monkeypatch.setattr(os, "mkdir", lambda *args, **at: (mkdir(*args, **at), mkdir(*args, **at)))
    monkeypatch.setattr(Path, "mkdir", lambda *args: (path_mkdir(*args), path_mkdir(*args)))
    record = new_record()
    store.create(record)
    assert store.list_user("alice") == [record]


# deadlines


def test_a_deadline_is_marked_where_it_first_was(root, store):
    record = new_record(expires_at=NOW + 100)
    name = file_of(root, record.id).name
    store.create(record)
    store.touch(record.id, NOW, NOW + 9000)
    assert deadlines(root) == {name: {NOW + 100}}
    assert store.purge(NOW + 99, 10) == 0
    assert deadlines(root) == {name: {NOW + 100}}
    assert store.purge(NOW + 100, 10) == 0
    assert deadlines(root) == {name: {NOW + 9000}}, "moved on when its time had come"
    store.save(structs.replace(record, version=2, expires_at=NOW + 500), 1)
    assert deadlines(root) == {name: {NOW + 500, NOW + 9000}}, "sooner than it was marked"
    assert store.purge(NOW + 500, 10) == 1
    assert deadlines(root) == {name: {NOW + 9000}}
    assert store.purge(NOW + 9000, 10) == 0
    assert [path.name for path in root.iterdir() if path.name.startswith("expiry")] == []


def test_a_sweep_reads_what_is_due_and_nothing_else(store, monkeypatch):
    for number in range(50):
        store.create(new_record(expires_at=NOW + number * 100))
    read = []
    real = store.tree.read
    monkeypatch.setattr(store.tree, "read", lambda shard, name: (read.append(name), real(shard, name))[1])
    assert store.purge(NOW + 1000, 4) == 4
    assert len(read) == 4, "a batch is a batch"
    assert store.purge(NOW + 1000, 100) == 7
    assert len(read) == 11
    assert store.purge(NOW + 1000, 0) == 0


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_sweep_over_many_buckets_keeps_few_open(store, monkeypatch):
    for number in range(40):
        store.create(new_record(user_id=None, expires_at=NOW + number * 300))
    most = []
    opened = Work.open

    def count(self, name, parent=None):
        most.append(descriptors())
        return opened(self, name, parent)

    before = descriptors()
    monkeypatch.setattr(Work, "open", count)
    assert store.purge(NOW * 2, 100) == 40
    assert max(most) < before + 10
    assert descriptors() == before, "and nothing stays open"


def test_two_sweeps_meet(root, store, monkeypatch):
    records = [new_record(user_id=None, expires_at=NOW + number * 300) for number in range(3)]
    for record in records:
        store.create(record)
    find = filesystem_calls._due_buckets

    def find_and_lose(*args):
        """Another sweep takes two of the three that were just found."""
        found = find(*args)
        monkeypatch.setattr(filesystem_calls, "_due_buckets", find)
        assert FilesystemStore(root, durable=False).purge(NOW + 300, 10) == 2
        return found

    monkeypatch.setattr(filesystem_calls, "_due_buckets", find_and_lose)
    assert store.purge(NOW * 2, 10) == 1
    assert deadlines(root) == {}


def test_a_sweep_that_meets_a_lock_keeps_what_it_did(root, store):
    records = [new_record(user_id=None, expires_at=NOW + number * 300) for number in range(3)]
    for record in records:
        store.create(record)
    with Locked(file_of(root, records[1].id).parent):
        assert store.purge(NOW * 2, 10) == 1
        with pytest.raises(StoreBusyError):
            store.purge(NOW * 2, 10)
    assert store.purge(NOW * 2, 10) == 2


def test_times_before_1970_are_times(store):
    store.create(new_record(expires_at=-1))
    store.create(new_record(expires_at=-301))
    assert store.purge(-301, 10) == 1
    assert store.purge(-2, 10) == 0
    assert store.purge(-1, 10) == 1


# counting


def test_counting_passes_over_what_is_damaged_or_ends_meanwhile(root, store, monkeypatch):
    records = [new_record(expires_at=NOW) for _ in range(4)]
    for record in records:
        store.create(record)
    file_of(root, records[0].id).write_bytes(b"")
    (file_of(root, records[1].id).parent / "new").touch()
    assert store.stats(NOW).expired == 3
    assert store.count_expired(NOW) == 3
    names = list(store.tree.names())
    assert sorted(names) == sorted(file_of(root, record.id).name for record in records)
    store.delete(records[3].id)
    monkeypatch.setattr(store.tree, "names", lambda: names)
    assert store.stats(NOW).expired == 2
    assert store.count_expired(NOW) == 2


def test_a_count_reads_what_is_due_and_each_record_once(store, monkeypatch):
    for number in range(20):
        store.create(new_record(user_id=None, expires_at=NOW + number))
    twice = new_record(expires_at=NOW + 8)
    store.create(twice)
    store.save(structs.replace(twice, version=2, expires_at=NOW), 1)
    read = []
    load = store.tree.load
    monkeypatch.setattr(store.tree, "load", lambda name: (read.append(name), load(name))[1])
    assert store.count_expired(NOW + 9) == 11
    assert len(read) == 11


def test_what_is_not_there_is_not_made(root):
    for _ in range(2):
        with pytest.raises(StoreError, match=f"^{root}: there is no session store; pass another directory"):
            FilesystemStore(root).open_existing()
        root.mkdir(exist_ok=True)
    assert list(root.iterdir()) == []
    FilesystemStore(root).initialize()
    store = FilesystemStore(root)
    store.open_existing()
    assert store.inline().load("x") is None


def test_counting_a_store_that_is_gone_is_a_fault(root, store):
    shutil.rmtree(root)
    for call in (store.stats, store.count_expired):
        with pytest.raises(StoreError, match="a part of it is missing"):
            call(NOW)


def test_versions_are_told_by_the_first_byte():
    assert encode(new_record())[0] == filesystem_format.VERSION == 1
    assert filesystem_tree.FORMAT.endswith(b" 1\n")
