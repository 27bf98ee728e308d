"""Tests of the published tasks."""
