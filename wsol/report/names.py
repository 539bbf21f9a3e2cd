"""Names of the rows of the report, in their order."""

POSTHOC = {
    "gradcam": "Grad-CAM",
    "gradcampp": "Grad-CAM++",
    "xgradcam": "XGrad-CAM",
    "layercam": "LayerCAM",
    "scorecam": "Score-CAM",
}  # keys of `wsol.baselines.posthoc.EXTRACTORS`, names of the papers


class Names(dict[tuple[str, str], str]):
    """Names of rows by method and map; a method without a name has that of its module."""

    def __missing__(self, row: tuple[str, str]) -> str:
        method, kind = row
        return method if kind == "class" else f"{method}: {kind} map"


# By method and map, as in the meta data of a localization table.
METHODS = Names(
    {
        ("cam", "class"): "CAM",
        ("has", "class"): "HaS",
        ("acol", "class"): "ACoL",
        ("spg", "class"): "SPG",
        ("adl", "class"): "ADL",
        ("cutmix", "class"): "CutMix",
        ("bas", "class"): "BAS",
        **{
            ("cam", f"{method}-{layer}"): f"{name}, {layer} layer"
            for layer in ("early", "middle", "late")
            for method, name in POSTHOC.items()
        },
        ("background_norm", "class"): "Background images in batch statistics",
        ("background_class", "class"): "Background images as a class",
        ("background_class", "foreground"): "Background images as a class: all but it",
        ("background_class", "product"): "Background images as a class: product",
        ("cam+foreground", "foreground"): "CAM's class, box of the foreground map",
        ("background", "class"): "Background images",
        ("background", "foreground"): "Background images: foreground map",
        ("background", "product"): "Background images: product",
        ("background_plus", "class"): "Background images and negatives",
        ("background_plus", "foreground"): "Background images and negatives: foreground map",
        ("background_plus", "product"): "Background images and negatives: product",
        ("background+has", "class"): "Background images and HaS",
        ("background+adl", "class"): "Background images and ADL",
        ("background+cutmix", "class"): "Background images and CutMix",
        ("few-shot", "foreground"): "Few-shot supervised",
        ("constant-box", "reference"): "Constant box",
        ("centre-gaussian", "reference"): "Centre Gaussian",
        ("colour-distance", "reference"): "Colour-distance saliency",
        ("patch-classifier", "reference"): "5x5 patch classifier",
    }
)
