#!/usr/bin/env bash
# Gets the browser that tests/dashboard/test_browser.py looks at the page with (Debian; as root).
set -euo pipefail
for browser in chromium chromium-browser google-chrome; do
  if command -v "$browser" && command -v chromedriver; then exit 0; fi
done
if [ "$(id -u)" != 0 ]; then
  echo "needs root: sudo $0" >&2
  exit 1
fi
apt-get update
if ! { apt-cache show chromium && apt-cache show chromium-driver; } >/dev/null 2>&1; then
  # Ubuntu has Chromium as a snap alone, which sees no files in /tmp and does not start in containers.
  echo "no packages chromium and chromium-driver here: install Google Chrome and the chromedriver of its version" >&2
  exit 1
fi
DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium chromium-driver
