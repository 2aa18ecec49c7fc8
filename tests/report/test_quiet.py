"""What matplotlib says of itself."""

import logging

import pytest

import fednas_jax.report  # noqa: F401


def test_of_matplotlib_s_warnings_only_that_of_its_temporary_folder_is_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = logging.getLogger("matplotlib")
    log.warning("Matplotlib created a temporary cache directory at %s because ...", "/tmp/x")
    log.warning("The font is missing")
    assert [record.getMessage() for record in caplog.records] == ["The font is missing"]
