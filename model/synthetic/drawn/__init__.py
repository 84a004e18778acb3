"""Pictures of drawn garments: in the shop, and worn, hung or laid somewhere in the street."""
