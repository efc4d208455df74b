#!/usr/bin/env bash
# Gets the browser that tests/dashboard/test_browser.py looks at the page with (Debian, Ubuntu; as root).
set -euo pipefail
command -v chromium >/dev/null && command -v chromedriver >/dev/null && exit 0
apt-get update
apt-get install -y --no-install-recommends chromium chromium-driver
