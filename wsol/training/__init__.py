"""Training of the methods; a trained run is a folder with the file `WEIGHTS`."""

WEIGHTS = "weights.safetensors"
