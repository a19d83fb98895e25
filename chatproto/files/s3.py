"""Files in a bucket of anything that speaks S3. The only module that knows boto3, which is installed for it alone.

A file is stored by one PUT, so that nothing of it is there before all of it is, and read in parts, each by a GET of
its own: a slow reader holds no connection to the bucket.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chatproto.errors import StartError
from chatproto.files.place import NotThere, Unavailable, checked

_MISSING = ("NoSuchKey", "404")


class Bucket:
    """
    :param url: ``s3://BUCKET`` or ``s3://BUCKET/PREFIX``.
    :param endpoint: where it is, when not at AWS. Credentials and region come from where boto3 looks for them: the
        environment, ``~/.aws``, or the machine's role.
    :param connections: how many threads use it at once.
    :raises StartError: boto3 is missing, or the address is none.
    """

    part = 1 << 20

    def __init__(self, url: str, endpoint: str | None, connections: int) -> None:
        self._bucket, _, prefix = url.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._url = url
        try:
            import boto3
            import botocore.config
            import botocore.exceptions
        except ImportError:
            raise StartError(f"--files {url} needs boto3: pip install 'chatproto[s3]'") from None
        self._errors = botocore.exceptions
        settings = botocore.config.Config(
            connect_timeout=5,
            read_timeout=15,
            retries={"mode": "standard", "total_max_attempts": 2},
            max_pool_connections=connections,
            # Not every server knows the checksums that newer versions of boto3 add; the signature covers the body.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"} if endpoint else {},
        )
        session = boto3.session.Session()
        region = session.region_name or "us-east-1"
        try:
            self._client: Any = session.client("s3", endpoint_url=endpoint, region_name=region, config=settings)
        except (self._errors.BotoCoreError, ValueError) as error:
            raise StartError(f"--files {url}: {error}") from None

    def prepare(self) -> None:
        try:
            self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
        except self._errors.ClientError as error:
            raise StartError(f"--files {self._url} cannot be used: {error.response['Error']['Code']}") from None
        except self._errors.NoCredentialsError:
            raise StartError(f"--files {self._url}: no credentials, give AWS_ACCESS_KEY_ID and the like") from None
        except self._errors.BotoCoreError as error:
            raise Unavailable(f"{self._url} cannot be reached: {error}") from error

    def probe(self) -> None:
        """Write a file, and remove it.

        :raises StartError: nothing can be kept here.
        :raises Unavailable: nor can it now.
        """
        self.prepare()
        name = secrets.token_hex(20)
        with self._translated():
            self._client.put_object(Bucket=self._bucket, Key=self._key(name), Body=b"")
        self.remove(name)

    def keep(self, path: Path, name: str, media_type: str) -> None:
        with path.open("rb") as file, self._translated():
            self._client.put_object(Bucket=self._bucket, Key=self._key(name), Body=file, ContentType=media_type)

    def read(self, name: str, start: int, size: int) -> bytes:
        wanted = f"bytes={start}-{start + size - 1}"
        with self._translated():
            found = self._client.get_object(Bucket=self._bucket, Key=self._key(name), Range=wanted)
            body: bytes = found["Body"].read()
        return body

    def remove(self, name: str) -> None:
        with self._translated():
            self._client.delete_object(Bucket=self._bucket, Key=self._key(name))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._errors.ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _MISSING:
                raise NotThere from None
            raise Unavailable(f"{self._url}: {code}") from error
        except self._errors.BotoCoreError as error:
            raise Unavailable(f"{self._url}: {error}") from error

    def _key(self, name: str) -> str:
        return self._prefix + checked(name)
