"""Parses every job.yaml below a directory with one of PyYAML's loaders, and looks at nothing in it: <directory> <loader>."""

import pathlib
import sys

import yaml

loader = getattr(yaml, sys.argv[2])
for path in pathlib.Path(sys.argv[1]).glob("*/job.yaml"):
    yaml.load(path.read_text(), Loader=loader)
