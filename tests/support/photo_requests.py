"""What schemathesis cannot know by itself: photos, boxes and filters that mean something, for a part of its requests.

It loads this module by name (SCHEMATHESIS_HOOKS). The rest of its requests stay as odd as it makes them.
"""

from __future__ import annotations

import schemathesis
from hypothesis import strategies as st

from tests.support.serving import photo

BOXES = ["0,0,60,80", "10.5,0,100,150", "0,0,4000,4000", "5,5,5,5", "nan,0,1,1"]
FILTERS = [
    'id = "MH06-black-main"',
    "price < 15",
    'name in ["Garment 3"] or not price >= 20',
    "nosuchcolumn = 3",
    "price <",
]

photos = st.sampled_from([photo(seed, kind=kind) for seed in (1, 2) for kind in ("JPEG", "PNG", "WEBP")])
schemathesis.openapi.format("binary", st.one_of(photos, photos, st.binary(max_size=200)))
schemathesis.openapi.format("pixel-box", st.one_of(st.sampled_from(BOXES), st.text(max_size=30)))
schemathesis.openapi.format("filter-expression", st.one_of(st.sampled_from(FILTERS), st.text(max_size=60)))
