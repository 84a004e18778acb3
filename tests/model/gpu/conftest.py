"""Kernels run in Triton's interpreter here, which is decided when they are imported: before any test of this folder."""

from __future__ import annotations

import os

import pytest

os.environ["TRITON_INTERPRET"] = "1"
pytest.importorskip("triton", reason="Triton is not installed (torch's builds for CUDA bring it)")
