"""Kernels run in Triton's interpreter here (`tests/conftest.py`), where there is a Triton."""

from __future__ import annotations

import pytest

pytest.importorskip("triton", reason="Triton is not installed (torch's builds for CUDA bring it)")
