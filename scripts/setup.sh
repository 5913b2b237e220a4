#!/usr/bin/env bash
# Install the locked dependencies and this project into .venv, and the programs it calls where that is possible.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python3.11}"
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
    || { echo "mailstream needs Python 3.11: install it, or call make with PYTHON=/path/to/python3.11" >&2; exit 1; }
echo "setting up .venv: 7 GB, most of it torch (minutes, where it is not in a cache)"
[ -x .venv/bin/python ] || "$python" -m venv .venv
# uv itself comes from the lock file of its own, so that the first download is verified too
.venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r scripts/uv.lock
.venv/bin/uv pip sync -q --python .venv/bin/python --require-hashes requirements.lock scripts/uv.lock
.venv/bin/uv pip install -q --python .venv/bin/python --no-deps --no-build-isolation -e .
echo "making the model"
.venv/bin/python -m connectors.minilm >/dev/null # the model in the form that is run: seconds, once
missing=()
command -v tesseract >/dev/null || missing+=(tesseract-ocr tesseract-ocr-eng)
for language in deu chi_sim; do # the tests read German and Chinese beside English
    tesseract --list-langs 2>/dev/null | grep -qx "$language" || missing+=("tesseract-ocr-${language/_/-}")
done
[ -e /usr/share/fonts/truetype/wqy/wqy-microhei.ttc ] || missing+=(fonts-wqy-microhei) # for tests only
command -v chromium >/dev/null || missing+=(chromium) # for tests of the page only
command -v systemd-analyze >/dev/null || missing+=(systemd) # for tests of the units only
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing+=(postgresql) # for tests only
ldconfig -p | grep -q libarchive.so.13 || missing+=(libarchive13)
command -v mvn >/dev/null || missing+=(maven)
PATH="$PATH:/usr/sbin" command -v clamd >/dev/null || missing+=(clamav-daemon)
PATH="$PATH:/usr/sbin" command -v dovecot >/dev/null || missing+=(dovecot-imapd) # for tests of IMAP only
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing from the system's packages: ${missing[*]}"
        # runlevel 1: what is installed is not started
        { apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null
    else
        echo "missing programs: install the packages ${missing[*]}" >&2
    fi
fi
# promtool tests the alert rules. The package is unpacked, not installed: installed, it would start a server.
prometheus="${XDG_CACHE_HOME:-$HOME/.cache}/mailstream/prometheus"
unpack_prometheus() {
    (cd "$prometheus" && apt-get download -qq -o APT::Sandbox::User=root prometheus \
        && dpkg-deb -x prometheus_*.deb . && rm prometheus_*.deb)
}
if ! command -v promtool >/dev/null && [ ! -x "$prometheus/usr/bin/promtool" ]; then
    mkdir -p "$prometheus"
    unpack_prometheus || { apt-get update -qq && unpack_prometheus; } \
        || echo "missing programs: put promtool, which belongs to Prometheus, on the PATH" >&2
fi
