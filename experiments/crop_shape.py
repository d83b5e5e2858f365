"""Does the square crop pay, and does the rectangle cost the taller nodules?

    thyrojax study experiments/crop_shape.py --data phantom --small --workdir studies/crop_shape

Guan et al. 2019 crop squares, because resizing a rectangle to the network's square input changes
the nodule's shape, and shape is what taller-than-wide nodules are told by. So the difference
between the shapes is given for boxes that are taller than wide and for the others, and whether it
differs.
"""

from thyrojax.study.plan import SMALL, Arm, Study

SHAPES = {
    "square": "square, as wide as the box (the paper's)",
    "square_cover": "square over the longer side",
    "rectangle": "rectangle, resized to a square",
    "frame": "no crop: the whole frame",
}

study = Study(
    name="crop_shape",
    title="The shape of the crop",
    question="Is a square crop better than a rectangle or no crop, above all for taller nodules?",
    arms=lambda base: [Arm(name, label, {"crop_shape": name}) for name, label in SHAPES.items()],
    reference="square",
    answer="rectangle",
    small=SMALL,
    subgroups=("box_shape", "shape"),
    expected=(
        "The paper (2019) argues for the square and prints no comparison. Frozen features on DDTI "
        "had given the rectangle 0.57 and 0.62, the square 0.61 and 0.65 (margins 0 and 50 px)."
    ),
)
