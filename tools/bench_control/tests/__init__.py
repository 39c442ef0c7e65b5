"""Tests of the bench of the control plane: whole runs, with small meshes."""
