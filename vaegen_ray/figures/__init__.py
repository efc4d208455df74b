"""Figures and tables: rows in, picture or text out. No training, no ray, no storage.

The figures of the package are registered here, by the place of their function, so that this import loads no matplotlib.
"""

from vaegen_ray.figures.registry import FIGURES, Tables, draw, register_figure

__all__ = ["FIGURES", "Tables", "draw", "register_figure"]

_HERE = "vaegen_ray.figures"

register_figure("double_descent", f"{_HERE}.double_descent:draw")
register_figure("complexity_axes", f"{_HERE}.complexity:draw")
register_figure("synthetic_budget", f"{_HERE}.synthetic_budget:draw")
register_figure("generalization_gaps", f"{_HERE}.gaps:draw", reads=("last", "curves"))
register_figure("gaps_by_mz", f"{_HERE}.gaps:draw_by_mz", reads=("last", "curves"))
register_figure("training_curves", f"{_HERE}.training_curves:draw", reads=("last", "curves"))
register_figure("real_synthetic_mix", f"{_HERE}.mixture:draw_mix")
register_figure("diffusion_subsets", f"{_HERE}.mixture:draw_subsets")
register_figure("more_real_data", f"{_HERE}.mixture:draw_more_real")
register_figure("representation", f"{_HERE}.downstream:draw", reads=("last", "details"))
register_figure("latent_smoothness", f"{_HERE}.lines:draw", reads=("last", "details"))
register_figure("rate_distortion", f"{_HERE}.rate_distortion:draw", reads=("last", "details"))
register_figure("information", f"{_HERE}.information:draw")
register_figure("inference_gap", f"{_HERE}.inference_gap:draw", reads=("last", "curves"))
register_figure("search", f"{_HERE}.search:draw", reads=("last", "pruned"))
