"""Against a real server on the loopback interface that misbehaves as told."""

from __future__ import annotations

import hashlib
import io
import re
import stat
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from searchrl.data import download
from searchrl.data.beir import read_beir_folder
from searchrl.data.download import fetch_beir
from searchrl.errors import ConfigError, DownloadError, OutputError

NAME = "scifact"
GOOD = {
    "scifact/": "",
    "scifact/corpus.jsonl": '{"_id": "d1", "title": "T", "text": "' + "whale " * 20_000 + '"}\n',
    "scifact/queries.jsonl": '{"_id": "q1", "text": "a question"}\n',
    "scifact/qrels/test.tsv": "query-id\tcorpus-id\tscore\nq1\td1\t1\n",
    "scifact/README.md": "not part of the layout",
    "__MACOSX/scifact/._corpus.jsonl": "junk",
}


def zip_of(members: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # stored, not compressed: large enough to be cut in the middle
        for name, text in members.items():
            archive.writestr(name, text)
    return buffer.getvalue()


class Server:
    """Serves ``body`` at /scifact.zip and keeps the Range header of each request."""

    def __init__(self) -> None:
        self.body = zip_of(GOOD)
        self.status = 200
        self.ranges = True
        self.cut_at: int | None = None  # close the connection after so many bytes of the next answer
        self.send_length = True
        self.requests: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                outer.requests.append(asked)
                assert self.path == "/mirror/scifact.zip", self.path
                if outer.status != 200:
                    self.send_error(outer.status)
                    return
                start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and outer.ranges else 0
                total = len(outer.body)
                if asked and outer.ranges and start >= total:
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{total}")
                    self.end_headers()
                    return
                self.send_response(206 if asked and outer.ranges else 200)
                if asked and outer.ranges:
                    self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
                if outer.send_length:
                    self.send_header("Content-Length", str(total - start))
                self.end_headers()
                self.wfile.write(outer.body[start:][: outer.cut_at])
                outer.cut_at = None

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/mirror"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    expect_md5_of(server.body, monkeypatch)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


def expect_md5_of(body: bytes, monkeypatch) -> None:
    monkeypatch.setitem(download.BEIR_MD5, NAME, hashlib.md5(body).hexdigest())


def refused(server, data_dir, message: str) -> None:
    """The one error names URL and offline choice, and no folder has appeared."""
    with pytest.raises(DownloadError, match=message) as caught:
        fetch_beir(NAME, data_dir, mirror=server.url)
    assert f"{server.url}/scifact.zip" in str(caught.value)
    assert "pydocs, which needs no download" in str(caught.value)
    assert not (data_dir / NAME).exists()


def test_a_good_archive_becomes_a_dataset_folder(server, tmp_path):
    folder = fetch_beir(NAME, tmp_path / "data", mirror=server.url + "/")
    assert folder == tmp_path / "data" / NAME
    dataset = read_beir_folder(folder)
    assert dataset.splits["test"].qrels == {"q1": {"d1": 1}}
    kept = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert kept == ["data/scifact/corpus.jsonl", "data/scifact/qrels/test.tsv", "data/scifact/queries.jsonl"]


def test_a_folder_that_is_there_is_not_fetched_again(server, tmp_path):
    fetch_beir(NAME, tmp_path, mirror=server.url)
    fetch_beir(NAME, tmp_path, mirror=server.url)
    assert len(server.requests) == 1


def test_a_truncated_download_resumes_where_it_broke_off(server, tmp_path):
    server.cut_at = 70_000
    refused(server, tmp_path, r"broke off after \d+ bytes; run again to resume")
    have = (tmp_path / "scifact.zip.part").stat().st_size
    assert 0 < have <= 70_000
    fetch_beir(NAME, tmp_path, mirror=server.url)
    assert server.requests == [None, f"bytes={have}-"]
    assert read_beir_folder(tmp_path / NAME).corpus.ids == ["d1"]


def test_a_server_without_ranges_starts_over(server, tmp_path):
    server.cut_at = 70_000
    refused(server, tmp_path, "broke off")
    server.ranges = False
    fetch_beir(NAME, tmp_path, mirror=server.url)
    assert not (tmp_path / "scifact.zip.part").exists()


def test_a_download_that_was_complete_is_only_unpacked(server, tmp_path):
    (tmp_path / "scifact.zip.part").write_bytes(server.body)
    fetch_beir(NAME, tmp_path, mirror=server.url)
    assert server.requests == [f"bytes={len(server.body)}-"]


def test_a_part_longer_than_the_archive_starts_over(server, tmp_path):
    (tmp_path / "scifact.zip.part").write_bytes(server.body + b"more")
    fetch_beir(NAME, tmp_path, mirror=server.url)
    assert len(server.requests) == 2


def test_wrong_md5_removes_the_file(server, tmp_path):
    server.body = server.body[:-100] + bytes(100)
    refused(server, tmp_path, "wrong MD5 [0-9a-f]{32}, expected [0-9a-f]{32}; the file was removed")
    assert not list(tmp_path.iterdir())


def test_truncation_that_the_server_hides_is_a_wrong_md5(server, tmp_path):
    server.send_length, server.cut_at = False, 70_000
    refused(server, tmp_path, "wrong MD5")


@pytest.mark.parametrize("status", [404, 403, 500, 503])
def test_http_errors_are_named(server, tmp_path, status):
    server.status = status
    refused(server, tmp_path, f"the server answered {status}")


def test_unreachable_host(server, tmp_path):
    server.url = "http://127.0.0.1:9"  # discard: nothing listens here
    refused(server, tmp_path, "the host cannot be reached")


def test_an_address_that_is_none(server, tmp_path):
    server.url = "ftp://127.0.0.1"
    refused(server, tmp_path, "not a usable address")


ESCAPES = ["../evil.txt", "scifact/../../evil.txt", "/evil.txt", "..\\evil.txt", "C:\\evil.txt", "C:evil.txt"]


@pytest.mark.parametrize("member", ESCAPES)
def test_paths_that_lead_out_of_the_folder_are_refused(server, tmp_path, monkeypatch, member):
    server.body = zip_of(GOOD | {member: "evil"})
    expect_md5_of(server.body, monkeypatch)
    data_dir = tmp_path / "a" / "b"
    refused(server, data_dir, "a path that leads out of its folder; the file was removed")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_links_are_refused(server, tmp_path, monkeypatch):
    link = zipfile.ZipInfo("scifact/corpus.jsonl")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    server.body = buffer.getvalue()
    expect_md5_of(server.body, monkeypatch)
    refused(server, tmp_path, "'scifact/corpus.jsonl', a link")


def test_a_zip_bomb_is_refused(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MAX_UNPACKED_BYTES", 100_000)
    refused(server, tmp_path, "unpacks to more than")
    assert not list(tmp_path.iterdir())


def test_an_endless_body_is_cut(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MAX_ARCHIVE_BYTES", 70_000)
    refused(server, tmp_path, "sends more than")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>please log in</html>", "not a readable zip file"),
        (zip_of({"scifact/readme": ""}), "lacks scifact/corpus.jsonl and scifact/queries.jsonl"),
        (zip_of({name: GOOD[name] for name in list(GOOD)[:3]}), r"lacks scifact/qrels/\*\.tsv"),
        (zip_of(GOOD).replace(b"whale", b"snail", 1), "not a readable zip file .*CRC"),
    ],
    ids=["no zip", "other content", "no qrels", "damaged member"],
)
def test_an_archive_that_is_no_dataset(server, tmp_path, monkeypatch, body, message):
    server.body = body
    expect_md5_of(body, monkeypatch)
    refused(server, tmp_path, message)
    assert not list(tmp_path.iterdir())


def test_other_names_cannot_be_fetched(tmp_path):
    with pytest.raises(ConfigError, match="'nfcorpuss' cannot be downloaded; did you mean 'nfcorpus'"):
        fetch_beir("nfcorpuss", tmp_path)


def test_a_place_that_cannot_hold_it(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file/data: cannot hold the dataset 'scifact'"):
        fetch_beir(NAME, tmp_path / "file" / "data", mirror=server.url)


def test_the_published_checksums_are_well_formed():
    assert set(download.BEIR_MD5) == {"nfcorpus", "scifact", "fiqa", "arguana", "scidocs"}
    assert all(re.fullmatch("[0-9a-f]{32}", md5) for md5 in download.BEIR_MD5.values())
