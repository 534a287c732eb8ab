"""The stage of this room's tests: the house of registrations, since links begin there."""

from __future__ import annotations

from tests.registration.conftest import anna, berta, house, whole_house

__all__ = ["anna", "berta", "house", "whole_house"]
