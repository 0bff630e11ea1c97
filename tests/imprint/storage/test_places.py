"""Single objects: URLs as paths, whole or not at all, and errors that say what to do."""

import os
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest
from buckets import SECRET, another_pod, here, objects, put

from imprint.data.atomic import read_manifest, write_bytes, write_json
from imprint.data.pseudonyms import load_key
from imprint.errors import BucketError, SettingsError
from imprint.storage import address, at, fetch, flush_new, places, remove, scratch


def test_a_url_and_its_path_stand_for_each_other():
    path = at("s3://bucket/prefix/06_models/./x")
    assert address(path) == "s3://bucket/prefix/06_models/x"
    assert address(path / "y" / "z.json") == "s3://bucket/prefix/06_models/x/y/z.json"
    assert at(address(path)) == path
    assert at("s3://other/x") != at("gs://other/x")
    assert address(path.parent.parent) == "s3://bucket/prefix"


@pytest.mark.parametrize("place", ["s3://", "s3:///", "s3://bucket/../../etc", "s3://.."])
def test_a_url_that_names_no_place_in_a_bucket_is_refused(place):
    with pytest.raises(BucketError, match="PROTOCOL://BUCKET/PREFIX"):
        at(place)


LOCAL = """
import os, sys
from pathlib import Path
from imprint.data.atomic import new_directory, read_manifest, write_json
from imprint.storage import address, at, fetch, places, remove, scratch

root = Path(sys.argv[1])
write_json(root / "a", 1)
with new_directory(root / "d") as folder:
    write_json(folder / "b", 2)
assert set(read_manifest(fetch(root / "d"))["files"]) == {"b"}
assert (address(root), scratch(root), at(str(root)), at(f"file://{root}")) == (str(root), root, root, root)
remove(root / "a")
assert not (root / "a").exists()
print(places.WORKING in os.environ, sorted({"fsspec", "s3fs", "botocore", "pyarrow"} & set(sys.modules)))
"""


def test_a_url_with_a_password_is_refused_and_not_repeated():
    for secret in (SECRET, f"a/{SECRET}", f"{SECRET}/b+c:d"):
        with pytest.raises(BucketError, match="carries a user and a password") as refused:
            at(f"s3://AKID:{secret}@bucket/data")
        assert SECRET not in str(refused.value)
    assert address(at("abfs://container@account/data")) == "abfs://container@account/data", (
        "its client is not installed"
    )


