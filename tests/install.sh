#!/usr/bin/env bash
# Gets what the tests need beyond Python, so that none of them is skipped (Debian or Ubuntu; as root):
# a browser, the shells zsh and fish, and what makes hosts and networks on one machine.
set -euo pipefail
packages=(openssh-server openssh-client rsync iproute2 procps util-linux zsh fish)

browser() { # whether there is one, with its driver
  command -v chromedriver && { command -v chromium || command -v chromium-browser || command -v google-chrome; }
} > /dev/null

if [ "$(id -u)" != 0 ]; then
  echo "needs root: sudo $0" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${packages[@]}"
# Ubuntu has Chromium as a snap alone, which sees no files in /tmp and does not start in containers.
browser || { apt-get install -y -qq --no-install-recommends chromium chromium-driver && browser; } ||
  echo "no browser: install Google Chrome and the chromedriver of its version, or its tests are skipped" >&2
