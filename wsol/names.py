"""What the rows of the report are called, in their order."""

# (method, map) as a localization table says it, and as a reader does.
METHODS = {
    ("cam", "class"): "CAM",
    ("has", "class"): "HaS",
    ("acol", "class"): "ACoL",
    ("spg", "class"): "SPG",
    ("adl", "class"): "ADL",
    ("cutmix", "class"): "CutMix",
    ("bas", "class"): "BAS",
    ("background", "class"): "Background images",
    ("background", "foreground"): "Background images: foreground map",
    ("background", "product"): "Background images: product",
    ("constant-box", "reference"): "Constant box",
    ("centre-gaussian", "reference"): "Centre Gaussian",
    ("colour-distance", "reference"): "Colour-distance saliency",
    ("patch-classifier", "reference"): "5x5 patch classifier",
}
