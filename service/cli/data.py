"""`threadmatch data`: make and check data. Each command stands in its own module and is registered here."""

from __future__ import annotations

import typer

from threadmatch.service.cli.data_check import check
from threadmatch.service.cli.data_draw import draw
from threadmatch.service.cli.data_import import (
    import_attributes,
    import_deepfashion,
    import_deepfashion_c2s,
    import_deepfashion_inshop,
    import_findfashion,
    import_items,
    import_street2shop,
    import_zappos50k,
)
from threadmatch.service.cli.data_sample import sample
from threadmatch.service.cli.dye import dye
from threadmatch.service.cli.from_feedback import from_feedback
from threadmatch.service.cli.retake import retake
from threadmatch.service.cli.streetify import streetify

data_app = typer.Typer(help="Make and check training and evaluation data.", no_args_is_help=True)
data_app.command("check")(check)
data_app.command("draw")(draw)
data_app.command("sample")(sample)
data_app.command("streetify")(streetify)
data_app.command("retake")(retake)
data_app.command("dye")(dye)
data_app.command("from-feedback")(from_feedback)
data_app.command("import-deepfashion")(import_deepfashion)
data_app.command("import-deepfashion-c2s")(import_deepfashion_c2s)
data_app.command("import-deepfashion-inshop")(import_deepfashion_inshop)
data_app.command("import-street2shop")(import_street2shop)
data_app.command("import-findfashion")(import_findfashion)
data_app.command("import-attributes")(import_attributes)
data_app.command("import-zappos50k")(import_zappos50k)
data_app.command("import-items")(import_items)
