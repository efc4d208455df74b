"""From a command line to a run: options, presets, plugins, exit codes."""