def test_paths_of_this_machine_cost_nothing(tmp_path):
    """No client, no working folder, and the very same paths."""
    another_pod()
    run = subprocess.run([sys.executable, "-c", LOCAL, tmp_path], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "False []", run.stderr


def test_what_one_pod_wrote_another_reads(bucket):
    write_json(at(bucket) / "a" / "one.json", {"name": "Zoë"})
    another_pod()
    assert here() == []
    assert '"Zoë"' in fetch(at(bucket) / "a" / "one.json").read_text(encoding="utf-8")

    put(f"{bucket}/a/one.json", b"newer")
    assert fetch(at(bucket) / "a" / "one.json").read_bytes() == b"newer"


def test_a_failed_write_leaves_the_old_object(bucket, monkeypatch):
    file = at(bucket) / "one.json"
    write_bytes(file, b"old")
    client = places._client("s3")

    def cut(*_, **__):
        raise ConnectionResetError("the line went dead")

    with monkeypatch.context() as broken:
        broken.setattr(client, "put_file", cut)
        with pytest.raises(BucketError, match="could not be written"):
            write_bytes(file, b"new")
    another_pod()
    assert objects(bucket) == {"one.json": b"old"}
    assert fetch(at(bucket) / "one.json").read_bytes() == b"old"


def test_what_the_bucket_has_not_is_not_here_either(bucket):
    file = at(bucket) / "one"
    write_bytes(file, b"x")
    write_bytes(at(bucket) / "one.checkpoint", b"another's, whose name begins alike")
    remove(file)
    remove(file)
    assert not file.exists()
    assert objects(bucket).keys() == {"one.checkpoint"}

    write_bytes(file, b"x")
    places._client("s3").rm(f"{bucket}/one")  # by another pod
    assert not fetch(file).exists()
    assert read_manifest(at(bucket) / "nothing") is None


def test_a_folder_of_files_comes_as_it_is_now(bucket):
    for name in ("a", "b", "c"):
        write_bytes(at(bucket) / "parts" / name, name.encode())
    another_pod()
    folder = fetch(at(bucket) / "parts")
    assert sorted(file.name for file in folder.iterdir()) == ["a", "b", "c"]

    places._client("s3").rm(f"{bucket}/parts/b")
    put(f"{bucket}/parts/c", b"longer")
    assert {file.name: file.read_bytes() for file in fetch(folder).iterdir()} == {"a": b"a", "c": b"longer"}
    remove(folder)
    assert objects(bucket) == {}
    assert not folder.exists()


def test_of_two_who_write_a_new_object_the_first_is_kept(bucket):
    for content, first in ((b"mine", True), (b"yours", False)):
        another_pod()
        file = at(bucket) / "key"
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
        assert flush_new(file) is first
    assert objects(bucket) == {"key": b"mine"}


def test_every_pod_has_the_pseudonym_key_of_the_first(bucket, monkeypatch):
    first = load_key(at(bucket) / "pseudonym.key", "jsonl")
    another_pod()
    assert load_key(at(bucket) / "pseudonym.key", "jsonl") == first

    another_pod()
    looks = iter([lambda path: path, fetch])  # it saw no key, and before it wrote one, another pod did

    def look(path):
        return next(looks)(path)

    monkeypatch.setattr("imprint.data.pseudonyms.fetch", look)
    assert load_key(at(bucket) / "pseudonym.key", "jsonl") == first


def test_a_damaged_pseudonym_key_is_named_by_its_url(bucket):
    put(f"{bucket}/pseudonym.key", b"damaged")
    with pytest.raises(SettingsError, match=rf"{bucket}/pseudonym\.key"):
        load_key(at(bucket) / "pseudonym.key", "jsonl")


def test_what_is_spooled_never_reaches_the_bucket(bucket):
    folder = scratch(at(bucket) / "spool")
    write_json(folder / "one.json", ["people's words"])
    assert objects(bucket) == {}
    assert folder.is_dir()
    assert Path(address(folder)) == folder


def test_the_working_folder_is_for_its_owner_alone_and_ends_with_the_process(bucket, tmp_path):
    put(f"{bucket}/one", b"people's words")
    code = (
        "import os, sys; from pathlib import Path; from imprint.storage import at, fetch;"
        "file = fetch(at(sys.argv[1]));"
        "top = Path(os.environ['IMPRINT_WORKING_FOLDER']); assert file.is_relative_to(top);"
        "print(file.read_text(), oct(top.stat().st_mode)[-3:], top)"
    )
    command = [sys.executable, "-c", code, f"{bucket}/one"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    words, mode, top = run.stdout.rsplit(maxsplit=2)
    assert (words, mode) == ("people's words", "700")
    assert not Path(top).exists()


def test_errors_name_the_place_and_the_next_step_and_no_secret(bucket, monkeypatch):
    with pytest.raises(BucketError, match=r"s3://no-such-bucket-here/one: the bucket could not be written") as absent:
        write_bytes(at("s3://no-such-bucket-here/one"), b"x")
    with pytest.raises(BucketError, match=r"carrier-pigeon://.*Next"):
        fetch(at("carrier-pigeon://bucket/one"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    nobody = fsspec.filesystem("s3", skip_instance_cache=True)
    monkeypatch.setattr(places, "_client", lambda _: nobody)
    with pytest.raises(BucketError, match=r"could not be read \(EndpointConnectionError.*AWS_") as unreachable:
        fetch(at(bucket) / "one")
    assert SECRET not in f"{absent.value}{unreachable.value}"


def test_a_process_that_is_begun_understands_the_paths_it_is_given(bucket):
    """As where Kedro runs nodes in processes of their own: a path of the bucket must not become one of this machine."""
    code = (
        "import sys; from pathlib import Path; from imprint.storage import address; print(address(Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, at(bucket) / "one"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == f"{bucket}/one"
    assert Path(os.environ[places.WORKING]).is_dir(), "and does not end the folder that is not its own"
