#!/bin/sh
# What the drills of clusters need of a Debian or Ubuntu: ssh between hosts, and the tools that make them. As root.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends openssh-server openssh-client rsync iproute2 procps util-linux
