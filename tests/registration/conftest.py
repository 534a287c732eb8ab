"""The stage of this room's tests."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.registration.play")
