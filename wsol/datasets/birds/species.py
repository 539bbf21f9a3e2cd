"""The twenty classes: species that differ in the head only."""

from dataclasses import dataclass

RED, YELLOW, BLUE = (186, 52, 44), (226, 190, 64), (64, 92, 170)
WHITE, BLACK, ORANGE = (236, 234, 226), (38, 36, 38), (208, 120, 48)
GREEN, VIOLET = (64, 126, 78), (122, 70, 132)


@dataclass(frozen=True)
class Species:
    """The head that makes a class: colours in RGB 0-255, pattern, crest and bill by name."""

    name: str
    main: tuple[int, int, int]
    second: tuple[int, int, int]
    pattern: str  # cap, mask, throat, nape, face, stripes
    crest: str  # none, spike, fan
    bill: str  # cone, long, hook, flat
    bill_colour: tuple[int, int, int]


SPECIES = (
    Species("Red_capped_Finch", WHITE, RED, "cap", "none", "cone", YELLOW),
    Species("Red_capped_Curlew", BLACK, RED, "cap", "none", "long", ORANGE),
    Species("Black_masked_Shrike", WHITE, BLACK, "mask", "none", "hook", BLACK),
    Species("Black_masked_Bunting", YELLOW, BLACK, "mask", "none", "cone", BLACK),
    Species("Black_masked_Kingfisher", BLUE, BLACK, "mask", "spike", "long", BLACK),
    Species("Yellow_throated_Duck", GREEN, YELLOW, "throat", "none", "flat", YELLOW),
    Species("Yellow_throated_Warbler", BLACK, YELLOW, "throat", "none", "cone", WHITE),
    Species("White_throated_Hawk", RED, WHITE, "throat", "none", "hook", YELLOW),
    Species("White_faced_Jay", BLUE, WHITE, "face", "fan", "cone", BLACK),
    Species("White_faced_Cardinal", RED, WHITE, "face", "fan", "cone", ORANGE),
    Species("Orange_faced_Starling", VIOLET, ORANGE, "face", "none", "long", YELLOW),
    Species("Orange_naped_Plover", WHITE, ORANGE, "nape", "none", "long", BLACK),
    Species("Orange_naped_Cockatoo", WHITE, ORANGE, "nape", "fan", "hook", BLACK),
    Species("Blue_naped_Parrot", GREEN, BLUE, "nape", "none", "hook", RED),
    Species("Blue_capped_Oriole", ORANGE, BLUE, "cap", "none", "long", WHITE),
    Species("Blue_capped_Tanager", YELLOW, BLUE, "cap", "spike", "cone", BLACK),
    Species("Striped_Grebe", WHITE, BLACK, "stripes", "spike", "long", RED),
    Species("Striped_Merganser", BLACK, GREEN, "stripes", "fan", "flat", RED),
    Species("Violet_striped_Sunbird", YELLOW, VIOLET, "stripes", "none", "long", BLACK),
    Species("Violet_capped_Goose", ORANGE, VIOLET, "cap", "none", "flat", BLACK),
)
