"""Places in a bucket, worked on as files of this machine.

A URL such as `s3://bucket/prefix` stands for a path below a working folder of this process (`at`), and that path for
the URL (`address`). Code computes with paths as ever; what it wrote goes to the bucket file by file (`flush`) or as a
finished folder (`publish`), and what it wants to read it asks for (`fetch`). A path of this machine goes through all
of these untouched. The bucket is what counts: a copy here that differs is replaced, and the working folder ends with
the process. Which store a URL means is fsspec's to know; it takes credentials and endpoint from the environment.
"""

from imprint.storage.folders import (
    MANIFEST,
    Listing,
    fetch,
    fetch_listed,
    listing,
    publish,
    read_span,
    refresh,
)
from imprint.storage.places import address, at, beside, flush, flush_new, left_beside, remove, scratch

__all__ = [
    "MANIFEST",
    "Listing",
    "address",
    "at",
    "beside",
    "fetch",
    "fetch_listed",
    "flush",
    "flush_new",
    "left_beside",
    "listing",
    "publish",
    "read_span",
    "refresh",
    "remove",
    "scratch",
]
