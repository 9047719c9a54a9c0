"""Clips of the music family → numbers: adherence, coverage, gates, pages."""
