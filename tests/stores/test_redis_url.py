"""Where a Redis server is: URLs understood and refused, clients refused, nothing secret shown."""

from __future__ import annotations

import asyncio
import datetime

import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.cache import CacheConfig
from redis.cluster import LoadBalancingStrategy

from session_mw.errors import ConfigurationError, StoreError
from session_mw.stores.redis import AsyncRedisStore, RedisStore
from session_mw.stores.redis_faults import FAULTS, fault
from session_mw.stores.redis_url import split_url
from session_mw.stores.url import read_url, store_from_url


def split(url):
    return split_url(read_url(url))


def given(place):
    """Its connection arguments, without the defaults."""
    defaults = {"socket_timeout": 5.0, "socket_connect_timeout": 5.0, "max_connections": 10_000}
    return {name: value for name, value in place.options.items() if defaults.get(name) != value}


@pytest.mark.parametrize(
    ("url", "shown", "options"),
    [
        ("redis://", "Redis at localhost:6379/0", {"host": "localhost", "port": 6379}),
        ("redis://h:1/2", "Redis at h:1/2", {"host": "h", "port": 1, "db": 2}),
        ("redis://h?db=3", "Redis at h:6379/3", {"host": "h", "port": 6379, "db": 3}),
        ("redis://[::1]:7/0", "Redis at ::1:7/0", {"host": "::1", "port": 7, "db": 0}),
        (
            "rediss://u:p%40%2F@h?ssl_check_hostname=no&ssl_ca_certs=/ca&protocol=2",
            "Redis at h:6379/0",
            {
                "host": "h", "port": 6379, "username": "u", "password": "p@/", "ssl_check_hostname": False,
                "ssl_ca_certs": "/ca", "protocol": 2,
            },
        ),
        ("redis://:p@h", "Redis at h:6379/0", {"host": "h", "port": 6379, "password": "p"}),
        ("unix:///run/a%20b?db=1", "Redis at /run/a b/1", {"path": "/run/a b", "db": 1}),
        ("unix://:p@/s?client_name=x", "Redis at /s/0", {"path": "/s", "password": "p", "client_name": "x"}),
        (
            "redis+sentinel://u:p@a,b:5/main/1?sentinel_password=s&health_check_interval=5",
            "Redis 'main' of Sentinel a:26379, b:5",
            {"username": "u", "password": "p", "db": 1, "health_check_interval": 5.0},
        ),
        ("rediss+sentinel://a/main", "Redis 'main' of Sentinel a:26379", {}),
        ("redis+cluster://a,b:5", "Redis Cluster at a:6379, b:5", {}),
        ("rediss+cluster://:p@a/?max_connections=7", "Redis Cluster at a:6379",
         {"password": "p", "max_connections": 7}),
        ("redis://h?socket_timeout=2", "Redis at h:6379/0",
         {"host": "h", "port": 6379, "socket_timeout": 2.0, "socket_connect_timeout": 2.0}),
    ],
)  # fmt: skip
def test_urls_are_understood(url, shown, options):
    place, own = split(url)
    assert own == {}
    assert given(place) == options
    assert place.where == shown
    assert repr(place) == f"<Place {shown}>"
    assert place.tls == url.startswith("rediss")
    assert place.sentinel == ({"password": "s"} if "sentinel_password" in url else {})


