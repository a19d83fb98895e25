"""A real object store that speaks S3: OpenStack's Swift, with all its servers in one process.

As a program (``python -m tests.files.bucket DIRECTORY``) it serves until its standard input ends, and prints its port.
"""

from __future__ import annotations

import atexit
import shutil
import subprocess
import sys
import tempfile
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, cast

ACCESS, SECRET = "test:tester", "secret-of-the-tests"
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true"}

MISSING = "" if find_spec("swift") and find_spec("boto3") else "swift and boto3 are not installed"
"""Why nothing can be tried here."""

_SWIFT_CONF = """
[swift-hash]
swift_hash_path_suffix = tests
[storage-policy:0]
name = only
default = yes
"""

_COMMON = """
[DEFAULT]
swift_dir = {root}
devices = {root}/devices
mount_check = false
fallocate_reserve = 0
log_level = ERROR
"""

_STORE = """
[pipeline:main]
pipeline = store
[app:store]
use = egg:swift#{kind}
"""

_PROXY = f"""
[pipeline:main]
pipeline = catch_errors cache s3api tempauth proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {SECRET} .admin
"""


def serve(root: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import eventlet
    eventlet.monkey_patch()
    from eventlet import listen, wsgi
    from swift.common import storage_policy, utils
    from swift.common.ring import RingBuilder
    from swift.common.wsgi import loadapp

    (root / "devices" / "disk").mkdir(parents=True)
    (root / "swift.conf").write_text(_SWIFT_CONF)
    utils.SWIFT_CONF_FILE = str(root / "swift.conf")
    utils.validate_hash_conf()
    storage_policy.reload_storage_policies()
    common = _COMMON.format(root=root)
    for kind in ("account", "container", "object"):
        socket = listen(("127.0.0.1", 0))
        builder = RingBuilder(1, 1, 0)
        port = socket.getsockname()[1]
        builder.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "disk", "weight": 1})
        builder.rebalance()
        builder.get_ring().save(str(root / f"{kind}.ring.gz"))
        settings = root / f"{kind}.conf"
        settings.write_text(common + _STORE.format(kind=kind))
        app = loadapp(str(settings), allow_modify_pipeline=False)
        eventlet.spawn(wsgi.server, socket, app, log_output=False)
    (root / "proxy.conf").write_text(common + _PROXY)
    socket = listen(("127.0.0.1", 0))
    eventlet.spawn(wsgi.server, socket, loadapp(str(root / "proxy.conf")), log_output=False)
    print(socket.getsockname()[1], flush=True)
    eventlet.tpool.execute(sys.stdin.read)


@cache
def endpoint() -> str:
    """The address of a server that runs until this process ends."""
    root = tempfile.mkdtemp(prefix="chatproto-s3-")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.files.bucket", root],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def end() -> None:
        process.kill()
        process.wait()
        shutil.rmtree(root, ignore_errors=True)

    atexit.register(end)
    port = cast("IO[str]", process.stdout).readline().strip()
    if not port:
        raise AssertionError("the object store did not start")
    return f"http://127.0.0.1:{port}"


def client() -> Any:
    """A client of the tests' own, to look behind the server's back."""
    import boto3

    return boto3.client(
        "s3", endpoint_url=endpoint(), aws_access_key_id=ACCESS, aws_secret_access_key=SECRET, region_name="us-east-1"
    )


def new_bucket(name: str) -> str:
    client().create_bucket(Bucket=name)
    return name


def names(bucket: str) -> list[str]:
    """The keys in a bucket."""
    return [found["Key"] for found in client().list_objects_v2(Bucket=bucket).get("Contents", [])]


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
