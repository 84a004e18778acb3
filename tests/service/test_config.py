"""Settings: ranges, unknown variables, and the table that `serve --help` prints."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from threadmatch.service.config import Settings, load_settings, value_range, variable
from threadmatch.service.errors import SettingsError
from threadmatch.service.settings_table import settings_table


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)


def test_the_environment_sets_a_field_and_an_argument_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREADMATCH_PORT", "9000")
    monkeypatch.setenv("THREADMATCH_GALLERY", "somewhere")
    assert load_settings().port == 9000
    assert load_settings().gallery == Path("somewhere")
    assert load_settings(port=9001, host=None).port == 9001


def test_an_unknown_variable_stops_the_start_and_names_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"THREADMATCH_SEARCH_TIMEOUT .* THREADMATCH_SEARCH_TIMEOUT_S"):
        load_settings({"THREADMATCH_SEARCH_TIMEOUT": "3"}, gallery=Path("g"))


def test_a_variable_of_someone_else_is_no_concern_of_ours() -> None:
    load_settings({"PATH": "x", "THREAD": "y"}, gallery=Path("g"))


def test_a_value_out_of_range_says_which_and_what_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREADMATCH_PORT", "99999")
    monkeypatch.setenv("THREADMATCH_DEVICE", "toaster")
    with pytest.raises(SettingsError) as caught:
        load_settings(gallery=Path("g"))
    assert "THREADMATCH_PORT=99999" in str(caught.value)
    assert "0 to 65535" in str(caught.value)
    assert "auto | cpu | cuda" in str(caught.value)


def test_a_missing_gallery_says_how_to_name_it() -> None:
    with pytest.raises(SettingsError, match=r"THREADMATCH_GALLERY .*--gallery"):
        load_settings()


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings(gallery=Path("g")).port = 1


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_field_has_a_description_and_a_range(name: str) -> None:
    field = Settings.model_fields[name]
    assert field.description
    assert value_range(field) not in ("", "text") or field.annotation is str


def test_the_table_lists_every_variable() -> None:
    assert [row[0] for row in settings_table()] == [variable(name) for name in Settings.model_fields]
