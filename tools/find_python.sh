#!/bin/sh
# Prints the newest usable CPython from 3.14 down to 3.11: on the PATH, or among pyenv's.
for version in 3.14 3.13 3.12 3.11; do
  for python in "python$version" python3 python "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
    if "$python" -c "import ensurepip, sys, venv; sys.exit(sys.version_info[:2] != tuple(map(int, '$version'.split('.'))))" 2>/dev/null; then
      command -v "$python"
      exit 0
    fi
  done
done
echo "found no Python 3.11 to 3.14 with venv, expected one on the PATH; set PYTHON=/path/to/python" >&2
exit 1
