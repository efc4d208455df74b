"""What a user asks for, as frozen values: a trial, its method, its evaluations, its diffusion model."""
