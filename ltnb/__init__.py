"Learning from long-tailed images with diffusion models."
__version__ = "0.1.0"