def test_options_of_the_store():
    _, own = split("redis://h?table_index=web&wait_replicas=1&wait_timeout=0.5")
    assert own == {"table_index": "web", "wait_replicas": 1, "wait_timeout": 0.5}
    store = RedisStore("redis://h?table_index=web", table_index="other")
    assert store._calls._keys.table_index == "web"
    assert store.aio()._calls._keys.table_index == "web"
    assert RedisStore("redis://h", table_index="other").aio()._calls._keys.table_index == "other"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://u:hunter2@h/x", "the path of a redis: URL has a part nobody knows"),
        ("redis://u:hunter2@h/0/1", "the path of a redis: URL has a part nobody knows"),
        ("redis://u:hunter2@h/1?db=2", "the path of a redis: URL has a part nobody knows"),
        ("redis+cluster://u:hunter2@h/0", r"the path of a redis\+cluster: URL has a part nobody knows"),
        ("redis+cluster://u:hunter2@h?db=1", "has no option 'db'"),
        ("redis+sentinel://u:hunter2@h", r"redis\+sentinel://host1,host2/service/0"),
        ("redis://u:hunter2@a,b", "names one host"),
        ("redis://u:hunter2@h:port", "a host that cannot be read"),
        ("unix://", "unix:///path"),
        ("unix://u:hunter2@host/path", "unix:///path"),
        ("redis://u:hunter2@h?tabel_index=x", "did you mean 'table_index'"),
        ("redis://u:hunter2@h?protocol=4", "option 'protocol' of a redis: URL has a bad value"),
        ("redis://u:hunter2@h?socket_timeout=0", "socket_timeout of a redis: URL must be"),
        ("redis://u:hunter2@h?socket_connect_timeout=nan", "socket_connect_timeout of a redis: URL must be"),
        ("redis://u:hunter2@h?table_index=A", "table_index 'A' must be"),
        ("redis://u:hunter2@h?wait_replicas=-1", "wait_replicas must be"),
        ("redis://u:hunter2@h?wait_timeout=0", "wait_timeout must be"),
        ("redis://u:hunter2@h?wait_timeout=6", "at most socket_timeout"),
        ("redis+cluster://u:hunter2@h?wait_replicas=1", "a Cluster cannot wait for replicas"),
    ],
)
def test_a_refusal_names_what_is_wrong(url, says):
    with pytest.raises(ConfigurationError, match=says) as caught:
        store_from_url(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("kind", [RedisStore, AsyncRedisStore])
def test_only_redis_is_a_redis_store(kind):
    with pytest.raises(ConfigurationError, match="memory: is not the URL of a Redis server"):
        kind("memory:")
    with pytest.raises(ConfigurationError, match="needs a URL such as redis://"):
        kind(5)
    with pytest.raises(ConfigurationError, match="wait_replicas"):
        kind("redis://h", wait_replicas=True)


def test_a_password_is_nowhere_shown():
    for url in (
        "redis://u:hunter2@h",
        "redis+sentinel://u:hunter2@h/s?sentinel_password=hunter2",
        "redis+cluster://u:hunter2@h",
    ):
        for store in (store_from_url(url), AsyncRedisStore(url)):
            assert "hunter2" not in repr(store) + str(store)


# clients

STRATEGY = LoadBalancingStrategy.RANDOM_REPLICA


def test_names_of_clients():
    sentinel = redis.sentinel.Sentinel([("h", 1)]).master_for("main")
    asentinel = redis.asyncio.sentinel.Sentinel([("h", 1)]).master_for("main")
    assert repr(RedisStore(sentinel)) == "<RedisStore Redis 'main' of Sentinel>"
    assert repr(AsyncRedisStore(asentinel)) == "<AsyncRedisStore Redis 'main' of Sentinel>"
    assert repr(RedisStore(redis.Redis("h", 5, 2))) == "<RedisStore Redis at h:5/2>"
    assert repr(AsyncRedisStore(redis.asyncio.Redis(unix_socket_path="/s"))) == "<AsyncRedisStore Redis at /s/0>"
    assert repr(AsyncRedisStore(redis.asyncio.RedisCluster("h", 5))) == "<AsyncRedisStore Redis Cluster>"


@pytest.mark.parametrize(
    ("client", "says"),
    [
        (lambda: redis.Redis(protocol=3, cache_config=CacheConfig()), "caches what it reads"),
        (lambda: redis.sentinel.Sentinel([("h", 1)]).slave_for("main"), "reads from replicas"),
        (lambda: redis.asyncio.sentinel.Sentinel([("h", 1)]).slave_for("main"), "reads from replicas"),
        (
            lambda: redis.asyncio.RedisCluster("h", load_balancing_strategy=STRATEGY),
            "reads from replicas",
        ),
        (lambda: redis.asyncio.RedisCluster("h", 1, decode_responses=True), "decodes what it reads"),
    ],
)
def test_a_client_that_shows_the_past_is_refused(client, says):
    made = client()
    kind = RedisStore if isinstance(made, redis.Redis) else AsyncRedisStore
    with pytest.raises(ConfigurationError, match=says):
        kind(made)


# faults in words


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (redis.AuthenticationError("x"), "refused the login"),
        (redis.exceptions.AuthorizationError("x"), "refused the login"),
        (redis.exceptions.NoPermissionError("x"), "does not let this user do that"),
        (redis.BusyLoadingError("x"), "is still loading its data"),
        (redis.exceptions.MaxConnectionsError("x"), "no connection left in its pool"),
        (redis.OutOfMemoryError("x"), "is full"),
        (redis.ReadOnlyError("x"), "is a replica now"),
        (redis.exceptions.ClusterDownError("x"), "is down in part"),
        (redis.exceptions.MovedError("1 h:1"), "answered with an error"),
        (redis.TimeoutError("x"), "did not answer in time"),
        (TimeoutError("x"), "did not answer in time"),
        (redis.ConnectionError("x"), "cannot be reached, or hung up"),
        (ConnectionResetError("x"), "cannot be reached, or hung up"),
        (redis.exceptions.SlotNotCoveredError("x"), "serves only some slots"),
        (redis.exceptions.NoScriptError("x"), "forgot a script"),
        (redis.ResponseError("x"), "answered with an error"),
        (redis.exceptions.InvalidResponse("x"), "failed"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_every_fault_has_words(error, says):
    assert isinstance(error, FAULTS)
    found = fault("Redis at h:1/0", error)
    assert isinstance(found, StoreError)
    assert str(found).startswith("Redis at h:1/0 ")
    assert says in str(found)
    assert str(found).endswith(f"({type(error).__name__})")


# real logins


@pytest.fixture
def certificate(tmp_path):
    """A certificate for 127.0.0.1, and its key."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "key").write_bytes(secret)
    (tmp_path / "certificate").write_bytes(made.public_bytes(pem))
    return tmp_path / "certificate", tmp_path / "key"


def test_tls_and_a_password(new_redis, certificate):
    from servers.ports import unused_port

    path, key = certificate
    port = unused_port()
    options = (f"tls-port {port}", f"tls-cert-file {path}", f"tls-key-file {key}", "tls-auth-clients no")
    new_redis("requirepass p@ss", f"tls-ca-cert-file {path}", *options)
    url = f"rediss://:p%40ss@127.0.0.1:{port}/0?ssl_ca_certs={path}"
    store = RedisStore(url)
    store.initialize()
    asyncio.run(opened(store.aio()))
    store.teardown()
    for wrong, says in (
        (f"rediss://:p%40ss@127.0.0.1:{port}/0", "cannot be reached"),  # nobody vouches for the certificate
        (url.replace("p%40ss", "hunter2"), "refused the login"),
        (url.replace(":p%40ss@", ""), "refused the login"),
    ):
        store = RedisStore(wrong)
        with pytest.raises(StoreError, match=says) as caught:
            store.load("n" * 24)
        assert "hunter2" not in f"{caught.value}{caught.value.__cause__}"
        with pytest.raises(StoreError, match=says):
            asyncio.run(opened(store.aio()))
        store.teardown()


async def opened(awaited):
    try:
        await awaited.initialize()
    finally:
        await awaited.teardown()
