"""Product feeds as shop systems export them: their names of columns, several photos a row, money with its currency."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from threadmatch.indexer.catalogue.feed_families import Family, magento, woocommerce
from threadmatch.model.data.tables.naming import Naming
from threadmatch.model.data.tables.notes import Notes
from threadmatch.model.data.tables.opening import Source, open_source
from threadmatch.model.data.tables.photo_files import is_address

CURRENCY: Final = "_currency"
"""Behind a column's name, the unit of its amounts."""
_ADDRESSES: Final = re.compile(r"\s*[,|;]\s*(?=(?:https?:)?//)|\s+(?=https?://)")
_GROUPS: Final = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,3}(?:[. \xa0\u202f]\d{3})+,\d+|\d{1,3}(?:[ \xa0\u202f]\d{3})+"
_AMOUNT: Final = rf"({_GROUPS}|\d+(?:[.,]\d+)?)"
_MONEY: Final = re.compile(
    rf"{_AMOUNT}\s?([A-Z]{{3}})|([A-Z]{{3}})\s?{_AMOUNT}|([$€£¥])\s?{_AMOUNT}|{_AMOUNT}\s?([$€£¥])"
)


@dataclass(frozen=True, slots=True)
class Preset:
    """What a shop system calls things.

    Fields:
        names: for `id`, `image`, `product_id` its names, the likeliest first.
        more_images: columns with further photos of the product.
        money: columns whose cells may be amounts with a currency.
        separator: between several paths in one cell; addresses are told apart without one.
        fill_down: rows behind a product's first give its photos alone; the rest is that of the first.
        families: finds out which rows are one product, and which are no items; None where a column says so.
    """

    names: Mapping[str, tuple[str, ...]]
    more_images: tuple[str, ...] = ()
    money: tuple[str, ...] = ("price", "sale_price")
    separator: str = ""
    fill_down: bool = False
    families: Callable[[Iterable[Mapping[str, Any]]], Family] | None = None


PRESETS: Final[dict[str, Preset]] = {
    "google": Preset(
        {"id": ("id", "g:id"), "image": ("image_link", "image link"), "product_id": ("item_group_id", "item group id")},
        more_images=("additional_image_link", "additional image link"),
        money=("price", "sale_price", "sale price"),
    ),
    "shopify": Preset(
        {"image": ("Image Src", "Product image URL"), "product_id": ("Handle", "URL handle")},
        money=(),
        fill_down=True,
    ),
    "woocommerce": Preset(
        {"id": ("ID",), "image": ("Images",), "product_id": ("Parent",)},
        money=("Regular price", "Sale price"),
        separator=",",
        families=woocommerce,
    ),
    "magento": Preset(
        {"id": ("sku",), "image": ("base_image", "image")},
        more_images=("additional_images",),
        money=("price", "special_price"),
        separator=",",
        families=magento,
    ),
}


def open_feed(path: Path, preset: str, known: tuple[str, ...], mapped: Mapping[str, str]) -> Feed:
    """Open a feed.

    Args:
        path: any table.
        preset: of PRESETS.
        known: names of columns that are looked for.
        mapped: the file's own names for some, before those of the preset.

    Raises:
        DataError: as `open_source`.
    """
    form = PRESETS[preset]
    there = set(open_source(path, Naming()).columns)
    found = {name: next((own for own in names if own in there), "") for name, names in form.names.items()}
    chosen = {name: own for name, own in found.items() if own and own != name} | dict(mapped)
    return Feed(open_source(path, Naming(known, chosen)), form)


class Feed:
    """A table seen through a preset: a row a photo, amounts apart from their currency.

    Args:
        source: the table, its columns named already.
        preset: how to see it.
    """

    def __init__(self, source: Source, preset: Preset) -> None:
        self._source, self._preset = source, preset
        self.path, self.typed, self.place = source.path, source.typed, source.place
        dropped = preset.more_images
        self.columns = tuple(name for name in source.columns if name not in dropped)
        self._more = tuple(name for name in source.columns if name in dropped)
        self._money = tuple(name for name in source.columns if name in preset.money)

    @property
    def notes(self) -> Notes:
        """Of the table."""
        return self._source.notes

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any] | str]]:
        return self._rows(iter(self._source))

    def scan(self) -> Iterator[tuple[int, dict[str, Any] | str]]:
        """The rows without photos that stand in the table."""
        return self._rows(self._source.scan())

    def _rows(self, rows: Iterator[tuple[int, dict[str, Any] | str]]) -> Iterator[tuple[int, dict[str, Any] | str]]:
        first: dict[str, Any] = {}
        family = self._family()
        for number, values in rows:
            if isinstance(values, str):
                yield number, values
                continue
            if (told := family(values)) is None:
                self.notes.add("rows that are no items of their own are passed over", f"{self.place} {number}")
                continue
            values = told
            if self._preset.fill_down:
                same = values.get("product_id") and values.get("product_id") == first.get("product_id")
                if same:
                    values = {
                        name: value or (first[name] if name not in ("image", "id") else value)
                        for name, value in values.items()
                    }
                else:
                    first = values
                if same and not values.get("image"):
                    continue  # a further variant, whose photo another row gives
            yield from ((number, row) for row in self._one_a_photo(self._amounts(values)))

    def _family(self) -> Family:
        if self._preset.families is None:
            return lambda values: values
        return self._preset.families(values for _, values in self._source.scan() if isinstance(values, dict))

    def _one_a_photo(self, values: dict[str, Any]) -> Iterator[dict[str, Any]]:
        further = [photo for name in self._more for photo in self._photos(values.get(name))]
        row = {name: value for name, value in values.items() if name not in self._more}
        photos = list(dict.fromkeys([*self._photos(row.get("image")), *further]))
        if len(photos) < 2:
            yield {**row, "image": photos[0]} if photos else row
            return
        product = row.get("product_id") or row.get("id")
        for place, photo in enumerate(photos, start=1):
            own = {"id": f"{row['id']}#{place}"} if row.get("id") and place > 1 else {}
            yield {**row, "product_id": product, "image": photo, **own}

    def _photos(self, cell: Any) -> list[Any]:
        if not isinstance(cell, str):
            return cell if isinstance(cell, list) else [cell] if cell else []
        parts = cell.split(self._preset.separator) if self._preset.separator else _ADDRESSES.split(cell)
        photos = [part.strip() for part in parts if part.strip()]
        return [self._below(photo) for photo in photos]

    def _below(self, photo: str) -> str:
        """Paths that begin with a slash are below the shop's folder of media, not the machine's root."""
        return photo.lstrip("/") if self._preset.separator and not is_address(photo) else photo

    def _amounts(self, values: dict[str, Any]) -> dict[str, Any]:
        found = dict(values)
        for name in self._money:
            cell = values.get(name)
            match = _MONEY.fullmatch(cell.strip()) if isinstance(cell, str) else None
            if match is None:
                continue
            written, unit = sorted(filter(None, match.groups()), key=lambda part: not part[0].isdigit())
            amount = _with_point(written)
            found[name] = float(amount) if self.typed else amount
            found[f"{name}{CURRENCY}"] = unit
        return found


def _with_point(amount: str) -> str:
    """`1,234.56`, `1.234,56`, `1 234,56`, `19,99`: a point before the decimals, and nothing between the groups."""
    plain = re.sub(r"[ \xa0\u202f]", "", amount)
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", plain):
        return plain.replace(",", "")
    return plain.replace(".", "").replace(",", ".") if "," in plain else plain
