"""An S3 server on loopback (moto's), as a process of its own: it lives on when workers are killed."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

BUCKET = "features"
_SERVE = """
import sys, time
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Its endpoint, which this process's environment names while it is there; it has one empty bucket, BUCKET.

    Needs s3fs and moto[server].
    """
    environment = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_DEFAULT_REGION": "us-east-1"}
    command = [sys.executable, "-c", _SERVE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        endpoint = f"http://127.0.0.1:{int(server.stdout.readline())}"
        before = {name: os.environ.get(name) for name in (*environment, "AWS_ENDPOINT_URL")}
        os.environ.update(environment, AWS_ENDPOINT_URL=endpoint)
        try:
            # In a process of its own: what is forked later must not inherit the threads of a client.
            subprocess.run([sys.executable, "-c", f"import s3fs; s3fs.S3FileSystem().mkdir('{BUCKET}')"], check=True)
            yield endpoint
        finally:
            server.stdin.close()
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
