from __future__ import annotations

import string
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchrl.errors import ConfigError
from searchrl.models.prompts import Prompts, load_prompts

NAMES = [field.name for field in fields(Prompts) if field.name != "version"]


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_file_fills_every_field_and_has_a_version() -> None:
    prompts = load_prompts()
    assert prompts.version
    assert all(getattr(prompts, name).strip() for name in NAMES)


def test_a_users_file_changes_only_what_it_names(tmp_path: Path) -> None:
    shipped = load_prompts()
    mine = load_prompts(write(tmp_path, '[judge]\nyes_no = "Q {query} D {document}?"\n'))
    assert mine.yes_no == "Q {query} D {document}?"
    assert mine.graded == shipped.graded
    assert mine.narrow == shipped.narrow
    assert shipped.version in mine.version
    assert "mine.toml" in mine.version


def test_a_users_file_may_be_empty_or_name_its_version(tmp_path: Path) -> None:
    assert load_prompts(write(tmp_path, "")).digest(*NAMES) == load_prompts().digest(*NAMES)
    assert load_prompts(write(tmp_path, 'version = "mine-2"')).version == "mine-2"


def test_fingerprint_follows_the_texts_alone(tmp_path: Path) -> None:
    shipped = load_prompts()
    renamed = load_prompts(write(tmp_path, 'version = "other"'))
    changed = load_prompts(write(tmp_path, '[reformulate]\nnarrow = "Narrow {query}"'))
    assert shipped.digest(*NAMES) == renamed.digest(*NAMES) != changed.digest(*NAMES)
    assert shipped.digest("yes_no") == changed.digest("yes_no")
    assert shipped.digest("narrow") != changed.digest("narrow")


def test_the_generators_prompt_has_a_digest_of_its_own(tmp_path: Path) -> None:
    shipped, changed = load_prompts(), load_prompts(write(tmp_path, '[generate]\nsingle = "Ask: {document}"'))
    assert changed.single == "Ask: {document}"
    assert shipped.digest("single") != changed.digest("single")
    others = sorted(set(NAMES) - {"single"})
    assert shipped.digest(*others) == changed.digest(*others)


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b'\xef\xbb\xbf[judge]\r\nyes_no = """\r\n{query}\r\n{document}"""\r\n')
    assert load_prompts(path).yes_no == "{query}\n{document}"


def test_literal_braces_are_doubled(tmp_path: Path) -> None:
    prompts = load_prompts(write(tmp_path, '[judge]\nyes_no = \'{{"q": {query}, "d": {document}}}\''))
    assert prompts.yes_no.format(query="a", document="b") == '{"q": a, "d": b}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('version = "1"\n[judge\n', r"mine\.toml: not TOML: .*line 2"),
        ('[judge]\nyesno = "{query} {document}"', r"unknown key 'judge.yesno': did you mean .*'judge.yes_no'"),
        ('prompt = "x"', r"unknown key 'prompt': Valid: fitting\.key, fitting\.key_rungs, fitting"),
        ('judge = "x"', r"unknown key 'judge'"),
        ("[judge]\nyes_no = 3", r"judge\.yes_no must be a text in quotes, not 3"),
        ('[judge]\nyes_no = "{query}"', r"judge\.yes_no: the placeholder \{document\} is missing"),
        ('[judge]\nyes_no = "{query} {document} {title}"', r"unknown placeholder \{title\}: .*Valid: document, query"),
        ('[judge]\nyes_no = "{query} {documnet}"', r"unknown placeholder \{documnet\}: did you mean 'document'"),
        ('[judge]\nyes_no = "{} {query} {document}"', r"unknown placeholder \{\}"),
        ('[judge]\nyes_no = "{query.__class__} {document}"', r"unknown placeholder \{query.__class__\}"),
        ('[judge]\nyes_no = "{query!r} {document}"', r"write \{query\} alone"),
        ('[judge]\nyes_no = "{query:{document}}"', r"write \{query\} alone"),
        ('[judge]\nyes_no = "{query {document}"', r"judge\.yes_no: .*\{\{ and \}\}"),
        ('[judge.likelihood]\ncontext = "{document} {query}"', r"likelihood\.context: unknown placeholder \{query\}"),
        ('[reformulate]\nbroaden = "{original}"', r"reformulate\.broaden: the placeholder \{query\} is missing"),
        ('[generate]\nsingle = "Ask."', r"generate\.single: the placeholder \{document\} is missing"),
    ],
)
def test_bad_files_get_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_prompts(write(tmp_path, text))


def test_unreadable_files_get_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: the prompts cannot be read \(No such file"):
        load_prompts(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_prompts(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'version = "1"\nother = "caf\xe9"')
    with pytest.raises(ConfigError, match=r"latin\.toml: line 2 is not UTF-8"):
        load_prompts(tmp_path / "latin.toml")


@given(st.text(alphabet="{}:!.[]ab\n'\"\\" + string.digits, max_size=30))
def test_whatever_is_accepted_can_be_filled_in(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    path = write(tmp_path_factory.mktemp("p"), f'[judge]\nyes_no = "{{query}} {{document}} {escaped}"')
    try:
        prompts = load_prompts(path)
    except ConfigError:
        return
    assert prompts.yes_no.format(query="Q {x}", document="D").startswith("Q {x} D ")
