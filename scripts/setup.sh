#!/usr/bin/env bash
# Makes .venv and installs what running needs; quick when nothing has changed.
#
#   bash scripts/setup.sh [--dev]
#
#   --dev     what the tests and checks need, too; on Debian, as root, also a browser
#   PYTHON    the interpreter to use (environment); else python3.12 or python3.11, as found
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  echo "setup: error: $1" >&2
  exit 2
}

# Prints why an interpreter will not do; nothing where it will.
objection() {
  "$1" - 2>&1 <<'CHECK' || echo "$1: does not run"
import sys
version = sys.version_info[:2]
if not (3, 11) <= version <= (3, 12):
    age = "old" if version < (3, 11) else "new"
    print("%s: Python %d.%d is too %s; 3.11 or 3.12 is needed" % ((sys.executable,) + version + (age,)))
    sys.exit()
try:
    import ensurepip, venv
except ImportError:
    print("%s: has no venv module; on Debian and Ubuntu: apt install python%d.%d-venv"
          % ((sys.executable,) + version))
CHECK
}

# Sets `python` to the first interpreter that will do.
find_python() {
  local candidates=(python3.12 python3.11 python3 python) candidate reason first_reason=""
  if [[ -n "${PYTHON:-}" ]]; then
    candidates=("$PYTHON")
  fi
  for candidate in "${candidates[@]}"; do
    if ! command -v "$candidate" >/dev/null; then
      continue
    fi
    reason="$(objection "$candidate" | tail -n 1)"
    if [[ -z "$reason" ]]; then
      python="$candidate"
      return
    fi
    # One that exists for pyenv alone does not run; what stands in the way is told by another.
    if [[ -z "$first_reason" || "$first_reason" == *"does not run" ]]; then
      first_reason="$reason"
    fi
  done
  fail "${first_reason:-${PYTHON:-python3.12, python3.11}: not found; install Python 3.11 or 3.12, or set PYTHON to one}"
}

version_of() {
  "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

# Makes .venv, or makes it anew where it does not run or PYTHON asks for another version.
make_environment() {
  local present python
  present="$(version_of .venv/bin/python || true)"
  if [[ ("$present" == 3.11 || "$present" == 3.12) && -z "${PYTHON:-}" ]]; then
    return
  fi
  find_python
  if [[ "$present" == "$(version_of "$python")" ]]; then
    return
  fi
  echo "setup: making .venv with Python $(version_of "$python")"
  "$python" -m venv --clear .venv
}

# Installs a requirements file unless .venv has it as it stands.
install() {
  local stamp=".venv/installed-$1"
  if cmp -s "$1" "$stamp"; then
    return
  fi
  # A venv made by other tools, or cut short while it was made, has no pip.
  .venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip >/dev/null
  echo "setup: installing $1 into .venv; the first time takes a few minutes"
  .venv/bin/python -m pip install --disable-pip-version-check -qq -c requirements.txt -r "$1" ||
    fail "$1 could not be installed, see above; a package index must be within reach"
  cp "$1" "$stamp"
}

# The tests of pages open them in a browser; where there is none, those tests skip.
install_browser() {
  local name
  for name in chromium chromium-browser google-chrome google-chrome-stable chrome; do
    if command -v "$name" >/dev/null; then
      return
    fi
  done
  # Ubuntu's package of that name is a snap, which containers cannot run.
  if [[ "$EUID" != 0 ]] || ! grep -qs '^ID=debian' /etc/os-release || ! command -v apt-get >/dev/null; then
    echo "setup: no Chromium or Chrome here: tests that open pages will skip"
    return
  fi
  echo "setup: installing chromium, in which tests open pages"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } >/dev/null ||
    echo "setup: chromium could not be installed; tests that open pages will skip" >&2
}

dev=false
for argument in "$@"; do
  case "$argument" in
    --dev) dev=true ;;
    *) fail "$argument: unknown; usage: bash scripts/setup.sh [--dev]" ;;
  esac
done

make_environment
install requirements.txt
if "$dev"; then
  install requirements-dev.txt
  install_browser
fi
