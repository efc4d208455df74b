"""The claims of the papers, held against results: what was measured, how sure it is, and a verdict."""
