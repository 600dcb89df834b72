"""Runs the drain's command line in the tests' own process, where it is made once: that takes a tenth of a second."""

from __future__ import annotations

import functools

import typer.testing

__all__ = ["RUNNER"]

typer.testing._get_command = functools.cache(typer.testing._get_command)  # type: ignore[attr-defined]  # for each run
RUNNER = typer.testing.CliRunner()
