"""Tests of `captioner.cluster`.

A package, so that its `conftest` has a name of its own. Slow tests start a Ray cluster of two nodes
on this machine.
"""
