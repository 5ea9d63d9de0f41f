"""What pytest leaves out on machines that lack an optional package."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("triton") else ["src/crosshead/attention/fused/cuda/*"]
