"""Imported first by a script: from then on Ctrl-C, SIGTERM and SIGHUP end it with one line, also while it imports."""

from vaegen_ray.signals import at_once

at_once()
